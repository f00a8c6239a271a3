"""Published job files give the published command; the level that is added lies where its pixels lie."""

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

from tests.examples import hooks_of
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
    return hooks_of.load("omezarr", monkeypatch)


def job(hooks: ModuleType, folder: Path, group: Any = "PLATEA", **more: Any) -> Any:
    return hooks.make_job(JOB | {"group": group} | more, hooks.Folders(folder), hooks_of.settings(folder))


def words(folder: Path, flags: str = "") -> list[str]:
    start = ["bioformats2raw", f"{folder}/input/PLATEA/Images/Index.idx.xml", f"{folder}/PLATEA.ome.zarr"]
    return [*start, *flags.split()]


def test_a_plate_is_fetched_whole_and_converted_and_lies_beside_the_others(omezarr: ModuleType, tmp_path: Path) -> None:
    made = job(omezarr, tmp_path)
    assert made.commands == [words(tmp_path)]
    assert made.inputs == {"projects/PROJECTNAME/BATCHNAME/images/PLATEA/": "PLATEA"}
    assert (made.input_bucket, made.output_bucket) == ("SOURCE_BUCKET", "DESTINATION_BUCKET")
    assert made.output_location == "projects/PROJECTNAME/BATCHNAME/images_zarr/PLATEA.ome.zarr"
    assert made.output_dir == tmp_path / "PLATEA.ome.zarr"
    assert not made.output_dir.exists()
    assert made.upload_arguments == {}


@pytest.mark.parametrize("left_out", [False, None, "", "false", "False"])
def test_false_leaves_a_flag_out(omezarr: ModuleType, tmp_path: Path, left_out: object) -> None:
    keys = ("resolutions", "tile_width", "tile_height", "target-min-size", "additional_flags")
    assert job(omezarr, tmp_path, **dict.fromkeys(keys, left_out)).commands == [words(tmp_path)]


def test_every_flag_is_given_in_the_published_order(omezarr: ModuleType, tmp_path: Path) -> None:
    settings = {"resolutions": 6, "tile_width": "512", "tile_height": 256, "target-min-size": 2160}
    more = "--extra-readers com.glencoesoftware.bioformats2raw.MiraxReader --series 0,2,3,4"
    made = job(omezarr, tmp_path, **settings, additional_flags=more)
    flags = f"--resolutions 6 --tile_width 512 --tile_height 256 --target-min-size 2160 {more}"
    assert made.commands == [words(tmp_path, flags)]


def test_additional_flags_never_reach_a_shell(omezarr: ModuleType, tmp_path: Path) -> None:
    made = job(omezarr, tmp_path, additional_flags="--a 'x y' ; rm -rf / $(id)")
    assert made.commands[0][3:] == ["--a", "x y", ";", "rm", "-rf", "/", "$(id)"]
    assert made.shell is False


def test_downsampling_is_a_second_step_or_the_only_one(omezarr: ModuleType, tmp_path: Path) -> None:
    shrink = ["python3", str(DOWNSAMPLE), f"{tmp_path}/PLATEA.ome.zarr", "8"]
    assert job(omezarr, tmp_path, downsample_after=True).commands == [words(tmp_path), shrink]
    made = job(omezarr, tmp_path, downsample_only=True)
    assert made.commands == [shrink]
    assert made.inputs == {"projects/PROJECTNAME/BATCHNAME/images/PLATEA.ome.zarr/": "PLATEA.ome.zarr"}
    before = tmp_path / "input" / "PLATEA.ome.zarr"
    before.mkdir(parents=True)
    (before / ".zattrs").write_text("{}")
    omezarr.prepare(made, omezarr.Folders(tmp_path))
    assert (made.output_dir / ".zattrs").exists()


def test_upload_flags_are_parsed_once(omezarr: ModuleType, tmp_path: Path) -> None:
    flags = "--acl bucket-owner-full-control --request-payer requester --metadata-directive REPLACE"
    made = job(omezarr, tmp_path, upload_flags=flags)
    assert made.upload_arguments == {"ACL": "bucket-owner-full-control", "RequestPayer": "requester"}


