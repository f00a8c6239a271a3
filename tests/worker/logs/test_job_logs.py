"""Logs in CloudWatch: of each job while its program runs, and of the container. They never cost a job anything."""

from __future__ import annotations

import gc
import json
import logging
import os
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from botocore.stub import ANY, Stubber
from hypothesis import given
from hypothesis import strategies as st

from distributed_something.worker.logs import container_log, job_log, log_stream
from distributed_something.worker.logs.container_log import (
    MAX_WAITING_LINES,
    CloudWatchHandler,
    start_container_log,
    stop_container_log,
)
from distributed_something.worker.logs.job_log import (
    BURST_EVENTS,
    MAX_OPEN_LOGS,
    READ_BLOCK_BYTES,
    SEND_AFTER_END_SECONDS,
    JobLogs,
    LineSplitter,
    _LogFollower,
)
from distributed_something.worker.logs.log_stream import (
    BATCH_BYTES,
    BATCH_EVENTS,
    MAX_BATCH_BYTES,
    MAX_BATCH_EVENTS,
    MAX_EVENT_CHARACTERS,
    LogBackoff,
    LogStream,
    _load_watchtower,
    build_stream_name,
)
from tests.support.emulator import KEYS, ROOT, ministack, until
from tests.support.fakes import FakeTime

GROUP, PLACE = "AppLogs", "s3://bucket/runs/App/R/jobs/one.txt"
EVENT_BYTES = 256 * 1024  # what CloudWatch took of an event before 2025, and watchtower still takes
CREDENTIALS = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}


@pytest.fixture(autouse=True)
def _watchtower_is_silent(recwarn: pytest.WarningsRecorder) -> None:
    """pytest sets warnings' filters anew in each test; that the worker's own holds is seen in a process of its own."""
    _load_watchtower.cache_clear()


class FakeLogs:
    """CloudWatch Logs as far as it matters: streams that must exist, AWS's limits, and refusals as a test tells."""

    def __init__(self) -> None:
        self.streams: dict[str, list[str]] = {}
        self.calls: list[str] = []
        self.refusal: Exception | None = None
        self.open = threading.Event()  # calls wait while it is clear
        self.open.set()
        self.largest = 0

    def put_log_events(self, *, logGroupName: str, logStreamName: str, logEvents: list[dict[str, Any]]) -> Any:
        self._call("put")
        if logStreamName not in self.streams:
            raise error("ResourceNotFoundException")
        times = [event["timestamp"] for event in logEvents]
        sizes = [len(event["message"].encode()) for event in logEvents]
        assert times == sorted(times)
        assert 0 < len(logEvents) <= MAX_BATCH_EVENTS
        assert min(sizes) > 0
        assert max(sizes) <= EVENT_BYTES
        assert sum(sizes) + 26 * len(sizes) <= MAX_BATCH_BYTES
        self.streams[logStreamName] += [event["message"] for event in logEvents]
        return {"nextSequenceToken": "1"}

    def create_log_stream(self, *, logGroupName: str, logStreamName: str) -> None:
        self._call("create")
        if logStreamName in self.streams:
            raise error("ResourceAlreadyExistsException")
        self.streams[logStreamName] = []

    def _call(self, name: str) -> None:
        self.calls.append(name)
        self.open.wait()
        if self.refusal:
            raise self.refusal


class CountingLogs(FakeLogs):
    """Keeps the number of events alone."""

    def __init__(self) -> None:
        super().__init__()
        self.events = 0

    def put_log_events(self, *, logEvents: list[dict[str, Any]], **names: Any) -> Any:
        super().put_log_events(logEvents=logEvents, **names)
        self.events += len(logEvents)
        self.streams[names["logStreamName"]].clear()
        return {}


def error(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "as told"}}, "PutLogEvents")


