"""The files of an `upload` folder: links are followed without circles, and everything that is left out is listed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from distributed_something.core.errors import InputError
from distributed_something.jobs.job_file import load_job_file
from distributed_something.jobs.uploads.upload_files import list_upload_files


def list_keys(folder: Path) -> list[str]:
    return [file.key for file in list_upload_files(folder, "p/").files]


def list_left_out(folder: Path) -> dict[str, str]:
    left_out = list_upload_files(folder, "p/").left_out
    return {path.relative_to(folder).as_posix(): reason for path, reason in left_out.items()}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "plate").mkdir(parents=True)
    (folder / "plate" / "a.tif").write_text("a")
    return folder


def test_linked_folders_and_files_are_followed(images: Path, tmp_path: Path) -> None:
    (tmp_path / "disk" / "deep").mkdir(parents=True)
    (tmp_path / "disk" / "deep" / "b.tif").write_text("b")
    (images / "linked").symlink_to(tmp_path / "disk")
    (images / "again").symlink_to("plate")
    (images / "c.tif").symlink_to(tmp_path / "disk" / "deep" / "b.tif")
    assert list_keys(images) == ["p/again/a.tif", "p/c.tif", "p/linked/deep/b.tif", "p/plate/a.tif"]
    assert list_left_out(images) == {}


def test_circles_of_links_end_and_are_listed(images: Path, tmp_path: Path) -> None:
    (images / "plate" / "up").symlink_to(images)
    (images / "here").symlink_to(".")
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "y").symlink_to(images / "plate")
    (images / "plate" / "x").symlink_to(tmp_path / "x")
    (images / "loop").symlink_to("loop")
    assert list_keys(images) == ["p/plate/a.tif"]
    above = "a link to a folder above it"
    assert list_left_out(images) == {
        "here": above, "loop": "a link to a file that does not exist", "plate/up": above, "plate/x/y": above,
    }  # fmt: skip


def test_dead_links_pipes_and_sockets_are_listed(images: Path) -> None:
    (images / "dead.tif").symlink_to("/nowhere/at/all.tif")
    (images / "dead").symlink_to("/nowhere/at/all")
    os.mkfifo(images / "pipe.tif")
    (images / "null").symlink_to("/dev/null")
    assert list_keys(images) == ["p/plate/a.tif"]
    dead, special = "a link to a file that does not exist", "not a regular file"
    assert list_left_out(images) == {"dead": dead, "dead.tif": dead, "null": special, "pipe.tif": special}


def test_folders_and_files_that_cannot_be_read_are_listed(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (images / "secret").mkdir()
    (images / "secret.tif").write_text("s")
    list_folder, may_access = os.listdir, os.access

    def refuse_folder(path: Path) -> list[str]:
        if Path(path).name == "secret":
            raise PermissionError(13, "Permission denied")
        return list_folder(path)

    monkeypatch.setattr(os, "listdir", refuse_folder)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "secret.tif" and may_access(path, mode))
    assert list_keys(images) == ["p/plate/a.tif"]
    reason = "cannot be read (Permission denied)"
    assert list_left_out(images) == {"secret": reason, "secret.tif": reason}


def test_hidden_files_of_macos_and_caches_are_left_out_but_other_hidden_files_are_not(images: Path) -> None:
    for name in (".DS_Store", "._a.tif", "__MACOSX/plate/._a.tif", ".Trashes/x", "Icon\r", "__pycache__/m.pyc", ".env"):
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        (images / name).write_text("x")
    assert list_keys(images) == ["p/.env", "p/plate/a.tif"]
    assert list_left_out(images) == dict.fromkeys(
        (".DS_Store", "._a.tif", "__MACOSX", ".Trashes", "Icon\r"), "a hidden file of macOS"
    ) | {"__pycache__": "Python's cache"}


def test_a_single_file_may_be_uploaded(images: Path) -> None:
    file = images / "plate" / "a.tif"
    assert [found.key for found in list_upload_files(file, "p/").files] == ["p/a.tif"]
    assert [found.key for found in list_upload_files(file, "p/b.tif").files] == ["p/b.tif"]


@pytest.mark.parametrize("name", [b"caf\xe9.txt", b"\xff\xfeplate/a.txt", b"ok/\x80.tif"])
def test_a_name_that_is_not_utf_8_is_refused_with_the_job_file_and_before_anything_else(
    images: Path, tmp_path: Path, name: bytes
) -> None:
    path = os.path.join(os.fsencode(images), name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    Path(os.fsdecode(path)).write_text("x")
    job_file = tmp_path / "job.json"
    job_file.write_text(json.dumps({"command": "true", "upload": {"images": "p"}, "groups": [{"n": 1}]}))
    with pytest.raises(InputError) as caught:
        load_job_file(job_file, lambda bucket, prefix: [])
    shown = name.decode("utf-8", "backslashreplace")
    assert str(caught.value) == (
        f"{job_file}: upload 'images': the name of {images}/{shown} is not UTF-8 text; rename it"
    )


def test_a_key_that_is_too_long_is_refused_by_name(images: Path, tmp_path: Path) -> None:
    deep = images / ("x" * 250) / ("y" * 250) / ("z" * 250)
    deep.mkdir(parents=True)
    (deep / ("é" * 120)).write_text("x")
    job_file = tmp_path / "job.json"
    job_file.write_text(json.dumps({"command": "true", "upload": {"images": "p" * 50}, "groups": [{"n": 1}]}))
    with pytest.raises(InputError, match=r"upload 'images': the key of .* would have 1,044 bytes, but S3 allows only"):
        load_job_file(job_file, lambda bucket, prefix: [])
