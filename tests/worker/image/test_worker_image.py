"""The worker's image on bases that are unlike each other: what runs in it, and that nothing of the base is changed.

debian: with a Python and a package of its own, and with an entry point, a command and a stop signal that mislead.
bare: a static busybox and nothing else (no shell, no C library, no /tmp), for a user other than root; its variables
would end any Python, and any program of the worker's C library.
musl: a program linked against musl, whose loader and C library are all that there is beside it.
"""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from distributed_something.worker.job.job_id import job_id
from distributed_something.worker.machine.mount import MOUNT_FOLDER
from tests.support.emulator import Lab, ministack, until
from tests.support.engine import build, build_worker, docker, logs_of
from tests.support.paths import ROOT

pytestmark = pytest.mark.containers

BASES = {
    "debian": """
FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-six \\
    && apt-get clean && rm -rf /var/lib/apt/lists/*
ENV PATH=/of/the/program:/usr/bin:/bin
ENTRYPOINT ["/of/the/program"]
CMD ["--not", "for", "the", "worker"]
STOPSIGNAL SIGQUIT
""",
    "bare": """
FROM debian:bookworm-slim AS box
RUN apt-get update && apt-get install -y --no-install-recommends busybox-static
RUN sed s/GLIBC_2/GLIBC_9/g /lib/*-linux-gnu/libz.so.1 > /newer.so && ! LD_PRELOAD=/newer.so /bin/true
FROM scratch
COPY --from=box /bin/busybox /newer.so /bin/
ENV PYTHONPATH=/of/the/program PYTHONHOME=/of/the/program LD_LIBRARY_PATH=/of/the/program LD_PRELOAD=/bin/newer.so
USER 4711
""",
    "musl": r"""
FROM debian:bookworm-slim AS box
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev musl-tools
RUN printf '#include <stdio.h>\nint main(int n, char **w) { FILE *f = fopen(w[1], "w"); \
        return n != 3 || f == 0 || fputs(w[2], f) < 0 || fclose(f) != 0 || puts(w[2]) < 0; }' > /say.c \
    && musl-gcc -o /say /say.c && mkdir /loader && cp -L /lib/ld-musl-*.so.1 /loader/
FROM scratch
COPY --from=box /loader /lib
COPY --from=box /say /say
""",
}
OF_AN_ENGINE = ("dev", "proc", "sys", "etc", "opt", ".dockerenv")  # folders that it makes, or changes the times of
SECRET = "a-key-that-nobody-must-see"


@cache
def base(name: str) -> str:
    """The name of the base's image."""
    with TemporaryDirectory() as folder:
        (Path(folder) / "Dockerfile").write_text(BASES[name])
        return build(Path(folder), f"tests/{name}:1")


@cache
def worker_on(name: str, mounting: bool = False) -> str:
    """The name of the worker's image on a base."""
    arguments = {"BASE_IMAGE": base(name), "MOUNT_S3": str(mounting)}
    return build_worker(ROOT / "worker", f"tests/worker-on-{name}{'-mounting' if mounting else ''}:1", **arguments)


@pytest.fixture(params=["debian", "bare"])
def on(request: pytest.FixtureRequest) -> str:
    """A base's name."""
    return str(request.param)


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with ministack(tmp_path_factory.mktemp("emulator")) as url:
        yield url


class Containers:
    """Workers in containers, on a queue and a bucket of their own."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.names: list[str] = []

    def start(self, image: str, *options: str, **env: str) -> str:
        told = [word for pair in (self.lab.environment | env).items() for word in ("--env", "=".join(pair))]
        self.names.append(docker("run", "--detach", "--network", "host", *told, *options, image).strip())
        return self.names[-1]

    def end(self) -> None:
        for name in self.names:
            with suppress(AssertionError):
                docker("rm", "--force", name)

    def log_of(self, record: dict[str, Any]) -> str:
        """The job's own log."""
        return (self.lab.text(record["log"].removeprefix(f"s3://{self.lab.name}/")) or b"").decode()


@pytest.fixture
def run(emulator: str, tmp_path: Path) -> Iterator[Containers]:
    containers = Containers(Lab(emulator, tmp_path, visibility=60))
    yield containers
    containers.end()


def shell(name: str, script: str) -> list[str]:
    """`script` as a command on the base."""
    return [*(["/bin/busybox"] if name == "bare" else []), "sh", "-c", script]


MARKER = "# ---- The machinery, from here on"


def test_the_developers_part_of_the_dockerfile_is_an_image_by_itself_and_the_machinery_is_laid_on_it() -> None:
    text = (ROOT / "worker" / "Dockerfile").read_text()
    own, machinery = text.split(f"\n{MARKER}")
    assert [line for line in own.splitlines() if line and not line.startswith("#")] == [
        "ARG BASE_IMAGE=debian:bookworm-slim",
        "FROM ${BASE_IMAGE} AS program",
    ]
    assert machinery.rpartition("\nFROM ")[2].splitlines()[0] == "program"


