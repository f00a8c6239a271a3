"""A real worker process that S3 or a web server keeps waiting: it does not respond, or sends one byte at a time."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from distributed_something.worker.job.job_id import job_id
from tests.support.emulator import WorkerLab, run_ministack, wait_until

LONG_LEASE = 120
SLOW_RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 90000


class StallingServer:
    """A proxy in front of an emulator that does not forward requests for which `is_stalled` returns true.

    `is_stalled` gets a request's first bytes. A stalled client gets `dribble`, one byte at a time, and then nothing.
    """

    def __init__(self, target: str, is_stalled: Callable[[bytes], bool], dribble: bytes = b"") -> None:
        self._target, self._is_stalled, self._dribble = urlsplit(target), is_stalled, dribble
        self.stalled_requests: list[bytes] = []
        self.ended = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """Forward one connection until a request on it is stalled."""
        with suppress(OSError), client, self._connect() as server:
            while data := client.recv(65536):
                if self._is_stalled(data):
                    self.stalled_requests.append(data)
                    self._stall(client)
                    return
                server.sendall(data)
                threading.Thread(target=_copy, args=(server, client), daemon=True).start()

    def _connect(self) -> socket.socket:
        return socket.create_connection((self._target.hostname or "", self._target.port or 80))

    def _stall(self, client: socket.socket) -> None:
        for number in range(10**6):
            if self.ended.wait(0.05):
                return
            if number < len(self._dribble):
                client.sendall(self._dribble[number : number + 1])

    def close(self) -> None:
        self.ended.set()
        self._socket.close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)


@contextmanager
def run_stalling_server(
    target: str, is_stalled: Callable[[bytes], bool], dribble: bytes = b""
) -> Iterator[StallingServer]:
    server = StallingServer(target, is_stalled, dribble)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with run_ministack(tmp_path_factory.mktemp("cloud")) as url:
        yield url


@pytest.fixture
def lab(cloud: str, tmp_path: Path) -> Iterator[WorkerLab]:
    lab = WorkerLab(cloud, tmp_path, visibility=LONG_LEASE)
    yield lab
    lab.kill_workers()


def stop_worker(lab: WorkerLab, stop_seconds: float, return_seconds: float) -> None:
    """Stop the worker, and check that its messages return in time, and that it ends in time with exit code 0.

    A poll that is under way may receive a returned message once more. It returns at once, so both counts must agree
    at some time, and when the worker has ended.
    """
    (worker,) = lab.workers
    taken, start = lab.count_messages(hidden=True), time.monotonic()
    assert taken, "the worker has taken no job"
    worker.send_signal(signal.SIGTERM)

    def have_returned() -> bool:
        return lab.count_messages() == taken and lab.count_messages(hidden=True) == 0

    wait_until(have_returned, f"messages are hidden: {lab.read_log()}", return_seconds)
    assert worker.wait(timeout=max(0.1, start + stop_seconds - time.monotonic())) == 0, lab.read_log()
    assert have_returned(), "a message was received by the worker as it ended"


@pytest.mark.parametrize("request_start", [b"GET /LAB?list-type=2", b"GET /LAB/in/a", b""], ids=["list", "get", "all"])
@pytest.mark.parametrize("dribble", [b"", SLOW_RESPONSE], ids=["silent", "slow"])
def test_jobs_return_at_once_when_a_worker_stops_while_s3_does_not_respond_to_a_fetch(
    lab: WorkerLab, request_start: bytes, dribble: bytes
) -> None:
    lab.put_object("in/a")
    start = request_start.replace(b"LAB", lab.name.encode())
    with run_stalling_server(lab.url, lambda data: data.startswith(start), dribble) as s3:
        message = lab.send_job(group={"x": "hangs"}, command="true", inputs=["in/a"])
        lab.send_job(group={"x": "hangs too"}, command="true", inputs=["in/a"])
        lab.start_worker(AWS_ENDPOINT_URL_S3=s3.url, STOP_SECONDS="30", DOCKER_CORES="2")
        wait_until(lambda: len(s3.stalled_requests) >= 2, "no request was stalled")
        stop_worker(lab, stop_seconds=10, return_seconds=3)
    assert lab.read_record(job_id(message)) is None
    assert list((lab.folder / "work").iterdir()) == []


@pytest.mark.parametrize("method", [b"HEAD", b"GET"])
@pytest.mark.parametrize("dribble", [b"", SLOW_RESPONSE], ids=["silent", "slow"])
def test_jobs_return_at_once_when_a_worker_stops_while_s3_does_not_respond_to_a_fetch_of_shared_inputs(
    lab: WorkerLab, method: bytes, dribble: bytes
) -> None:
    """With GET, the second job waits for the first one's fetch."""
    lab.put_object("in/a")
    start = method + f" /{lab.name}/in/a".encode()
    with run_stalling_server(lab.url, lambda data: data.startswith(start), dribble) as s3:
        for name in ("hangs", "waits"):
            lab.send_job(group={"x": name}, command="true", shared_inputs=["in/a"])
        lab.start_worker(AWS_ENDPOINT_URL_S3=s3.url, STOP_SECONDS="30", DOCKER_CORES="2")
        wait_until(lambda: s3.stalled_requests and lab.count_messages(hidden=True) == 2, "no request was stalled")
        stop_worker(lab, stop_seconds=10, return_seconds=3)
    assert list((lab.folder / "work").iterdir()) == []


