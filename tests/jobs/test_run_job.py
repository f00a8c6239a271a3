"""runJob: one job as a worker runs it, kept to be looked at; nothing of it reaches queue, results or records."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest

from distributed_something.aws.sqs import QueueUrls
from distributed_something.aws.task_definition import build_task_definition
from distributed_something.cli.context import Context, ExitCode
from distributed_something.core.errors import InputError, UserFacingError
from distributed_something.jobs import run_job
from distributed_something.jobs.docker import Docker, build_docker_options
from distributed_something.jobs.job_file import load_job_file
from distributed_something.jobs.run_job import (
    CONTAINER_FOLDER,
    ONE_JOB_VARIABLE,
    VERDICT_FILE_NAME,
    build_one_job_container,
    format_job_outcome,
    get_container_environment,
    load_job_outcome,
    run_worker_container,
    select_job,
)
from distributed_something.worker.container import single_job
from tests.support.emulator import ministack
from tests.support.fakes import SETTINGS
from tests.support.offline import Outcome, type_command, write_project
from tests.support.project import Project, project, wait_for
from tests.worker.image.test_worker_image import worker_on

ODD = "a \"quote' \\ $HOME {job} %s\n;|& é💥\t"
TELL = 'printf "%s" "$1" > "$2/got"; echo said; echo warned >&2; exit "$3"'


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project with a local cloud, in which nothing was set up."""
    with project(tmp_path_factory.mktemp("one") / "p", MY_NAME="Ada") as one:
        one.cloud().ensure_buckets(["tryout-bucket"])
        yield one


def one_job(made: Project, *words: str, **content: object) -> tuple[int, str, Path]:
    """`runJob` of such a job file's first job: exit code, what it said, the job's folder."""
    path = made.job_file(**{"groups": [{"text": ODD}], **content})
    done = made.run("runJob", str(path), *(words or ("--index", "1")), check=False)
    folder = next((line.split()[1] for line in done.stdout.splitlines() if line.startswith("folder ")), "")
    return done.returncode, done.stdout + done.stderr, Path(folder)


def wrong(made: Project, *words: str) -> Outcome:
    """`runJob` of the last job file, which is refused before any cloud is asked for."""
    return type_command("--project", str(made.folder), "runJob", str(made.folder / "files" / "job.json"), *words)


def there(made: Project) -> tuple[list[str], list[str]]:
    """Queues, and objects in the bucket."""
    queues = made.client("sqs").list_queues().get("QueueUrls", [])
    objects = made.client("s3").list_objects_v2(Bucket="tryout-bucket").get("Contents", [])
    return queues, [one["Key"] for one in objects]


def test_a_job_that_succeeds_leaves_its_folder_and_nothing_else(made: Project) -> None:
    before = there(made)
    code, said, folder = one_job(made, command=["sh", "-c", TELL, "x", "{text}", "{output_dir}", "0"])
    assert (code, "verdict         success" in said) == (0, True), said
    assert (folder / "job" / "output" / "got").read_text() == ODD  # as it arrives from a queue
    assert (folder / "log.txt").read_text() == "said\nwarned\n"
    assert folder.is_relative_to(made.folder / "local")
    assert "exit code       0" in said
    assert "output          1 files, " in said
    assert "s3://tryout-bucket/Tryout/" in said
    assert there(made) == before
    assert before[0] == []


def test_a_job_that_fails_says_why_with_its_command_and_last_lines(made: Project) -> None:
    before = there(made)
    code, said, folder = one_job(made, command=["sh", "-c", TELL, "x", "{text}", "{output_dir}", "7"], keep_failed=True)
    assert code == 1
    assert "verdict         failed (program): exit code 7\n" in said
    assert "exit code       7\n" in said
    assert "                | said\n                | warned\n" in said
    assert f"{folder}/job/output 7" in said
    assert there(made) == before


def test_an_output_that_could_not_be_published_is_a_failure_here_too(made: Project) -> None:
    code, said, _ = one_job(made, command="ln -s /etc/hostname {output_dir}/link")
    assert (code, "failed (program): the output 'link' is a link to a path outside the job's folder" in said) == (
        1,
        True,
    ), said


def test_what_a_job_leaves_out_is_not_counted(made: Project) -> None:
    code, said, _ = one_job(made, command="touch {output_dir}/a {output_dir}/b.tmp", leave_out=["*.tmp"])
    assert (code, "output          1 files, 0 bytes" in said) == (0, True), said


def test_a_second_time_begins_anew(made: Project) -> None:
    content = {"command": "sh -c 'test ! -e {output_dir}/x && touch {output_dir}/x here'"}
    assert one_job(made, **content)[0] == 0
    assert one_job(made, **content)[0] == 0


