"""Each job's log is sent to CloudWatch while its program runs, and never fails or delays a job."""

from __future__ import annotations

import gc
import os
import threading
import time
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from math import ceil
from pathlib import Path

import pytest
from botocore.exceptions import EndpointConnectionError

from distributed_something.worker.logs import job_log, log_stream
from distributed_something.worker.logs.job_log import (
    BURST_EVENTS,
    BUSY_CHECK_SECONDS,
    MAX_OPEN_LOGS,
    PROGRESS_SECONDS,
    READ_BLOCK_BYTES,
    SEND_AFTER_END_SECONDS,
    JobLogs,
)
from distributed_something.worker.logs.log_stream import BATCH_EVENTS, LogStream
from tests.support.emulator import wait_until
from tests.worker.logs.fake_logs import CountingLogs, FakeLogs, StreamRecorder, build_error
from tests.worker.logs.job_logs_harness import LOG_LOCATION, JobLogsHarness

# pytest resets warning filters for each test; test_logs_on_emulator.py tests the worker's own filter.
pytestmark = pytest.mark.filterwarnings("ignore::watchtower.WatchtowerWarning")


def test_every_line_arrives_in_order_and_the_stream_is_named_after_the_job(harness: JobLogsHarness) -> None:
    lines = [f"line {n}" for n in range(20_000)]
    assert harness.run_job("\n".join(lines).encode()) == lines


def test_lines_are_sent_while_the_program_runs(harness: JobLogsHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_stream, "SEND_INTERVAL_SECONDS", 0.01)
    with harness.start_job().open("ab", buffering=0) as log:
        for n in range(3):
            log.write(b"line %d\nhalf" % n)
            wait_until(
                lambda n=n: harness.logs.tick() or len(harness.client.streams.get("one", [])) > n, "nothing was sent"
            )
    harness.logs.unfollow_log("one")
    harness.wait_until_sent()
    assert harness.client.streams["one"] == ["line 0", "halfline 1", "halfline 2", "half"]


def test_a_progress_bar_is_shown_at_most_once_per_interval_while_the_program_runs(
    harness: JobLogsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[str, float]] = []
    monkeypatch.setattr(LogStream, "send", lambda _stream, text, when: sent.append((text, when - start)))
    start = harness.time.now()
    with harness.start_job().open("ab", buffering=0) as log:
        log.write(b"start\n")
        for number in range(120):
            log.write(b"\r %3d%%" % number)
            harness.logs.tick()
            harness.time.sleep(0.125)
    harness.logs.unfollow_log("one")
    harness.wait_until_sent()
    lines = [text for text, _ in sent]
    assert (lines[0], lines[-1]) == ("start", " 119%")
    assert len(lines) == 2 + ceil(15 / PROGRESS_SECONDS)
    times = [when for _, when in sent[1:-1]]
    assert all(second - first >= PROGRESS_SECONDS for first, second in pairwise(times))


def test_a_job_that_prints_nothing_causes_no_aws_call_and_no_thread(harness: JobLogsHarness) -> None:
    harness.start_job()
    harness.logs.tick()
    assert harness.thread_count == 0
    harness.logs.unfollow_log("one")
    harness.logs.tick()
    assert (harness.logs.followed_jobs, harness.client.calls) == ([], [])


def test_a_log_is_sent_even_if_its_file_was_removed(harness: JobLogsHarness) -> None:
    path = harness.start_job()
    path.write_bytes(b"the last word")
    harness.logs.unfollow_log("one")
    path.unlink()
    harness.wait_until_sent()
    assert harness.client.streams == {"one": ["the last word"]}


def test_lines_that_aws_did_not_accept_in_time_are_sent_after_the_job(harness: JobLogsHarness) -> None:
    log = harness.start_job().open("ab", buffering=0)
    log.write(b"early\n" * BATCH_EVENTS * 2)
    harness.client.may_respond.clear()
    wait_until(lambda: harness.logs.tick() or harness.client.calls, "nothing was sent")
    log.write(b"late")
    log.close()
    harness.logs.unfollow_log("one")
    harness.logs.tick()
    harness.client.may_respond.set()
    harness.wait_until_sent()
    assert harness.client.streams["one"][-2:] == ["early", "late"]


def test_a_second_attempt_continues_the_jobs_stream(harness: JobLogsHarness) -> None:
    harness.run_job(b"first attempt\n")
    assert harness.run_job(b"first attempt\nsecond attempt\n") == [
        "first attempt", "first attempt", "second attempt"
    ]  # fmt: skip
    assert harness.client.calls.count("create") == 1


def test_a_second_attempt_can_begin_while_the_first_attempts_log_is_still_being_sent(harness: JobLogsHarness) -> None:
    first, second = harness.folder / "1", harness.folder / "2"
    for path in (first, second):
        harness.logs.follow_log("one", path)
        path.write_text(path.name)
        harness.logs.unfollow_log("one")
    harness.wait_until_sent()
    assert sorted(harness.client.streams["one"]) == ["1", "2"]


