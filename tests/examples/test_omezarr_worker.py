"""The omezarr example's worker: published Job files produce the published command, and added levels have correct
coordinates.
"""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import zarr
from PIL import Image

from distributed_something.worker.job.message.job_template import parse_message
from distributed_something.worker.program.explanations.telling_line import find_telling_line
from tests.examples import example_hooks
from tests.support.project import ROOT

JOB = {
    "input_bucket": "SOURCE_BUCKET", "input_location": "projects/PROJECTNAME/BATCHNAME/images/",
    "path_to_metadata": "Images/Index.idx.xml", "output_bucket": "DESTINATION_BUCKET",
    "output_location": "projects/PROJECTNAME/BATCHNAME/images_zarr/", "upload_flags": False, "resolutions": False,
    "tile_width": False, "tile_height": False, "target-min-size": False, "additional_flags": False,
    "downsample_after": False, "downsample_only": False, "downsample_scale": 8,
}  # fmt: skip
EXAMPLE = ROOT / "examples" / "omezarr"
DOWNSAMPLE = EXAMPLE / "worker" / "scripts" / "add_downsampling.py"


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
    assert job.has_done_document  # so that a later run does not convert the plate again


def test_paths_in_the_mounted_bucket_are_keys(omezarr: ModuleType, tmp_path: Path) -> None:
    start = "/home/ubuntu/bucket/"
    locations = {key: f"{start}{JOB[key]}" for key in ("input_location", "output_location")}
    job, usual = make_job(omezarr, tmp_path, **locations), make_job(omezarr, tmp_path)
    assert (job.commands, job.inputs, job.output_location) == (usual.commands, usual.inputs, usual.output_location)
    path = f"{start}projects/PLATEA/Images/Index.idx.xml"
    with pytest.raises(
        omezarr.BadMessage, match=r"`path_to_metadata`: .* is a path in the bucket; write the path from"
    ):
        make_job(omezarr, tmp_path, path_to_metadata=path)


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
     {"additional_flags": "'"}, {"additional_flags": 3}, {"upload_flags": "--delete"}, {"output_location": False},
     {"downsample_after": True, "downsample_scale": 1}, {"downsample_only": True, "downsample_scale": False},
     {"resolutions": "many"}, {"resolutions": 2.5}, {"target-min-size": -1}, {"output_location": "{batch}/zarr"}],
)  # fmt: skip
def test_an_invalid_message_is_rejected(omezarr: ModuleType, tmp_path: Path, values: dict[str, Any]) -> None:
    with pytest.raises(omezarr.BadMessage):
        make_job(omezarr, tmp_path, **values)


@pytest.mark.parametrize("key", ["tile_width", "tile_height"])
@pytest.mark.parametrize("size", [0, "0", -1, "-32", 0.5, "00", True, "32 px"])
def test_a_tile_size_below_1_is_rejected(omezarr: ModuleType, tmp_path: Path, key: str, size: object) -> None:
    with pytest.raises(omezarr.BadMessage, match=f"`{key}`: .* is not a whole number of at least 1"):
        make_job(omezarr, tmp_path, **{key: size})


@pytest.mark.parametrize(
    "flags", ["--tile_width 0", "--tile-width=0", "-w 0", "-w0", "-h -1", "--series 0 --tile_height=0", "-z 0"]
)
def test_a_tile_size_below_1_in_additional_flags_is_rejected(omezarr: ModuleType, tmp_path: Path, flags: str) -> None:
    with pytest.raises(omezarr.BadMessage, match="is less than 1, so bioformats2raw would never end"):
        make_job(omezarr, tmp_path, additional_flags=flags)


@pytest.mark.parametrize("flags", ["--series 0", "-s 0,1", "--fill-value 0", "-w 32 -h 64", "--max_workers=0"])
def test_other_flags_may_be_0(omezarr: ModuleType, tmp_path: Path, flags: str) -> None:
    assert make_job(omezarr, tmp_path, additional_flags=flags).commands == [build_command(tmp_path, flags)]


def test_placeholders_stand_for_the_plate_and_for_shared_keys(omezarr: ModuleType, tmp_path: Path) -> None:
    places = {
        "input_location": "{project}/{batch}/images", "path_to_metadata": "{plate}.companion.ome",
        "output_location": "{project}/zarr/{batch}/", "project": "cpg", "batch": "B1",
    }  # fmt: skip
    for group in ("PLATEA", {"plate": "PLATEA"}):
        job = make_job(omezarr, tmp_path, group, **places)
        assert job.inputs == {"cpg/B1/images/PLATEA/": "PLATEA"}
        assert job.commands[0][1] == f"{tmp_path}/input/PLATEA/PLATEA.companion.ome"
        assert job.output_location == "cpg/zarr/B1/PLATEA.ome.zarr"


