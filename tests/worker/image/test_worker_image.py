"""Tests for the worker's image on three very different base images. The worker must run on each base and not change it.

debian: contains its own Python with a package, and sets an entry point, a command, and a stop signal that the worker
must not use.
bare: contains only a static busybox (no shell, no C library, no /tmp), runs as a user other than root, and sets
environment variables that would break any Python and any program that uses the worker's C library.
musl: contains only a program linked against musl, the musl loader, and its C library.
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
from tests.support.emulator import WorkerLab, run_ministack, wait_until
from tests.support.engine import build_image, build_worker_image, read_container_logs, run_docker
from tests.support.paths import ROOT
from tests.support.tls_proxy import run_tls_proxy

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
ENGINE_FOLDERS = ("dev", "proc", "sys", "etc", "opt", ".dockerenv")  # created or touched by the container engine
SECRET = "a-key-that-nobody-must-see"


@cache
def build_base(name: str) -> str:
    """Build a base image and return its name."""
    with TemporaryDirectory() as folder:
        (Path(folder) / "Dockerfile").write_text(BASES[name])
        return build_image(Path(folder), f"tests/{name}:1")


@cache
def build_worker_on(name: str, mounting: bool = False) -> str:
    """Build the worker's image on a base image and return its name."""
    arguments = {"BASE_IMAGE": build_base(name), "MOUNT_S3": str(mounting)}
    return build_worker_image(
        ROOT / "worker", f"tests/worker-on-{name}{'-mounting' if mounting else ''}:1", **arguments
    )


@pytest.fixture(params=["debian", "bare"])
def base(request: pytest.FixtureRequest) -> str:
    """Return the name of a base image."""
    return str(request.param)


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with run_ministack(tmp_path_factory.mktemp("emulator")) as url:
        yield url


class Containers:
    """Workers in containers, with their own queue and bucket."""

    def __init__(self, lab: WorkerLab) -> None:
        self.lab = lab
        self.names: list[str] = []

    def start(self, image: str, *options: str, **env: str) -> str:
        env_options = [word for pair in (self.lab.environment | env).items() for word in ("--env", "=".join(pair))]
        self.names.append(run_docker("run", "--detach", "--network", "host", *env_options, *options, image).strip())
        return self.names[-1]

    def end(self) -> None:
        for name in self.names:
            with suppress(AssertionError):
                run_docker("rm", "--force", name)

    def read_job_log(self, record: dict[str, Any]) -> str:
        """Return the log of the attempt in `record`."""
        return (self.lab.read_object(record["log"].removeprefix(f"s3://{self.lab.name}/")) or b"").decode()


@pytest.fixture
def run(emulator: str, tmp_path: Path) -> Iterator[Containers]:
    containers = Containers(WorkerLab(emulator, tmp_path, visibility=60))
    yield containers
    containers.end()


def build_shell_command(name: str, script: str) -> list[str]:
    """Return a command that runs `script` in the base image's shell."""
    return [*(["/bin/busybox"] if name == "bare" else []), "sh", "-c", script]


# The program's image does not change


def test_a_program_gets_its_images_environment_unchanged(base: str, run: Containers) -> None:
    run.start(build_worker_on(base))
    env = ["/bin/busybox", "env"] if base == "bare" else ["env"]
    record = run.lab.wait_for_record(job_id(run.lab.send_job(group={"x": "env"}, command=env)), state="done")
    lines = run.read_job_log(record).splitlines()
    variables = [line for line in lines if line.startswith(("PYTHON", "LD_", "LC_", "PATH"))]
    bare = [f"{name}=/of/the/program" for name in ("LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH")]
    expected = {"debian": ["PATH=/of/the/program:/usr/bin:/bin"], "bare": [*bare, "LD_PRELOAD=/bin/newer.so"]}[base]
    assert sorted(line for line in variables if base == "debian" or not line.startswith("PATH")) == sorted(expected)


def test_the_programs_own_python_has_the_same_paths_and_libraries_as_without_the_worker(run: Containers) -> None:
    code = "import six, sys, ssl; print(sys.version, sys.path, sys.prefix, six.__file__, ssl.OPENSSL_VERSION)"
    run.start(build_worker_on("debian"))
    record = run.lab.wait_for_record(
        job_id(run.lab.send_job(group={"x": "py"}, command=["python3", "-c", code])), state="done"
    )
    assert run.read_job_log(record) == run_docker(
        "run", "--rm", "--entrypoint", "python3", build_base("debian"), "-c", code
    )


