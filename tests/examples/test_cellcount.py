"""The cellcount example in containers. test_demo.py counts the cells on the whole plate without containers."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.examples.example import Example, open_example
from tests.support.engine import require_engine, run_docker


def count_all_cells(example: Example) -> int:
    """Return the total cell count of all wells."""
    tables = [
        path for key, path in example.list_result_files("cellcount/results/").items() if key.endswith("/counts.csv")
    ]
    return sum(int(row["cells"]) for path in tables for row in csv.DictReader(path.open()))


@pytest.mark.containers
def test_the_cell_count_in_containers_is_the_same_as_on_this_computer(tmp_path: Path) -> None:
    require_engine()
    with open_example("cellcount", tmp_path) as example:
        image = example.build_image()
        job_file = example.folder / "files" / "exampleJob.json"
        content = json.loads(job_file.read_text())
        content["groups"] = {"cross": {"row": ["E"], "column": ["05", "06"]}}
        job_file.write_text(json.dumps(content))
        assert "jobs done       2" in example.run_four_commands("files/exampleJob.json", "--containers")
        assert count_all_cells(example) == 59  # the same result as without containers
        assert {record["image"] for record in example.read_records()} == {image}
    assert "example-cellcount" not in run_docker("ps", "--all", "--format", "{{.Image}}")