# The program's image stays as it is


def test_a_job_runs_in_the_programs_image_as_if_the_worker_were_not_there(on: str, run: Containers) -> None:
    run.start(worker_on(on))
    env = ["/bin/busybox", "env"] if on == "bare" else ["env"]
    record = run.lab.recorded(job_id(run.lab.send(group={"x": "env"}, command=env)), state="done")
    seen = [line for line in run.log_of(record).splitlines() if line.startswith(("PYTHON", "LD_", "LC_", "PATH"))]
    own = [f"{name}=/of/the/program" for name in ("LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH")]
    expected = {"debian": ["PATH=/of/the/program:/usr/bin:/bin"], "bare": [*own, "LD_PRELOAD=/bin/newer.so"]}[on]
    assert sorted(line for line in seen if on == "debian" or not line.startswith("PATH")) == sorted(expected)


def test_the_programs_own_python_sees_exactly_what_it_sees_without_the_worker(run: Containers) -> None:
    code = "import six, sys, ssl; print(sys.version, sys.path, sys.prefix, six.__file__, ssl.OPENSSL_VERSION)"
    run.start(worker_on("debian"))
    record = run.lab.recorded(job_id(run.lab.send(group={"x": "py"}, command=["python3", "-c", code])), state="done")
    assert run.log_of(record) == docker("run", "--rm", "--entrypoint", "python3", base("debian"), "-c", code)


def test_nothing_of_the_base_is_changed_and_no_tool_of_the_build_is_left() -> None:
    before, after = files_of(base("debian")), files_of(worker_on("debian"))
    own = {name for name in after if name.startswith("opt/worker")}
    assert {name: after[name] for name in after.keys() - own} == before
    assert {name for name in own if "/bin/" in name} == {"opt/worker/bin/python3.11", "opt/worker/bin/busybox"}
    assert [name for name in own if "/pip/" in name or "/setuptools/" in name] == []
    for setting in ("Env", "User", "WorkingDir"):
        one, other = (setting_of(image, setting) for image in (base("debian"), worker_on("debian")))
        assert one == other


def test_what_is_compiled_holds_neither_time_nor_passing_names_so_that_two_builds_have_the_same_files() -> None:
    """PEP 552: the second four bytes tell whether a compiled file names its source by a hash or by its time."""
    code = (
        "import marshal, pathlib\n"
        "found = {path: path.read_bytes() for path in pathlib.Path('/opt/worker/lib/python3').rglob('*.pyc')}\n"
        "sources = {marshal.loads(body[16:]).co_filename[:24] for body in found.values()}\n"
        "print(len(found) > 100, sources, {body[4] for body in found.values()})\n"
    )
    assert in_image("debian", code) == "True {'/opt/worker/lib/python3/'} {1}\n"


def test_the_worker_is_small() -> None:
    sizes = [int(docker("image", "inspect", "--format", "{{.Size}}", i)) for i in (base("bare"), worker_on("bare"))]
    assert sizes[1] - sizes[0] < 62e6


def in_image(name: str, code: str) -> str:
    """What the worker's own Python prints in the image on a base."""
    python = ["--library-path", "/opt/worker/lib", "/opt/worker/bin/python3.11", "-E", "-s", "-c", code]
    bare = ["--network", "host", "--env", "LD_PRELOAD=", "--entrypoint", "/opt/worker/lib/loader.so"]
    return docker("run", "--rm", *bare, worker_on(name), *python)


def files_of(image: str) -> dict[str, tuple[object, ...]]:
    """Every file of an image with all that tells whether it was touched."""
    name = docker("create", "--entrypoint", "/none", image).strip()
    try:
        with (
            subprocess.Popen(["docker", "export", name], stdout=subprocess.PIPE) as export,
            tarfile.open(fileobj=export.stdout, mode="r|") as members,
        ):
            return {
                one.name: (one.type, one.size, one.mode, one.uid, one.gid, one.linkname, one.mtime)
                for one in members
                if one.name.split("/")[0] not in OF_AN_ENGINE or one.name.startswith(("opt/", "etc/ld", "etc/py"))
            }
    finally:
        docker("rm", "--force", name)


def setting_of(image: str, setting: str) -> str:
    return docker("image", "inspect", "--format", f"{{{{json .Config.{setting}}}}}", image)


# Any base, any user