def test_no_file_in_the_base_image_is_changed_and_no_build_tool_is_added() -> None:
    before, after = list_files(build_base("debian")), list_files(build_worker_on("debian"))
    own = {name for name in after if name.startswith("opt/worker")}
    assert {name: after[name] for name in after.keys() - own} == before
    assert {name for name in own if "/bin/" in name} == {"opt/worker/bin/python3.11", "opt/worker/bin/busybox"}
    assert [name for name in own if "/pip/" in name or "/setuptools/" in name] == []
    for setting in ("Env", "User", "WorkingDir"):
        base_value, worker_value = (
            read_image_setting(image, setting) for image in (build_base("debian"), build_worker_on("debian"))
        )
        assert base_value == worker_value


def test_compiled_files_contain_no_times_or_temporary_paths_so_that_two_builds_are_identical() -> None:
    """In a compiled file, bytes 4 to 7 show whether it refers to its source by hash or by time (PEP 552)."""
    code = (
        "import marshal, pathlib\n"
        "bodies = {path: path.read_bytes() for path in pathlib.Path('/opt/worker/lib/python3').rglob('*.pyc')}\n"
        "sources = {marshal.loads(body[16:]).co_filename[:24] for body in bodies.values()}\n"
        "print(len(bodies) > 100, sources, {body[4] for body in bodies.values()})\n"
    )
    assert run_worker_python("debian", code) == "True {'/opt/worker/lib/python3/'} {1}\n"


def test_the_worker_adds_less_than_78_mb_to_an_image() -> None:
    images = (build_base("bare"), build_worker_on("bare"))
    sizes = [int(run_docker("image", "inspect", "--format", "{{.Size}}", image)) for image in images]
    assert sizes[1] - sizes[0] < 78e6


def run_worker_python(name: str, code: str) -> str:
    """Run `code` with the worker's own Python in the image built on a base, and return the output."""
    python = ["--library-path", "/opt/worker/lib", "/opt/worker/bin/python3.11", "-E", "-s", "-c", code]
    options = ["--network", "host", "--env", "LD_PRELOAD=", "--entrypoint", "/opt/worker/lib/loader.so"]
    return run_docker("run", "--rm", *options, build_worker_on(name), *python)


def list_files(image: str) -> dict[str, tuple[object, ...]]:
    """Return every file in an image, with the metadata that would show a change."""
    name = run_docker("create", "--entrypoint", "/none", image).strip()
    try:
        with (
            subprocess.Popen(["docker", "export", name], stdout=subprocess.PIPE) as export,
            tarfile.open(fileobj=export.stdout, mode="r|") as members,
        ):
            return {
                file.name: (file.type, file.size, file.mode, file.uid, file.gid, file.linkname, file.mtime)
                for file in members
                if file.name.split("/")[0] not in ENGINE_FOLDERS or file.name.startswith(("opt/", "etc/ld", "etc/py"))
            }
    finally:
        run_docker("rm", "--force", name)


def read_image_setting(image: str, setting: str) -> str:
    return run_docker("image", "inspect", "--format", f"{{{{json .Config.{setting}}}}}", image)


# TLS


@pytest.mark.parametrize("bundle", ["of boto3", "from AWS_CA_BUNDLE"])
def test_inputs_and_results_are_transferred_over_tls(base: str, bundle: str, run: Containers, tmp_path: Path) -> None:
    """The bare image has no certificates but those of boto3. The test's CA takes their place, or is named."""
    with run_tls_proxy(run.lab.url, tmp_path) as proxy:
        place = "/opt/worker/lib/python3/dist-packages/botocore/cacert.pem" if bundle == "of boto3" else "/ca.pem"
        proxy.ca_file.chmod(0o644)
        env = {"AWS_ENDPOINT_URL": proxy.url} | ({} if bundle == "of boto3" else {"AWS_CA_BUNDLE": place})
        run.start(build_worker_on(base), "--volume", f"{proxy.ca_file}:{place}:ro", **env)
        for number in range(5):
            run.lab.put_object(f"in/{number}", b"x" * 1000)
        script = "cp {input_dir}/* {output_dir}"
        command = build_shell_command(base, script if base == "debian" else f"/bin/busybox {script}")
        job = run.lab.send_job(group={"x": 1}, inputs=["in/"], command=command, output_location="out")
        record = run.lab.wait_for_record(job_id(job), state="done")
        assert len(record["outputs"]) == len(record["inputs"]) == 5
        assert (
            proxy.count_requests("GET", b"crts3nativeclient") == proxy.count_requests("PUT", b"crts3nativeclient") == 5
        )


