"""A batch that is set up while the run before it still ends: the names are the same, and nothing of it may be lost."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import pytest

from distributed_something.aws.clients import Clients
from distributed_something.core.monitor_file import MonitorFile, build_monitor_file, build_monitor_file_key
from distributed_something.core.names import AwsAccount, build_monitor_rule_name
from distributed_something.observe.resources import ResourceState
from distributed_something.run import auto_monitor
from distributed_something.run.auto_monitor import handler
from distributed_something.run.cleanup.inventory import RunNames, observe_run_resources
from distributed_something.run.cleanup.remove import CleanupRequest, delete_run_resources
from distributed_something.run.finish import monitor_run
from distributed_something.run.monitor.history import RunHistory, load_history, save_history
from distributed_something.run.monitor.policy import Pace
from distributed_something.run.run_context import RunContext
from distributed_something.run.schedule import delete_run_rule, ensure_monitor_rule
from distributed_something.run.setup import set_up_run
from tests.support.emulated_runs import emulated_account, pairs
from tests.support.fakes import SETTINGS, FakeOutput, FakeTime

QUIET = SETTINGS.model_copy(update={"EXPORT_LOGS": False, "CREATE_DASHBOARD": False})
FLEET_ID = "sfr-0123abcd-0000-0000-0000-000000000000"
NEXT_FLEET_ID = "sfr-4567abcd-0000-0000-0000-000000000000"
BUCKET = QUIET.AWS_BUCKET
EVENT = {"bucket": BUCKET, "key": build_monitor_file_key("App"), "rule": build_monitor_rule_name("App")}
LONG_AGO = 3600.0


class App:
    """An app in an account of moto's: a run of it that began an hour ago, and what comes after it."""

    def __init__(self, clients: Clients) -> None:
        self.clients = clients
        self.clients.s3.create_bucket(Bucket=BUCKET)
        self.file = self.start(FLEET_ID, time.time() - LONG_AGO)

    def start(self, fleet_id: str, start: float) -> MonitorFile:
        """As startCluster does, but for the fleet."""
        file = build_monitor_file(QUIET, fleet_id, start)
        body = json.dumps(asdict(file)).encode()
        self.clients.s3.put_object(Bucket=BUCKET, Key=EVENT["key"], Body=body)
        ensure_monitor_rule(self.clients, file, AwsAccount("123456789012", "us-east-1"), {"app": "App"})
        return file

    def seen_empty(self, **more: Any) -> None:
        """By earlier looks, often and long enough."""
        now = time.time()
        before = RunHistory(at=now - 60, empty_since=now - 300, empty_looks=6, first_jobs=10)
        save_history(self.clients.s3, self.file, replace(before, **more))

    def setup(self) -> None:
        set_up_run(QUIET, self.clients, lambda line: None, FakeTime().sleep)

    def submit(self) -> None:
        url = self.clients.sqs.get_queue_url(QueueName="AppQueue")["QueueUrl"]
        self.clients.sqs.send_message(QueueUrl=url, MessageBody="{}")

    def volume(self) -> None:
        """One that a machine of the run has left behind."""
        marks: Any = [{"ResourceType": "volume", "Tags": pairs(app="App", run=self.file.run)}]
        self.clients.ec2.create_volume(AvailabilityZone="us-east-1a", Size=30, TagSpecifications=marks)

    def kinds(self) -> set[str]:
        """What is there of the app."""
        names = RunNames(self.file, QUIET.SQS_DEAD_LETTER_QUEUE)
        return {
            one.kind for one in observe_run_resources(self.clients, names).things if one.state is ResourceState.LEFT
        }

    def tick(self) -> dict[str, Any]:
        return handler(EVENT, None)


ALL_OF_SETUP = {"queue", "service", "cluster", "task definition"}


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    with emulated_account() as clients:
        monkeypatch.setattr(auto_monitor, "Clients", lambda _: clients)
        yield App(clients)


def test_the_end_of_a_run_removes_all_that_has_its_names_and_is_noted(app: App) -> None:
    app.setup()
    app.seen_empty()
    assert app.tick()["done"]
    assert app.kinds() == set()
    assert load_history(app.clients.s3, app.file, 0.0)[0].ended is not None


@pytest.mark.parametrize("submitted", [False, True])
def test_what_was_set_up_since_the_end_is_kept_with_its_jobs_and_the_rest_of_the_run_goes(
    app: App, submitted: bool
) -> None:
    app.seen_empty(ended=time.time() - 60)
    app.setup()
    app.volume()
    if submitted:
        app.submit()
    told = app.tick()
    assert app.kinds() == ALL_OF_SETUP
    assert told["done"]
    assert "kept            queue AppQueue, and what else is named after App" in told["words"]
    assert "removed         volume vol-" in told["words"]


def test_jobs_that_were_sent_to_the_queue_of_a_run_that_just_ended_are_kept(app: App) -> None:
    """Its deletion was refused, so that setup found it there."""
    app.setup()
    app.seen_empty(ended=time.time() + 1)
    app.submit()
    app.tick()
    assert app.kinds() == ALL_OF_SETUP


def test_a_queue_that_could_not_be_deleted_at_the_end_goes_at_the_next_call(app: App) -> None:
    app.setup()
    app.seen_empty(ended=time.time() + 1)
    assert app.tick()["done"]
    assert app.kinds() == set()


def test_a_monitor_that_was_killed_while_it_cleaned_up_and_is_typed_again_keeps_the_next_batch(app: App) -> None:
    app.seen_empty(ended=time.time() - 60)
    app.setup()
    output, pace = FakeOutput(), Pace(look=0.0, soon=0.0, settle=0.0)
    assert monitor_run(RunContext(app.clients, QUIET, output), app.file, cheapest=False, pace=pace)
    assert app.kinds() == ALL_OF_SETUP
    assert "they are the next batch's" in output.printed


# The rule that calls the function: one name for all runs of an app


def rules(app: App) -> list[str]:
    return [rule["Name"] for rule in app.clients.events.list_rules()["Rules"]]


def test_a_late_call_for_the_run_before_leaves_the_next_runs_rule(app: App) -> None:
    """Calls overlap: this one reads the monitor file, and the next run starts before it has written how the run that
    this names has ended."""
    app.seen_empty(ended=time.time() - 60)

    def start_next(params: dict[str, Any], **_: Any) -> None:
        if params["Key"] == app.file.keys.summary:
            app.start(NEXT_FLEET_ID, time.time())

    app.clients.s3.meta.events.register("provide-client-params.s3.PutObject", start_next)
    app.tick()
    assert rules(app) == [build_monitor_rule_name("App")]


def test_a_clean_up_of_the_run_before_leaves_the_next_runs_rule_and_without_a_run_named_it_goes(app: App) -> None:
    app.start(NEXT_FLEET_ID, time.time())
    run = CleanupRequest(app.file, QUIET.SQS_DEAD_LETTER_QUEUE)
    delete_run_resources(app.clients, run, FakeTime().sleep)
    assert rules(app) == [build_monitor_rule_name("App")]
    delete_run_resources(app.clients, replace(run, whole_app=True), FakeTime().sleep)
    assert rules(app) == []


@pytest.mark.parametrize("body", [b"{", b"[]", b"{}"])
def test_a_monitor_file_that_is_none_keeps_no_rule(app: App, body: bytes) -> None:
    app.clients.s3.put_object(Bucket=BUCKET, Key=EVENT["key"], Body=body)
    assert delete_run_rule(app.clients, app.file)
    assert rules(app) == []