def test_a_program_on_musl_runs_and_its_output_is_published(run: Containers) -> None:
    run.start(worker_on("musl"))
    words = ["/say", "{output_dir}/said.txt", 'it\'s; $(id)\n"é"']
    job = job_id(run.lab.send(group={"x": "musl"}, command=words, output_location="out/{job}"))
    record = run.lab.recorded(job, state="done")
    assert run.lab.text(f"out/{job}/said.txt") == words[2].encode()
    assert run.log_of(record) == words[2] + "\n"


@pytest.mark.parametrize(("name", "user", "expected"), [("debian", "4711:42", "4711 42"), ("bare", "0", "0 0")])
def test_the_containers_user_is_whoever_is_asked_for(name: str, user: str, expected: str, run: Containers) -> None:
    box = "/bin/busybox " if name == "bare" else ""
    run.start(worker_on(name), "--user", user)
    command = shell(name, f"echo $({box}id -u) $({box}id -g) > {{output_dir}}/who; {box}cat {{output_dir}}/who")
    record = run.lab.recorded(job_id(run.lab.send(group={"x": "who"}, command=command)), state="done")
    assert run.log_of(record).strip() == expected


# A container's life


def test_a_container_keeps_no_process_that_a_program_left(on: str, run: Containers) -> None:
    container = run.start(worker_on(on))
    box = "/bin/busybox " if on == "bare" else ""
    command = shell(on, f"{box}sleep 600 & {box}setsid {box}sleep 600 & {box}true")
    run.lab.recorded(job_id(run.lab.send(group={"x": "left"}, command=command)), state="done")
    # The worker, its launcher and what started that are all that is left; a zombie would be listed too.
    until(lambda: len(docker("top", container, "-o", "pid,stat,args").splitlines()) == 4, "a process is left")


def test_docker_stop_gives_the_job_back_at_once(on: str, run: Containers) -> None:
    container = run.start(worker_on(on))
    run.lab.send(group={"x": "stopped"}, command=shell(on, f"{'/bin/busybox ' if on == 'bare' else ''}sleep 600"))
    until(lambda: "start stopped-" in logs_of(container), "the job does not start")
    asked = time.monotonic()
    docker("stop", "--time", "30", container)
    assert time.monotonic() - asked < 20
    assert docker("inspect", "--format", "{{.State.ExitCode}}", container).strip() == "0"
    assert run.lab.waiting() == 1


def test_a_program_that_eats_the_containers_memory_is_told_from_one_that_just_fails(run: Containers) -> None:
    container = run.start(worker_on("debian"), "--memory", "200m", "--memory-swap", "200m", JOB_RETRIES="1")
    lab = run.lab
    eater = job_id(lab.send(group={"x": "eater"}, command=shell("debian", "tail /dev/zero")))
    assert lab.recorded(eater, state="failed")["reason_class"] == "out of memory"
    killed = job_id(lab.send(group={"x": "killed"}, command=shell("debian", "kill -9 $$")))
    assert lab.recorded(killed, state="failed")["reason_class"] == "signal"
    lab.recorded(job_id(lab.send(group={"x": "after"}, command="true")), state="done")
    assert docker("inspect", "--format", "{{.State.Running}}", container).strip() == "true"


def test_a_thread_that_still_runs_when_the_worker_ends_does_not_crash_it(on: str) -> None:
    code = (
        "import threading, time\n"
        "def spin():\n"
        "    while True: time.sleep(0.0001)\n"
        "for _ in range(8): threading.Thread(target=spin, daemon=True).start()\n"
        "time.sleep(0.05)\n"
    )
    in_image(on, code)


def test_no_secret_is_in_the_image_the_containers_log_a_record_or_a_jobs_log(run: Containers) -> None:
    image = worker_on("debian")
    container = run.start(image, AWS_SECRET_ACCESS_KEY=SECRET, AWS_SESSION_TOKEN=SECRET, JOB_RETRIES="1")
    good, bad = (run.lab.send(group={"x": word}, command=word, timeout_minutes=1) for word in ("true", "nonsense"))
    run.lab.recorded(job_id(good), state="done")
    run.lab.recorded(job_id(bad), state="failed")
    run.lab.send_text("no JSON")
    until(lambda: "bad message" in logs_of(container), "the bad message is not noticed")
    docker("stop", "--time", "30", container)
    keys = [one["Key"] for one in run.lab.s3.list_objects_v2(Bucket=run.lab.name)["Contents"]]
    assert len(keys) >= 2
    for text in [logs_of(container), *((run.lab.text(key) or b"").decode() for key in keys)]:
        assert SECRET not in text
    made = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image) + setting_of(image, "Env")
    assert [word for word in ("SECRET", "TOKEN", "ACCESS_KEY", "PASSWORD") if word in made] == []


# A developer's own


