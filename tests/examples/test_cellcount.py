"""The example cellcount, in containers of an image of its own. test_demo.py counts the whole plate."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.examples.example import Example, example
from tests.support.engine import docker, require_engine


def counted(made: Example) -> int:
    """The cells of all wells."""
    tables = [path for key, path in made.files("cellcount/results/").items() if key.endswith("/counts.csv")]
    return sum(int(row["cells"]) for path in tables for row in csv.DictReader(path.open()))


@pytest.mark.containers
def test_its_image_counts_as_this_computer_does(tmp_path: Path) -> None:
    require_engine()
    with example("cellcount", tmp_path) as made:
        image = made.build()
        job_file = made.folder / "files" / "exampleJob.json"
        content = json.loads(job_file.read_text())
        content["groups"] = {"cross": {"row": ["E"], "column": ["05", "06"]}}
        job_file.write_text(json.dumps(content))
        assert "jobs done       2" in made.four_commands("files/exampleJob.json", "--containers")
        assert counted(made) == 59  # what this computer counts in these two
        assert {record["image"] for record in made.records()} == {image}
    assert "example-cellcount" not in docker("ps", "--all", "--format", "{{.Image}}")
