"""runJob: runs one job as a worker would, keeps its folder, and does not touch the queue, results, or records."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import uuid
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
from tests.support.emulator import run_ministack
from tests.support.engine import run_docker
from tests.support.fakes import SETTINGS
from tests.support.offline import Outcome, run_command, write_project
from tests.support.project import Project, create_project, join_commands, wait_until
from tests.worker.image.test_worker_image import build_worker_on

ODD_TEXT = "a \"quote' \\ $HOME {job} %s\n;|& é💥\t"
SCRIPT = 'printf "%s" "$1" > "$2/copy"; echo output; echo warning >&2; exit "$3"'


@pytest.fixture(scope="module")
def local_project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Yield a project whose local cloud has a bucket, but in which `setup` was not run."""
    with create_project(tmp_path_factory.mktemp("one") / "p", MY_NAME="Ada") as new_project:
        new_project.get_local_cloud().ensure_buckets(["tryout-bucket"])
        yield new_project


def run_one_job(local_project: Project, *arguments: str, **content: object) -> tuple[int, str, Path]:
    """Run `runJob` with a job file with this content. Return the exit code, the output, and the job's folder."""
    path = local_project.write_job_file(**{"groups": [{"text": ODD_TEXT}], **content})
    process = local_project.run("runJob", str(path), *(arguments or ("--index", "1")), check=False)
    found = re.search(r"^folder\s+(\S+)", process.stdout, re.M)
    return process.returncode, process.stdout + process.stderr, Path(found[1] if found else "")


def run_rejected_job(local_project: Project, *arguments: str) -> Outcome:
    """Run `runJob` with the last job file and with arguments that are rejected before the local cloud is needed."""
    path = local_project.folder / "files" / "job.json"
    return run_command("--project", str(local_project.folder), "runJob", str(path), *arguments)


def list_resources(local_project: Project) -> tuple[list[str], list[str]]:
    """Return the URLs of all queues and the keys of all objects in the bucket."""
    queues = local_project.build_client("sqs").list_queues().get("QueueUrls", [])
    objects = local_project.build_client("s3").list_objects_v2(Bucket="tryout-bucket").get("Contents", [])
    return queues, [item["Key"] for item in objects]


def test_a_successful_job_creates_only_its_folder(local_project: Project) -> None:
    before = list_resources(local_project)
    code, output, folder = run_one_job(local_project, command=["sh", "-c", SCRIPT, "x", "{text}", "{output_dir}", "0"])
    assert (code, "verdict         success" in output) == (0, True), output
    assert (folder / "job" / "output" / "copy").read_text() == ODD_TEXT  # exactly as SQS would deliver it
    assert (folder / "log.txt").read_text() == "output\nwarning\n"
    assert folder.is_relative_to(local_project.folder / "local")
    assert "exit code       0" in output
    assert "output          1 file, " in output
    assert "s3://tryout-bucket/Tryout/" in output
    assert list_resources(local_project) == before
    assert before[0] == []


def test_a_failed_job_shows_its_reason_command_and_last_lines(local_project: Project) -> None:
    before = list_resources(local_project)
    code, output, folder = run_one_job(
        local_project, command=["sh", "-c", SCRIPT, "x", "{text}", "{output_dir}", "7"], keep_failed=True
    )
    assert code == 1
    assert "verdict         failed (program): exit code 7\n" in output
    assert "exit code       7\n" in output
    assert "                | output\n                | warning\n" in output
    assert f"{shlex.quote(f'{folder}/job/output')} 7" in join_commands(output)
    assert list_resources(local_project) == before


def test_a_job_fails_if_its_output_cannot_be_uploaded(local_project: Project) -> None:
    code, output, _ = run_one_job(local_project, command="ln -s /etc/hostname {output_dir}/link")
    text = " ".join(output.split())
    assert (code, "failed (program): the output 'link' is a link to a path outside the job's folder" in text) == (
        1,
        True,
    ), output


def test_files_that_are_left_out_are_not_counted(local_project: Project) -> None:
    code, output, _ = run_one_job(local_project, command="touch {output_dir}/a {output_dir}/b.tmp", leave_out=["*.tmp"])
    assert (code, "output          1 file, 0 bytes" in output) == (0, True), output


