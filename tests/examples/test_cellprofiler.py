"""The example cellprofiler: the real program on its own fly example, three jobs of the published kind."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from tests.examples.example import Example, example


def nuclei(made: Example, position: int) -> float:
    (row,) = csv.DictReader((made.bucket() / f"project_folder/output/{position}/Image.csv").open())
    return float(row["Count_Nuclei"])


def test_the_fly_example_has_its_nuclei_and_a_cut_off_picture_or_an_empty_group_is_named(tmp_path: Path) -> None:
    with example("cellprofiler", tmp_path) as made:
        content = json.loads((made.folder / "files" / "exampleJob.json").read_text())
        table = made.folder / "data" / "workspace" / "load_data.csv"
        cut = table.read_text().splitlines()[1].replace("002,", "300,", 1).replace("01_POS002_D", "cut")
        table.write_text(table.read_text() + cut + "\n")
        whole = (made.folder / "data" / "images" / "01_POS002_D.TIF").read_bytes()
        (made.folder / "data" / "images" / "cut.TIF").write_bytes(whole[:400_000])
        content["groups"] += [{"Metadata_Position": "300"}, {"Metadata": "Metadata_Position=9"}]
        (made.folder / "files" / "exampleJob.json").write_text(json.dumps(content))

        summary = made.four_commands()
        assert "jobs done       3" in summary
        assert [nuclei(made, position) for position in (2, 76, 218)] == [273, 796, 644]
        names = sorted(key.rpartition("/")[2] for key in made.files("project_folder/output/2/"))
        assert names == ["Cells.csv", "CroppedFlyImage0001.tiff", "Cytoplasm.csv", "Image.csv", "Nuclei.csv"]
        inputs = {record["message"]["group"].get("Metadata"): record["bytes_in"] for record in made.records()}
        assert inputs["Metadata_Position=76"] < 3.1e6  # its three pictures, not all nine

        reasons = sorted(record["reason"] for record in made.records() if record["state"] == "failed")
        cut_off = "images/cut.TIF is cut off: it has 400,000 of 1,008,766 bytes"
        assert reasons == [
            "no row of load_data.csv has Metadata_Position=9",
            f"the image s3://your-bucket-name/project_folder/{cut_off}",
        ]
        assert all(reason in summary for reason in reasons)