# Any base image, any user


def test_a_program_linked_against_musl_runs_and_its_results_are_uploaded(run: Containers) -> None:
    run.start(build_worker_on("musl"))
    words = ["/say", "{output_dir}/said.txt", 'it\'s; $(id)\n"é"']
    job = job_id(run.lab.send_job(group={"x": "musl"}, command=words, output_location="out/{job}"))
    record = run.lab.wait_for_record(job, state="done")
    assert run.lab.read_object(f"out/{job}/said.txt") == words[2].encode()
    assert run.read_job_log(record) == words[2] + "\n"


@pytest.mark.parametrize(("name", "user", "expected"), [("debian", "4711:42", "4711 42"), ("bare", "0", "0 0")])
def test_a_container_can_run_as_any_user(name: str, user: str, expected: str, run: Containers) -> None:
    box = "/bin/busybox " if name == "bare" else ""
    run.start(build_worker_on(name), "--user", user)
    command = build_shell_command(
        name, f"echo $({box}id -u) $({box}id -g) > {{output_dir}}/who; {box}cat {{output_dir}}/who"
    )
    record = run.lab.wait_for_record(job_id(run.lab.send_job(group={"x": "who"}, command=command)), state="done")
    assert run.read_job_log(record).strip() == expected


# The life cycle of a container


@pytest.mark.parametrize(
    ("base", "user", "expected"), [("debian", "", "0"), ("debian", "12345", "12345"), ("bare", "", "4711")]
)
def test_a_program_cannot_read_the_workers_environment_and_may_run_as_another_user(
    base: str, user: str, expected: str, run: Containers
) -> None:
    run.start(build_worker_on(base), PROGRAM_USER=user)
    tool = "/bin/busybox " if base == "bare" else ""
    script = f"{tool}id -u; {tool}cat /proc/1/environ; {tool}cat /proc/self/status; echo 1 > {{output_dir}}/out"
    message = run.lab.send_job(group={"x": "spy"}, command=build_shell_command(base, script))
    record = run.lab.wait_for_record(job_id(message), state="done")
    log = run.read_job_log(record)
    assert log.splitlines()[0] == expected
    assert "/proc/1/environ" in log
    assert "SQS_QUEUE_URL" not in log
    assert ("NoNewPrivs:\t1" in log) is bool(user)
    assert len(record["outputs"]) == 1


def test_a_container_that_does_not_start_as_root_says_in_one_line_that_it_cannot_use_program_user(
    run: Containers,
) -> None:
    container = run.start(build_worker_on("bare"), PROGRAM_USER="12345")
    assert run_docker("wait", container).strip() == "2"
    (line,) = read_container_logs(container).splitlines()
    assert line.startswith("worker: PROGRAM_USER is '12345', but this container does not start as root")


def test_processes_that_a_program_leaves_behind_are_ended(base: str, run: Containers) -> None:
    container = run.start(build_worker_on(base))
    box = "/bin/busybox " if base == "bare" else ""
    command = build_shell_command(base, f"{box}sleep 600 & {box}setsid {box}sleep 600 & {box}true")
    run.lab.wait_for_record(job_id(run.lab.send_job(group={"x": "left"}, command=command)), state="done")
    # Only the worker, its launcher, and the parent of the launcher remain. Zombies would be listed too.
    wait_until(
        lambda: len(run_docker("top", container, "-o", "pid,stat,args").splitlines()) == 4,
        "a process of the program is still running",
    )


def test_docker_stop_returns_the_job_to_the_queue_at_once(base: str, run: Containers) -> None:
    container = run.start(build_worker_on(base))
    run.lab.send_job(
        group={"x": "stopped"},
        command=build_shell_command(base, f"{'/bin/busybox ' if base == 'bare' else ''}sleep 600"),
    )
    wait_until(lambda: "start stopped-" in read_container_logs(container), "the job did not start")
    start = time.monotonic()
    run_docker("stop", "--time", "30", container)
    assert time.monotonic() - start < 20
    assert run_docker("inspect", "--format", "{{.State.ExitCode}}", container).strip() == "0"
    assert run.lab.count_messages() == 1