@pytest.mark.parametrize(
    "wrong",
    [{"group": "../x"}, {"group": ".."}, {"group": {"well": "A"}}, {"input_location": 5}, {"path_to_metadata": None},
     {"additional_flags": "'"}, {"additional_flags": 3}, {"upload_flags": "--delete"}, {"output_location": False}],
)  # fmt: skip
def test_a_message_that_makes_no_job_is_bad(omezarr: ModuleType, tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(omezarr.BadMessage):
        job(omezarr, tmp_path, **wrong)


def test_a_plate_without_its_key_is_a_failure(omezarr: ModuleType, tmp_path: Path) -> None:
    made, folders, result = job(omezarr, tmp_path), omezarr.Folders(tmp_path), omezarr.Result(0, 1.0, 0, 0.0)
    assert omezarr.failure(made, folders, result) == ".zattrs does not exist"
    made.output_dir.mkdir()
    (made.output_dir / ".zattrs").write_text('{"multiscales": []}')
    assert omezarr.failure(made, folders, result) == ".zattrs has no key plate"
    (made.output_dir / ".zattrs").write_text('{"plate": {}}')
    assert omezarr.failure(made, folders, result) is None
    assert omezarr.failure(made, folders, omezarr.Result(1, 1.0, 0, 0.0)) == "exit code 1"


# The added level


def picture(folder: Path, pixels: Any, translation: list[float] | None = None) -> Path:
    """One picture without a plate, as bioformats2raw writes them."""
    steps: list[dict[str, Any]] = [{"type": "scale", "scale": [1.0, 1.0, 1.0, 0.5, 0.25]}]
    steps += [{"type": "translation", "translation": translation}] if translation else []
    (folder / "0").mkdir(parents=True)
    described = {
        "zarr_format": 2, "shape": list(pixels.shape), "chunks": [1, 1, 1, 4, 4], "dtype": pixels.dtype.str,
        "compressor": None, "fill_value": 0, "order": "C", "filters": None, "dimension_separator": "/",
    }  # fmt: skip
    (folder / "0" / ".zarray").write_text(json.dumps(described))
    zarr.open_array(str(folder / "0"), mode="r+")[:] = pixels
    datasets = [{"path": "0", "coordinateTransformations": steps}]
    (folder / ".zattrs").write_text(json.dumps({"multiscales": [{"datasets": datasets}]}))
    return folder


def shrunk(folder: Path, factor: int) -> tuple[Any, list[dict[str, Any]]]:
    subprocess.run([sys.executable, str(DOWNSAMPLE), str(folder), str(factor)], check=True)
    (multiscale,) = json.loads((folder / ".zattrs").read_text())["multiscales"]
    return zarr.open_array(str(folder / "1"), mode="r")[:], multiscale["datasets"][1]["coordinateTransformations"]


def test_each_pixel_is_the_mean_of_a_block_and_lies_in_its_middle(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 60_000, (1, 2, 3, 17, 31)).astype("<u2")
    level, (scale, translation) = shrunk(picture(tmp_path / "a", pixels, [0.0, 0.0, 0.0, 10.0, 20.0]), 3)
    blocks = pixels[..., :15, :30].reshape(1, 2, 3, 5, 3, 10, 3).mean(axis=(4, 6))
    assert np.array_equal(level, np.rint(blocks))
    assert level.dtype == pixels.dtype
    assert scale["scale"] == [1.0, 1.0, 1.0, 1.5, 0.75]  # times 3
    assert translation["translation"] == [0.0, 0.0, 0.0, 10.5, 20.25]  # the middle of three pixels: one further


def test_a_picture_smaller_than_the_factor_becomes_one_pixel(tmp_path: Path) -> None:
    level, _ = shrunk(picture(tmp_path / "a", np.full((1, 1, 1, 2, 5), 7.5, dtype="<f4")), 8)
    assert level.shape == (1, 1, 1, 1, 1)
    assert level.item() == 7.5


@pytest.mark.parametrize("factor", ["1", "0", "-2", "2.5", "None"])
def test_a_factor_that_makes_nothing_smaller_is_refused(tmp_path: Path, factor: str) -> None:
    main = runpy.run_path(str(DOWNSAMPLE))["main"]
    assert main(str(picture(tmp_path / "a", np.zeros((1, 1, 1, 8, 8), dtype="u1"))), factor) == 2
    assert not (tmp_path / "a" / "1").exists()
