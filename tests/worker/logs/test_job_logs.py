"""Each job's log goes to CloudWatch while its program runs; it never costs a job anything."""

from __future__ import annotations

import gc
import os
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from botocore.exceptions import EndpointConnectionError

from distributed_something.worker.logs import job_log, log_stream
from distributed_something.worker.logs.job_log import (
    BURST_EVENTS,
    BUSY_CHECK_SECONDS,
    MAX_OPEN_LOGS,
    READ_BLOCK_BYTES,
    SEND_AFTER_END_SECONDS,
    JobLogs,
)
from distributed_something.worker.logs.log_stream import BATCH_EVENTS, LogStream
from tests.support.emulator import until
from tests.worker.logs.desk import PLACE, Desk
from tests.worker.logs.fake_logs import CountingLogs, FakeLogs, StreamRecorder, error

# pytest sets the filters of warnings anew for each test; that the worker's own holds is seen in a process of its own.
pytestmark = pytest.mark.filterwarnings("ignore::watchtower.WatchtowerWarning")


def test_every_line_arrives_in_order_and_the_stream_has_the_jobs_name(desk: Desk) -> None:
    lines = [f"line {n}" for n in range(20_000)]
    assert desk.run("\n".join(lines).encode()) == lines


def test_lines_are_sent_while_the_program_runs(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_stream, "SEND_INTERVAL_SECONDS", 0.01)
    with desk.start().open("ab", buffering=0) as log:
        for n in range(3):
            log.write(b"line %d\nhalf" % n)
            until(lambda: desk.logs.tick() or len(desk.client.streams.get("one", [])) > n, "nothing is sent")  # noqa: B023
    desk.logs.unfollow_log("one")
    desk.all_sent()
    assert desk.client.streams["one"] == ["line 0", "halfline 1", "halfline 2", "half"]


def test_a_job_that_prints_nothing_makes_no_call_to_aws_and_no_thread(desk: Desk) -> None:
    desk.start()
    desk.logs.tick()
    assert desk.threads == 0
    desk.logs.unfollow_log("one")
    desk.logs.tick()
    assert (desk.logs.followed_jobs, desk.client.calls) == ([], [])


def test_what_a_program_wrote_is_sent_although_its_folder_is_gone(desk: Desk) -> None:
    path = desk.start()
    path.write_bytes(b"the last word")
    desk.logs.unfollow_log("one")
    path.unlink()
    desk.all_sent()
    assert desk.client.streams == {"one": ["the last word"]}


def test_what_comes_while_aws_is_slow_is_sent_after_the_jobs_end(desk: Desk) -> None:
    log = desk.start().open("ab", buffering=0)
    log.write(b"early\n" * BATCH_EVENTS * 2)
    desk.client.open.clear()
    until(lambda: desk.logs.tick() or desk.client.calls, "nothing is sent")
    log.write(b"late")
    log.close()
    desk.logs.unfollow_log("one")
    desk.logs.tick()
    desk.client.open.set()
    desk.all_sent()
    assert desk.client.streams["one"][-2:] == ["early", "late"]


def test_a_second_attempt_continues_the_jobs_stream(desk: Desk) -> None:
    desk.run(b"first try\n")
    assert desk.run(b"first try\nsecond try\n") == ["first try", "first try", "second try"]
    assert desk.client.calls.count("create") == 1


def test_a_second_attempt_may_begin_while_the_firsts_log_is_still_sent(desk: Desk) -> None:
    first, second = desk.folder / "1", desk.folder / "2"
    for path in (first, second):
        desk.logs.follow_log("one", path)
        path.write_text(path.name)
        desk.logs.unfollow_log("one")
    desk.all_sent()
    assert sorted(desk.client.streams["one"]) == ["1", "2"]


def test_of_a_job_that_came_twice_the_end_of_one_attempt_does_not_end_the_others_log(desk: Desk) -> None:
    first, second = desk.folder / "1", desk.folder / "2"
    for path in (first, second):
        desk.logs.follow_log("one", path)
    desk.logs.unfollow_log("one", first)
    desk.logs.tick()
    second.write_text("late")
    desk.logs.unfollow_log("one", second)
    desk.all_sent()
    assert desk.client.streams["one"] == ["late"]


