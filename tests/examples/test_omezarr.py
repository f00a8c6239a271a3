"""The omezarr example: it converts a plate, adds a resolution level, and uploads a valid OME-NGFF plate."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaozarrs
import zarr

from tests.examples.example import open_example


def read_transformations(image: Path) -> list[list[dict[str, Any]]]:
    (multiscale,) = json.loads((image / ".zattrs").read_text())["multiscales"]
    return [dataset["coordinateTransformations"] for dataset in multiscale["datasets"]]


def test_a_converted_plate_is_valid_and_images_without_a_plate_are_reported(tmp_path: Path) -> None:
    with open_example("omezarr", tmp_path) as example:
        with (example.folder / "config.py").open("a") as config:
            config.write("\nJOB_RETRIES = 2\n")
        job_file = example.folder / "files" / "exampleJob.json"
        content = json.loads(job_file.read_text())
        shutil.copytree(example.folder / "data" / "PLATE_B" / "Images", example.folder / "files" / "none")
        companion = example.folder / "files" / "none" / "plate.companion.ome"
        companion.write_text(re.sub("<Plate.*</Plate>", "", companion.read_text()))
        content["upload"]["none"] = "projects/images/NONE/Images"
        content["plates"] = ["PLATE_B", "NONE"]
        job_file.write_text(json.dumps(content))

        summary = example.run_four_commands()
        assert "jobs done       1" in summary
        assert " (after 2 attempts)" in summary
        # bioformats2raw ended with exit code 0. The second command, which needs a plate, did not run.
        assert ".zattrs has no key plate" in summary
        (failed,) = [record for record in example.read_records() if record["state"] == "failed"]
        assert "add_downsampling" not in "".join(failed["last_lines"])
        assert set(example.list_result_files("projects/images_zarr/NONE")) == set()
        root = example.get_bucket_folder() / "projects" / "images_zarr" / "PLATE_B.ome.zarr"
        yaozarrs.validate_zarr_store(root)
        assert len(json.loads((root / ".zattrs").read_text())["plate"]["wells"]) == 48
        image = root / "A" / "6" / "0"
        first, second, (scale, translation) = read_transformations(image)
        assert [transformation["scale"][-1] for transformation in (*first, *second, scale)] == [0.65, 1.3, 5.2]
        assert translation["translation"] == pytest.approx([0, 0, 0, 1.95, 1.95])
        levels = [zarr.open_array(str(image / str(level)), mode="r")[0, 0, 0] for level in range(3)]
        assert [level.shape for level in levels] == [(125, 250), (62, 125), (15, 31)]
        means = levels[1][:60, :124].reshape(15, 4, 31, 4).mean(axis=(1, 3))
        assert np.array_equal(levels[2], np.rint(means))
        assert [len(record["outputs"]) for record in example.read_records() if record["state"] == "done"] == [2313]