def test_inputs_come_from_the_bucket_and_upload_brings_them_there(made: Project) -> None:
    (made.folder / "files" / "data").mkdir()
    (made.folder / "files" / "data" / "a.txt").write_text("pear\n")
    content = {"upload": {"data": "in"}, "inputs": ["in/a.txt"], "command": "cp {input_dir}/a.txt {output_dir}/b"}
    code, said, _ = one_job(made, **content)
    assert code == 1
    assert "failed (missing input): the input s3://tryout-bucket/in/a.txt does not exist" in said
    assert "exit code       none: no program ran" in said
    assert "hint            --upload brings" in said
    code, said, folder = one_job(made, "--index", "1", "--upload", **content)
    assert (code, (folder / "job" / "output" / "b").read_text()) == (0, "pear\n"), said
    assert there(made)[1] == ["in/a.txt"]


def test_the_program_sees_what_a_container_of_the_run_would_tell_it(made: Project) -> None:
    _, _, folder = one_job(made, command="env")
    seen = dict(line.split("=", 1) for line in (folder / "log.txt").read_text().splitlines() if "=" in line)
    settings = Context(project=made.folder).settings
    queues = QueueUrls("", "")
    wanted = get_container_environment(build_task_definition(settings, queues, None)["containerDefinitions"][0])
    assert {name: seen.get(name) for name in wanted if "QUEUE_URL" not in name} == {
        name: value for name, value in wanted.items() if "QUEUE_URL" not in name
    }
    assert seen["MY_NAME"] == "Ada"
    assert ONE_JOB_VARIABLE not in seen


def test_a_job_is_named_by_its_number_or_its_id(made: Project) -> None:
    groups = [{"n": number} for number in range(1, 6)]
    content: dict[str, object] = {"command": "echo number {n}", "groups": groups}
    _, _, folder = one_job(made, "--index", "4", **content)
    assert (folder / "log.txt").read_text() == "number 4\n"
    _, _, again = one_job(made, "--id", folder.name, **content)
    assert again == folder
    for words, said in (
        (("--index", "6"), "there is no job 6; give a number from 1 to 5"),
        (("--id", "nobody"), "no job has the id 'nobody'; ids are such as 1-"),
    ):
        outcome = wrong(made, *words)
        assert (outcome.code, said in outcome.err) == (ExitCode.INPUT, True)


@pytest.mark.parametrize("words", [(), ("--index", "1", "--id", "x"), ("--index", "0")])
def test_which_job_must_be_said_once(made: Project, words: tuple[str, ...]) -> None:
    made.job_file(command="true", groups=["a"])
    outcome = wrong(made, *words)
    assert (outcome.code, len(outcome.err.splitlines())) == (ExitCode.INPUT, 1)


def test_ctrl_c_ends_the_program_too(made: Project) -> None:
    job = made.job_file(command="sh -c 'echo $$ > {output_dir}/pid; sleep 100; true'", groups=["long"])
    typed = made.start("runJob", str(job), "--index", "1")
    found: list[Path] = []
    wait_for(lambda: bool(found.extend(made.folder.glob("local/runJob/long-*/job/output/pid")) or found))
    wait_for(lambda: found[0].read_text() != "")
    typed.send_signal(signal.SIGINT)
    typed.communicate(timeout=30)
    assert typed.returncode == ExitCode.INTERRUPTED
    with pytest.raises(ProcessLookupError):
        os.kill(int(found[0].read_text()), 0)


# The developer's own functions


@pytest.fixture
def own(made: Project) -> Iterator[Path]:
    """The project's generic-worker.py, to be edited; afterwards as it was."""
    path = made.folder / "worker" / "generic-worker.py"
    text = path.read_text()
    yield path
    path.write_text(text)


def test_the_projects_own_hooks_are_what_is_tried(made: Project, own: Path) -> None:
    hooks = """
import sys
from distributed_something.worker import BadMessage, Job, job_id, serve

def make_job(message, folders, settings):
    if message["group"] == "bad":
        raise BadMessage("a bad one")
    return Job(job_id(message), ["cat", "prepared"], settings.aws_bucket, settings.aws_bucket, "out")

def prepare(job, folders):
    (folders.root / "prepared").write_text("by prepare")

def failure(job, folders, result):
    text = folders.log.read_text()
    if text != "by prepare":
        raise ValueError(text)
    return "not good enough"

sys.exit(serve(make_job=make_job, prepare=prepare, failure=failure))
"""
    own.write_text(hooks)
    code, said, _ = one_job(made, groups=["good"])
    assert (code, "failed (program): not good enough" in said) == (1, True), said
    assert "command         cat prepared\n" in said
    code, said, _ = one_job(made, groups=["bad"])
    assert (code, "verdict         bad message: a bad one" in said) == (ExitCode.INPUT, True), said
    own.write_text(hooks.replace('by prepare")', 'x")'))
    code, said, _ = one_job(made, groups=["good"])
    assert (code, "failed (worker code): ValueError: x" in said) == (1, True), said
    assert 'generic-worker.py", line' in said  # where it was raised


