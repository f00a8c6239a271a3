"""The advice at the end of a failed run, followed word for word: the commands after `next:` lead to a completed run."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distributed_something.cli.context import ExitCode
from tests.support.project import ROOT, Project, create_project, join_commands, wait_until

# Many more jobs than a container lets fail before it pauses: the run ends while most of them wait in the queue.
JOB_COUNT = 60
JOBS: dict[str, Any] = {"output_location": "results/{n}", "groups": [{"n": str(number)} for number in range(JOB_COUNT)]}


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with create_project(tmp_path / "project") as new_project:
        yield new_project


def run_until_nothing_works(project: Project) -> list[list[str]]:
    """Run the four commands, whose jobs all fail; return the arguments of the commands after `next:`."""
    job_file = project.folder / "files" / "job.json"
    project.run("setup")
    project.run("submitJob", str(job_file))
    project.run("startCluster", str(project.folder / "files" / "fleet.json"))
    ended = project.run("monitor", check=False)
    assert ended.returncode == ExitCode.UNFINISHED, ended.stderr
    assert "no job has succeeded" in ended.stdout
    commands = join_commands(ended.stdout).partition("\nnext: ")[2].splitlines()
    prefix = ["python", str(ROOT / "run.py"), "--local", "--project", str(project.folder)]
    words = [shlex.split(command) for command in commands]
    assert [command[: len(prefix)] for command in words] == [prefix] * len(words)
    return [command[len(prefix) :] for command in words]


@pytest.mark.long
def test_a_wrong_command_in_the_queue_is_replaced(project: Project) -> None:
    project.write_job_file(command="no-such-program {n}", **JOBS)
    commands = run_until_nothing_works(project)
    assert [name for name, *_ in commands] == ["submitJob", "startCluster", "monitor"]
    project.write_job_file(command="echo {n} > {output_dir}/n.txt", shell=True, **JOBS)
    for arguments in commands:
        last = project.run(*arguments)
    assert f"jobs done       {JOB_COUNT}" in last.stdout
    assert sorted(project.read_results().values()) == sorted(f"{number}\n" for number in range(JOB_COUNT))


@pytest.mark.long
@pytest.mark.parametrize("count", [3, JOB_COUNT])
def test_after_a_retry_in_which_everything_failed_only_its_jobs_run_again(
    project: Project, tmp_path: Path, count: int
) -> None:
    """Some of the many jobs are left in the queue at the end; the few all use up their attempts."""
    good = {"n": "good", "code": "0"}
    groups = [good, *({"n": str(number), "code": "3"} for number in range(count))]
    job_file = project.write_job_file(
        command=f"echo {{n}} >> {tmp_path}/starts; echo {{n}} > {{output_dir}}/n.txt; exit {{code}}", shell=True,
        output_location="results/{n}", groups=groups,
    )  # fmt: skip
    (project.folder / "config.py").open("a").write("JOB_RETRIES = 1\n")
    project.run("setup")
    project.run("submitJob", str(job_file))
    project.run("startCluster", str(project.folder / "files" / "fleet.json"))
    project.run("monitor", check=False)
    project.run("retry")
    project.run("startCluster", str(project.folder / "files" / "fleet.json"))
    ended = project.run("monitor", check=False)
    commands = [shlex.split(text) for text in join_commands(ended.stdout).partition("\nnext: ")[2].splitlines()]
    assert [command[5] for command in commands] == ["retry", "startCluster", "monitor"], ended.stdout
    assert project.run("status", check=False).stdout.partition("\nnext: ")[2] == ended.stdout.partition("\nnext: ")[2]
    content = json.loads(job_file.read_text())
    fixed = content["command"].replace("exit {code}", "true {code}")
    job_file.write_text(json.dumps({**content, "command": fixed}))
    for command in commands:
        last = project.run(*command[5:])
    assert f"jobs done       {count}\n" in last.stdout
    assert len(project.read_results()) == count + 1
    assert (tmp_path / "starts").read_text().split().count("good") == 1


SCRIPT = """
import boto3, json, sys
sqs = boto3.client("sqs")
url = sqs.get_queue_url(QueueName="TryoutQueue")["QueueUrl"]
for name in sys.argv[2:]:
    message = {"command": sys.argv[1], "output_location": "results/{n}", "group": {"n": name}}
    sqs.send_message(QueueUrl=url, MessageBody=json.dumps(message))
