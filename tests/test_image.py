"""The worker's image on two bases: Debian, and one that holds nothing but a static busybox (no shell, no C library)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.emulator import ROOT, Lab, ministack, until
from tests.engine import docker, require_engine
from worker.machinery.jobid import job_id

pytestmark = pytest.mark.containers

BARE = """
FROM debian:bookworm-slim AS box
RUN apt-get update && apt-get install -y --no-install-recommends busybox-static
FROM scratch
COPY --from=box /bin/busybox /bin/busybox
ENV PYTHONPATH=/of/the/program PYTHONHOME=/of/the/program LD_LIBRARY_PATH=/of/the/program
"""


@pytest.fixture(scope="module", params=["debian", "bare"])
def image(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    require_engine()
    base, name = "debian:bookworm-slim", f"tests/worker-on-{request.param}:1"
    if request.param == "bare":
        base, folder = "tests/bare:1", tmp_path_factory.mktemp("bare")
        (folder / "Dockerfile").write_text(BARE)
        docker("build", "--network", "host", "--tag", base, str(folder))
    docker("build", "--network", "host", "--build-arg", f"BASE_IMAGE={base}", "--tag", name, str(ROOT / "worker"))
    return name


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with ministack(tmp_path) as url:
        yield Lab(url, tmp_path, visibility=60)


@pytest.fixture
def container(image: str, lab: Lab) -> Iterator[str]:
    """A worker of the image on the lab's queue."""
    told = [word for name, value in lab.environment.items() for word in ("--env", f"{name}={value}")]
    name = docker("run", "--detach", "--network", "host", *told, image).strip()
    yield name
    with suppress(AssertionError):
        docker("rm", "--force", name)


def sh(image: str, script: str) -> list[str]:
    """`script` as a command of the image."""
    return [*(["/bin/busybox"] if "bare" in image else []), "sh", "-c", script]


def test_a_job_runs_in_the_programs_image_as_if_the_worker_were_not_there(image: str, lab: Lab, container: str) -> None:
    env = ["/bin/busybox", "env"] if "bare" in image else ["env"]
    message = lab.send(group={"x": "env"}, command=env)
    record = lab.recorded(job_id(message), state="done")
    lines = (lab.text(record["log"].removeprefix(f"s3://{lab.name}/")) or b"").decode().splitlines()
    seen = [line for line in lines if line.startswith(("PYTHON", "LD_", "LC_"))]
    own = ["LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH"] if "bare" in image else []
    assert sorted(seen) == [f"{name}=/of/the/program" for name in own]


def test_a_container_keeps_no_process_that_a_program_left(image: str, lab: Lab, container: str) -> None:
    box = "/bin/busybox " if "bare" in image else ""
    message = lab.send(
        group={"x": "left"}, command=sh(image, f"{box}sleep 600 & {box}setsid {box}sleep 600 & {box}true")
    )
    lab.recorded(job_id(message), state="done")
    # The worker itself is the container's only process, a zombie would be listed too.
    until(lambda: len(docker("top", container, "-o", "pid,stat,args").splitlines()) == 2, "a process is left")


def test_docker_stop_gives_the_job_back_at_once(image: str, lab: Lab, container: str) -> None:
    box = "/bin/busybox " if "bare" in image else ""
    lab.send(group={"x": "stopped"}, command=sh(image, f"{box}sleep 600"))
    until(lambda: "start stopped-" in docker("logs", container), "the job does not start")
    asked = time.monotonic()
    docker("stop", "--time", "30", container)
    assert time.monotonic() - asked < 5
    assert docker("inspect", "--format", "{{.State.ExitCode}}", container).strip() == "0"
    assert lab.waiting() == 1


def test_a_thread_that_still_runs_when_the_worker_ends_does_not_crash_it(image: str) -> None:
    code = (
        "import threading, time\n"
        "def spin():\n"
        "    while True: time.sleep(0.0001)\n"
        "for _ in range(8): threading.Thread(target=spin, daemon=True).start()\n"
        "time.sleep(0.05)\n"
    )
    python = ["--library-path", "/opt/worker/lib", "/opt/worker/bin/python3.11", "-E", "-s", "-c", code]
    docker("run", "--rm", "--network", "host", "--entrypoint", "/opt/worker/lib/loader.so", image, *python)
