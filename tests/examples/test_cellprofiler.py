"""The cellprofiler example: the real program with CellProfiler's fly example and a Job file in a published format."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from tests.examples.example import Example, open_example


def read_nuclei_count(example: Example, position: int) -> float:
    (row,) = csv.DictReader((example.get_bucket_folder() / f"project_folder/output/{position}/Image.csv").open())
    return float(row["Count_Nuclei"])


def test_the_fly_nuclei_are_counted_and_a_truncated_image_is_reported_and_a_group_without_images_is_refused(
    tmp_path: Path,
) -> None:
    with open_example("cellprofiler", tmp_path) as example:
        content = json.loads((example.folder / "files" / "exampleJob.json").read_text())
        table = example.folder / "data" / "workspace" / "load_data.csv"
        row = table.read_text().splitlines()[1].replace("002,", "300,", 1).replace("01_POS002_D", "cut")
        table.write_text(table.read_text() + row + "\n")
        image = (example.folder / "data" / "images" / "01_POS002_D.TIF").read_bytes()
        (example.folder / "data" / "images" / "cut.TIF").write_bytes(image[:400_000])
        content["groups"] += [{"Metadata_Position": "300"}, {"Metadata": "Metadata_Position=9"}]
        job_file = example.folder / "files" / "exampleJob.json"
        job_file.write_text(json.dumps(content))
        example.run("setup")
        refused = example.run("submitJob", str(job_file), check=False)
        assert refused.returncode == 2
        assert "groups[5]: " in refused.stderr
        assert "workspace/load_data.csv has no row with Metadata_Position=9" in refused.stderr
        job_file.write_text(json.dumps(content | {"groups": content["groups"][:-1]}))

        summary = example.run_four_commands()
        assert "jobs done       3" in summary
        assert [read_nuclei_count(example, position) for position in (2, 76, 218)] == [273, 796, 644]
        names = sorted(key.rpartition("/")[2] for key in example.list_result_files("project_folder/output/2/"))
        assert names == ["Cells.csv", "CroppedFlyImage0001.tiff", "Cytoplasm.csv", "Image.csv", "Nuclei.csv"]
        inputs = {record["message"]["group"].get("Metadata"): record["bytes_in"] for record in example.read_records()}
        assert inputs["Metadata_Position=76"] < 3.1e6  # the group's three images, not all nine

        reasons = sorted(record["reason"] for record in example.read_records() if record["state"] == "failed")
        truncated = "images/cut.TIF is truncated: it has 400,000 of 1,008,766 bytes"
        assert reasons == [f"the image s3://your-bucket-name/project_folder/{truncated}"]
        assert "/images/cut.TIF is" in summary  # the rest does not fit on the line
