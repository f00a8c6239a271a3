"""Uploading `upload` folders: a changed file is noticed however it was changed, and what is left out is reported."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest

from distributed_something.jobs.uploads import upload_folders as upload_module
from distributed_something.jobs.uploads.upload_folders import UPLOAD_PART_BYTES, upload_folders
from tests.support.emulator import run_ministack
from tests.support.fakes import FakeBucket

BUCKET = "app-bucket"


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with run_ministack(tmp_path_factory.mktemp("cloud")) as url:
        session: Any = boto3.Session("test", "test", region_name="us-east-1")
        client = session.client("s3", endpoint_url=url)
        client.create_bucket(Bucket=BUCKET)
        yield client


class Uploader:
    """A folder `images` that is uploaded below a prefix of its own."""

    def __init__(self, folder: Path, s3: Any) -> None:
        self.images, self.s3, self.prefix = folder / "images", s3, folder.name
        self.lines: list[str] = []
        self.images.mkdir()

    def upload(self) -> str:
        """Upload the folder, and return the counts."""
        self.lines.clear()
        upload_folders(self.s3, BUCKET, {self.images: self.prefix}, self.lines.append)
        return self.lines[0].split(": ")[-1]

    def read(self, name: str) -> bytes:
        content: bytes = self.s3.get_object(Bucket=BUCKET, Key=f"{self.prefix}/{name}")["Body"].read()
        return content


@pytest.fixture
def uploader(tmp_path: Path, s3: Any) -> Uploader:
    return Uploader(tmp_path, s3)


def test_files_are_uploaded_once_and_later_only_the_changed_ones(uploader: Uploader) -> None:
    (uploader.images / "deep").mkdir()
    (uploader.images / "a.txt").write_text("a")
    (uploader.images / "deep" / "b.txt").write_text("b")
    assert uploader.upload() == "2 files uploaded, 0 unchanged"
    assert uploader.upload() == "0 files uploaded, 2 unchanged"
    (uploader.images / "a.txt").write_text("z")
    assert uploader.upload() == "1 file uploaded, 1 unchanged"
    assert (uploader.read("a.txt"), uploader.read("deep/b.txt")) == (b"z", b"b")


@pytest.mark.parametrize("way", ["cp -p", "mv", "mv a folder", "a link to another file", "a link to another folder"])
def test_another_file_of_the_same_size_with_an_older_time_is_uploaded(uploader: Uploader, way: str) -> None:
    images, other = uploader.images / "plate", uploader.images.parent / "other"
    for folder, text in ((images, "old"), (other, "new")):
        folder.mkdir()
        (folder / "a.txt").write_text(text)
        os.utime(folder / "a.txt", (10**9, 10**9))
    assert uploader.upload() == "1 file uploaded, 0 unchanged"
    if way == "cp -p":
        shutil.copy2(other / "a.txt", images / "a.txt")
    elif way == "mv":
        os.replace(other / "a.txt", images / "a.txt")
    elif way == "a link to another file":
        (images / "a.txt").unlink()
        (images / "a.txt").symlink_to(other / "a.txt")
    else:
        shutil.rmtree(images)
        other.rename(images) if way == "mv a folder" else images.symlink_to(other)
    assert uploader.upload() == "1 file uploaded, 0 unchanged"
    assert uploader.read("plate/a.txt") == b"new"
    assert uploader.upload() == "0 files uploaded, 1 unchanged"


def test_files_that_were_uploaded_in_parts_are_compared_too(uploader: Uploader) -> None:
    content = b"x" * (2 * UPLOAD_PART_BYTES + 1)
    (uploader.images / "large.tif").write_bytes(content)
    (uploader.images / "exact.tif").write_bytes(content[: 2 * UPLOAD_PART_BYTES])
    (uploader.images / "empty.tif").write_bytes(b"")
    assert uploader.upload() == "3 files uploaded, 0 unchanged"
    assert uploader.upload() == "0 files uploaded, 3 unchanged"
    (uploader.images / "large.tif").write_bytes(content[:-1] + b"y")
    os.utime(uploader.images / "large.tif", (10**9, 10**9))
    assert uploader.upload() == "1 file uploaded, 2 unchanged"


def test_files_that_changed_long_before_their_upload_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket: Any = FakeBucket()
    bucket.upload_file = lambda path, _, key: bucket.objects.update({key: Path(path).read_bytes()})
    uploader = Uploader(tmp_path, bucket)
    (uploader.images / "a.txt").write_text("a")
    uploader.upload()
    read: list[Path] = []
    monkeypatch.setattr(upload_module, "_compute_etag", lambda path, etag: (read.append(path), etag)[1])
    bucket.modified = uploader.images.stat().st_ctime + 1000
    assert (uploader.upload(), read) == ("0 files uploaded, 1 unchanged", [])
    bucket.modified -= 200  # the computer's clock may differ by this much
    assert uploader.upload() == "0 files uploaded, 1 unchanged"
    assert read == [uploader.images / "a.txt"]


def test_what_is_left_out_is_reported(tmp_path: Path) -> None:
    bucket: Any = SimpleNamespace(**{"get_paginator": FakeBucket().get_paginator, "upload_file": lambda *_: None})
    uploader = Uploader(tmp_path, bucket)
    for name in ("a.tif", ".DS_Store", "._a.tif", "._b.tif", "._c.tif", "._d.tif", "._e.tif"):
        (uploader.images / name).write_text("x")
    (uploader.images / "dead\n.tif").symlink_to("/nowhere")
    Path(os.fsdecode(os.fsencode(uploader.images) + b"/caf\xe9")).symlink_to("/nowhere")
    os.mkfifo(uploader.images / "pipe")
    assert uploader.upload() == "1 file uploaded, 0 unchanged"
    folder = uploader.images
    assert uploader.lines[1:] == [
        f"left out        {folder}/.DS_Store, {folder}/._a.tif, {folder}/._b.tif, {folder}/._c.tif, {folder}/._d.tif "
        "and 1 more: a hidden file of macOS",
        f"left out        {folder}/caf\\xe9: a link to a file that does not exist",
        f"left out        {folder}/dead .tif: a link to a file that does not exist",
        f"left out        {folder}/pipe: not a regular file",
    ]