@pytest.mark.parametrize("dribble", [b"", SLOW_RESPONSE], ids=["silent", "slow"])
def test_jobs_return_at_once_when_a_worker_stops_while_a_web_server_does_not_respond(
    lab: WorkerLab, dribble: bytes
) -> None:
    with run_stalling_server(lab.url, lambda data: True, dribble) as web:
        lab.send_job(group={"x": "hangs"}, command="true", inputs=[f"{web.url}/a"])
        lab.start_worker(ALLOW_UNSAFE_INPUTS="True", STOP_SECONDS="30")
        wait_until(lambda: web.stalled_requests, "no request was stalled")
        stop_worker(lab, stop_seconds=10, return_seconds=3)


def test_a_job_whose_upload_hangs_returns_before_the_container_must_end(lab: WorkerLab) -> None:
    message = lab.send_job(group={"x": "hangs"}, command="touch {output_dir}/a", expected_files=1)
    start = f"PUT /{lab.name}/App/".encode()
    with run_stalling_server(lab.url, lambda data: data.startswith(start)) as s3:
        lab.start_worker(AWS_ENDPOINT_URL_S3=s3.url, STOP_SECONDS="6")
        wait_until(lambda: s3.stalled_requests, "no request was stalled")
        stop_worker(lab, stop_seconds=6, return_seconds=5)
    assert lab.read_object(f"App/{job_id(message)}/a") is None


def test_a_job_whose_failure_cannot_be_recorded_returns_when_a_worker_stops(lab: WorkerLab) -> None:
    lab.send_job(group={"x": "fails"}, command="true", inputs=["in/missing"])
    start = f"PUT /{lab.name}/runs/App/{lab.run}/jobs/".encode()
    with run_stalling_server(lab.url, lambda data: data.startswith(start)) as s3:
        lab.start_worker(AWS_ENDPOINT_URL_S3=s3.url, STOP_SECONDS="30")
        wait_until(lambda: s3.stalled_requests, "no request was stalled")
        stop_worker(lab, stop_seconds=10, return_seconds=5)


def test_a_fetch_that_takes_too_long_fails_even_if_bytes_keep_arriving(lab: WorkerLab) -> None:
    with run_stalling_server(lab.url, lambda data: True, SLOW_RESPONSE) as web:
        message = lab.send_job(group={"x": "slow"}, command="true", inputs=[f"{web.url}/a"])
        lab.start_worker(ALLOW_UNSAFE_INPUTS="True", MAX_TRANSFER_MINUTES="0.02")
        record = lab.wait_for_record(job_id(message), state="failed")
    assert record["reason"] == "fetching the inputs took longer than 1.2 seconds (MAX_TRANSFER_MINUTES)"
    assert record["reason_class"] == "aws"


def test_a_fetch_of_shared_inputs_that_takes_too_long_fails_too(lab: WorkerLab) -> None:
    lab.put_object("in/a")
    start = f"GET /{lab.name}/in/a".encode()
    with run_stalling_server(lab.url, lambda data: data.startswith(start), SLOW_RESPONSE) as s3:
        message = lab.send_job(group={"x": "slow"}, command="true", shared_inputs=["in/a"])
        lab.start_worker(AWS_ENDPOINT_URL_S3=s3.url, MAX_TRANSFER_MINUTES="0.02")
        record = lab.wait_for_record(job_id(message), state="failed")
    assert record["reason"] == "fetching the inputs took longer than 1.2 seconds (MAX_TRANSFER_MINUTES)"