def test_a_worker_that_cannot_start_is_told(made: Project, own: Path) -> None:
    own.write_text("import nothing_there\n")
    code, said, _ = one_job(made, command="true")
    assert (code, "the worker ended before its job, with exit code 1" in said) == (1, True)
    assert "No module named 'nothing_there'" in said


# Without --local


def test_without_the_local_cloud_it_has_the_credentials_and_addresses_of_whoever_types_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_project(tmp_path / "p")
    with (folder / "config.py").open("a") as config:
        config.write("SSH_KEY_NAME = 'key'\n")
    (folder / "files" / "job.json").write_text(json.dumps({"command": "env", "inputs": ["in.txt"], "groups": ["a"]}))
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    with ministack(tmp_path) as url:
        told = {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "mine", "AWS_SECRET_ACCESS_KEY": "a-secret"}
        for name, value in told.items():
            monkeypatch.setenv(name, value)
        s3 = boto3.client("s3", region_name="us-east-1")
        s3.create_bucket(Bucket="tryout-bucket")
        s3.put_object(Bucket="tryout-bucket", Key="in.txt", Body=b"x")
        outcome = type_command("--project", str(folder), "runJob", str(folder / "files" / "job.json"), "--index", "1")
        assert outcome.code == 0, outcome.out + outcome.err
        assert [one["Key"] for one in s3.list_objects_v2(Bucket="tryout-bucket")["Contents"]] == ["in.txt"]
    assert "a-secret" not in outcome.out + outcome.err
    (log,) = folder.glob("local/runJob/*/log.txt")
    seen = dict(line.split("=", 1) for line in log.read_text().splitlines() if "=" in line)
    assert {name: seen.get(name) for name in told} == told


# In a container


@pytest.mark.containers
def test_in_its_image_a_job_runs_as_whoever_the_image_says_and_its_folder_comes_back(tmp_path: Path) -> None:
    image = worker_on("bare")  # a busybox and nothing else, for a user other than root
    with project(tmp_path / "p", DOCKERHUB_TAG=image, MEMORY=300) as made:
        made.cloud().ensure_buckets(["tryout-bucket"])
        made.client("s3").put_object(Bucket="tryout-bucket", Key="in.txt", Body=b"pear\n")
        box = ["/bin/busybox", "sh", "-c"]
        script = 'b=/bin/busybox; $b id -u; $b cat "$1"/in.txt > "$2"/got; echo "$3"; exit 5'
        code, said, folder = one_job(
            made, "--containers", "--index", "1", inputs=["in.txt"],
            command=[*box, script, "x", "{input_dir}", "{output_dir}", "{text}"],
        )  # fmt: skip
        assert (code, "verdict         failed (program): exit code 5" in said) == (1, True), said
        assert (folder / "job" / "output" / "got").read_text() == "pear\n"
        assert (folder / "log.txt").read_text() == f"4711\n{ODD}\n"
        assert "/one-job in the container" in said
        shutil.rmtree(folder)  # it is the user's own
        listed = subprocess.run(["docker", "ps", "--all", "--format", "{{.Image}}"], capture_output=True, text=True)
        assert image not in listed.stdout


@pytest.mark.containers
def test_in_its_image_a_job_reads_the_mounted_bucket(tmp_path: Path) -> None:
    with project(tmp_path / "p", DOCKERHUB_TAG=worker_on("debian", mounting=True), MOUNT_S3="True") as made:
        made.cloud().ensure_buckets(["tryout-bucket"])
        made.client("s3").put_object(Bucket="tryout-bucket", Key="deep/in.txt", Body=b"pear\n")
        command = "cp /home/ubuntu/bucket/deep/in.txt {output_dir}/got"
        code, said, folder = one_job(made, "--containers", "--index", "1", command=command)
        assert code == 0, said
        assert (folder / "job" / "output" / "got").read_text() == "pear\n"
        code, said, _ = one_job(made, command=command)
        assert (code, "a --local run mounts only with --containers" in said) == (1, True), said


