"""Whether a slot's program waits for S3: jobs of 1 s of S3 in, 1 s of program, 1 s of S3 out.

The latency is injected between worker and emulator, by a proxy for S3 that delays the first GET of every input and
every PUT of an output; nothing of the worker is patched. Without overlap a job takes 3 s, with it close to 1 s.
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

from tests.measure.bench.report import Line
from tests.measure.bench.worker_speed import RUN, worked_off
from tests.support.emulator import Lab, ministack

DELAY_SECONDS = 1.0
PROGRAM_SECONDS = 1


def lines(folder: Path, jobs: int) -> list[Line]:
    """Seconds a job of one slot, from the first program's start, past the first job: the pipe fills once."""
    with ministack(folder) as url, _slow(url) as slow:
        seconds = _run(url, slow, folder / "overlap", jobs)
    return [
        Line(
            f"{jobs} jobs: 1 s in, 1 s of program, 1 s out, 1 slot",
            f"{seconds:.2f} s/job", "<= 1.30", seconds <= 1.3,
        )
    ]  # fmt: skip


def _run(url: str, slow: str, folder: Path, jobs: int) -> float:
    folder.mkdir()
    lab = Lab(url, folder, tries=10, visibility=60)
    for number in range(jobs):
        lab.put(f"in/{number}")
        command = ["/bin/sh", "-c", f'sleep {PROGRAM_SECONDS}; echo > "$0"', "{output_dir}/out"]
        lab.send(command=command, inputs=["in/{n}"], output_location="out/{job}", group={"n": str(number)})
    lab.worker(DOCKER_CORES="1", AWS_ENDPOINT_URL_S3=slow)
    try:
        worked_off(lab, 60 + 5 * jobs)
    finally:
        lab.end()
    return _seconds(lab, jobs)


def _seconds(lab: Lab, jobs: int) -> float:
    """The pace between the first record and the last."""
    ended = []
    for found in lab.s3.list_objects_v2(Bucket=lab.name, Prefix=f"runs/App/{RUN}/jobs/")["Contents"]:
        if found["Key"].endswith(".json"):
            record = json.loads(lab.text(found["Key"]) or b"{}")
            assert record["state"] == "done", record
            ended.append(datetime.fromisoformat(record["ended"]))
    assert len(ended) == jobs, f"{len(ended)} records"
    return (max(ended) - min(ended)).total_seconds() / (jobs - 1)


@contextmanager
def _slow(url: str) -> Iterator[str]:
    """The address of a proxy before `url` that answers inputs and outputs late."""

    class Handler(_Slow):
        target = str(urlsplit(url).netloc)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class _Slow(BaseHTTPRequestHandler):
    """Passes each request on; waits before those that carry a job's data."""

    protocol_version = "HTTP/1.1"
    target = ""

    def _pass(self) -> None:
        place = urlsplit(self.path).path.split("/", 2)[2:]
        data = {"GET": "in/", "PUT": "out/"}.get(self.command)
        if data and place and place[0].startswith(data):
            time.sleep(DELAY_SECONDS)
        if self.headers.get("Expect"):
            self.send_response_only(100)
            self.end_headers()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        upstream = http.client.HTTPConnection(self.target)
        upstream.request(self.command, self.path, body, dict(self.headers))
        answer = upstream.getresponse()
        content = answer.read()
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        if answer.status not in (204, 304):
            length = answer.getheader("Content-Length", "0") if self.command == "HEAD" else str(len(content))
            self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(content)
        upstream.close()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass

    def log_message(self, format: str, *args: object) -> None:
        pass

    def log_error(self, format: str, *args: object) -> None:
        pass
