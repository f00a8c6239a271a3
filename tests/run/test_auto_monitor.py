"""The monitor in AWS itself: the function's zip, called by its schedule, watches a whole run and cleans up after it.

No `run.py monitor` is ever typed. The function's process has its zip and boto3, as in Lambda, and nothing else.
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.gates import Gates, machines, target
from tests.support.project import MONITOR_FILE, Project, processes_of, project, wait_for

NOT_IN_LAMBDA = ("pydantic", "rich", "click", "mypy_boto3_ec2", "moto", "localcloud")


def test_the_schedule_alone_scales_a_run_down_and_leaves_nothing_of_it(tmp_path: Path) -> None:
    gates = Gates(tmp_path / "gates")
    with project(tmp_path / "p", CLUSTER_MACHINES=3, DOCKER_CORES=1, AUTO_MONITOR="True") as made:
        made.run("setupAWS")
        made.run("setup")
        made.run("submitJob", gates.job_file(made, long="last", a="first", b="first", c="first"))
        started = made.run("startCluster", "files/fleet.json")
        assert "runs in AWS, once a minute" in started.stderr
        long_on = gates.wait_for_start(made, "long")
        assert len(machines(made)) == 3

        gates.open("first")
        wait_for(lambda: target(made) == 1 and machines(made) == {long_on})
        assert gates.starts("long") == [long_on]

        gates.open("last")
        wait_for(lambda: rules(made) == [])
        assert machines(made) == set()
        verified = made.run("cleanup", MONITOR_FILE, "--verify")
        assert "nothing is left" in verified.stdout
        wait_for(lambda: not made.workers())

        assert sorted(stored(made, "results/").values()) == ["a", "b", "c", "long"]
        summary = next(text for key, text in stored(made, "runs/").items() if key.endswith("/summary.txt"))
        assert "jobs done       4" in summary
        assert "jobs failed     0" in summary
        wait_for(lambda: len(made.results()) == 4)  # as ordinary files too, though no command was typed
        assert_it_had_boto3_alone(made)
    assert processes_of(made.folder) == []


def test_without_setup_aws_a_run_that_asks_for_the_auto_monitor_is_refused_before_it_costs_money(
    tmp_path: Path,
) -> None:
    with project(tmp_path / "p", AUTO_MONITOR="True") as made:
        made.run("setup")
        refused = made.run("startCluster", "files/fleet.json", check=False)
        assert refused.returncode == 1
        assert "setupAWS" in refused.stderr
        assert made.client("ec2").describe_spot_fleet_requests()["SpotFleetRequestConfigs"] == []


def rules(made: Project) -> list[str]:
    return [rule["Name"] for rule in made.client("events").list_rules()["Rules"]]


def stored(made: Project, prefix: str) -> dict[str, str]:
    """Key and text of every object below `prefix`."""
    s3 = made.client("s3")
    keys = [one["Key"] for one in s3.list_objects_v2(Bucket="tryout-bucket", Prefix=prefix).get("Contents", [])]
    return {key: s3.get_object(Bucket="tryout-bucket", Key=key)["Body"].read().decode() for key in keys}


def assert_it_had_boto3_alone(made: Project) -> None:
    """The folders that the function could import from, and every answer of it, which are no errors."""
    functions = made.folder / "local" / ".cloud" / "functions"
    (log,) = functions.glob("*.log")
    answers = [json.loads(line) for line in log.read_text().splitlines()]
    assert answers[-1]["ended"] == "run"
    assert all("jobs" in answer or "ended" in answer for answer in answers)
    importable = {path.stem for folder in functions.iterdir() if folder.is_dir() for path in folder.iterdir()}
    assert {"distributed_something", "boto3", "botocore"} <= importable
    assert not set(NOT_IN_LAMBDA) & importable