class Desk:
    """A container's job logs, stepped by the test, with a folder a job."""

    def __init__(self, folder: Path, client: Any) -> None:
        self.folder, self.client, self.time = folder, client, FakeTime()
        self.logs = JobLogs(client, GROUP, self.time.now, where=lambda job_id: PLACE, first_pause=0.05)
        self._before = set(threading.enumerate())

    def start(self, job: str = "one") -> Path:
        path = self.folder / f"{job}.log"
        self.logs.follow_log(job, path)
        return path

    def all_sent(self) -> None:
        until(self._nothing_left, "logs are still sent")
        assert self.threads == 0

    def _nothing_left(self) -> bool:
        self.logs.tick()
        return not self.logs._followed

    @property
    def threads(self) -> int:
        return len(set(threading.enumerate()) - self._before)

    def run(self, content: bytes, job: str = "one") -> list[str]:
        """The events of a job that wrote this."""
        self.start(job).write_bytes(content)
        self.logs.leave(job)
        self.all_sent()
        return list(self.client.streams.get(job, []))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path, FakeLogs())
    yield desk
    desk.client.open.set()
    desk.logs.end(1)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    monkeypatch.setattr(logging.getLogger("worker"), "propagate", True)
    return lambda: [record.getMessage() for record in caplog.records if record.name == "worker"]


# A job's log


def test_every_line_arrives_in_order_and_the_stream_has_the_jobs_name(desk: Desk) -> None:
    lines = [f"line {n}" for n in range(20_000)]
    assert desk.run("\n".join(lines).encode()) == lines


def test_lines_are_sent_while_the_program_runs(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_stream, "SEND_SECONDS", 0.01)
    with desk.start().open("ab", buffering=0) as log:
        for n in range(3):
            log.write(b"line %d\nhalf" % n)
            until(lambda: desk.logs.tick() or len(desk.client.streams.get("one", [])) > n, "nothing is sent")  # noqa: B023
    desk.logs.leave("one")
    desk.all_sent()
    assert desk.client.streams["one"] == ["line 0", "halfline 1", "halfline 2", "half"]


def test_a_job_that_prints_nothing_makes_no_call_to_aws_and_no_thread(desk: Desk) -> None:
    desk.start()
    desk.logs.tick()
    assert desk.threads == 0
    desk.logs.leave("one")
    desk.logs.tick()
    assert (desk.logs._followed, desk.client.calls) == ([], [])


def test_what_a_program_wrote_is_sent_although_its_folder_is_gone(desk: Desk) -> None:
    path = desk.start()
    path.write_bytes(b"the last word")
    desk.logs.leave("one")
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
    desk.logs.leave("one")
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
        desk.logs.leave("one")
    desk.all_sent()
    assert sorted(desk.client.streams["one"]) == ["1", "2"]


def test_of_a_job_that_came_twice_the_end_of_one_attempt_does_not_end_the_others_log(desk: Desk) -> None:
    first, second = desk.folder / "1", desk.folder / "2"
    for path in (first, second):
        desk.logs.follow_log("one", path)
    desk.logs.leave("one", first)
    desk.logs.tick()
    second.write_text("late")
    desk.logs.leave("one", second)
    desk.all_sent()
    assert desk.client.streams["one"] == ["late"]


def test_switched_off_it_opens_nothing(tmp_path: Path) -> None:
    off = JobLogs(None, "")
    off.follow_log("one", tmp_path / "log")
    off.leave("one")
    off.run()
    off.end(1)
    assert list(tmp_path.iterdir()) == []


def test_a_log_that_cannot_be_opened_fails_nothing(desk: Desk, said: Callable[[], list[str]]) -> None:
    for job in ("one", "two"):
        desk.logs.follow_log(job, desk.folder / "none" / job)
        desk.logs.leave(job)
    assert len(said()) == 1


def test_a_log_that_cannot_be_read_stops_no_other(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = desk.start("bad")
    bad.write_bytes(b"x")
    broken = desk.logs._followed[0]._file

    def read(file: int, size: int) -> bytes:
        if file == broken:
            raise OSError("the disk is broken")
        return original(file, size)

    original = os.read
    monkeypatch.setattr(job_log.os, "read", read)
    assert desk.run(b"good", "good") == ["good"]


# Its lines


@given(st.lists(st.binary(max_size=30)), st.integers(1, 5))
def test_any_bytes_become_the_same_lines_however_they_are_cut_into_blocks(parts: list[bytes], size: int) -> None:
    whole = b"".join(parts)
    lines = LineSplitter()
    found = [line for at in range(0, len(whole), size) for line in lines.add(whole[at : at + size])] + [*lines.end()]
    at_once = LineSplitter()
    assert found == [*at_once.add(whole), *at_once.end()]
    assert all(line and not set(map(ord, line)) & (set(range(9)) | set(range(10, 32)) | {127}) for line in found)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)))