"""


@pytest.mark.long
def test_jobs_of_a_script_are_sent_again_and_never_replaced_by_those_of_a_job_file(
    project: Project, tmp_path: Path
) -> None:
    program, script = tmp_path / "program", tmp_path / "send.py"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    script.write_text(SCRIPT)
    (project.folder / "config.py").open("a").write("JOB_RETRIES = 1\n")
    job_file = project.write_job_file(
        command="echo {n} > {output_dir}/n.txt", shell=True, output_location="results/{n}", groups=[{"n": "file"}]
    )
    project.run("setup")
    project.run("submitJob", str(job_file))
    project.run("runScript", "python3", str(script), f"{program} {{output_dir}}", "one", "two")
    project.run("startCluster", str(project.folder / "files" / "fleet.json"))
    ended = project.run("monitor", check=False)
    commands = [shlex.split(text)[5:] for text in join_commands(ended.stdout).partition("\nnext: ")[2].splitlines()]
    assert [name for name, *_ in commands] == ["setup", "retry", "startCluster", "monitor"], ended.stdout
    assert "A script sent these jobs" in " ".join(ended.stdout.split())
    program.write_text("#!/bin/sh\necho 1 > $1/n.txt\n")
    for arguments in commands:
        last = project.run(*arguments)
    assert "jobs done       2\n" in last.stdout
    assert sorted(path.split("/")[0] for path in project.read_results()) == ["file", "one", "two"]


@pytest.mark.long
def test_why_names_the_failures_after_the_run(project: Project) -> None:
    project.write_job_file(command="echo no such plate >&2; exit 3", shell=True, **JOBS)
    run_until_nothing_works(project)
    text = project.run("why").stdout
    groups = json.loads(project.run("status", "--json", check=False).stdout)
    group = (groups["failures"] + groups["failing"])[0]
    first = " ".join(text.partition("most likely")[2].partition("what to do")[0].split())
    assert f"({group['id']}): {group['cause']}" in first
    assert "no such plate" in first
    # That the fleet has ended is a consequence, and a new fleet alone would fail in the same way.
    assert "fleet has ended" not in text
    assert join_commands(text).partition("\nnext: ")[2].splitlines()[0].endswith("--replace")


@pytest.mark.long
def test_a_wrong_command_is_replaced_while_the_monitor_watches(tmp_path: Path) -> None:
    """Some old jobs still fail afterward, and containers have paused or will pause because of them."""
    # So many attempts that no job has failed for good before the replacement, however slow this computer is.
    with create_project(tmp_path / "project", JOB_RETRIES=100) as project:
        replace_command_during_run(project, tmp_path / "seen")


def replace_command_during_run(project: Project, seen: Path) -> None:
    seen.mkdir()
    job_file = str(project.write_job_file(command=f"touch {seen}/{{n}}; exit 3", shell=True, **JOBS))
    project.run("setup")
    project.run("submitJob", job_file)
    project.run("startCluster", str(project.folder / "files" / "fleet.json"))
    monitor = project.start("monitor")
    wait_until(lambda: len(list(seen.iterdir())) >= 4)
    project.write_job_file(command="echo {n} > {output_dir}/n.txt", shell=True, **JOBS)
    project.run("submitJob", "--replace", job_file)
    summary, errors = monitor.communicate(timeout=120)
    assert monitor.returncode == 0, summary + errors
    assert "verdict         every job is done" in summary
    assert f"jobs done       {JOB_COUNT}" in summary
    assert "failed attempts" not in summary
    assert len(project.read_results()) == JOB_COUNT


@pytest.mark.long
def test_failed_jobs_of_an_earlier_run_are_not_retried_after_they_were_replaced(project: Project) -> None:
    """The advice of the first run was followed, so its jobs are done, under other IDs."""
    (project.folder / "config.py").open("a").write("JOB_RETRIES = 1\n")
    jobs = {**JOBS, "groups": JOBS["groups"][:14]}
    job_file = project.write_job_file(command="no-such-program {n}", **jobs)
    project.run("setup")
    project.run("submitJob", str(job_file))
    project.run("startCluster", str(project.folder / "files" / "fleet.json"))
    project.run("monitor", check=False)
    first = json.loads(project.run("status", "--json", check=False).stdout)
    assert first["jobs"]["failed"] > 0
    project.write_job_file(command="echo {n} > {output_dir}/n.txt", shell=True, **jobs)
    project.run("submitJob", "--replace", str(job_file))
    project.run("startCluster", str(project.folder / "files" / "fleet.json"))
    assert "verdict         every job is done" in project.run("monitor").stdout
    assert "no job of the run" in (latest := project.run("retry").stderr), latest
    assert first["run"] not in latest
    retried = project.run("retry", first["run"]).stderr
    assert f"replaced        {first['jobs']['failed']} of them" in retried
    assert "to send         no jobs" in retried
    status = project.run("status", first["run"], check=False).stdout
    assert "next:" not in status
    assert "run.py" not in status