class Engine:
    """A `docker` that notes what it is asked. `lacks`: the words that it refuses."""

    def __init__(self, lacks: tuple[str, ...] = ()) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.lacks = lacks
        self.env: Mapping[str, str] = {}

    def __call__(self, words: list[str], *, env: Mapping[str, str], **_: Any) -> subprocess.CompletedProcess[str]:
        self.asked.append(tuple(words[1:]))
        self.env = {**self.env, **env}
        refused = words[1] in self.lacks
        return subprocess.CompletedProcess(words, int(refused), "", "first line\nCannot connect" if refused else "")


def test_an_image_that_is_not_here_is_never_pulled() -> None:
    engine = Engine(lacks=("image",))
    with pytest.raises(
        UserFacingError, match=r"tests/app:1: this image is not on this computer — make build, or docker pull it"
    ):
        run_worker_container(Path("f"), build_one_job_container(SETTINGS), {}, Docker(engine))
    assert [words[0] for words in engine.asked] == ["image", "version"]


def test_an_engine_that_does_not_answer_is_told() -> None:
    with pytest.raises(UserFacingError, match="while asking docker to version: Cannot connect"):
        Docker(Engine(lacks=("image", "version"))).require_image("x")


def test_no_docker_at_all_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserFacingError, match="No such file or directory — install it, or leave --containers out"):
        Docker().ask("version")


def test_a_container_has_the_limits_and_rights_of_the_task_and_no_value_on_its_command_line() -> None:
    mounting = SETTINGS.model_copy(update={"MOUNT_S3": True})
    words = build_docker_options(build_one_job_container(mounting), {"AWS_SECRET_ACCESS_KEY": "secret", "A": "b"})
    assert " ".join(words) == (
        "--pull never --network host --cpu-shares 1024 --memory 2000m --cap-add SYS_ADMIN --device /dev/fuse"
        " --env AWS_SECRET_ACCESS_KEY --env A"
    )


def test_a_container_that_cannot_be_filled_is_removed(tmp_path: Path) -> None:
    engine = Engine(lacks=("cp",))
    with pytest.raises(UserFacingError, match="while asking docker to cp"):
        run_worker_container(tmp_path, build_one_job_container(SETTINGS), {"AWS_X": "y"}, Docker(engine))
    assert [words[0] for words in engine.asked] == ["image", "create", "cp", "rm"]
    assert engine.env["AWS_X"] == "y"
    assert engine.env[ONE_JOB_VARIABLE] == CONTAINER_FOLDER


# Small things


def test_both_sides_speak_of_the_same_files() -> None:
    ours = (run_job.ONE_JOB_VARIABLE, run_job.MESSAGE_FILE_NAME, run_job.VERDICT_FILE_NAME, run_job.LOG_FILE_NAME)
    theirs = (single_job.ONE_JOB_VARIABLE, single_job.MESSAGE_FILE, single_job.VERDICT_FILE, single_job.LOG_FILE)
    assert ours == theirs


def test_a_job_file_is_checked_up_to_the_job(tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    path.write_text('{"command": "a {well}", "groups": [{"well": "A01"}, {"plate": "P1"}]}')
    loaded = load_job_file(path, lambda bucket, prefix: [])
    assert select_job(loaded, 1, None).number == 1
    with pytest.raises(InputError, match=r"nothing fills the placeholder \{well\} in groups\[2\]"):
        select_job(loaded, 2, None)


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (["a b", "$c"], ["'a b' '$c'"]),
        ("a | b", ["a | b"]),
        ([["a", "b c"], ["d"]], ["a 'b c'", "d"]),
        (None, ["none"]),
    ],
)
def test_a_command_is_shown_as_it_could_be_typed(tmp_path: Path, command: object, shown: list[str]) -> None:
    told = {"job": "j", "state": "failed", "reason": "r", "reason_class": "time-out", "exit_code": None}
    told["command"] = command  # type: ignore[assignment]
    (tmp_path / VERDICT_FILE_NAME).write_text(json.dumps(told))
    outcome = load_job_outcome(tmp_path, 0, uploads=False, container=False)
    lines = format_job_outcome(outcome).splitlines()
    assert [line.removeprefix("command         ") for line in lines if line.startswith("command")] == shown
    assert (outcome.exit_code, "verdict         failed (time-out): r" in lines) == (1, True)


def test_the_shipped_worker_is_used_where_a_project_has_none_with_the_projects_own_scripts(
    made: Project, own: Path
) -> None:
    own.unlink()
    scripts = made.folder / "worker" / "scripts"
    scripts.mkdir()
    (scripts / "say.sh").write_text("echo mine > $1/said")
    code, _, folder = one_job(made, command="sh {scripts_dir}/say.sh {output_dir}")
    assert (code, (folder / "job" / "output" / "said").read_text()) == (0, "mine\n")
