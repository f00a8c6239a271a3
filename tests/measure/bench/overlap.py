"""Measures whether S3 transfers and programs overlap in the worker, with jobs that need 1 s each for download, program,
and upload.

A proxy between the worker and the emulator delays the GET request for each input and the PUT request for each output,
so the worker itself does not have to be patched. Without overlap, a job takes 3 s; with overlap, about 1 s.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from tests.measure.bench.report import Measurement
from tests.measure.bench.worker_speed import RUN, wait_for_empty_queue
from tests.support.emulator import WorkerLab, run_ministack

DELAY_SECONDS = 1.0
PROGRAM_SECONDS = 1


def measure_overlap(folder: Path, jobs: int) -> list[Measurement]:
    """Measure the seconds per job with one slot, between the end of the first job and the end of the last job."""
    with run_ministack(folder) as url, _delay_transfers(url) as slow_s3_url:
        seconds = _run_worker(url, slow_s3_url, folder / "overlap", jobs)
    return [
        Measurement(
            f"{jobs} jobs: 1 s in, 1 s of program, 1 s out, 1 slot",
            f"{seconds:.2f} s/job", "<= 1.30", seconds <= 1.3,
        )
    ]  # fmt: skip


def _run_worker(url: str, slow_s3_url: str, folder: Path, jobs: int) -> float:
    folder.mkdir()
    lab = WorkerLab(url, folder, job_retries=10, visibility=60)
    for number in range(jobs):
        lab.put_object(f"in/{number}")
        command = ["/bin/sh", "-c", f'sleep {PROGRAM_SECONDS}; echo > "$0"', "{output_dir}/out"]
        lab.send_job(command=command, inputs=["in/{n}"], output_location="out/{job}", group={"n": str(number)})
    lab.start_worker(DOCKER_CORES="1", AWS_ENDPOINT_URL_S3=slow_s3_url)
    try:
        wait_for_empty_queue(lab, 60 + 5 * jobs)
    finally:
        lab.kill_workers()
    return _compute_seconds_per_job(lab, jobs)


def _compute_seconds_per_job(lab: WorkerLab, jobs: int) -> float:
    """Return the mean time from the end of one job to the end of the next, according to the records.

    All jobs must be done.
    """
    end_times = []
    for item in lab.s3.list_objects_v2(Bucket=lab.name, Prefix=f"runs/App/{RUN}/jobs/")["Contents"]:
        if item["Key"].endswith(".json"):
            record = json.loads(lab.read_object(item["Key"]) or b"{}")
            assert record["state"] == "done", record
            end_times.append(datetime.fromisoformat(record["ended"]))
    assert len(end_times) == jobs, f"{len(end_times)} records"
    return (max(end_times) - min(end_times)).total_seconds() / (jobs - 1)


@contextmanager
def _delay_transfers(url: str) -> Iterator[str]:
    """Yield the address of a proxy for `url` that delays inputs and outputs."""

    class Handler(_DelayingHandler):
        target = str(urlsplit(url).netloc)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class _DelayingHandler(BaseHTTPRequestHandler):
    """A proxy that forwards each request, but waits first if the request transfers a job's input or output."""

    protocol_version = "HTTP/1.1"
    target = ""

    def _forward_request(self) -> None:
        key = urlsplit(self.path).path.split("/", 2)[2:]
        prefix = {"GET": "in/", "PUT": "out/"}.get(self.command)
        if prefix and key and key[0].startswith(prefix):
            time.sleep(DELAY_SECONDS)
        if self.headers.get("Expect"):
            self.send_response_only(100)
            self.end_headers()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        upstream = http.client.HTTPConnection(self.target)
        upstream.request(self.command, self.path, body, dict(self.headers))
        response = upstream.getresponse()
        content = response.read()
        self.send_response_only(response.status)
        for name, value in response.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        if response.status not in (204, 304):
            length = response.getheader("Content-Length", "0") if self.command == "HEAD" else str(len(content))
            self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(content)
        upstream.close()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _forward_request

    def log_message(self, format: str, *args: object) -> None:
        pass

    def log_error(self, format: str, *args: object) -> None:
        pass
