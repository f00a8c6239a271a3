"""Tests for shared inputs: each object is fetched once per container, and no job can change it for another."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from distributed_something.worker.job.failures import BadData, Failed, Interruption, MissingInput
from distributed_something.worker.shared_inputs import store
from distributed_something.worker.shared_inputs.store import SharedFiles, SharedInputs
from distributed_something.worker.transfer.inputs import InputSource
from tests.support.objects import put_objects


class Lab:
    """A store, and the folders of the jobs that use it."""

    def __init__(self, s3: Any, folder: Path) -> None:
        self.s3, self.folder, self.gets = s3, folder, list[str]()
        self.source = InputSource(s3, "ours")
        self.shared = SharedInputs(folder / "shared-x", lambda seconds: None)
        s3.meta.events.register("before-call.s3.GetObject", lambda **_: self.gets.append("GetObject"))

    def provide(self, job: str, inputs: Any, check: Any = lambda: None) -> SharedFiles:
        (self.folder / job).mkdir()
        return self.shared.provide_files(self.source, inputs, self.folder / job / "shared", check)

    def read(self, job: str) -> dict[str, bytes]:
        folder = self.folder / job / "shared"
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def end_job(self, job: str) -> None:
        for path in (self.folder / job / "shared").rglob("*"):
            path.unlink()

    def list_store(self) -> list[Path]:
        folder = self.folder / "shared-x"
        return sorted(folder.iterdir()) if folder.exists() else []


def build_late_check(stop: Callable[[], None]) -> Callable[[], None]:
    """Return a check that calls `stop` from the second time on, when the job waits for the fetch lock."""
    calls = iter(range(10**6))
    return lambda: stop() if next(calls) else None


@pytest.fixture
def lab(s3: Any, tmp_path: Path) -> Lab:
    return Lab(s3, tmp_path)


def test_objects_are_fetched_once_with_the_names_that_inputs_have(lab: Lab) -> None:
    put_objects(lab.s3, "ref/hg38.fa", "index/a/1", "index/2")
    for number in range(3):
        files = lab.provide(f"list-{number}", ["ref/hg38.fa", "s3://ours/index/"])
        assert lab.read(f"list-{number}") == {"hg38.fa": b"ref/hg38.fa", "a/1": b"index/a/1", "2": b"index/2"}
        assert files.fetched_bytes == (27 if number == 0 else 0)
        assert [file.address for file in files.list_inputs()] == [
            "s3://ours/ref/hg38.fa", "s3://ours/index/2", "s3://ours/index/a/1",
        ]  # fmt: skip
    lab.provide("mapping", {"ref/hg38.fa": "genome/", "index/": "index"})
    assert sorted(lab.read("mapping")) == ["genome/hg38.fa", "index/2", "index/a/1"]
    assert len(lab.gets) == 3


def test_files_are_read_only_and_a_job_may_add_files_of_its_own(lab: Lab) -> None:
    put_objects(lab.s3, "ref/a")
    lab.provide("one", ["ref/a"])
    assert (lab.folder / "one" / "shared" / "a").stat().st_mode & 0o777 == 0o444
    (lab.folder / "one" / "shared" / "a.fai").touch()
    lab.provide("two", ["ref/a"])
    assert sorted(lab.read("two")) == ["a"]


def test_a_changed_object_is_fetched_again_and_jobs_that_use_the_old_one_keep_it(lab: Lab) -> None:
    put_objects(lab.s3, "ref/a")
    lab.provide("one", ["ref/a"])
    lab.s3.put_object(Bucket="ours", Key="ref/a", Body=b"another")
    lab.provide("two", ["ref/a"])
    assert (lab.read("one"), lab.read("two")) == ({"a": b"ref/a"}, {"a": b"another"})
    assert len(lab.gets) == 2


@pytest.mark.parametrize("change", ["append", "same size"])
def test_a_file_that_a_program_has_changed_is_fetched_again_and_jobs_that_used_it_fail(lab: Lab, change: str) -> None:
    put_objects(lab.s3, "ref/a")
    first, second = lab.provide("one", ["ref/a"]), lab.provide("two", ["ref/a"])
    path = lab.folder / "one" / "shared" / "a"
    path.chmod(0o644)
    path.write_bytes(b"REF/A" if change == "same size" else b"longer than before")
    os.utime(path, ns=(0, 1))
    for files in (first, second):
        with pytest.raises(Failed, match="has changed the shared input s3://ours/ref/a, which is read-only"):
            files.check_unchanged()
    third = lab.provide("three", ["ref/a"])
    third.check_unchanged()
    assert lab.read("three") == {"a": b"ref/a"}
    with pytest.raises(Failed):
        first.check_unchanged()


def test_a_program_that_replaces_or_removes_its_links_changes_nothing_for_others(lab: Lab) -> None:
    put_objects(lab.s3, "ref/a", "ref/b")
    files = lab.provide("one", ["ref/"])
    (lab.folder / "one" / "shared" / "a").unlink()
    (lab.folder / "one" / "shared" / "a").write_text("own")
    (lab.folder / "one" / "shared" / "b").unlink()
    files.check_unchanged()
    lab.provide("two", ["ref/"])
    assert lab.read("two") == {"a": b"ref/a", "b": b"ref/b"}
    assert len(lab.gets) == 2


def test_a_container_that_must_stop_does_not_wait_for_a_copy(lab: Lab) -> None:
    put_objects(lab.s3, "ref/a")
    lab.provide("one", ["ref/a"])

    def stop_copying() -> None:
        if list((lab.folder / "two").glob("*.part")):
            raise Interruption

    (lab.folder / "two").mkdir()
    with pytest.raises(Interruption):
        lab.shared.provide_files(lab.source, ["ref/a"], lab.folder / "two" / "shared", stop_copying, own_copies=True)


def test_several_slots_wait_for_one_fetch(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "WAIT_SECONDS", 0.01)
    put_objects(lab.s3, "ref/a")
    is_waiting, is_fetching = threading.Event(), threading.Event()
    real_get_object = lab.s3.get_object

    def get_object(**arguments: Any) -> Any:
        is_fetching.set()
        assert is_waiting.wait(30)
        return real_get_object(**arguments)

    monkeypatch.setattr(lab.s3, "get_object", get_object)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(lab.provide, "one", ["ref/a"])
        assert is_fetching.wait(30)
        second = pool.submit(lab.provide, "two", ["ref/a"], is_waiting.set)
        assert first.result().fetched_bytes == 5
        assert second.result().fetched_bytes == 0
    assert len(lab.gets) == 1


def test_a_job_that_must_stop_does_not_wait_and_the_next_one_fetches(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "WAIT_SECONDS", 0.01)
    put_objects(lab.s3, "ref/a")

    def stop() -> None:
        raise Interruption

    with lab.shared._hold_fetch_lock(lambda: None), pytest.raises(Interruption):
        lab.provide("one", ["ref/a"], build_late_check(stop))
    with pytest.raises(Interruption):
        lab.provide("two", ["ref/a"], lambda: stop() if lab.gets else None)
    assert lab.list_store() == []
    lab.provide("three", ["ref/a"])
    assert lab.read("three") == {"a": b"ref/a"}


@pytest.mark.parametrize(
    ("keys", "inputs", "kind"),
    [
        ([], ["ref/none"], MissingInput), ([], ["ref/"], MissingInput), (["c/a", "c/a/b"], ["c/"], BadData),
        (["a"], {"a": "../a"}, BadData),
    ],
)  # fmt: skip
def test_a_failed_fetch_fails_only_the_jobs_that_need_it(
    lab: Lab, keys: list[str], inputs: Any, kind: type[Failed]
) -> None:
    put_objects(lab.s3, "ok", *keys)
    with pytest.raises(kind):
        lab.provide("one", inputs)
    lab.provide("two", ["ok"])
    assert lab.read("two") == {"ok": b"ok"}


def test_an_archived_shared_input_is_named(lab: Lab) -> None:
    lab.s3.put_object(Bucket="ours", Key="ref/a", Body=b"a", StorageClass="GLACIER")
    with pytest.raises(BadData, match=r"s3://ours/ref/a is archived \(GLACIER\)"):
        lab.provide("one", ["ref/a"])
    assert lab.list_store() == []


def test_files_that_no_job_uses_are_removed_when_the_disk_is_short_the_oldest_first(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_objects(lab.s3, "a", "b", "c", "d")
    capacity = [10]  # files

    def has_disk_space(path: Path, min_bytes: int) -> bool:
        return len(lab.list_store()) + min_bytes - store.MIN_FREE_BYTES <= capacity[0]  # each file has one byte

    monkeypatch.setattr(store, "has_disk_space", has_disk_space)
    lab.provide("uses-a", ["a"])
    for key in ("b", "c"):
        lab.provide(f"used-{key}", [key])
        lab.end_job(f"used-{key}")
    lab.provide("again-b", ["b"])
    lab.end_job("again-b")
    capacity[0] = 3
    lab.provide("uses-d", ["d"])  # removes c, which was not used for longer than b, and never a
    assert {path.read_bytes() for path in lab.list_store()} == {b"a", b"b", b"d"}
    assert lab.read("uses-a") == {"a": b"a"}
    capacity[0] = 2
    assert lab.shared.make_room()
    assert {path.read_bytes() for path in lab.list_store()} == {b"a", b"d"}
    with pytest.raises(Failed, match="the shared inputs need 1 bytes, for which the disk has no room") as failed:
        lab.provide("no-room", ["c"])
    assert failed.value.reason_class == "disk"


def test_nothing_remains_after_the_container(lab: Lab) -> None:
    put_objects(lab.s3, "ref/a")
    lab.provide("one", ["ref/a"])
    lab.shared.remove_all()
    assert not (lab.folder / "shared-x").exists()


def test_requester_pays_applies_to_the_look_ups_and_fetches_of_shared_inputs(lab: Lab) -> None:
    put_objects(lab.s3, "ref/a", "index/1")
    lab.source = InputSource(lab.s3, "ours", {"RequestPayer": "requester"})
    payers: list[tuple[str, str | None]] = []
    for name in ("HeadObject", "GetObject", "ListObjectsV2"):
        lab.s3.meta.events.register(
            f"provide-client-params.s3.{name}",
            lambda params, model, **_: payers.append((model.name, params.get("RequestPayer"))),
        )
    lab.provide("job", ["ref/a", "s3://ours/index/"])
    assert {name for name, _ in payers} == {"HeadObject", "GetObject", "ListObjectsV2"}
    assert {payer for _, payer in payers} == {"requester"}