def test_text_arrives_as_it_is(texts: list[str]) -> None:
    lines = LineSplitter()
    assert [*lines.add("".join(f"{text}\n" for text in texts).encode()), *lines.end()] == texts


def test_what_is_no_text_is_shown_and_harmless(desk: Desk) -> None:
    found = desk.run(b"\x00\x1b[31mred\tx\xff\xb5\r\n\n50%\r60%\r\nend\xe2\x82")
    assert found == ["␀␛[31mred\tx\ufffd\ufffd", " ", "50%␍60%", "end\ufffd"]


@pytest.mark.parametrize("character", ["a", "é", "€", "😀", "\0"])
def test_a_long_line_becomes_several_events_and_no_character_is_cut(desk: Desk, character: str) -> None:
    found = desk.run((character * 150_000 + "\nnext").encode())
    assert [len(event) for event in found] == [MAX_EVENT_CHARACTERS, MAX_EVENT_CHARACTERS, 22_000, 4]
    assert set("".join(found[:-1])) == set(character.replace("\0", "␀"))


def test_a_batch_is_within_awss_limits() -> None:
    assert BATCH_EVENTS <= MAX_BATCH_EVENTS
    assert BATCH_BYTES <= MAX_BATCH_BYTES
    assert 4 * MAX_EVENT_CHARACTERS + 2 * 26 <= EVENT_BYTES


@pytest.mark.parametrize("name", ["a:b*c", "{machine_name}-{0}", "x" * 600, ""])
def test_any_name_becomes_a_streams_name(desk: Desk, name: str) -> None:
    stream = LogStream(desk.client, GROUP, name, LogBackoff("a test"))
    stream.send("text", 0)
    stream.close()
    assert stream.join(60)
    assert desk.client.streams == {build_stream_name(name): ["text"]}
    assert not set(build_stream_name(name)) & set(":*")
    assert 1 <= len(build_stream_name(name)) <= 512


def test_a_clock_that_is_set_back_leaves_the_lines_in_order(desk: Desk) -> None:
    log = desk.start().open("ab", buffering=0)
    for _ in range(5):
        log.write(b"%f\n" % desk.time.time)
        until(lambda: not desk.logs.tick(), "the line is not taken")
        desk.time.time -= 100
    log.close()
    desk.logs.leave("one")
    desk.all_sent()
    found = [float(event) for event in desk.client.streams["one"]]
    assert found == sorted(found, reverse=True)


# Much of it


def test_no_more_is_read_than_aws_takes_and_the_rest_is_given_up_with_a_word(desk: Desk) -> None:
    desk.client.open.clear()
    desk.start().write_bytes(b"a line of some length, again and again\n" * 100_000)
    desk.logs.leave("one")
    for _ in range(200):
        desk.logs.tick()
    assert desk.logs._followed[0]._stream.waiting <= BURST_EVENTS + READ_BLOCK_BYTES
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
    read = desk.logs._followed[0]._file
    assert read is not None
    taken = lambda: desk.client.events > BATCH_EVENTS or os.lseek(read, 0, os.SEEK_CUR) > 5_000_000  # noqa: E731
    until(lambda: desk.logs.tick() and taken(), "nothing is read")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    desk.logs.end(0)
    assert desk.client.events > 0
    assert peak < 10_000_000


def test_hundreds_of_jobs_leave_no_thread_and_no_memory(desk: Desk) -> None:
    following = threading.Thread(target=desk.logs.run)
    following.start()
    for n in range(300):
        job = f"job-{n}"
        desk.start(job).write_text("hello\n")
        desk.logs.leave(job)
        until(lambda: len(desk.logs._followed) < 20, "logs gather")
    until(lambda: not desk.logs._followed, "logs are still sent")
    gc.collect()
    assert desk.threads == 1
    assert [o for o in gc.get_objects() if isinstance(o, LogStream | _LogFollower)] == []
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
        desk.logs.leave(f"job-{n}")
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
    desk.logs.leave("one")
    desk.all_sent()
    assert desk.client.streams["one"] == ["first"] * 4000