def test_the_end_of_one_attempt_does_not_end_the_log_of_another_attempt_at_the_same_job(
    harness: JobLogsHarness,
) -> None:
    first, second = harness.folder / "1", harness.folder / "2"
    for path in (first, second):
        harness.logs.follow_log("one", path)
    harness.logs.unfollow_log("one", first)
    harness.logs.tick()
    second.write_text("late")
    harness.logs.unfollow_log("one", second)
    harness.wait_until_sent()
    assert harness.client.streams["one"] == ["late"]


def test_no_file_is_opened_if_job_logs_are_turned_off(tmp_path: Path) -> None:
    job_logs = JobLogs(None, "")
    job_logs.follow_log("one", tmp_path / "log")
    job_logs.unfollow_log("one")
    job_logs.run()
    job_logs.end(1)
    assert list(tmp_path.iterdir()) == []


def test_several_logs_that_cannot_be_opened_cause_only_one_warning(
    harness: JobLogsHarness, log_messages: Callable[[], list[str]]
) -> None:
    for job in ("one", "two"):
        harness.logs.follow_log(job, harness.folder / "none" / job)
        harness.logs.unfollow_log(job)
    assert len(log_messages()) == 1


def test_a_log_that_cannot_be_read_does_not_stop_other_logs(
    harness: JobLogsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    unreadable_log = harness.start_job("unreadable")
    unreadable_log.write_bytes(b"x")

    def read_or_fail(file: int, size: int) -> bytes:
        if os.fstat(file).st_ino == unreadable_log.stat().st_ino:
            raise OSError("the disk is broken")
        return os_read(file, size)

    os_read = os.read
    monkeypatch.setattr(job_log.os, "read", read_or_fail)
    assert harness.run_job(b"good", "good") == ["good"]


def test_lines_stay_in_order_when_the_clock_is_set_back(harness: JobLogsHarness) -> None:
    log = harness.start_job().open("ab", buffering=0)
    for _ in range(5):
        log.write(b"%f\n" % harness.time.time)
        wait_until(lambda: not harness.logs.tick(), "the line was not read")
        harness.time.time -= 100
    log.close()
    harness.logs.unfollow_log("one")
    harness.wait_until_sent()
    times = [float(event) for event in harness.client.streams["one"]]
    assert times == sorted(times, reverse=True)


# Large logs and many jobs


def test_a_log_is_read_only_as_fast_as_aws_accepts_it_and_a_truncated_log_ends_with_a_note(
    harness: JobLogsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = StreamRecorder()
    monkeypatch.setattr(job_log, "LogStream", recorder)
    harness.client.may_respond.clear()
    harness.start_job().write_bytes(b"a line of some length, again and again\n" * 100_000)
    harness.logs.unfollow_log("one")
    for _ in range(200):
        harness.logs.tick()
    (stream,) = recorder.streams
    assert stream.waiting_events <= BURST_EVENTS + READ_BLOCK_BYTES
    harness.time.sleep(SEND_AFTER_END_SECONDS)
    harness.logs.tick()
    harness.client.may_respond.set()
    harness.wait_until_sent()
    sent = harness.client.streams["one"]
    assert len(sent) < 20_000
    assert sent[-1] == f"(worker) this log is incomplete; the full log is {LOG_LOCATION}"


def test_a_complete_log_does_not_end_with_a_note(harness: JobLogsHarness) -> None:
    assert "(worker)" not in "".join(harness.run_job(b"short"))


@pytest.mark.parametrize(
    "line",
    [b"x" * 99 + b"\n", b"y" * 100],
    ids=["lines", "one line"],
)
def test_the_log_of_a_program_that_writes_100_mb_takes_only_a_few_mb_of_memory(tmp_path: Path, line: bytes) -> None:
    """Measure only the beginning, because memory use does not grow with the file."""
    harness = JobLogsHarness(tmp_path, CountingLogs())
    with harness.start_job().open("wb") as log:
        for _ in range(100):
            log.write(line * 10_000)
    tracemalloc.start()
    wait_until(lambda: harness.logs.tick() and harness.client.bytes > 5_000_000, "nothing was read")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    harness.logs.end(0)
    assert peak < 10_000_000


def test_hundreds_of_jobs_do_not_leave_threads_or_streams_behind(harness: JobLogsHarness) -> None:
    thread = threading.Thread(target=harness.logs.run)
    thread.start()
    for n in range(300):
        job = f"job-{n}"
        harness.start_job(job).write_text("hello\n")
        harness.logs.unfollow_log(job)
        wait_until(lambda: len(harness.logs.followed_jobs) < 20, "too many logs are still being sent")
    wait_until(lambda: not harness.logs.followed_jobs, "logs are still being sent")
    gc.collect()
    assert harness.thread_count == 1
    assert [o for o in gc.get_objects() if isinstance(o, LogStream)] == []
    assert len(harness.client.streams) == 300
    harness.logs.end(1)
    thread.join(60)
    assert not thread.is_alive()


# Calls that fail


@pytest.mark.parametrize(
    "error",
    [build_error("AccessDeniedException"), build_error("ThrottlingException"), build_error("ResourceNotFoundException"),
     EndpointConnectionError(endpoint_url="https://logs"), RuntimeError("unknown")],
)  # fmt: skip
def test_an_aws_error_does_not_delay_jobs_and_is_logged_only_once(
    harness: JobLogsHarness, error: Exception, log_messages: Callable[[], list[str]]
) -> None:
    harness.client.error = error
    start = time.monotonic()
    for n in range(5):
        harness.start_job(f"job-{n}").write_text("hello\n" * 5000)
        harness.logs.tick()
        harness.logs.unfollow_log(f"job-{n}")
    assert time.monotonic() - start < 10
    wait_until(lambda: harness.logs.tick() or log_messages(), "nothing was logged")
    harness.time.sleep(SEND_AFTER_END_SECONDS)
    harness.wait_until_sent()
    assert len(log_messages()) == 1
    assert str(error) in log_messages()[0]
    assert len(harness.client.calls) < 30


def test_a_temporary_error_does_not_lose_any_lines(harness: JobLogsHarness) -> None:
    harness.client.error = build_error("ThrottlingException")
    path = harness.start_job()
    path.write_bytes(b"first\n" * 4000)
    wait_until(lambda: harness.logs.tick() or len(harness.client.calls) > 2, "the call was not retried")
    harness.client.error = None
    harness.logs.unfollow_log("one")
    harness.wait_until_sent()
    assert harness.client.streams["one"] == ["first"] * 4000


def test_no_new_streams_are_opened_while_aws_calls_are_failing(tmp_path: Path) -> None:
    harness = JobLogsHarness(tmp_path, FakeLogs(), first_pause=100)
    harness.backoff.note_failure(build_error("AccessDeniedException"))
    harness.start_job().write_text("hello\n")
    harness.logs.unfollow_log("one")
    harness.logs.tick()
    assert harness.thread_count == 0
    harness.backoff.reset_pause()
    harness.wait_until_sent()
    assert harness.client.streams == {"one": ["hello"]}


def test_an_invalid_batch_is_dropped_and_the_log_ends_with_a_note_that_it_is_incomplete(
    harness: JobLogsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = StreamRecorder()
    monkeypatch.setattr(job_log, "LogStream", recorder)
    harness.client.error = build_error("InvalidParameterException")
    path = harness.start_job()
    path.write_bytes(b"rejected\n" * (BATCH_EVENTS + 1))

    def is_batch_rejected() -> bool:
        harness.logs.tick()
        return any(stream.is_incomplete for stream in recorder.streams)

    wait_until(is_batch_rejected, "the batch was not rejected")
    harness.client.error = None
    with path.open("ab") as log:
        log.write(b"accepted\n")
    harness.logs.unfollow_log("one")
    harness.wait_until_sent()
    assert harness.client.streams["one"][-2:] == [
        "accepted", f"(worker) this log is incomplete; the full log is {LOG_LOCATION}"
    ]  # fmt: skip


def test_calls_that_hang_do_not_delay_jobs_and_do_not_accumulate_files_or_threads(harness: JobLogsHarness) -> None:
    harness.client.may_respond.clear()
    start, files = time.monotonic(), len(os.listdir("/dev/fd"))
    for n in range(3 * MAX_OPEN_LOGS):
        harness.start_job(f"job-{n}").write_text("hello\n")
        harness.logs.unfollow_log(f"job-{n}")
        harness.logs.tick()
    assert harness.thread_count <= MAX_OPEN_LOGS
    assert len(os.listdir("/dev/fd")) - files <= 2 * MAX_OPEN_LOGS
    assert time.monotonic() - start < 10
    harness.client.error = build_error("ServiceUnavailableException")
    harness.client.may_respond.set()
    harness.time.sleep(SEND_AFTER_END_SECONDS)
    harness.wait_until_sent()


def test_the_remaining_lines_are_sent_at_the_end(harness: JobLogsHarness) -> None:
    harness.start_job().write_text("no newline")
    harness.logs.end(60)
    assert harness.client.streams == {"one": ["no newline"]}
    assert harness.thread_count == 0


def test_job_logs_end_in_time_even_if_aws_does_not_respond(tmp_path: Path) -> None:
    harness = JobLogsHarness(tmp_path, FakeLogs(), waits=False)
    thread = threading.Thread(target=harness.logs.run, daemon=True)
    thread.start()
    harness.client.may_respond.clear()
    harness.start_job().write_text("hello\n" * 3000)
    wait_until(lambda: harness.client.calls, "nothing was sent")
    harness.logs.end(10)
    assert 10 <= round(sum(harness.time.slept), 6) <= 10 + BUSY_CHECK_SECONDS
    thread.join(60)
    assert not thread.is_alive()
    harness.client.may_respond.set()
    harness.wait_until_sent()