@pytest.mark.long
def test_a_job_that_is_run_again_starts_with_an_empty_folder(local_project: Project) -> None:
    content = {"command": "sh -c 'test ! -e {output_dir}/x && touch {output_dir}/x here'"}
    assert run_one_job(local_project, **content)[0] == 0
    assert run_one_job(local_project, **content)[0] == 0


@pytest.mark.long
def test_inputs_are_read_from_the_bucket_to_which_upload_copies_files(local_project: Project) -> None:
    (local_project.folder / "files" / "data").mkdir()
    (local_project.folder / "files" / "data" / "a.txt").write_text("pear\n")
    content = {"upload": {"data": "in"}, "inputs": ["in/a.txt"], "command": "cp {input_dir}/a.txt {output_dir}/b"}
    code, output, _ = run_one_job(local_project, **content)
    assert code == 1
    assert "failed (missing input): the input s3://tryout-bucket/in/a.txt does not exist" in " ".join(output.split())
    assert "exit code       none: no program ran" in output
    assert "hint            --upload first uploads the job file's" in output
    code, output, folder = run_one_job(local_project, "--index", "1", "--upload", **content)
    assert (code, (folder / "job" / "output" / "b").read_text()) == (0, "pear\n"), output
    assert list_resources(local_project)[1] == ["in/a.txt"]


def test_shared_inputs_are_available_to_a_single_job(local_project: Project) -> None:
    local_project.build_client("s3").put_object(Bucket="tryout-bucket", Key="ref/genome.fa", Body=b"ACGT")
    code, output, folder = run_one_job(
        local_project, shared_inputs={"ref/": "bwa"}, groups=["g"], shell=True,
        command='test "$SHARED_DIR" = {shared_dir}; cat {shared_dir}/bwa/genome.fa > {output_dir}/a',
    )  # fmt: skip
    assert (code, (folder / "job" / "output" / "a").read_bytes()) == (0, b"ACGT"), output
    assert "success" in output
    assert sorted(path.name for path in folder.iterdir()) == ["job", "log.txt", "message.json", "verdict.json"]


def test_the_program_has_the_environment_of_the_runs_containers(local_project: Project) -> None:
    _, _, folder = run_one_job(local_project, command="env")
    actual = dict(line.split("=", 1) for line in (folder / "log.txt").read_text().splitlines() if "=" in line)
    settings = Context(project=local_project.folder).settings
    queues = QueueUrls("", "")
    expected = get_container_environment(build_task_definition(settings, queues, None)["containerDefinitions"][0])
    assert {name: actual.get(name) for name in expected if not name.startswith("SQS_")} == {
        name: value for name, value in expected.items() if not name.startswith("SQS_")
    }
    assert not [name for name in actual if name.startswith(("SQS_", "AWS_ACCESS_KEY", "AWS_SECRET"))]
    assert actual["MY_NAME"] == "Ada"
    assert ONE_JOB_VARIABLE not in actual


@pytest.mark.long
def test_a_job_can_be_selected_by_number_or_id(local_project: Project) -> None:
    groups = [{"n": number} for number in range(1, 6)]
    content: dict[str, object] = {"command": "echo number {n}", "groups": groups}
    _, _, folder = run_one_job(local_project, "--index", "4", **content)
    assert (folder / "log.txt").read_text() == "number 4\n"
    _, _, folder_by_id = run_one_job(local_project, "--id", folder.name, **content)
    assert folder_by_id == folder
    for arguments, problem in (
        (("--index", "6"), "there is no job 6; write a number from 1 to 5"),
        (("--id", "nobody"), "no job has the ID 'nobody'; write an ID such as 1-"),
    ):
        outcome = run_rejected_job(local_project, *arguments)
        assert (outcome.code, problem in outcome.err) == (ExitCode.INPUT, True)


@pytest.mark.parametrize("arguments", [(), ("--index", "1", "--id", "x"), ("--index", "0")])
def test_exactly_one_job_must_be_selected(local_project: Project, arguments: tuple[str, ...]) -> None:
    local_project.write_job_file(command="true", groups=["a"])
    outcome = run_rejected_job(local_project, *arguments)
    assert (outcome.code, len(outcome.err.splitlines())) == (ExitCode.INPUT, 1)