def test_switched_off_it_opens_nothing(tmp_path: Path) -> None:
    off = JobLogs(None, "")
    off.follow_log("one", tmp_path / "log")
    off.unfollow_log("one")
    off.run()
    off.end(1)
    assert list(tmp_path.iterdir()) == []


def test_a_log_that_cannot_be_opened_fails_nothing(desk: Desk, said: Callable[[], list[str]]) -> None:
    for job in ("one", "two"):
        desk.logs.follow_log(job, desk.folder / "none" / job)
        desk.logs.unfollow_log(job)
    assert len(said()) == 1


def test_a_log_that_cannot_be_read_stops_no_other(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = desk.start("bad")
    bad.write_bytes(b"x")

    def read(file: int, size: int) -> bytes:
        if os.fstat(file).st_ino == bad.stat().st_ino:
            raise OSError("the disk is broken")
        return original(file, size)

    original = os.read
    monkeypatch.setattr(job_log.os, "read", read)
    assert desk.run(b"good", "good") == ["good"]


def test_a_clock_that_is_set_back_leaves_the_lines_in_order(desk: Desk) -> None:
    log = desk.start().open("ab", buffering=0)
    for _ in range(5):
        log.write(b"%f\n" % desk.time.time)
        until(lambda: not desk.logs.tick(), "the line is not taken")
        desk.time.time -= 100
    log.close()
    desk.logs.unfollow_log("one")
    desk.all_sent()
    found = [float(event) for event in desk.client.streams["one"]]
    assert found == sorted(found, reverse=True)


# Much of it


def test_no_more_is_read_than_aws_takes_and_the_rest_is_given_up_with_a_word(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = StreamRecorder()
    monkeypatch.setattr(job_log, "LogStream", recorder)
    desk.client.open.clear()
    desk.start().write_bytes(b"a line of some length, again and again\n" * 100_000)
    desk.logs.unfollow_log("one")
    for _ in range(200):
        desk.logs.tick()
    (stream,) = recorder.streams
    assert stream.waiting_events <= BURST_EVENTS + READ_BLOCK_BYTES
    desk.time.sleep(SEND_AFTER_END_SECONDS)
    desk.logs.tick()
    desk.client.open.set()
    desk.all_sent()
    sent = desk.client.streams["one"]
    assert len(sent) < 20_000
    assert sent[-1] == f"(worker) not all of this log is here; the whole log: {PLACE}"


def test_a_log_that_is_all_sent_has_no_such_word(desk: Desk) -> None:
    assert "(worker)" not in "".join(desk.run(b"short"))


@pytest.mark.parametrize(
    "line",
    [b"x" * 99 + b"\n", b"y" * 100],
    ids=["lines", "one line"],
)
def test_a_program_that_writes_100_mb_needs_a_few_mb_of_memory(tmp_path: Path, line: bytes) -> None:
    """What is held at once does not grow with the file: its start shows it."""
    desk = Desk(tmp_path, CountingLogs())
    with desk.start().open("wb") as log:
        for _ in range(100):
            log.write(line * 10_000)
    tracemalloc.start()
    until(lambda: desk.logs.tick() and desk.client.bytes > 5_000_000, "nothing is read")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    desk.logs.end(0)
    assert peak < 10_000_000


def test_hundreds_of_jobs_leave_no_thread_and_no_memory(desk: Desk) -> None:
    following = threading.Thread(target=desk.logs.run)
    following.start()
    for n in range(300):
        job = f"job-{n}"
        desk.start(job).write_text("hello\n")
        desk.logs.unfollow_log(job)
        until(lambda: len(desk.logs.followed_jobs) < 20, "logs gather")
    until(lambda: not desk.logs.followed_jobs, "logs are still sent")
    gc.collect()
    assert desk.threads == 1
    assert [o for o in gc.get_objects() if isinstance(o, LogStream)] == []
    assert len(desk.client.streams) == 300
    desk.logs.end(1)
    following.join(60)
    assert not following.is_alive()


# AWS refuses


@pytest.mark.parametrize(
    "refusal",
    [error("AccessDeniedException"), error("ThrottlingException"), error("ResourceNotFoundException"),
     EndpointConnectionError(endpoint_url="https://logs"), RuntimeError("unheard of")],
)  # fmt: skip
def test_whatever_aws_answers_no_job_waits_and_it_is_said_once(
    desk: Desk, refusal: Exception, said: Callable[[], list[str]]
) -> None:
    desk.client.refusal = refusal
    start = time.monotonic()
    for n in range(5):
        desk.start(f"job-{n}").write_text("hello\n" * 5000)
        desk.logs.tick()
        desk.logs.unfollow_log(f"job-{n}")
    assert time.monotonic() - start < 10
    until(lambda: desk.logs.tick() or said(), "nothing is said")
    desk.time.sleep(SEND_AFTER_END_SECONDS)
    desk.all_sent()
    assert len(said()) == 1
    assert str(refusal) in said()[0]
    assert len(desk.client.calls) < 30


def test_a_refusal_that_passes_loses_nothing(desk: Desk) -> None:
    desk.client.refusal = error("ThrottlingException")
    path = desk.start()
    path.write_bytes(b"first\n" * 4000)
    until(lambda: desk.logs.tick() or len(desk.client.calls) > 2, "it is not tried again")
    desk.client.refusal = None
    desk.logs.unfollow_log("one")
    desk.all_sent()
    assert desk.client.streams["one"] == ["first"] * 4000


def test_while_aws_refuses_no_new_streams_are_opened(tmp_path: Path) -> None:
    desk = Desk(tmp_path, FakeLogs(), first_pause=100)
    desk.backoff.note_failure(error("AccessDeniedException"))
    desk.start().write_text("hello\n")
    desk.logs.unfollow_log("one")
    desk.logs.tick()
    assert desk.threads == 0
    desk.backoff.reset_pause()
    desk.all_sent()
    assert desk.client.streams == {"one": ["hello"]}


def test_a_batch_that_is_wrong_is_dropped_and_the_log_says_that_it_is_not_whole(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = StreamRecorder()
    monkeypatch.setattr(job_log, "LogStream", recorder)
    desk.client.refusal = error("InvalidParameterException")
    path = desk.start()
    path.write_bytes(b"wrong\n" * (BATCH_EVENTS + 1))

    def refused() -> bool:
        desk.logs.tick()
        return any(stream.is_incomplete for stream in recorder.streams)

    until(refused, "it is not refused")
    desk.client.refusal = None
    with path.open("ab") as log:
        log.write(b"right\n")
    desk.logs.unfollow_log("one")
    desk.all_sent()
    assert desk.client.streams["one"][-2:] == ["right", f"(worker) not all of this log is here; the whole log: {PLACE}"]


def test_calls_that_hang_hold_back_neither_jobs_nor_files_nor_threads(desk: Desk) -> None:
    desk.client.open.clear()
    start, files = time.monotonic(), len(os.listdir("/dev/fd"))
    for n in range(3 * MAX_OPEN_LOGS):
        desk.start(f"job-{n}").write_text("hello\n")
        desk.logs.unfollow_log(f"job-{n}")
        desk.logs.tick()
    assert desk.threads <= MAX_OPEN_LOGS
    assert len(os.listdir("/dev/fd")) - files <= 2 * MAX_OPEN_LOGS
    assert time.monotonic() - start < 10
    desk.client.refusal = error("ServiceUnavailableException")
    desk.client.open.set()
    desk.time.sleep(SEND_AFTER_END_SECONDS)
    desk.all_sent()


def test_the_end_sends_what_is_left(desk: Desk) -> None:
    desk.start().write_text("no newline")
    desk.logs.end(60)
    assert desk.client.streams == {"one": ["no newline"]}
    assert desk.threads == 0


def test_the_end_is_in_time_although_aws_does_not_answer(tmp_path: Path) -> None:
    desk = Desk(tmp_path, FakeLogs(), waits=False)
    following = threading.Thread(target=desk.logs.run, daemon=True)
    following.start()
    desk.client.open.clear()
    desk.start().write_text("hello\n" * 3000)
    until(lambda: desk.client.calls, "nothing is sent")
    desk.logs.end(10)
    assert 10 <= round(sum(desk.time.slept), 6) <= 10 + BUSY_CHECK_SECONDS
    following.join(60)
    assert not following.is_alive()
    desk.client.open.set()
    desk.all_sent()