def test_while_aws_refuses_no_new_streams_are_opened(desk: Desk) -> None:
    desk.logs._trouble.note(error("AccessDeniedException"))
    desk.logs._trouble._until += 100
    desk.start().write_text("hello\n")
    desk.logs.leave("one")
    desk.logs.tick()
    assert desk.threads == 0
    desk.logs._trouble.over()
    desk.all_sent()
    assert desk.client.streams == {"one": ["hello"]}


def test_a_batch_that_is_wrong_is_dropped_and_the_log_says_that_it_is_not_whole(desk: Desk) -> None:
    desk.client.refusal = error("InvalidParameterException")
    path = desk.start()
    path.write_bytes(b"wrong\n" * (BATCH_EVENTS + 1))

    def refused() -> bool:
        desk.logs.tick()
        stream = desk.logs._followed[0]._stream
        return stream is not None and stream.incomplete

    until(refused, "it is not refused")
    desk.client.refusal = None
    with path.open("ab") as log:
        log.write(b"right\n")
    desk.logs.leave("one")
    desk.all_sent()
    assert desk.client.streams["one"][-2:] == ["right", f"(worker) not all of this log is here; the whole log: {PLACE}"]


def test_calls_that_hang_hold_back_neither_jobs_nor_files_nor_threads(desk: Desk) -> None:
    desk.client.open.clear()
    start, files = time.monotonic(), len(os.listdir("/dev/fd"))
    for n in range(3 * MAX_OPEN_LOGS):
        desk.start(f"job-{n}").write_text("hello\n")
        desk.logs.leave(f"job-{n}")
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


def test_the_end_is_in_time_although_aws_does_not_answer(desk: Desk) -> None:
    following = threading.Thread(target=desk.logs.run, daemon=True)
    following.start()
    desk.client.open.clear()
    desk.start().write_text("hello\n" * 3000)
    until(lambda: desk.client.calls, "nothing is sent")
    start = time.monotonic()
    desk.logs.end(0.3)
    assert time.monotonic() - start < 10
    following.join(60)
    assert not following.is_alive()


def test_the_requests_are_as_aws_wants_them() -> None:
    client = boto3.client("logs", "us-east-1", aws_access_key_id="t", aws_secret_access_key="t")
    names = {"logGroupName": GROUP, "logStreamName": "one"}
    events = [{"timestamp": 1_500, "message": "a"}, {"timestamp": 1_500, "message": " "}]
    with Stubber(client) as stub:
        stub.add_client_error("put_log_events", "ResourceNotFoundException", expected_params=names | {"logEvents": ANY})
        stub.add_response("create_log_stream", {}, names)
        stub.add_response("put_log_events", {}, names | {"logEvents": events})
        stream = LogStream(client, GROUP, "one", LogBackoff("a test"))
        for text in ("a", ""):
            stream.send(text, 1.5)
        stream.close()
        assert stream.join(60)
        stub.assert_no_pending_responses()


# The container's own log


@pytest.fixture
def container_log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], logging.Logger]]:
    """Begins a container's log on a client; the logger. At the end the logger is as before."""
    logger = logging.getLogger("worker")
    before = logger.handlers[:], logger.level, logger.propagate

    def begin(client: Any) -> logging.Logger:
        settings = SimpleNamespace(log_group_name=GROUP, machine="i-0123")
        start_container_log(client, settings)  # type: ignore[arg-type]
        return logger

    yield begin
    stop_container_log(0)
    logger.handlers[:], logger.level, logger.propagate = before


def test_the_containers_log_goes_to_a_stream_of_its_machine_and_process(
    container_log: Callable[[Any], logging.Logger], capsys: pytest.CaptureFixture[str]
) -> None:
    client = FakeLogs()
    logger = container_log(client)
    logger.info("hello %s", "you")
    logger.info("")
    logger.info("x" * 1_000_000)
    stop_container_log(60)
    assert client.streams == {f"i-0123-{os.getpid()}": ["hello you", " ", "x" * MAX_EVENT_CHARACTERS]}
    assert "INFO hello you" in capsys.readouterr().out


