"""Published job files give the published commands, word for word, and outputs where their users look for them."""

from __future__ import annotations

import csv
import struct
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.examples import hooks_of

JOB = {
    "pipeline": "projects/analysis.cppipe",
    "data_file": "projects/list_of_images.csv",
    "input": "projects/input/",
    "output": "projects/output/",
}
PLATE = {"Metadata": "Metadata_Plate=Plate1,Metadata_Well=A01,Metadata_Site=1"}
BUCKET = "/home/ubuntu/bucket"


@pytest.fixture
def cellprofiler(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    for name in ("SOURCE_BUCKET", "WORKSPACE_BUCKET", "DESTINATION_BUCKET", "UPLOAD_FLAGS", "DOWNLOAD_FILES"):
        monkeypatch.delenv(name, raising=False)
    return hooks_of.load("cellprofiler", monkeypatch)


def job(hooks: ModuleType, folder: Path, group: Any = PLATE, mount: str = "True", **more: Any) -> Any:
    return hooks.make_job(
        JOB | {"group": group} | more, hooks.Folders(folder), hooks_of.settings(folder, MOUNT_S3=mount)
    )


def published(
    out: Path, group: str, data: str = f"--data-file={BUCKET}/projects/list_of_images.csv", more: str = ""
) -> str:
    command = (
        f"cellprofiler -c -r -p {BUCKET}/projects/analysis.cppipe -i {BUCKET}/projects/input/ -o {out}"
        f" -d {out}/cp.is.done {data} -g {group}{more}"
    )
    return " ".join(command.split())


def test_in_the_mounted_bucket_the_command_is_the_published_one(cellprofiler: ModuleType, tmp_path: Path) -> None:
    made = job(cellprofiler, tmp_path)
    assert " ".join(made.command) == published(tmp_path / "output", PLATE["Metadata"])
    assert made.inputs == {}
    assert made.output_location == "projects/output/Plate1-A01-1"
    assert made.leave_out == ["cp.is.done"]


def test_a_list_and_a_batch_file_are_given_as_published(cellprofiler: ModuleType, tmp_path: Path) -> None:
    listed = job(cellprofiler, tmp_path, data_file="projects/files.txt")
    option = f"--file-list={BUCKET}/projects/files.txt"
    assert " ".join(listed.command) == published(tmp_path / "output", PLATE["Metadata"], option)
    batch = job(cellprofiler, tmp_path, data_file="projects/Batch_data.h5")
    assert " ".join(batch.command) == published(tmp_path / "output", PLATE["Metadata"], "")


def test_plugins_and_always_continue_come_last(
    cellprofiler: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USE_PLUGINS", "True")
    monkeypatch.setenv("ALWAYS_CONTINUE", "true")
    more = " --plugins-directory=/home/ubuntu/CellProfiler-plugins --always-continue"
    assert " ".join(job(cellprofiler, tmp_path).command) == published(tmp_path / "output", PLATE["Metadata"], more=more)
    (tmp_path / "plugins" / "active_plugins").mkdir(parents=True)
    monkeypatch.setenv("PLUGINS_PATH", str(tmp_path / "plugins"))
    assert f"--plugins-directory={tmp_path}/plugins/active_plugins" in job(cellprofiler, tmp_path).command
    monkeypatch.setenv("UPDATE_PLUGINS", "True")
    with pytest.raises(cellprofiler.BadMessage, match="plugins are put into the image"):
        job(cellprofiler, tmp_path)


@pytest.mark.parametrize(
    ("group", "structure", "told", "place"),
    [
        (PLATE, "Metadata_Plate-Metadata_Well-Metadata_Site", PLATE["Metadata"], "Plate1-A01-1"),
        (PLATE, "Metadata_Plate/analysis/Metadata_Well", PLATE["Metadata"], "Plate1/analysis/A01/1"),
        (PLATE, "", PLATE["Metadata"], "Plate1-A01-1"),
        ({"Metadata_Well": "A01", "Metadata_Site": "2"}, "Metadata_Well/Metadata_Site",
         "Metadata_Well=A01,Metadata_Site=2", "A01/2"),
        ({"Metadata_Well": "A01", "Metadata_Site": "2"}, "Metadata_Well", "Metadata_Well=A01,Metadata_Site=2", "A01/2"),
        ({"Metadata": {"Metadata_Well": "A01"}}, None, "Metadata_Well=A01", "A01"),
        ({"Well": "A01", "Site": 3}, None, "Well=A01,Site=3", "A01-3"),
        ({"Metadata_Well": "B", "Metadata_WellType": "T"}, "Metadata_WellType/Metadata_Well",
         "Metadata_Well=B,Metadata_WellType=T", "T/B"),
    ],
)  # fmt: skip
def test_every_key_reaches_g_and_results_lie_as_output_structure_says(
    cellprofiler: ModuleType, tmp_path: Path, group: Any, structure: str | None, told: str, place: str
) -> None:
    made = job(cellprofiler, tmp_path, group, **({} if structure is None else {"output_structure": structure}))
    assert made.command[made.command.index("-g") + 1] == told
    assert made.output_location == f"projects/output/{place}"


@pytest.mark.parametrize("group", [{"Metadata": "A01"}, {"Well": "A,1"}, {"Well": ""}, {"Metadata": "a=b=c"}, "Well"])
def test_a_group_that_g_cannot_say_is_a_bad_message(cellprofiler: ModuleType, tmp_path: Path, group: Any) -> None:
    with pytest.raises(cellprofiler.BadMessage, match="the group is"):
        job(cellprofiler, tmp_path, group)


@pytest.mark.parametrize("wrong", [{"pipeline": ""}, {"data_file": "a.xlsx"}, {"output": 5}, {"output": "a/../b"}])
def test_a_key_that_is_wrong_is_a_bad_message(cellprofiler: ModuleType, tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(cellprofiler.BadMessage):
        job(cellprofiler, tmp_path, **wrong)


def test_the_three_buckets_and_upload_flags_are_used(
    cellprofiler: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_BUCKET", "cellpainting-gallery")
    monkeypatch.setenv("WORKSPACE_BUCKET", "lab")
    monkeypatch.setenv("DESTINATION_BUCKET", "theirs")
    monkeypatch.setenv("UPLOAD_FLAGS", "--acl bucket-owner-full-control --metadata-directive REPLACE")
    made = job(cellprofiler, tmp_path)  # the mount has only AWS_BUCKET: all is fetched
    keys = ("projects/analysis.cppipe", "projects/list_of_images.csv", "projects/input/")
    assert made.inputs == {f"s3://lab/{key}": f"lab/{key}" for key in keys}
    assert made.command[4] == f"{tmp_path}/input/lab/projects/analysis.cppipe"
    assert made.own["images"].bucket == "cellpainting-gallery"
    assert made.output_bucket == "theirs"
    assert made.upload_arguments == {"ACL": "bucket-owner-full-control"}
    monkeypatch.setenv("UPLOAD_FLAGS", "--acl")
    with pytest.raises(cellprofiler.BadMessage, match="--acl has no value"):
        job(cellprofiler, tmp_path)


def test_a_batch_file_needs_the_mount(cellprofiler: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(cellprofiler.BadMessage, match="needs MOUNT_S3"):
        job(cellprofiler, tmp_path, mount="False", data_file="Batch_data.h5")


# Only what a group needs


class Fetched:
    """`folders.fetch` that notes, and lays a file of one byte at each place."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked = folder, {}

    def __call__(self, inputs: dict[str, str]) -> None:
        self.asked |= inputs
        for place in inputs.values():
            path = self.folder / "input" / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")


def prepared(
    hooks: ModuleType, folder: Path, data_file: str, group: Any, name: str = "list_of_images.csv"
) -> tuple[Any, Path]:
    made = job(hooks, folder, group, mount="False", data_file=f"projects/{name}")
    path = made.own["data_file"]
    path.parent.mkdir(parents=True)
    path.write_text(data_file)
    fetch = Fetched(folder)
    hooks.prepare(made, hooks.Folders(folder, fetch))
    return fetch.asked, path


TABLE = """Image_FileName_DNA,Image_PathName_DNA,FileName_Illum,PathName_Illum,Metadata_Well,Metadata_Site
a 1.tif,{0}/p/images/,illum.npy,{0}/p,A01,01
a2.tif,{0}/p/images/,illum.npy,{0}/p,A01,02
b1.tif,{0}/p/images/,,,B01,01
"""


@pytest.mark.parametrize("mounted", [BUCKET, "", "s3://ours"])
def test_only_the_images_of_the_group_are_fetched(cellprofiler: ModuleType, tmp_path: Path, mounted: str) -> None:
    table, group = TABLE.format(mounted), {"Metadata": "Metadata_Well=A01,Metadata_Site=1"}
    asked, path = prepared(cellprofiler, tmp_path, table, group)
    assert asked == {"s3://ours/p/images/a 1.tif": "ours/p/images/a 1.tif", "s3://ours/p/illum.npy": "ours/p/illum.npy"}
    rows = list(csv.DictReader(path.open()))
    images = f"{tmp_path}/input/ours/p/images"
    assert [row["Image_PathName_DNA"] for row in rows] == [images] * 3  # all rows: images keep their numbers
    assert [row["Image_FileName_DNA"] for row in rows] == ["a 1.tif", "a2.tif", "b1.tif"]
    assert [row["PathName_Illum"] for row in rows] == [f"{tmp_path}/input/ours/p"] * 2 + [""]


def test_a_relative_path_is_below_input_and_a_table_may_have_no_paths(cellprofiler: ModuleType, tmp_path: Path) -> None:
    asked, path = prepared(cellprofiler, tmp_path, "FileName_DNA,Metadata_Well\nx/a.tif,A01\n", {"Well": "A01"})
    assert asked == {"s3://ours/projects/input/x/a.tif": "ours/projects/input/x/a.tif"}
    (row,) = csv.DictReader(path.open())
    assert row["PathName_DNA"] == f"{tmp_path}/input/ours/projects/input/x"


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("FileName_DNA,Metadata_Well\na.tif,B01\n", "no row of list_of_images.csv has Metadata_Well=A01"),
        ("FileName_DNA,Metadata_Plate\na.tif,P1\n", "list_of_images.csv has no column Metadata_Well"),
        ("", "list_of_images.csv has no column Metadata_Well"),
    ],
)
def test_a_group_without_images_is_a_failure_with_its_name(
    cellprofiler: ModuleType, tmp_path: Path, table: str, told: str
) -> None:
    with pytest.raises(cellprofiler.Failed, match=told):
        prepared(cellprofiler, tmp_path, table, {"Metadata": "Metadata_Well=A01"})


def test_a_list_of_files_is_fetched_whole(cellprofiler: ModuleType, tmp_path: Path) -> None:
    text = f"{BUCKET}/p/a.tif\nfile:{BUCKET}/p/b%20c.tif\n\n"
    asked, path = prepared(cellprofiler, tmp_path, text, {"Well": "A01"}, "files.txt")
    assert asked == {"s3://ours/p/a.tif": "ours/p/a.tif", "s3://ours/p/b c.tif": "ours/p/b c.tif"}
    assert path.read_text() == f"{tmp_path}/input/ours/p/a.tif\n{tmp_path}/input/ours/p/b c.tif\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [("Complete\n", None), ("Failure\n", "cp.is.done contains 'Failure'"), (None, "cp.is.done does not exist")],
)
def test_the_done_file_says_whether_it_succeeded(
    cellprofiler: ModuleType, tmp_path: Path, text: str | None, reason: str | None
) -> None:
    folders = cellprofiler.Folders(tmp_path)
    folders.output_dir.mkdir()
    if text is not None:
        (folders.output_dir / "cp.is.done").write_text(text)
    told = cellprofiler.failure(job(cellprofiler, tmp_path), folders, cellprofiler.Result(0, 1.0, 0, 0.0))
    assert told is None if reason is None else reason in told


# Whole pictures


def tiff(order: str, big: bool, tiled: bool = False) -> bytes:
    """A picture of two strips (or tiles) of 10 bytes each, and a second page of one."""
    word, count, first = ("Q", "Q", 16) if big else ("I", "H", 8)
    tags = (324, 325) if tiled else (273, 279)
    size = struct.calcsize(order + word)
    directory = struct.calcsize(order + count) + 2 * (4 + 2 * size) + size
    pages = [first, first + directory]
    data = first + 2 * directory
    arrays = struct.pack(f"{order}2{word}2{word}", data + 4 * size, data + 4 * size + 10, 10, 10)
    kind = 16 if big else 4

    def page(number: int, following: int, offsets: int, lengths: int) -> bytes:
        entries = [
            struct.pack(f"{order}HH{word}{word}", tag, kind, number, value)
            for tag, value in zip(tags, (offsets, lengths), strict=True)
        ]
        return struct.pack(order + count, 2) + b"".join(entries) + struct.pack(order + word, following)

    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    head += (
        struct.pack(order + "HH", 8, 0) + struct.pack(order + "Q", first) if big else struct.pack(order + "I", first)
    )
    end = data + 4 * size + 20
    return head + page(2, pages[1], data, data + 2 * size) + page(1, 0, end, 7) + arrays + b"." * 27


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("tiled", [False, True])
def test_a_picture_that_is_cut_off_anywhere_is_told(
    cellprofiler: ModuleType, tmp_path: Path, order: str, big: bool, tiled: bool
) -> None:
    whole = tiff(order, big, tiled)
    path = tmp_path / "a.tif"
    path.write_bytes(whole)
    assert cellprofiler.find_image_damage(path) is None
    path.write_bytes(whole + b"more")
    assert cellprofiler.find_image_damage(path) is None
    for length in range(4, len(whole)):
        path.write_bytes(whole[:length])
        assert "is cut off" in (cellprofiler.find_image_damage(path) or "")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b"\x89PNG\r\n\x1a\nrest", "have no end"),
        (b"\x89PNG\r\n\x1a\nrest\0\0\0\0IEND\xaeB`\x82", None),
        (b"any other file", None),
    ],
)
def test_of_other_files_only_what_is_known_is_said(
    cellprofiler: ModuleType, tmp_path: Path, content: bytes, told: str | None
) -> None:
    (tmp_path / "a").write_bytes(content)
    found = cellprofiler.find_image_damage(tmp_path / "a")
    assert found is None if told is None else told in found
