"""The omezarr example's worker: published Job files produce the published command, and added levels have correct
coordinates.
"""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import zarr

from distributed_something.worker.job.job import parse_message
from tests.examples import example_hooks
from tests.support.project import ROOT

JOB = {
    "input_bucket": "SOURCE_BUCKET", "input_location": "projects/PROJECTNAME/BATCHNAME/images/",
    "path_to_metadata": "Images/Index.idx.xml", "output_bucket": "DESTINATION_BUCKET",
    "output_location": "projects/PROJECTNAME/BATCHNAME/images_zarr/", "upload_flags": False, "resolutions": False,
    "tile_width": False, "tile_height": False, "target-min-size": False, "additional_flags": False,
    "downsample_after": False, "downsample_only": False, "downsample_scale": 8,
}  # fmt: skip
DOWNSAMPLE = ROOT / "examples" / "omezarr" / "worker" / "scripts" / "add_downsampling.py"


@pytest.fixture
def omezarr(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return example_hooks.load_hooks("omezarr", monkeypatch)


def make_job(hooks: ModuleType, folder: Path, group: Any = "PLATEA", **more: Any) -> Any:
    return hooks.make_job(JOB | {"group": group} | more, hooks.Folders(folder), example_hooks.build_settings(folder))


def build_command(folder: Path, flags: str = "") -> list[str]:
    paths = [f"{folder}/input/PLATEA/Images/Index.idx.xml", f"{folder}/PLATEA.ome.zarr"]
    return ["bioformats2raw", *paths, *flags.split()]


def test_a_job_fetches_and_converts_a_plate_and_uploads_it_next_to_other_plates(
    omezarr: ModuleType, tmp_path: Path
) -> None:
    job = make_job(omezarr, tmp_path)
    assert job.commands == [build_command(tmp_path)]
    assert job.inputs == {"projects/PROJECTNAME/BATCHNAME/images/PLATEA/": "PLATEA"}
    assert (job.input_bucket, job.output_bucket) == ("SOURCE_BUCKET", "DESTINATION_BUCKET")
    assert job.output_location == "projects/PROJECTNAME/BATCHNAME/images_zarr/PLATEA.ome.zarr"
    assert job.output_dir == tmp_path / "PLATEA.ome.zarr"
    assert not job.output_dir.exists()
    assert job.upload_arguments == {}


@pytest.mark.parametrize("published", [{"plate": "PLATEA"}, {"plate": "PLATEA", "_comment": "from our script"}])
@pytest.mark.parametrize("group", ["PLATEA", {"plate": "PLATEA"}])
def test_a_published_message_is_the_same_job_as_its_group(
    omezarr: ModuleType, tmp_path: Path, published: dict[str, Any], group: Any
) -> None:
    message = parse_message(json.dumps(JOB | published))
    job = omezarr.make_job(message, omezarr.Folders(tmp_path), example_hooks.build_settings(tmp_path))
    expected = make_job(omezarr, tmp_path, group)
    assert (job.id, job.commands, job.output_location) == (expected.id, expected.commands, expected.output_location)


@pytest.mark.parametrize("value", [False, None, "", "false", "False"])
def test_a_flag_whose_key_is_false_is_omitted(omezarr: ModuleType, tmp_path: Path, value: object) -> None:
    keys = ("resolutions", "tile_width", "tile_height", "target-min-size", "additional_flags")
    assert make_job(omezarr, tmp_path, **dict.fromkeys(keys, value)).commands == [build_command(tmp_path)]


def test_flags_are_in_the_published_order(omezarr: ModuleType, tmp_path: Path) -> None:
    settings = {"resolutions": 6, "tile_width": "512", "tile_height": 256, "target-min-size": 2160}
    additional_flags = "--extra-readers com.glencoesoftware.bioformats2raw.MiraxReader --series 0,2,3,4"
    job = make_job(omezarr, tmp_path, **settings, additional_flags=additional_flags)
    flags = f"--resolutions 6 --tile_width 512 --tile_height 256 --target-min-size 2160 {additional_flags}"
    assert job.commands == [build_command(tmp_path, flags)]


def test_no_shell_interprets_additional_flags(omezarr: ModuleType, tmp_path: Path) -> None:
    job = make_job(omezarr, tmp_path, additional_flags="--a 'x y' ; rm -rf / $(id)")
    assert job.commands[0][3:] == ["--a", "x y", ";", "rm", "-rf", "/", "$(id)"]
    assert job.shell is False


def test_downsampling_is_the_second_or_the_only_command(omezarr: ModuleType, tmp_path: Path) -> None:
    downsample = ["python3", str(DOWNSAMPLE), f"{tmp_path}/PLATEA.ome.zarr", "8"]
    assert make_job(omezarr, tmp_path, downsample_after=True).commands == [build_command(tmp_path), downsample]
    job = make_job(omezarr, tmp_path, downsample_only=True)
    assert job.commands == [downsample]
    assert job.inputs == {"projects/PROJECTNAME/BATCHNAME/images/PLATEA.ome.zarr/": "PLATEA.ome.zarr"}
    fetched_plate = tmp_path / "input" / "PLATEA.ome.zarr"
    fetched_plate.mkdir(parents=True)
    (fetched_plate / ".zattrs").write_text("{}")
    omezarr.prepare(job, omezarr.Folders(tmp_path))
    assert (job.output_dir / ".zattrs").exists()


def test_upload_flags_become_upload_arguments(omezarr: ModuleType, tmp_path: Path) -> None:
    flags = "--acl bucket-owner-full-control --request-payer requester --metadata-directive REPLACE"
    job = make_job(omezarr, tmp_path, upload_flags=flags)
    assert job.upload_arguments == {"ACL": "bucket-owner-full-control", "RequestPayer": "requester"}


@pytest.mark.parametrize(
    "values",
    [{"group": "../x"}, {"group": ".."}, {"group": {"well": "A"}}, {"input_location": 5}, {"path_to_metadata": None},
     {"additional_flags": "'"}, {"additional_flags": 3}, {"upload_flags": "--delete"}, {"output_location": False}],
)  # fmt: skip
def test_an_invalid_message_is_rejected(omezarr: ModuleType, tmp_path: Path, values: dict[str, Any]) -> None:
    with pytest.raises(omezarr.BadMessage):
        make_job(omezarr, tmp_path, **values)


def test_a_job_fails_if_the_plates_metadata_are_missing(omezarr: ModuleType, tmp_path: Path) -> None:
    job, folders, result = make_job(omezarr, tmp_path), omezarr.Folders(tmp_path), omezarr.Result(0, 1.0, 0, 0.0)
    assert omezarr.failure(job, folders, result) == ".zattrs does not exist"
    job.output_dir.mkdir()
    (job.output_dir / ".zattrs").write_text('{"multiscales": []}')
    assert omezarr.failure(job, folders, result) == ".zattrs has no key plate"
    (job.output_dir / ".zattrs").write_text('{"plate": {}}')
    assert omezarr.failure(job, folders, result) is None
    assert omezarr.failure(job, folders, omezarr.Result(1, 1.0, 0, 0.0)) == "exit code 1"


# Added resolution levels


def write_image(folder: Path, pixels: Any, translation: list[float] | None = None) -> Path:
    """Write a single image, without a plate, in bioformats2raw's format."""
    steps: list[dict[str, Any]] = [{"type": "scale", "scale": [1.0, 1.0, 1.0, 0.5, 0.25]}]
    steps += [{"type": "translation", "translation": translation}] if translation else []
    (folder / "0").mkdir(parents=True)
    metadata = {
        "zarr_format": 2, "shape": list(pixels.shape), "chunks": [1, 1, 1, 4, 4], "dtype": pixels.dtype.str,
        "compressor": None, "fill_value": 0, "order": "C", "filters": None, "dimension_separator": "/",
    }  # fmt: skip
    (folder / "0" / ".zarray").write_text(json.dumps(metadata))
    zarr.open_array(str(folder / "0"), mode="r+")[:] = pixels
    datasets = [{"path": "0", "coordinateTransformations": steps}]
    (folder / ".zattrs").write_text(json.dumps({"multiscales": [{"datasets": datasets}]}))
    return folder


def add_level(folder: Path, factor: int) -> tuple[Any, list[dict[str, Any]]]:
    """Downsample an image. Return the pixels and the transformations of the added level."""
    subprocess.run([sys.executable, str(DOWNSAMPLE), str(folder), str(factor)], check=True)
    (multiscale,) = json.loads((folder / ".zattrs").read_text())["multiscales"]
    return zarr.open_array(str(folder / "1"), mode="r")[:], multiscale["datasets"][1]["coordinateTransformations"]


def test_each_pixel_is_the_mean_of_a_block_and_is_located_at_its_center(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 60_000, (1, 2, 3, 17, 31)).astype("<u2")
    level, (scale, translation) = add_level(write_image(tmp_path / "a", pixels, [0.0, 0.0, 0.0, 10.0, 20.0]), 3)
    blocks = pixels[..., :15, :30].reshape(1, 2, 3, 5, 3, 10, 3).mean(axis=(4, 6))
    assert np.array_equal(level, np.rint(blocks))
    assert level.dtype == pixels.dtype
    assert scale["scale"] == [1.0, 1.0, 1.0, 1.5, 0.75]  # 3 times the old scale
    # The center of three pixels is shifted by one pixel.
    assert translation["translation"] == [0.0, 0.0, 0.0, 10.5, 20.25]


def test_an_image_smaller_than_the_factor_becomes_one_pixel(tmp_path: Path) -> None:
    level, _ = add_level(write_image(tmp_path / "a", np.full((1, 1, 1, 2, 5), 7.5, dtype="<f4")), 8)
    assert level.shape == (1, 1, 1, 1, 1)
    assert level.item() == 7.5


@pytest.mark.parametrize("factor", ["1", "0", "-2", "2.5", "None"])
def test_an_invalid_factor_is_rejected(tmp_path: Path, factor: str) -> None:
    main = runpy.run_path(str(DOWNSAMPLE))["main"]
    assert main(str(write_image(tmp_path / "a", np.zeros((1, 1, 1, 8, 8), dtype="u1"))), factor) == 2
    assert not (tmp_path / "a" / "1").exists()