def test_the_containers_log_ends_in_time_and_holds_back_nobody_although_aws_hangs(
    container_log: Callable[[Any], logging.Logger], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container_log, "MOST_WAITING", 100)
    client = FakeLogs()
    client.open.clear()
    logger = container_log(client)
    start = time.monotonic()
    for n in range(BATCH_EVENTS + 500):
        logger.info("line %d", n)
    handler = logger.handlers[-1]
    assert isinstance(handler, CloudWatchHandler)
    assert handler._stream.waiting <= MAX_WAITING_LINES
    assert time.monotonic() - start < 10
    start = time.monotonic()
    stop_container_log(0.4)
    assert time.monotonic() - start < 10
    logger.info("on standard output only")
    client.open.set()


def test_the_containers_log_says_once_that_cloudwatch_refuses(
    container_log: Callable[[Any], logging.Logger], capsys: pytest.CaptureFixture[str]
) -> None:
    client = FakeLogs()
    client.refusal = error("AccessDeniedException")
    logger = container_log(client)
    for n in range(100):
        logger.info("line %d", n)
    stop_container_log(0.4)
    found = capsys.readouterr()
    assert found.out.count("AccessDenied") == 1
    assert found.err == ""


# A process of its own, on an emulator

WORKER = """
import json, logging, os, sys, threading
from pathlib import Path
import boto3
from worker.machinery import logs, logstream
from worker.machinery.joblog import JobLogs
from types import SimpleNamespace
logstream.FIRST_PAUSE_SECONDS = 0.1
client = boto3.client("logs")
logs.begin(client, SimpleNamespace(log_group_name="AppLogs", machine="m"))
jobs = JobLogs(client, sys.argv[1], first_pause=0.1)
following = threading.Thread(target=jobs.run)
following.start()
for n in range(20):
    path = Path(f"{n}.log")
    jobs.follow(f"job-{n}", path)
    path.write_bytes(b"".join(b"%d\\n" % line for line in range(n * 200)))
    jobs.leave(f"job-{n}")
    path.unlink()
jobs.end(float(sys.argv[2]))
following.join()
logging.getLogger("worker").info("the end")
logs.end(5)
print(json.dumps([thread.name for thread in threading.enumerate()]))
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with ministack(tmp_path_factory.mktemp("emulator")) as address:
        boto3.client("logs", endpoint_url=address, **CREDENTIALS).create_log_group(logGroupName=GROUP)
        yield address


def worker(url: str, folder: Path, group: str, seconds: float) -> subprocess.CompletedProcess[str]:
    env = os.environ | KEYS | {"AWS_ENDPOINT_URL": url, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WORKER, group, str(seconds)]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=True)


def test_all_logs_of_a_container_are_in_the_emulator_and_no_thread_is_left(url: str, tmp_path: Path) -> None:
    ended = worker(url, tmp_path, GROUP, 30)
    assert ended.stderr == ""
    assert json.loads(ended.stdout.splitlines()[-1]) == ["MainThread"]
    client = boto3.client("logs", endpoint_url=url, **CREDENTIALS)
    found = client.describe_log_streams(logGroupName=GROUP)["logStreams"]
    assert len([stream for stream in found if stream["logStreamName"].startswith("job-")]) == 19  # 0 printed nothing
    assert [stream for stream in found if stream["logStreamName"].startswith("m-")]
    events = client.get_log_events(logGroupName=GROUP, logStreamName="job-19", startFromHead=True, limit=10_000)
    assert [event["message"] for event in events["events"]] == [str(n) for n in range(3_800)]


def test_a_group_that_is_not_there_is_one_line_and_no_warning(url: str, tmp_path: Path) -> None:
    ended = worker(url, tmp_path, "NoSuchGroup", 2)
    assert ended.stderr == ""
    assert ended.stdout.count("logs of jobs may be missing in CloudWatch") == 1
    assert "does not exist: NoSuchGroup" in ended.stdout
