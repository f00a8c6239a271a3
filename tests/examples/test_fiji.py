"""The fiji example: the real ImageJ with command-line parameters that SciJava parses."""

from __future__ import annotations

import json
from pathlib import Path

from tests.examples.example import open_example

LABEL = 'Kc167 cells, "DNA" channel, the plate\'s fly'


def test_nuclei_in_three_images_are_measured_and_a_failed_script_is_detected_by_its_missing_files(
    tmp_path: Path,
) -> None:
    with open_example("fiji", tmp_path) as example:
        with (example.folder / "config.py").open("a") as config:
            config.write("\nJOB_RETRIES = 1\n")
        job_file = example.folder / "files" / "exampleJob.json"
        content = json.loads(job_file.read_text())
        content["groups"].append({"well": "A01", "input_file_location": "/nowhere"})
        job_file.write_text(json.dumps(content))

        summary = example.run_four_commands()
        assert "jobs done       3" in summary
        tables = {
            path.parent.name[:3]: path.read_text()
            for key, path in example.list_result_files("fiji/output/").items()
            if key[-4:] == ".csv"
        }
        counts = {well: text.count("\n") - 1 for well, text in tables.items()}
        assert counts == {"A01": 12, "E06": 16, "H12": 14}
        assert all(LABEL in text for text in tables.values())
        assert len(example.list_result_files("fiji/output/")) == 6
        assert "files match '*' and are not empty" in summary
