"""Schedules that call functions, which can import boto3 but no other package on this computer."""

from __future__ import annotations

import io
import json
import signal
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from distributed_something.localcloud.base.layout import build_layout
from distributed_something.localcloud.play.functions import FunctionRunner, ScheduleSimulator, parse_rate_seconds
from tests.support.local_lab import Lab, wait_until

CODE = """
import importlib.util, json, sys, boto3, helper
def handler(event, context):
    names = ("pydantic", "click", "moto", "distributed_something")
    visible = [name for name in names if importlib.util.find_spec(name)]
    boto3.client("s3").put_object(Bucket="calls", Key=event["key"], Body=json.dumps([visible, helper.WORD]).encode())
"""


def build_zip(**modules: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in modules.items():
            archive.writestr(f"{name}.py", text)
    return buffer.getvalue()


def create_schedule(lab: Lab, rule: str, function: str, state: str = "ENABLED") -> Any:
    """Create a rule that calls the function once a minute. Return the EventBridge client."""
    events = lab.cloud.build_client("events")
    events.put_rule(Name=rule, ScheduleExpression="rate(1 minute)", State=state)
    target = {"Id": "1", "Arn": function, "Input": json.dumps({"key": rule})}
    events.put_targets(Rule=rule, Targets=[target])
    return events


def read_call_results(lab: Lab) -> dict[str, Any]:
    """Return what the function calls stored, keyed by rule."""
    s3 = lab.cloud.build_client("s3")
    keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket="calls").get("Contents", [])]
    return {key: json.load(s3.get_object(Bucket="calls", Key=key)["Body"]) for key in keys}


def test_a_schedule_calls_its_function_which_can_import_only_its_own_code_and_boto3(own_lab: Lab) -> None:
    lab = own_lab
    lab.cloud.ensure_buckets(["calls"])
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    role = lab.cloud.build_client("iam").create_role(RoleName="apples", AssumeRolePolicyDocument=json.dumps(trust))[
        "Role"
    ]
    response = lab.cloud.build_client("lambda").create_function(
        FunctionName="apples", Runtime="python3.13", Role=role["Arn"], Handler="entry.handler",
        Code={"ZipFile": build_zip(entry=CODE, helper="WORD = 'apple'")},
    )  # fmt: skip
    function = response["FunctionArn"]
    create_schedule(lab, "off", function, "DISABLED")
    create_schedule(lab, "broken", f"{function}-missing")
    events = create_schedule(lab, "often", function)
    wait_until(lambda: "often" in read_call_results(lab))
    assert read_call_results(lab) == {"often": [[], "apple"]}
    events.remove_targets(Rule="often", Ids=["1"])
    events.delete_rule(Name="often")
    # Deleting a schedule means that the run has ended, so the daemon exports the results.
    wait_until((lab.project / "local" / "calls" / "often").exists)
    expected = f"the rule broken calls {function}-missing, which does not exist"
    assert expected in build_layout(lab.project).log.read_text()


def test_a_call_is_killed_at_its_timeout_and_never_overlaps_another_call(tmp_path: Path) -> None:
    layout = build_layout(tmp_path)
    layout.make_folders()
    sleeper = SimpleNamespace(
        function_name="sleeper", handler="entry.handler", timeout=60, memory_size=128, environment_vars={},
        code_sha_256="a/b=", code_bytes=build_zip(entry="import time\ndef handler(event, context): time.sleep(600)"),
    )  # fmt: skip
    rule = SimpleNamespace(
        name="often", state="ENABLED", scheduled_expression="rate(1 minute)",
        targets=[{"Id": "1", "Arn": "arn:aws:lambda:us-east-1:123456789012:function:sleeper"}],
    )  # fmt: skip
    events = SimpleNamespace(region_name="us-east-1", event_buses={"default": SimpleNamespace(rules={"often": rule})})
    calls: list[Any] = []

    class RecordingRunner(FunctionRunner):
        def start_call(self, *arguments: Any) -> Any:
            calls.append(super().start_call(*arguments))
            return calls[-1]

    schedules = ScheduleSimulator(
        events, SimpleNamespace(get_function=lambda arn: sleeper), RecordingRunner(layout), lambda region: {}
    )
    try:
        for now, count in ((0.0, 0), (1.9, 0), (2.0, 1), (4.0, 1), (61.9, 1)):
            schedules.simulate_step(now)
            assert len(calls) == count
        assert calls[0].process.poll() is None
        schedules.simulate_step(62.0)
        assert calls[0].process.returncode == -signal.SIGKILL
        assert len(calls) == 2
        events.event_buses["default"].rules.clear()
        assert schedules.simulate_step(63.0) == []  # the last call of the deleted rule is still running
    finally:
        schedules.kill_calls()
    assert schedules.simulate_step(64.0) == ["often"]
    assert schedules.simulate_step(65.0) == []


def test_a_rate_rule_runs_thirty_times_faster_than_on_aws_and_other_rules_never_run() -> None:
    assert [parse_rate_seconds(f"rate({rate})") for rate in ("1 minute", "5 minutes", "1 hour")] == [2, 10, 120]
    assert [parse_rate_seconds(expression) for expression in ("cron(0 12 * * ? *)", "", None)] == [0, 0, 0]
