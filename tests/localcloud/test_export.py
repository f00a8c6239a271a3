"""Exporting buckets to folders of ordinary files, with retries."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ClientError

from distributed_something.localcloud.client import export
from distributed_something.localcloud.client.export import build_safe_path, build_safe_paths, export_buckets
from tests.support.local_lab import Lab


def test_results_become_ordinary_files_and_unchanged_files_are_not_rewritten(lab: Lab) -> None:
    lab.cloud.ensure_buckets(["pears", "pears"])
    s3 = lab.cloud.build_client("s3")
    for key in ("a/b.txt", "a", "../../escape", "/absolute", "folder/"):
        s3.put_object(Bucket="pears", Key=key, Body=key.encode())
    results = lab.cloud.export_buckets(["pears", "no-such-bucket"]) / "pears"
    assert (results / "a" / "b.txt").read_text() == "a/b.txt"
    assert (results / "%2E%2E" / "%2E%2E" / "escape").exists()
    assert not (results.parent / "escape").exists()
    assert not (lab.project / "escape").exists()
    inode = (results / "a" / "b.txt").stat().st_ino
    s3.put_object(Bucket="pears", Key="/absolute", Body=b"changed!!")
    lab.cloud.export_buckets(["pears"])
    assert (results / "a" / "b.txt").stat().st_ino == inode
    assert (results / "%" / "absolute").read_text() == "changed!!"


def test_no_object_is_written_outside_its_buckets_folder() -> None:
    for key in ("../x", "/x", "a/../../x", "..", "a//b", ".", "x" * 300, "nul\0"):
        path = build_safe_path(key)
        assert not path.is_absolute()
        assert ".." not in path.parts
        assert all(0 < len(part.encode()) <= 255 and "\0" not in part for part in path.parts)


def test_a_key_that_is_also_a_folder_gets_a_different_name() -> None:
    assert {key: str(path) for key, path in build_safe_paths(["a", "a/b"]).items()} == {"a": "a%", "a/b": "a/b"}


def test_objects_that_cannot_be_copied_are_left_out_and_named_and_the_others_are_copied(lab: Lab) -> None:
    lab.cloud.ensure_buckets(["figs"])
    s3, warnings = lab.cloud.build_client("s3"), list[str]()
    for key in ("a", "b/c", "z"):
        s3.put_object(Bucket="figs", Key=key, Body=b"1")
    s3.put_object(Bucket="figs", Key="b/old", Body=b"1", StorageClass="DEEP_ARCHIVE")
    results = lab.cloud.export_buckets(["figs"], warnings.append) / "figs"
    assert sorted(path.relative_to(results).as_posix() for path in results.rglob("*") if path.is_file()) == [
        "a", "b/c", "z",
    ]  # fmt: skip
    assert warnings == ["s3://figs/b/old was left out: it is archived"]
    for number in range(8):
        s3.put_object(Bucket="figs", Key=f"x/{number}", Body=b"1", StorageClass="GLACIER")
    warnings.clear()
    lab.cloud.export_buckets(["figs"], warnings.append)
    assert len(warnings) == 6
    assert warnings[-1] == "4 more objects were left out"


def test_an_object_whose_path_the_disk_refuses_is_left_out_and_named(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "MAX_NAME_BYTES", 1000)
    lab.cloud.ensure_buckets(["kiwis"])
    s3, warnings = lab.cloud.build_client("s3"), list[str]()
    for key in (300 * "n", "z"):
        s3.put_object(Bucket="kiwis", Key=key, Body=b"1")
    results = lab.cloud.export_buckets(["kiwis"], warnings.append) / "kiwis"
    assert [path.name for path in results.iterdir()] == ["z"]
    assert warnings == [f"s3://kiwis/{300 * 'n'} was left out: File name too long"]


# faults


class Body(BytesIO):
    """Response body with the method that botocore calls."""

    def stream(self) -> Iterator[bytes]:
        yield self.read()


class Rejection:
    """Handler that rejects each request with SlowDown the first `times` times, before the emulator receives it."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.sent: Counter[tuple[str, str]] = Counter()

    def __call__(self, request: AWSPreparedRequest, **_: Any) -> AWSResponse | None:
        name = request.method, request.url
        self.sent[name] += 1
        if self.sent[name] > self.times:
            return None
        body = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
        return AWSResponse(request.url, 503, {"Content-Type": "application/xml"}, Body(body))


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make time.sleep do nothing, because botocore offers no way to replace its sleep function."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


def export_with_rejections(lab: Lab, times: int) -> Rejection:
    """Export a bucket with two objects, and reject each of the export's requests `times` times."""
    lab.cloud.ensure_buckets(["plums"])
    for key in ("one", "two"):
        lab.cloud.build_client("s3").put_object(Bucket="plums", Key=key, Body=key.encode())
    s3 = lab.cloud.build_client("s3", connections=16)
    rejection = Rejection(times)
    s3.meta.events.register("before-send.s3", rejection)
    export_buckets(s3, lab.cloud.layout, ["plums"])
    return rejection


@pytest.mark.usefixtures("no_pauses")
def test_each_request_of_an_export_may_fail_seven_times(lab: Lab) -> None:
    rejection = export_with_rejections(lab, 7)
    assert {path.name: path.read_text() for path in (lab.cloud.layout.results / "plums").iterdir()} == {
        "one": "one",
        "two": "two",
    }
    assert set(rejection.sent.values()) == {8}


@pytest.mark.usefixtures("no_pauses")
def test_the_export_fails_if_its_requests_are_always_rejected(lab: Lab) -> None:
    with pytest.raises(ClientError, match="SlowDown"):
        export_with_rejections(lab, 100)