def test_an_out_of_memory_kill_is_distinguished_from_other_kills(run: Containers) -> None:
    container = run.start(build_worker_on("debian"), "--memory", "200m", "--memory-swap", "200m", JOB_RETRIES="1")
    lab = run.lab
    eater = job_id(lab.send_job(group={"x": "eater"}, command=build_shell_command("debian", "tail /dev/zero")))
    assert lab.wait_for_record(eater, state="failed")["reason_class"] == "out of memory"
    killed = job_id(lab.send_job(group={"x": "killed"}, command=build_shell_command("debian", "kill -9 $$")))
    assert lab.wait_for_record(killed, state="failed")["reason_class"] == "signal"
    lab.wait_for_record(job_id(lab.send_job(group={"x": "after"}, command="true")), state="done")
    assert run_docker("inspect", "--format", "{{.State.Running}}", container).strip() == "true"


def test_a_thread_that_is_still_running_when_python_exits_does_not_crash_it(base: str) -> None:
    code = (
        "import threading, time\n"
        "def spin():\n"
        "    while True: time.sleep(0.0001)\n"
        "for _ in range(8): threading.Thread(target=spin, daemon=True).start()\n"
        "time.sleep(0.05)\n"
    )
    run_worker_python(base, code)


def test_no_secret_appears_in_the_image_the_logs_or_a_record(run: Containers) -> None:
    image = build_worker_on("debian")
    container = run.start(image, AWS_SECRET_ACCESS_KEY=SECRET, AWS_SESSION_TOKEN=SECRET, JOB_RETRIES="1")
    good, bad = (run.lab.send_job(group={"x": word}, command=word, timeout_minutes=1) for word in ("true", "nonsense"))
    run.lab.wait_for_record(job_id(good), state="done")
    run.lab.wait_for_record(job_id(bad), state="failed")
    run.lab.send_text("no JSON")
    wait_until(lambda: "bad message" in read_container_logs(container), "the bad message was not reported")
    run_docker("stop", "--time", "30", container)
    keys = [entry["Key"] for entry in run.lab.s3.list_objects_v2(Bucket=run.lab.name)["Contents"]]
    assert len(keys) >= 2
    for text in [read_container_logs(container), *((run.lab.read_object(key) or b"").decode() for key in keys)]:
        assert SECRET not in text
    commands = run_docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image)
    build_settings = commands + read_image_setting(image, "Env")
    assert [word for word in ("SECRET", "TOKEN", "ACCESS_KEY", "PASSWORD") if word in build_settings] == []


# The developer's files


def test_a_developers_scripts_modules_and_packages_are_in_the_image_without_changes_to_the_dockerfile(
    run: Containers, tmp_path: Path
) -> None:
    own = tmp_path / "worker"
    shutil.copytree(ROOT / "worker", own, ignore=shutil.ignore_patterns("__pycache__"))
    (own / "scripts" / "say.sh").write_text('echo "$1" from a script > "$2/said.txt"\n')
    (own / "requirements-own.txt").write_text("# for prepare()\ntabulate==0.9.0\n")
    (own / "naming.py").write_text("import tabulate\nNAME = tabulate.__name__\n")
    worker = own / "generic-worker.py"
    head, body = worker.read_text().split("\ndef prepare(", 1)
    body = body.replace('the command."""\n', 'the command."""\n    job.command.append(naming.NAME)\n', 1)
    head = head.replace("from distributed_something", "import naming\nfrom distributed_something")
    worker.write_text(f"{head}\ndef prepare({body}")
    for path in (worker, own / "naming.py"):
        path.chmod(0o600)  # readable only by the developer
    image = build_worker_image(own, "tests/worker-with-own:1", BASE_IMAGE=build_base("debian"))
    run.start(image, "--user", "4711")
    command = ["sh", "-c", 'sh "$0" "$2" "$1"', "{scripts_dir}/say.sh", "{output_dir}"]
    job = job_id(run.lab.send_job(group={"x": "own"}, command=command, output_location="own/{job}"))
    run.lab.wait_for_record(job, state="done")
    assert run.lab.read_object(f"own/{job}/said.txt") == b"tabulate from a script\n"


