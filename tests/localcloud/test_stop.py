"""`run.py --local stop`: what it reports, asks, and saves before a run that is not finished is lost."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from distributed_something.cli.context import Context
from distributed_something.cli.main import main
from distributed_something.localcloud import LocalCloud, LocalCloudError, find_local_cloud
from distributed_something.localcloud.base import health
from distributed_something.localcloud.base.layout import build_layout
from distributed_something.localcloud.base.processes import (
    CLOUD_MARK,
    ignore_interrupts,
    list_marked_processes,
)
from distributed_something.localcloud.client.job_queues import JobQueue
from tests.support.local_lab import Lab
from tests.support.processes import list_processes_with
from tests.support.project import Project, create_project, wait_until

QUESTION = b"Stop the local cloud? [y/N]"


@pytest.fixture
def plums(tmp_path: Path) -> Iterator[Project]:
    """A project of its own; the fixture `project` is the folder of the shared one."""
    with create_project(tmp_path / "plums") as project:
        yield project


def submit_jobs(project: Project, count: int, command: str = "true") -> None:
    project.run("setup")
    groups = [{"n": number} for number in range(count)]
    project.write_job_file(command=command, groups=groups, output_location="results")
    project.run("submitJob", "files/job.json")


def run_in_terminal(project: Project, answer: bytes, *arguments: str) -> tuple[int, str]:
    """Run `stop` in a terminal in which a user gives `answer` to the question. Return its exit code and output."""
    command = project.build_command("stop", *arguments)
    process, terminal = pty.fork()
    if not process:
        os.chdir(project.folder)
        os.execve(command[0], command, project.build_environment({}))
    output = b""
    while chunk := _read_terminal(terminal, answer if QUESTION in output else None):
        was_asked = QUESTION in output
        output += chunk
        if QUESTION in output and not was_asked:
            os.write(terminal, answer)
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), output.decode()


def _read_terminal(terminal: int, answer: bytes | None) -> bytes:
    """Return new output, or nothing if the process has ended. If it does not react to the `answer`, give it again.

    Python misses Ctrl-C in the instant before it begins to wait for a line; a user would press it again, too.
    """
    for _ in range(30):
        if select.select([terminal], [], [], 2.0)[0]:
            with suppress(OSError):  # Linux: the process has ended
                return os.read(terminal, 4096)
            return b""
        if answer:
            os.write(terminal, answer)
    raise AssertionError("the command does not react")


def is_running(project: Project) -> bool:
    return find_local_cloud(project.folder) is not None


@pytest.mark.long
def test_stop_is_silent_if_nothing_is_lost(plums: Project) -> None:
    plums.run("setup")
    assert plums.run("stop").stderr == "the local cloud is stopped\n"
    assert plums.run("stop").stderr == "this project's local cloud was not running\n"


@pytest.mark.long
def test_without_a_terminal_stop_reports_the_lost_jobs_exports_the_results_and_goes_on(plums: Project) -> None:
    submit_jobs(plums, 3)
    plums.build_client("s3").put_object(Bucket="tryout-bucket", Key="results/1/a", Body=b"found")
    lines = plums.run("stop").stderr.splitlines()
    assert lines[0] == ("jobs            3 jobs are still in the queue TryoutQueue (no run is active) and will be lost")
    assert lines[1] == "results         local/tryout-bucket"
    assert lines[-1] == "the local cloud is stopped"
    assert plums.read_results() == {"1/a": "found"}
    assert not is_running(plums)


def test_stop_names_the_run_whose_jobs_are_lost_and_ends_its_programs(plums: Project) -> None:
    submit_jobs(plums, 6, command="sleep 7654")
    plums.run("startCluster", "files/fleet.json")
    wait_until(lambda: len(list_sleeping_programs()) == 4)  # two machines with two slots
    cloud = plums.get_local_cloud()
    (queue,) = cloud.list_job_queues()
    assert (queue.name, queue.jobs, bool(queue.running), bool(queue.run)) == ("TryoutQueue", 6, True, True)
    assert queue.run is not None
    text = plums.run("stop").stderr
    assert f"6 jobs are still in the queue TryoutQueue (run {queue.run.name}; " in text
    assert " running) and will be lost" in text
    wait_until(lambda: not list_sleeping_programs())


def test_jobs_that_are_submitted_after_stop_do_not_belong_to_the_run_that_it_ended(plums: Project) -> None:
    submit_jobs(plums, 3, command="sleep 7654")
    plums.run("startCluster", "files/fleet.json")
    plums.run("stop")
    submit_jobs(plums, 2)
    status = json.loads(plums.run("status", "--json", check=False).stdout)
    assert (status["state"], status["jobs"]["submitted"]) == ("stopped", 3)


def list_sleeping_programs() -> list[int]:
    return list_processes_with("7654")


@pytest.mark.long
def test_in_a_terminal_stop_asks_first_and_only_yes_stops(plums: Project) -> None:
    submit_jobs(plums, 1)
    for answer, expected_code in ((b"\n", 2), (b"n\n", 2), (b"\x03", 130)):
        code, text = run_in_terminal(plums, answer)
        assert code == expected_code
        warning = "1 job is still in the queue TryoutQueue (no run is active) and will be lost"
        assert warning in " ".join(text.split()), "the line is wrapped in a terminal"
        assert is_running(plums)
    code, text = run_in_terminal(plums, b"y\n")
    assert (code, "the local cloud is stopped" in text, is_running(plums)) == (0, True, False)


@pytest.mark.long
def test_in_a_terminal_stop_does_not_ask_with_yes_or_if_nothing_is_lost(plums: Project) -> None:
    submit_jobs(plums, 1)
    code, text = run_in_terminal(plums, b"", "--yes")
    assert (code, QUESTION.decode() in text, "1 job is still in the queue" in text) == (0, False, True)
    plums.run("setup")
    code, text = run_in_terminal(plums, b"")
    assert (code, text.splitlines()) == (0, ["the local cloud is stopped"])


@pytest.mark.long
def test_stop_works_if_an_emulator_hangs(
    plums: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    submit_jobs(plums, 1)
    monkeypatch.setattr(health, "HEALTH_TIMEOUT_SECONDS", 0.2)
    (ministack,) = set(list_processes_with("localcloud.emulators.ministack_server")) & set(list_processes(plums))
    os.kill(ministack, signal.SIGSTOP)
    assert main(["--local", "--project", str(plums.folder), "stop"]) == 0
    text = capsys.readouterr().err
    assert "warning: jobs may be lost, and results are not copied to local/: ministack" in text
    assert text.endswith("the local cloud is stopped\n")
    assert list_processes(plums) == []


def test_stop_works_if_the_daemon_was_killed_and_says_what_was_lost(plums: Project) -> None:
    submit_jobs(plums, 1)
    os.kill(plums.get_local_cloud().state.pid, signal.SIGKILL)
    text = plums.run("stop").stderr
    assert text.startswith("this project's local cloud was not running\nnote: ")
    assert "the jobs that were in its queues are lost" in text
    assert list_processes(plums) == []
    assert plums.run("stop").stderr == "this project's local cloud was not running\n"


@pytest.mark.long
def test_stop_goes_on_if_the_results_cannot_be_exported(plums: Project) -> None:
    submit_jobs(plums, 1)
    plums.build_client("s3").put_object(Bucket="tryout-bucket", Key="a", Body=b"1")
    (build_layout(plums.folder).root / "export.lock").mkdir()
    text = plums.run("stop").stderr
    assert "warning: the results could not be copied to files: " in text
    assert text.endswith("the local cloud is stopped\n")
    assert not is_running(plums)


def test_stop_copies_all_results_except_archived_ones_which_it_names(plums: Project) -> None:
    submit_jobs(plums, 1)
    for key, storage_class in (("a", "STANDARD"), ("b", "GLACIER"), ("c", "STANDARD")):
        plums.build_client("s3").put_object(Bucket="tryout-bucket", Key=key, Body=b"1", StorageClass=storage_class)
    text = plums.run("stop").stderr
    assert "warning: s3://tryout-bucket/b was left out: it is archived\n" in text
    assert (plums.folder / "local" / "tryout-bucket" / "c").read_text() == "1"


def test_stop_deletes_the_links_of_workers_that_were_killed_and_no_others(plums: Project) -> None:
    submit_jobs(plums, 1)
    own = Path(f"/tmp/job-{uuid.uuid4().hex[:12]}.tmp")
    other = Path(f"/tmp/job-{uuid.uuid4().hex[:12]}.tmp")
    own.symlink_to(build_layout(plums.folder).tasks / "t" / "job.tmp")
    other.symlink_to(plums.folder / "elsewhere")
    try:
        plums.run("stop")
        assert not own.is_symlink()
        assert other.is_symlink()
    finally:
        other.unlink()


def test_a_command_that_is_watching_when_the_local_cloud_stops_ends_and_says_what_to_type(plums: Project) -> None:
    context = Context(local=True, project=plums.folder)
    context.clients.sqs.list_queues()
    plums.run("stop")
    with pytest.raises(LocalCloudError) as error:
        context.clients.impatient_s3.list_buckets()
    text = str(error.value)
    assert text.startswith(
        "the local cloud was stopped or has ended, and the jobs in its queue are lost; its results are in "
    )
    assert f"--local --project {plums.folder} setup" in text
    assert "\n" not in text


@pytest.mark.parametrize("command", ["testRun", "check"])
def test_a_command_that_loses_the_local_cloud_at_its_first_call_says_what_to_type(
    plums: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    def kill(cloud: LocalCloud, *_: object) -> None:
        os.kill(cloud.state.pid, signal.SIGKILL)
        cloud.build_client("ec2").describe_key_pairs()

    monkeypatch.setattr(LocalCloud, "adapt_fleet_file", kill)
    assert main(["--local", "--project", str(plums.folder), command, f"{plums.folder}/files/fleet.json"]) == 1
    text = capsys.readouterr().err
    assert "the local cloud was stopped or has ended" in text
    assert "network connection" not in text
    file = plums.folder / "files" / "Tryout-testRunSpotFleetRequestId.json"
    assert (f"cleanup {file} --yes; then testRun" in text) == (command == "testRun")


def test_ctrl_c_while_the_processes_end_has_no_effect() -> None:
    with ignore_interrupts():
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    errors: list[BaseException] = []

    def enter_in_thread() -> None:
        try:
            with ignore_interrupts():
                pass
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=enter_in_thread)
    thread.start()
    thread.join()
    assert errors == []


def test_ctrl_c_during_stop_leaves_everything_stopped_or_everything_running(plums: Project) -> None:
    for delay in (0.3, 0.5, 0.7):
        plums.get_local_cloud()
        process = subprocess.Popen(
            plums.build_command("stop"), env=plums.build_environment({}), stderr=subprocess.PIPE, text=True
        )
        with suppress(subprocess.TimeoutExpired):
            process.wait(delay)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert is_running(plums) or list_processes(plums) == []


def list_processes(project: Project) -> list[int]:
    return list_marked_processes(CLOUD_MARK, build_layout(project.folder).key)


def test_job_queues_of_all_regions_are_listed_without_dead_letter_queues(lab: Lab) -> None:
    from distributed_something.localcloud.client.connection import build_client

    build_client(lab.cloud.state, "eu-west-3", "ecs").create_cluster(clusterName="far")
    sqs = build_client(lab.cloud.state, "eu-west-3", "sqs")
    dead = sqs.create_queue(QueueName="FarDead")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    redrive = f'{{"deadLetterTargetArn": "{arn}", "maxReceiveCount": "3"}}'
    url = sqs.create_queue(QueueName="Far", Attributes={"RedrivePolicy": redrive})["QueueUrl"]
    for queue in (dead, url, url):
        sqs.send_message(QueueUrl=queue, MessageBody="{}")
    sqs.send_message(QueueUrl=url, MessageBody="{}", DelaySeconds=900)
    sqs.receive_message(QueueUrl=url, VisibilityTimeout=900)
    assert lab.cloud.list_job_queues() == [JobQueue("Far", 2, 1, None)]


def test_a_dead_letter_queue_that_no_job_queue_names_any_more_is_not_a_job_queue(lab: Lab) -> None:
    from distributed_something.localcloud.client.connection import build_client

    sqs = build_client(lab.cloud.state, "eu-west-3", "sqs")
    build_client(lab.cloud.state, "eu-west-3", "ecs").create_cluster(clusterName="far")
    before = lab.cloud.list_job_queues()
    sqs.send_message(QueueUrl=sqs.create_queue(QueueName="OldDead", tags={"app": "Old"})["QueueUrl"], MessageBody="{}")
    assert lab.cloud.list_job_queues() == before
    sqs.send_message(QueueUrl=sqs.create_queue(QueueName="ByHand")["QueueUrl"], MessageBody="{}")
    assert set(lab.cloud.list_job_queues()) - set(before) == {JobQueue("ByHand", 1, 0, None)}
