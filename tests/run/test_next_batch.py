"""Tests that nothing is lost from a newer batch that uses the same names while the previous run is still ending."""

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
from tests.support.emulated_runs import build_tags, emulated_account
from tests.support.fakes import SETTINGS, FakeOutput, FakeTime

QUIET = SETTINGS.model_copy(update={"EXPORT_LOGS": False, "CREATE_DASHBOARD": False})
FLEET_ID = "sfr-0123abcd-0000-0000-0000-000000000000"
NEXT_FLEET_ID = "sfr-4567abcd-0000-0000-0000-000000000000"
BUCKET = QUIET.AWS_BUCKET
EVENT = {"bucket": BUCKET, "key": build_monitor_file_key("App"), "rule": build_monitor_rule_name("App")}
LONG_AGO = 3600.0


class App:
    """An app in an emulated account, with a run that began an hour ago. The methods are what the user does next."""

    def __init__(self, clients: Clients) -> None:
        self.clients = clients
        self.clients.s3.create_bucket(Bucket=BUCKET)
        self.file = self.start(FLEET_ID, time.time() - LONG_AGO)

    def start(self, fleet_id: str, start: float) -> MonitorFile:
        """Do what startCluster does, but without requesting a fleet."""
        file = build_monitor_file(QUIET, fleet_id, start)
        body = json.dumps(asdict(file)).encode()
        self.clients.s3.put_object(Bucket=BUCKET, Key=EVENT["key"], Body=body)
        ensure_monitor_rule(
            self.clients, file, AwsAccount("123456789012", "us-east-1"), {"app": "App"}, FakeTime().sleep
        )
        return file

    def save_empty_history(self, **changes: Any) -> None:
        """Store a history in which the queue has been empty long enough for the run to end."""
        now = time.time()
        history = RunHistory(at=now - 60, empty_since=now - 300, empty_looks=6, other_jobs=10)
        save_history(self.clients.s3, self.file, replace(history, **changes))

    def set_up(self) -> None:
        set_up_run(self.clients, QUIET, lambda line: None, FakeTime().sleep)

    def submit_job(self) -> None:
        url = self.clients.sqs.get_queue_url(QueueName="AppQueue")["QueueUrl"]
        self.clients.sqs.send_message(QueueUrl=url, MessageBody="{}")

    def create_volume(self) -> None:
        """Create a volume like one that a machine from the run left behind."""
        tags: Any = [{"ResourceType": "volume", "Tags": build_tags(app="App", run=self.file.run)}]
        self.clients.ec2.create_volume(AvailabilityZone="us-east-1a", Size=30, TagSpecifications=tags)

    def list_kinds(self) -> set[str]:
        """Return the kinds of the app's remaining resources."""
        names = RunNames(self.file, QUIET.SQS_DEAD_LETTER_QUEUE)
        inventory = observe_run_resources(self.clients, names)
        return {resource.kind for resource in inventory.filter_by_state(ResourceState.REMAINING)}

    def call_auto_monitor(self) -> dict[str, Any]:
        return handler(EVENT, None)


SETUP_KINDS = {"queue", "service", "cluster", "task definition"}


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    with emulated_account() as clients:
        monkeypatch.setattr(auto_monitor, "Clients", lambda _: clients)
        yield App(clients)


def test_the_end_of_a_run_deletes_all_resources_with_the_run_names_and_is_stored(app: App) -> None:
    app.set_up()
    app.save_empty_history()
    assert app.call_auto_monitor()["done"]
    assert app.list_kinds() == set()
    assert load_history(app.clients.s3, app.file, 0.0)[0].ended is not None


@pytest.mark.parametrize("is_submitted", [False, True])
def test_resources_set_up_after_the_end_of_a_run_are_kept_and_leftovers_are_deleted(
    app: App, is_submitted: bool
) -> None:
    app.save_empty_history(ended=time.time() - 60)
    app.set_up()
    app.create_volume()
    if is_submitted:
        app.submit_job()
    response = app.call_auto_monitor()
    assert app.list_kinds() == SETUP_KINDS
    assert response["done"]
    assert "kept            queue AppQueue and other resources of App: a newer batch" in response["words"]
    assert "removed         volume vol-" in response["words"]


def test_jobs_submitted_to_the_old_queue_just_after_a_run_ends_are_kept(app: App) -> None:
    """The queue could not be deleted at first, so it still exists when the jobs are submitted."""
    app.set_up()
    app.save_empty_history(ended=time.time() + 1)
    app.submit_job()
    app.call_auto_monitor()
    assert app.list_kinds() == SETUP_KINDS


def test_a_queue_that_could_not_be_deleted_is_deleted_at_the_next_call(app: App) -> None:
    app.set_up()
    app.save_empty_history(ended=time.time() + 1)
    assert app.call_auto_monitor()["done"]
    assert app.list_kinds() == set()


def test_a_monitor_that_is_restarted_during_cleanup_keeps_the_newer_batch(app: App) -> None:
    app.save_empty_history(ended=time.time() - 60)
    app.set_up()
    output, pace = FakeOutput(), Pace(interval_seconds=0.0, short_interval_seconds=0.0, settling_seconds=0.0)
    assert monitor_run(RunContext(app.clients, QUIET, output), app.file, cheapest=False, pace=pace).is_clean
    assert app.list_kinds() == SETUP_KINDS
    assert "a newer batch uses them" in " ".join(output.printed.split())


# The rule that calls the auto-monitor has the same name for all runs of an app


def list_rules(app: App) -> list[str]:
    return [rule["Name"] for rule in app.clients.events.list_rules()["Rules"]]


def test_a_late_call_for_an_older_run_keeps_the_rule_of_a_newer_run(app: App) -> None:
    """The newer run starts after the call reads the monitor file, and before the call writes the summary."""
    app.save_empty_history(ended=time.time() - 60)

    def start_next(params: dict[str, Any], **_: Any) -> None:
        if params["Key"] == app.file.keys.summary:
            app.start(NEXT_FLEET_ID, time.time())

    app.clients.s3.meta.events.register("provide-client-params.s3.PutObject", start_next)
    app.call_auto_monitor()
    assert list_rules(app) == [build_monitor_rule_name("App")]


def test_a_newer_rule_is_kept_by_an_older_run_cleanup_but_deleted_by_a_whole_app_cleanup(app: App) -> None:
    app.start(NEXT_FLEET_ID, time.time())
    request = CleanupRequest(app.file, QUIET.SQS_DEAD_LETTER_QUEUE)
    delete_run_resources(app.clients, request, FakeTime().sleep)
    assert list_rules(app) == [build_monitor_rule_name("App")]
    delete_run_resources(app.clients, replace(request, whole_app=True), FakeTime().sleep)
    assert list_rules(app) == []


@pytest.mark.parametrize("body", [b"{", b"[]", b"{}"])
def test_an_invalid_monitor_file_does_not_protect_the_rule(app: App, body: bytes) -> None:
    app.clients.s3.put_object(Bucket=BUCKET, Key=EVENT["key"], Body=body)
    assert delete_run_rule(app.clients, app.file)
    assert list_rules(app) == []
