"""Tests that the auto-monitor, called by its rule, watches a complete run and cleans up after it.

These tests never run `run.py monitor`. As in Lambda, the function's process can import only boto3 and its own zip file.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.gates import Gates, get_target_capacity, list_running_machines
from tests.support.project import MONITOR_FILE, Project, create_project, list_project_processes, wait_until

NOT_IN_LAMBDA = ("pydantic", "rich", "click", "mypy_boto3_ec2", "moto", "localcloud")


def test_the_auto_monitor_scales_a_run_down_and_cleans_up_by_itself(tmp_path: Path) -> None:
    gates = Gates(tmp_path / "gates")
    with create_project(tmp_path / "p", CLUSTER_MACHINES=3, DOCKER_CORES=1, AUTO_MONITOR="True") as app:
        app.run("setupAWS")
        app.run("setup")
        app.run("submitJob", gates.write_job_file(app, long="last", a="first", b="first", c="first"))
        start = app.run("startCluster", "files/fleet.json")
        assert "runs in AWS, once a minute" in start.stderr
        long_machine = gates.wait_for_start(app, "long")
        assert len(list_running_machines(app)) == 3

        gates.open_gate("first")
        wait_until(lambda: get_target_capacity(app) == 1 and list_running_machines(app) == {long_machine})
        assert gates.list_starts("long") == [long_machine]

        gates.open_gate("last")
        wait_until(lambda: list_rules(app) == [])
        assert list_running_machines(app) == set()
        verification = app.run("cleanup", MONITOR_FILE, "--verify")
        assert "nothing is left" in verification.stdout
        wait_until(lambda: not app.list_workers())

        assert sorted(read_objects(app, "results/").values()) == ["a", "b", "c", "long"]
        summary = next(text for key, text in read_objects(app, "runs/").items() if key.endswith("/summary.txt"))
        assert "jobs done       4" in summary
        assert "jobs failed     0" in summary
        # The local cloud also writes the results to files, without any command.
        wait_until(lambda: len(app.read_results()) == 4)
        check_function_imports(app)
    assert list_project_processes(app.folder) == []


@pytest.mark.long
def test_start_cluster_fails_if_setup_aws_has_not_created_the_auto_monitor(tmp_path: Path) -> None:
    with create_project(tmp_path / "p", AUTO_MONITOR="True") as app:
        app.run("setup")
        start = app.run("startCluster", "files/fleet.json", check=False)
        assert start.returncode == 1
        assert "setupAWS" in start.stderr
        assert app.build_client("ec2").describe_spot_fleet_requests()["SpotFleetRequestConfigs"] == []


def list_rules(app: Project) -> list[str]:
    return [rule["Name"] for rule in app.build_client("events").list_rules()["Rules"]]


def read_objects(app: Project, prefix: str) -> dict[str, str]:
    """Return the text of each object below `prefix`, keyed by object key."""
    s3 = app.build_client("s3")
    keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket="tryout-bucket", Prefix=prefix).get("Contents", [])]
    return {key: s3.get_object(Bucket="tryout-bucket", Key=key)["Body"].read().decode() for key in keys}


def check_function_imports(app: Project) -> None:
    """Check that the function could import only boto3 and its own zip file, and that all of its calls succeeded."""
    functions = app.folder / "local" / ".cloud" / "functions"
    (log,) = functions.glob("*.log")
    responses = [json.loads(line) for line in log.read_text().splitlines()]
    assert responses[-1]["ended"] == "run"
    assert all("jobs" in response or "ended" in response for response in responses)
    importable = {path.stem for folder in functions.iterdir() if folder.is_dir() for path in folder.iterdir()}
    assert {"distributed_something", "boto3", "botocore"} <= importable
    assert not set(NOT_IN_LAMBDA) & importable
