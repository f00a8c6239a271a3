"""The cap on a job's log: what is kept on the disk, in S3, and in the stream."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from distributed_something.worker.logs import capped_log
from distributed_something.worker.logs.capped_log import CappedLog, remove_middle
from tests.worker.logs.job_logs_harness import JobLogsHarness

KB = 1024
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can remove the middle of a file")
# pytest resets warning filters for each test; test_logs_on_emulator.py tests the worker's own filter.
pytestmark = pytest.mark.filterwarnings("ignore::watchtower.WatchtowerWarning")


@pytest.fixture(autouse=True)
def small_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep 64 KiB at the start and 128 KiB at the end."""
    for name, size in {"HEAD_BYTES": 64, "TAIL_BYTES": 128, "MAX_LOG_BYTES": 192, "SLACK_BYTES": 64}.items():
        monkeypatch.setattr(capped_log, name, size * KB)


def read_all(log: Path) -> bytes:
    with log.open("rb") as file:
        return CappedLog(file).read()


def build_content(size: int) -> bytes:
    """Return lines of 16 bytes that differ."""
    return b"".join(b"line %010d\n" % number for number in range(size // 16))


@pytest.mark.parametrize("size", [0, 16, 192 * KB])
def test_a_log_up_to_the_cap_is_kept_to_the_byte(tmp_path: Path, size: int) -> None:
    (tmp_path / "log").write_bytes(build_content(size))
    assert read_all(tmp_path / "log") == build_content(size)


def test_of_a_larger_log_the_start_and_the_end_are_kept_and_a_line_counts_the_rest(tmp_path: Path) -> None:
    content = build_content(1000 * KB)
    (tmp_path / "log").write_bytes(content)
    line = f"\n(worker) {808 * KB:,} bytes of this log were left out here\n".encode()
    assert read_all(tmp_path / "log") == content[: 64 * KB] + line + content[-128 * KB :]


def test_a_capped_log_can_be_read_again_from_any_position(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(build_content(1000 * KB))
    whole = read_all(tmp_path / "log")
    with (tmp_path / "log").open("rb") as file:
        log = CappedLog(file)
        assert log.seek(0, os.SEEK_END) == len(whole)
        for start in (0, 64 * KB - 5, 64 * KB + 3, 64 * KB + 90, len(whole) - 7):
            log.seek(start)
            assert log.read() == whole[start:]


@needs_linux
def test_the_disk_holds_only_what_is_kept_while_a_program_appends_to_its_log(tmp_path: Path) -> None:
    path, content = tmp_path / "log", build_content(1000 * KB)
    for start in range(0, len(content), 100 * KB):
        with path.open("ab") as log:
            log.write(content[start : start + 100 * KB])
        remove_middle(path)
        assert path.stat().st_blocks * 512 <= (192 + 64 + 8) * KB
    assert read_all(path).endswith(content[-128 * KB :])
    assert read_all(path).startswith(content[: 64 * KB])


@needs_linux
def test_a_log_that_is_a_link_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(build_content(1000 * KB))
    (tmp_path / "log").symlink_to(tmp_path / "other")
    remove_middle(tmp_path / "log")
    assert (tmp_path / "other").read_bytes() == build_content(1000 * KB)


@needs_linux
def test_the_stream_shows_a_line_instead_of_the_removed_middle(harness: JobLogsHarness) -> None:
    path = harness.start_job()
    path.write_bytes(build_content(1000 * KB))
    remove_middle(path)
    harness.logs.unfollow_log("one")
    harness.wait_until_sent()
    events = harness.client.streams["one"]
    (omission,) = [event for event in events if event.startswith("(worker)")]
    assert omission == f"(worker) {808 * KB:,} bytes of this log were left out here"
    assert (events[0], events[-1]) == ("line 0000000000", f"line {1000 * KB // 16 - 1:010d}")
    assert not any("␀" in event for event in events)