def test_ctrl_c_also_ends_the_program(local_project: Project) -> None:
    job = local_project.write_job_file(command="sh -c 'echo $$ > {output_dir}/pid; sleep 100; true'", groups=["long"])
    process = local_project.start("runJob", str(job), "--index", "1")
    pid_files: list[Path] = []
    pattern = "local/runJob/long-*/job/output/pid"
    wait_until(lambda: bool(pid_files.extend(local_project.folder.glob(pattern)) or pid_files))
    wait_until(lambda: pid_files[0].read_text() != "")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == ExitCode.INTERRUPTED
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_files[0].read_text()), 0)


# The developer's own hooks


@pytest.fixture
def own_worker(local_project: Project) -> Iterator[Path]:
    """Yield the path of the project's generic-worker.py, and restore the file after the test."""
    path = local_project.folder / "worker" / "generic-worker.py"
    text = path.read_text()
    yield path
    path.write_text(text)


def test_runjob_calls_the_projects_own_hooks(local_project: Project, own_worker: Path) -> None:
    hooks = """
import sys
from distributed_something.worker import BadMessage, Job, job_id, serve

def make_job(message, folders, settings):
    if message["group"] == "bad":
        raise BadMessage("a bad group")
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
    own_worker.write_text(hooks)
    code, output, _ = run_one_job(local_project, groups=["good"])
    assert (code, "failed (program): not good enough" in output) == (1, True), output
    assert "command         cat prepared\n" in output
    code, output, _ = run_one_job(local_project, groups=["bad"])
    assert (code, "verdict         bad message: a bad group" in output) == (ExitCode.INPUT, True), output
    own_worker.write_text(hooks.replace('by prepare")', 'x")'))
    code, output, _ = run_one_job(local_project, groups=["good"])
    assert (code, "failed (worker code): ValueError: x" in output) == (1, True), output
    assert 'generic-worker.py", line' in output  # where the error was raised


def test_a_worker_that_cannot_start_is_reported(local_project: Project, own_worker: Path) -> None:
    own_worker.write_text("import no_such_module\n")
    code, output, _ = run_one_job(local_project, command="true")
    assert code == 1
    problem = "the worker ended before the job did, with exit code 1; see its messages above"
    assert problem in " ".join(output.split())
    assert "No module named 'no_such_module'" in output


# Without --local


def test_without_the_local_cloud_a_program_that_may_use_aws_gets_the_users_credentials_and_endpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_project(tmp_path / "p")
    with (folder / "config.py").open("a") as config:
        config.write("SSH_KEY_NAME = 'key'\nPROGRAM_MAY_USE_AWS = 'True'\n")
    (folder / "files" / "job.json").write_text(json.dumps({"command": "env", "inputs": ["in.txt"], "groups": ["a"]}))
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    with run_ministack(tmp_path) as url:
        variables = {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "mine", "AWS_SECRET_ACCESS_KEY": "a-secret"}
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        s3 = boto3.client("s3", region_name="us-east-1")
        s3.create_bucket(Bucket="tryout-bucket")
        s3.put_object(Bucket="tryout-bucket", Key="in.txt", Body=b"x")
        outcome = run_command("--project", str(folder), "runJob", str(folder / "files" / "job.json"), "--index", "1")
        assert outcome.code == 0, outcome.out + outcome.err
        assert [item["Key"] for item in s3.list_objects_v2(Bucket="tryout-bucket")["Contents"]] == ["in.txt"]
    assert "a-secret" not in outcome.out + outcome.err
    (log,) = folder.glob("local/runJob/*/log.txt")
    actual = dict(line.split("=", 1) for line in log.read_text().splitlines() if "=" in line)
    assert {name: actual.get(name) for name in variables} == variables


# In a container


@pytest.mark.containers
def test_in_a_container_a_job_runs_as_the_images_user_and_its_folder_is_copied_back(tmp_path: Path) -> None:
    bare = build_worker_on("bare")  # contains only BusyBox and runs as a user other than root
    image = f"{bare}-{uuid.uuid4().hex[:8]}"  # tests that run at the same time have containers of `bare`
    run_docker("tag", bare, image)
    with create_project(tmp_path / "p", DOCKERHUB_TAG=image, MEMORY=300) as local_project:
        local_project.get_local_cloud().ensure_buckets(["tryout-bucket"])
        local_project.build_client("s3").put_object(Bucket="tryout-bucket", Key="in.txt", Body=b"pear\n")
        box = ["/bin/busybox", "sh", "-c"]
        script = 'b=/bin/busybox; $b id -u; $b cat "$1"/in.txt > "$2"/copy; echo "$3"; exit 5'
        code, output, folder = run_one_job(
            local_project, "--containers", "--index", "1", inputs=["in.txt"],
            command=[*box, script, "x", "{input_dir}", "{output_dir}", "{text}"],
        )  # fmt: skip
        assert (code, "verdict         failed (program): exit code 5" in output) == (1, True), output
        assert (folder / "job" / "output" / "copy").read_text() == "pear\n"
        assert (folder / "log.txt").read_text() == f"4711\n{ODD_TEXT}\n"
        assert "/one-job in the container" in output
        shutil.rmtree(folder)  # works because the folder belongs to the current user
        assert image not in run_docker("ps", "--all", "--format", "{{.Image}}").splitlines()
    run_docker("rmi", image)


@pytest.mark.long
@pytest.mark.containers
def test_in_a_container_a_job_can_read_the_mounted_bucket(tmp_path: Path) -> None:
    with create_project(
        tmp_path / "p", DOCKERHUB_TAG=build_worker_on("debian", mounting=True), MOUNT_S3="True"
    ) as local_project:
        local_project.get_local_cloud().ensure_buckets(["tryout-bucket"])
        local_project.build_client("s3").put_object(Bucket="tryout-bucket", Key="deep/in.txt", Body=b"pear\n")
        command = "cp /home/ubuntu/bucket/deep/in.txt {output_dir}/copy"
        code, output, folder = run_one_job(local_project, "--containers", "--index", "1", command=command)
        assert code == 0, output
        assert (folder / "job" / "output" / "copy").read_text() == "pear\n"
        code, output, _ = run_one_job(local_project, command=command)
        assert (code, "a --local run can mount the bucket only with --containers" in output) == (1, True), output


class FakeDocker:
    """A `docker` command that records its arguments. `failing`: the subcommands that fail."""

    def __init__(self, failing: tuple[str, ...] = ()) -> None:
        self.calls: list[tuple[str, ...]] = []
        self.failing = failing
        self.env: Mapping[str, str] = {}

    def __call__(self, words: list[str], *, env: Mapping[str, str], **_: Any) -> subprocess.CompletedProcess[str]:
        self.calls.append(tuple(words[1:]))
        self.env = {**self.env, **env}
        has_failed = words[1] in self.failing
        return subprocess.CompletedProcess(
            words, int(has_failed), "", "first line\nCannot connect" if has_failed else ""
        )


def test_a_missing_image_is_never_pulled() -> None:
    engine = FakeDocker(failing=("image",))
    with pytest.raises(
        UserFacingError, match=r"tests/app:1: this image is not on this computer — build it with buildImage, get it"
    ):
        run_worker_container(Path("f"), build_one_job_container(SETTINGS), {}, Docker(engine))
    assert [words[0] for words in engine.calls] == ["image", "version"]


def test_a_container_engine_that_does_not_respond_is_reported() -> None:
    with pytest.raises(UserFacingError, match="while running docker version: Cannot connect"):
        Docker(FakeDocker(failing=("image", "version"))).require_image("x")


def test_a_missing_docker_command_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserFacingError, match="No such file or directory — install it, or leave out --containers"):
        Docker().run("version")


def test_a_container_has_the_tasks_limits_and_no_values_on_its_command_line() -> None:
    settings = SETTINGS.model_copy(update={"MOUNT_S3": True})
    options = build_docker_options(build_one_job_container(settings), {"AWS_SECRET_ACCESS_KEY": "secret", "A": "b"})
    assert " ".join(options) == (
        "--pull never --network host --cpu-shares 1024 --memory 2000m --cap-add SYS_ADMIN --device /dev/fuse"
        " --env AWS_SECRET_ACCESS_KEY --env A"
    )


def test_a_container_is_removed_if_copying_fails(tmp_path: Path) -> None:
    engine = FakeDocker(failing=("cp",))
    with pytest.raises(UserFacingError, match="while running docker cp"):
        run_worker_container(tmp_path, build_one_job_container(SETTINGS), {"AWS_X": "y"}, Docker(engine))
    assert [words[0] for words in engine.calls] == ["image", "create", "cp", "rm"]
    assert engine.env["AWS_X"] == "y"
    assert engine.env[ONE_JOB_VARIABLE] == CONTAINER_FOLDER


# Details


def test_the_command_and_the_worker_use_the_same_file_names() -> None:
    command_names = (
        run_job.ONE_JOB_VARIABLE,
        run_job.MESSAGE_FILE_NAME,
        run_job.VERDICT_FILE_NAME,
        run_job.LOG_FILE_NAME,
    )
    worker_names = (single_job.ONE_JOB_VARIABLE, single_job.MESSAGE_FILE, single_job.VERDICT_FILE, single_job.LOG_FILE)
    assert command_names == worker_names


def test_a_job_file_is_checked_only_up_to_the_selected_job(tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    path.write_text('{"command": "a {well}", "groups": [{"well": "A01"}, {"plate": "P1"}]}')
    job_file = load_job_file(path, lambda bucket, prefix: [])
    assert select_job(job_file, 1, None).number == 1
    with pytest.raises(InputError, match=r"nothing fills the placeholder \{well\} in groups\[2\]"):
        select_job(job_file, 2, None)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["a b", "$c"], ["'a b' '$c'"]),
        ("a | b", ["a | b"]),
        ([["a", "b c"], ["d"]], ["a 'b c'", "d"]),
        (None, ["none"]),
    ],
)
def test_a_command_is_shown_in_a_form_that_can_be_pasted_into_a_shell(
    tmp_path: Path, command: object, expected: list[str]
) -> None:
    verdict = {"job": "j", "state": "failed", "reason": "r", "reason_class": "time-out", "exit_code": None}
    verdict["command"] = command  # type: ignore[assignment]
    (tmp_path / VERDICT_FILE_NAME).write_text(json.dumps(verdict))
    outcome = load_job_outcome(tmp_path, 0, uploads=False, container=False)
    lines = format_job_outcome(outcome).splitlines()
    assert [line.removeprefix("command         ") for line in lines if line.startswith("command")] == expected
    assert (outcome.exit_code, "verdict         failed (time-out): r" in lines) == (1, True)


@pytest.mark.parametrize("is_list", [True, False])
def test_no_word_is_torn_at_80_columns_and_a_long_command_can_still_be_pasted(tmp_path: Path, is_list: bool) -> None:
    folder = tmp_path / "a long name of a folder" / "job"
    folder.mkdir(parents=True)
    words = ["count", f"{folder}/input/a.txt", "--name", "two words " * 3, "it's", f"{folder}/output/a.txt"]
    command = shlex.join(words)
    verdict = {
        "job": "j", "state": "done", "reason": "", "reason_class": "", "exit_code": 0, "seconds": 1.0,
        "command": words if is_list else f"{command} | sort > {shlex.quote(str(folder / 'sorted.txt'))}",
        "output_files": 2, "output_bytes": 9, "place": "s3://your-bucket-name/lines/results/one-a1b2c3d4e5/",
        "peak_memory_bytes": 1,
    }  # fmt: skip
    (folder / VERDICT_FILE_NAME).write_text(json.dumps(verdict))
    text = format_job_outcome(load_job_outcome(folder, 0, uploads=False, container=True))
    unbroken = (str(folder), f"'{folder}/input/a.txt'", f"'{folder}/output/a.txt'", f"'{folder}/sorted.txt'")
    wide = [line.removesuffix(" \\").strip() for line in text.splitlines() if len(line) > 80]
    assert all(line in unbroken for line in wide), wide
    assert f"\n{' ' * max(0, 80 - len(str(folder)))}{folder}\n" in text
    pasted = text.partition("command         ")[2].partition("\nexit code")[0].replace("\\\n", "")
    assert shlex.split(pasted)[: len(words)] == words


def test_a_project_without_a_worker_uses_the_shipped_worker_and_the_projects_scripts(
    local_project: Project, own_worker: Path
) -> None:
    own_worker.unlink()
    scripts = local_project.folder / "worker" / "scripts"
    scripts.mkdir()
    (scripts / "write.sh").write_text("echo own > $1/result")
    code, _, folder = run_one_job(local_project, command="sh {scripts_dir}/write.sh {output_dir}")
    assert (code, (folder / "job" / "output" / "result").read_text()) == (0, "own\n")
