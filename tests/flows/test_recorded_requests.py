"""The requests of real processes, replayed against the policies: `run.py` as a user types it, and the worker.

`test_least_privilege` replays a rehearsal that calls the same functions in one process. This test shows that the
commands and the worker send nothing that the policies deny either. It assumes the tag `app` on everything.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from distributed_something.account.setup_aws import Buckets, build_roles
from distributed_something.account.user_policies import build_control_policies
from distributed_something.core.names import TASK_ROLE, AwsAccount
from tests.support.paths import ROOT
from tests.support.project import MONITOR_FILE, Project, create_project
from tests.support.rights.replay import Replay, list_denied
from tests.support.rights.tags import Tags

ACCOUNT, BUCKET = AwsAccount("123456789012", "us-east-1"), "tryout-bucket"
KEY = ACCOUNT.arn("kms", "key/11111111-2222-3333-4444-555555555555", ACCOUNT.region)
RECORDER = ROOT / "tests" / "support" / "recorder"
LOAD_RECORDER = """import os
os.environ["RECORDED_REQUESTS"] = {folder!r}
exec(compile(open({path!r}).read(), {path!r}, "exec"), {{"__name__": "recorder"}})
"""
USER, WORKER = "run.py", "generic-worker.py"


class AppTags(dict[str, dict[str, str]]):
    """The tags of an account in which everything belongs to the app."""

    def get(self, name: str, default: Any = None) -> Any:
        return {"app": "Tryout"}


@dataclass(frozen=True)
class RecordedRequest:
    """A request of a process. `login`: the program that sent it, or "" for the local cloud."""

    login: str
    service: str
    operation: str
    parameters: dict[str, Any]
    tags: Tags


def read_requests(folder: Path) -> Iterator[RecordedRequest]:
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            login = "" if entry["local_cloud"] else entry["program"]
            yield RecordedRequest(login, entry["service"], entry["operation"], entry["parameters"], AppTags())


def record_run(project: Project, folder: Path) -> list[RecordedRequest]:
    """Run the commands of a run in which one job fails, and return the requests of all processes."""
    folder.mkdir()
    worker = project.folder / "worker" / "generic-worker.py"
    before, start, after = worker.read_text().partition("from __future__ import annotations\n")
    loading = LOAD_RECORDER.format(folder=str(folder), path=str(RECORDER / "sitecustomize.py"))
    worker.write_text(before + start + loading + after)
    job = project.write_job_file(
        command="test {n} = 1 && echo {n} > {output_dir}/a", shell=True, groups=[{"n": 1}, {"n": 2}],
        output_location="results/{job}",
    )  # fmt: skip
    fleet = "files/fleet.json"
    for command in (
        ["setup"], ["submitJob", str(job)], ["startCluster", fleet], ["why"], ["monitor", MONITOR_FILE], ["status"],
        ["retry", MONITOR_FILE, "--yes"], ["cleanup", "--yes"], ["cleanup", "--verify"],
    ):  # fmt: skip
        environment = {"PYTHONPATH": str(RECORDER), "RECORDED_REQUESTS": str(folder)}
        result = project.run(*command, check=False, **environment)
        assert result.returncode in (0, 3), f"{command}: {result.stdout}\n{result.stderr}"
    return list(read_requests(folder))


@pytest.mark.long
def test_the_commands_and_the_worker_send_only_requests_that_the_policies_allow(tmp_path: Path) -> None:
    with create_project(tmp_path / "project", CLUSTER_MACHINES=1, JOB_RETRIES=1) as project:
        requests = record_run(project, tmp_path / "requests")
    (task,) = [role for role in build_roles(ACCOUNT, Buckets(BUCKET)) if role.name == TASK_ROLE]
    policies = {USER: build_control_policies(ACCOUNT, [BUCKET]), WORKER: task.policies}
    replay = Replay(ACCOUNT.account_id, requests, KEY, tag_readers=[])

    for login, documents in policies.items():
        distinct = replay.list_distinct_requests(login)
        needs = {permission: operation for own, operation in distinct.items() for permission in own}
        assert len(distinct) > 10, login
        assert [each for each in list_denied(documents, needs) if not each.action.startswith("kms:")] == []
