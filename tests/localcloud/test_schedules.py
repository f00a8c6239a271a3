"""Schedules call functions, with boto3 and nothing else of this computer."""

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
from tests.support.local_lab import Lab, eventually

CODE = """
import importlib.util, json, sys, boto3, mine
def handler(event, context):
    names = ("pydantic", "click", "moto", "distributed_something")
    strangers = [name for name in names if importlib.util.find_spec(name)]
    boto3.client("s3").put_object(Bucket="calls", Key=event["key"], Body=json.dumps([strangers, mine.WORD]).encode())
"""


def zipped(**modules: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in modules.items():
            archive.writestr(f"{name}.py", text)
    return buffer.getvalue()


def schedule(lab: Lab, rule: str, function: str, state: str = "ENABLED") -> Any:
    """A rule that calls this function once a minute; the client of EventBridge."""
    events = lab.cloud.build_client("events")
    events.put_rule(Name=rule, ScheduleExpression="rate(1 minute)", State=state)
    target = {"Id": "1", "Arn": function, "Input": json.dumps({"key": rule})}
    events.put_targets(Rule=rule, Targets=[target])
    return events


def calls(lab: Lab) -> dict[str, Any]:
    """What the functions stored, by rule."""
    s3 = lab.cloud.build_client("s3")
    keys = [one["Key"] for one in s3.list_objects_v2(Bucket="calls").get("Contents", [])]
    return {key: json.load(s3.get_object(Bucket="calls", Key=key)["Body"]) for key in keys}


def test_a_schedule_calls_its_function_which_has_its_code_and_boto3_and_nothing_else(own_lab: Lab) -> None:
    lab = own_lab
    lab.cloud.ensure_buckets(["calls"])
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    role = lab.cloud.build_client("iam").create_role(RoleName="apples", AssumeRolePolicyDocument=json.dumps(trust))[
        "Role"
    ]
    made = lab.cloud.build_client("lambda").create_function(
        FunctionName="apples", Runtime="python3.13", Role=role["Arn"], Handler="entry.handler",
        Code={"ZipFile": zipped(entry=CODE, mine="WORD = 'apple'")},
    )  # fmt: skip
    function = made["FunctionArn"]
    schedule(lab, "off", function, "DISABLED")
    schedule(lab, "astray", f"{function}-gone")
    events = schedule(lab, "often", function)
    eventually(lambda: "often" in calls(lab))
    assert calls(lab) == {"often": [[], "apple"]}
    events.remove_targets(Rule="often", Ids=["1"])
    events.delete_rule(Name="often")
    # When a schedule ends, what it watched over has ended: results become files without a command.
    eventually((lab.project / "local" / "calls" / "often").exists)
    assert f"the rule astray calls {function}-gone, which is not there" in build_layout(lab.project).log.read_text()


def test_a_call_that_takes_longer_than_its_function_may_is_ended_and_none_begins_beside_it(tmp_path: Path) -> None:
    layout = build_layout(tmp_path)
    layout.make_folders()
    sleeper = SimpleNamespace(
        function_name="sleeper", handler="entry.handler", timeout=60, memory_size=128, environment_vars={},
        code_sha_256="a/b=", code_bytes=zipped(entry="import time\ndef handler(event, context): time.sleep(600)"),
    )  # fmt: skip
    rule = SimpleNamespace(
        name="often", state="ENABLED", scheduled_expression="rate(1 minute)",
        targets=[{"Id": "1", "Arn": "arn:aws:lambda:us-east-1:123456789012:function:sleeper"}],
    )  # fmt: skip
    events = SimpleNamespace(region_name="us-east-1", event_buses={"default": SimpleNamespace(rules={"often": rule})})
    begun: list[Any] = []

    class Counted(FunctionRunner):
        def start_call(self, *arguments: Any) -> Any:
            begun.append(super().start_call(*arguments))
            return begun[-1]

    schedules = ScheduleSimulator(
        events, SimpleNamespace(get_function=lambda arn: sleeper), Counted(layout), lambda region: {}
    )
    try:
        for now, count in ((0.0, 0), (1.9, 0), (2.0, 1), (4.0, 1), (61.9, 1)):
            schedules.simulate_step(now)
            assert len(begun) == count
        assert begun[0].process.poll() is None
        schedules.simulate_step(62.0)
        assert begun[0].process.returncode == -signal.SIGKILL
        assert len(begun) == 2
        events.event_buses["default"].rules.clear()
        assert schedules.simulate_step(63.0) == []  # its last call goes on
    finally:
        schedules.kill_calls()
    assert schedules.simulate_step(64.0) == ["often"]
    assert schedules.simulate_step(65.0) == []


def test_a_rate_is_played_thirty_times_as_fast_and_what_is_none_never() -> None:
    assert [parse_rate_seconds(f"rate({rate})") for rate in ("1 minute", "5 minutes", "1 hour")] == [2, 10, 120]
    assert [parse_rate_seconds(other) for other in ("cron(0 12 * * ? *)", "", None)] == [0, 0, 0]