# The mounted bucket

MOUNT_OPTIONS = ("--cap-add", "SYS_ADMIN", "--device", "/dev/fuse:/dev/fuse:rw")


@pytest.fixture
def mounting_image() -> str:
    """Build a worker's image that can mount the bucket."""
    if not Path("/dev/fuse").exists():
        pytest.skip("this computer has no /dev/fuse")
    return build_worker_on("debian", mounting=True)


def read_from_mount(run: Containers, key: str) -> str:
    """Run a job that reads a key from the mounted bucket and tries to write to the bucket. Return the job's log."""
    script = f"cat {MOUNT_FOLDER}/{key}; touch {MOUNT_FOLDER}/new; grep Cap /proc/self/status; true"
    command = build_shell_command("debian", script)
    message = run.lab.send_job(group={"read": key}, command=command, output_location="read/{job}")
    return run.read_job_log(run.lab.wait_for_record(job_id(message), state="done"))


def test_a_program_can_read_the_mounted_bucket_but_not_write_to_it(run: Containers, mounting_image: str) -> None:
    run.lab.put_object("plates/one/a.txt", b"from the bucket\n")
    container = run.start(mounting_image, *MOUNT_OPTIONS, MOUNT_S3="True")
    output = read_from_mount(run, "plates/one/a.txt")
    assert output.startswith("from the bucket\n")
    assert "Read-only file system" in output
    capabilities = [int(line.split()[1], 16) for line in output.splitlines() if line.startswith("Cap")]
    assert len(capabilities) == 5
    assert not [bits for bits in capabilities if bits & 1 << 21], "the program has SYS_ADMIN"
    assert run.lab.read_object("new") is None
    run_docker("stop", "--time", "30", container)
    assert run_docker("inspect", "--format", "{{.State.ExitCode}}", container).strip() == "0"


@pytest.mark.parametrize("signal", ["KILL", pytest.param("STOP", marks=pytest.mark.long)])
def test_the_bucket_is_mounted_again_if_the_mount_dies_or_hangs(
    run: Containers, mounting_image: str, signal: str
) -> None:
    run.lab.put_object("a.txt", b"still there\n")
    container = run.start(mounting_image, *MOUNT_OPTIONS, MOUNT_S3="True")
    wait_until(lambda: read_container_logs(container).count("mounted ") == 1, "the bucket was not mounted")
    script = f"for p in /proc/[0-9]*; do grep -q '[b]in/s3fs' $p/cmdline && kill -{signal} ${{p#/proc/}}; done; true"
    run_docker("exec", container, "sh", "-c", script)
    wait_until(
        lambda: read_container_logs(container).count("mounted ") == 2, "the bucket was not mounted again", seconds=60
    )
    assert "still there" in read_from_mount(run, "a.txt")


def test_a_bucket_that_cannot_be_mounted_ends_the_container(run: Containers, mounting_image: str) -> None:
    container = run.start(mounting_image, *MOUNT_OPTIONS, MOUNT_S3="True", AWS_BUCKET="no-such-bucket")
    wait_until(
        lambda: "true" not in run_docker("inspect", "--format", "{{.State.Running}}", container),
        "the container is still running",
    )
    assert run_docker("inspect", "--format", "{{.State.ExitCode}}", container).strip() == "1"


@pytest.mark.parametrize(
    ("has_s3fs", "options", "word"),
    [
        (False, MOUNT_OPTIONS, "make build"),
        (True, MOUNT_OPTIONS[:2], "/dev/fuse"),
        (True, MOUNT_OPTIONS[2:], "SYS_ADMIN"),
        (True, (*MOUNT_OPTIONS, "--user", "4711"), "root"),
    ],
)
def test_a_missing_mount_requirement_is_reported_in_one_line_before_a_job_is_taken(
    run: Containers, mounting_image: str, has_s3fs: bool, options: tuple[str, ...], word: str
) -> None:
    container = run.start(mounting_image if has_s3fs else build_worker_on("debian"), *options, MOUNT_S3="True")
    assert run_docker("wait", container).strip() == "2"
    (line,) = read_container_logs(container).splitlines()
    assert "MOUNT_S3" in line
    assert word in line