def test_scripts_modules_and_packages_of_a_developer_are_in_the_image_without_an_edit_of_it(
    run: Containers, tmp_path: Path
) -> None:
    own = tmp_path / "worker"
    shutil.copytree(ROOT / "worker", own, ignore=shutil.ignore_patterns("__pycache__"))
    (own / "scripts" / "say.sh").write_text('echo "$1" from a script > "$2/said.txt"\n')
    (own / "requirements-own.txt").write_text("# for prepare()\ntabulate==0.9.0\n")
    (own / "naming.py").write_text("import tabulate\nNAME = tabulate.__name__\n")
    worker = own / "generic-worker.py"
    head, body = worker.read_text().split("\ndef prepare(", 1)
    body = body.replace('here."""\n', 'here."""\n    job.command.append(naming.NAME)\n', 1)
    head = head.replace("from distributed_something", "import naming\nfrom distributed_something")
    worker.write_text(f"{head}\ndef prepare({body}")
    for path in (worker, own / "naming.py"):
        path.chmod(0o600)  # as a cautious developer's disk has it
    image = build_worker(own, "tests/worker-with-own:1", BASE_IMAGE=base("debian"))
    run.start(image, "--user", "4711")
    command = ["sh", "-c", 'sh "$0" "$2" "$1"', "{scripts_dir}/say.sh", "{output_dir}"]
    job = job_id(run.lab.send(group={"x": "own"}, command=command, output_location="own/{job}"))
    run.lab.recorded(job, state="done")
    assert run.lab.text(f"own/{job}/said.txt") == b"tabulate from a script\n"


# The mounted bucket

RIGHTS = ("--cap-add", "SYS_ADMIN", "--device", "/dev/fuse:/dev/fuse:rw")


@pytest.fixture
def mounting() -> str:
    if not Path("/dev/fuse").exists():
        pytest.skip("this computer has no /dev/fuse")
    return worker_on("debian", mounting=True)


def read(run: Containers, key: str) -> str:
    """What a program reads of the mounted bucket, from its log."""
    command = shell("debian", f"cat {MOUNT_FOLDER}/{key}; touch {MOUNT_FOLDER}/new; true")
    message = run.lab.send(group={"read": key}, command=command, output_location="read/{job}")
    return run.log_of(run.lab.recorded(job_id(message), state="done"))


def test_a_program_reads_the_mounted_bucket_and_cannot_write_there(run: Containers, mounting: str) -> None:
    run.lab.put("plates/one/a.txt", b"from the bucket\n")
    container = run.start(mounting, *RIGHTS, MOUNT_S3="True")
    said = read(run, "plates/one/a.txt")
    assert said.startswith("from the bucket\n")
    assert "Read-only file system" in said
    assert run.lab.text("new") is None
    docker("stop", "--time", "30", container)
    assert docker("inspect", "--format", "{{.State.ExitCode}}", container).strip() == "0"


@pytest.mark.parametrize("signal", ["KILL", "STOP"])
def test_a_mount_that_dies_or_hangs_is_made_again(run: Containers, mounting: str, signal: str) -> None:
    run.lab.put("a.txt", b"still there\n")
    container = run.start(mounting, *RIGHTS, MOUNT_S3="True")
    until(lambda: logs_of(container).count("mounted ") == 1, "it is not mounted")
    script = f"for p in /proc/[0-9]*; do grep -q '[b]in/s3fs' $p/cmdline && kill -{signal} ${{p#/proc/}}; done; true"
    docker("exec", container, "sh", "-c", script)
    until(lambda: logs_of(container).count("mounted ") == 2, "it is not mounted again", seconds=60)
    assert "still there" in read(run, "a.txt")


def test_a_bucket_that_cannot_be_mounted_ends_the_container(run: Containers, mounting: str) -> None:
    container = run.start(mounting, *RIGHTS, MOUNT_S3="True", AWS_BUCKET="no-such-bucket")
    until(lambda: "true" not in docker("inspect", "--format", "{{.State.Running}}", container), "it goes on")
    assert docker("inspect", "--format", "{{.State.ExitCode}}", container).strip() == "1"


@pytest.mark.parametrize(
    ("image_can", "options", "word"),
    [
        (False, RIGHTS, "make build"),
        (True, RIGHTS[:2], "/dev/fuse"),
        (True, RIGHTS[2:], "SYS_ADMIN"),
        (True, (*RIGHTS, "--user", "4711"), "root"),
    ],
)
def test_what_a_mount_lacks_is_told_in_one_line_before_a_job_is_taken(
    run: Containers, mounting: str, image_can: bool, options: tuple[str, ...], word: str
) -> None:
    container = run.start(mounting if image_can else worker_on("debian"), *options, MOUNT_S3="True")
    assert docker("wait", container).strip() == "2"
    (line,) = logs_of(container).splitlines()
    assert "MOUNT_S3" in line
    assert word in line
