"""The example fiji: the real ImageJ, told by SciJava's command line what to measure."""

from __future__ import annotations

import json
from pathlib import Path

from tests.examples.example import example

LABEL = 'Kc167 cells, "DNA" channel, the plate\'s fly'


def test_nuclei_are_measured_in_three_pictures_and_a_script_that_breaks_is_told_by_its_missing_files(
    tmp_path: Path,
) -> None:
    with example("fiji", tmp_path) as made:
        with (made.folder / "config.py").open("a") as config:
            config.write("\nJOB_RETRIES = 1\n")
        job_file = made.folder / "files" / "exampleJob.json"
        content = json.loads(job_file.read_text())
        content["groups"].append({"well": "A01", "input_file_location": "/nowhere"})
        job_file.write_text(json.dumps(content))

        summary = made.four_commands()
        assert "jobs done       3" in summary
        tables = {
            path.parent.name[:3]: path.read_text()
            for key, path in made.files("fiji/output/").items()
            if key[-4:] == ".csv"
        }
        counted = {well: text.count("\n") - 1 for well, text in tables.items()}
        assert counted == {"A01": 12, "E06": 16, "H12": 14}
        assert all(LABEL in text for text in tables.values())
        assert len(made.files("fiji/output/")) == 6
        assert "0 files match '*' and have 1 bytes or more, 2 expected" in summary