def test_the_second_command_needs_a_plate(omezarr: ModuleType, tmp_path: Path) -> None:
    job = make_job(omezarr, tmp_path, downsample_after=True)
    (check,) = job.command_checks
    assert check() == ".zattrs does not exist"
    job.output_dir.mkdir()
    (job.output_dir / ".zattrs").write_text('{"bioformats2raw.layout": 3}')
    assert check() == ".zattrs has no key plate"
    (job.output_dir / ".zattrs").write_text('{"plate": {}}')
    assert check() is None


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


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({}, "a/.zattrs does not exist"),
        ({".zattrs": "{}"}, "a/.zattrs has neither the key plate nor multiscales"),
        ({".zattrs": "{"}, "a/.zattrs is not valid JSON"),
        ({".zattrs": '{"plate": {"wells": [{"path": "A/1"}]}}'}, "a/A/1/.zattrs does not exist"),
        ({".zattrs": '{"plate": {"wells": [{"path": "A/1"}]}}', "A/1/.zattrs": "{}"}, "a/A/1/.zattrs has no key well"),
        ({".zattrs": '{"plate": {"wells": [{"path": "A/1"}]}}', "A/1/.zattrs": '{"well": {"images": [{"path": "0"}]}}',
          "A/1/0/.zattrs": "{}"}, "a/A/1/0/.zattrs has no key multiscales"),
    ],
)  # fmt: skip
def test_missing_metadata_are_reported_in_one_line(tmp_path: Path, files: dict[str, str], problem: str) -> None:
    for name, text in files.items():
        (tmp_path / "a" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "a" / name).write_text(text)
    command = [sys.executable, str(DOWNSAMPLE), str(tmp_path / "a"), "2"]
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert completed.returncode == 1
    (line,) = completed.stderr.splitlines()
    assert problem in line


# The stand-in, compared with what was observed of bioformats2raw 0.9.1


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the OME-XML file of a plate with two wells."""
    images, folder = tmp_path_factory.mktemp("images"), tmp_path_factory.mktemp("plates")
    for well in ("A01", "B02"):
        Image.fromarray(np.arange(64 * 48, dtype="u1").reshape(48, 64)).save(images / f"{well}.png")
    make_plate = runpy.run_path(str(EXAMPLE / "make_plates.py"))["make_plate"]
    make_plate("P", "AB", images, folder / "P")
    return folder / "P" / "plate.companion.ome"


def run_standin(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLE / "standin" / "bioformats2raw"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("words", [["--tile_widht", "3"], ["-r", "x"], ["more"], None])
def test_a_wrong_command_line_ends_with_exit_code_0_and_without_output(
    plate: Path, tmp_path: Path, words: list[str] | None
) -> None:
    completed = run_standin(plate, *([] if words is None else [tmp_path / "z", *words]))
    assert completed.returncode == 0
    assert completed.stderr.splitlines()[1].startswith("Usage: ")
    assert not (tmp_path / "z").exists()


def test_two_plates_in_one_file_are_refused(plate: Path, tmp_path: Path) -> None:
    text = plate.read_text()
    both = plate.with_name("both.companion.ome")
    both.write_text(text.replace("<Plate ", '<Plate ID="Plate:1" /><Plate ', 1))
    check_refusal(run_standin(both, tmp_path / "z"), tmp_path, "Found 2 plates; only one can be converted.")


@pytest.mark.parametrize("series", ["1", "0,2", "1,0"])
def test_a_list_of_series_other_than_0_to_n_1_is_refused(plate: Path, tmp_path: Path, series: str) -> None:
    check_refusal(run_standin(plate, tmp_path / "z", "--series", series), tmp_path, "out of bounds for length")


def test_a_folder_that_exists_and_broken_input_are_refused(plate: Path, tmp_path: Path) -> None:
    check_refusal(run_standin(plate, tmp_path), tmp_path, f"Output path {tmp_path} already exists")
    broken = plate.with_name("broken.companion.ome")
    for text in ("<OME>", "<OME/>"):
        broken.write_text(text)
        check_refusal(run_standin(broken, tmp_path / "z"), tmp_path, "broken.companion.ome")


def check_refusal(completed: subprocess.CompletedProcess[str], folder: Path, problem: str) -> None:
    assert completed.returncode == 1
    assert problem in completed.stdout.splitlines()[0]
    assert problem in str(find_telling_line(completed.stdout))
    assert not (folder / "z").exists()


def test_images_without_a_plate_are_converted_without_the_key_plate(plate: Path, tmp_path: Path) -> None:
    loose = plate.with_name("loose.companion.ome")
    loose.write_text(re.sub("<Plate.*</Plate>", "", plate.read_text()))
    assert run_standin(loose, tmp_path / "z").returncode == 0
    assert json.loads((tmp_path / "z" / ".zattrs").read_text()) == {"bioformats2raw.layout": 3}
    assert (tmp_path / "z" / "1" / "0" / ".zarray").exists()


def test_the_missing_rows_of_a_truncated_tiff_become_black(plate: Path, tmp_path: Path) -> None:
    image = plate.parent / "A01.tiff"
    content = image.read_bytes()
    image.write_bytes(content[: len(content) - 24 * 64])
    try:
        assert run_standin(plate, tmp_path / "z", "--tile-width", "16", "-h", "16").returncode == 0
    finally:
        image.write_bytes(content)
    pixels = zarr.open_array(str(tmp_path / "z" / "A" / "1" / "0" / "0"), mode="r")[0, 0, 0]
    assert pixels[:24].any()
    assert not pixels[24:].any()


def test_tiles_without_pixels_never_end(plate: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLE / "standin" / "bioformats2raw"), str(plate), str(tmp_path / "z"), "-w", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "stand-in" in process.stderr.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        process.kill()
