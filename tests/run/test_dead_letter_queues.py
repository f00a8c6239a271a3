"""Two apps that share a dead-letter queue, from setup to cleanup: in both orders, and with a colleague's queue."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from distributed_something.aws.clients import Clients
from distributed_something.observe.resources import ResourceState, format_resource
from distributed_something.run.cleanup.inventory import (
    RunNames,
    format_inventory,
    observe_all_resources,
    wait_for_removal,
)
from distributed_something.run.cleanup.report import format_cleanup_report
from tests.support.emulated_runs import RunFactory, emulated_account
from tests.support.fakes import FakeTime

SHARED = "LabDeadMessages"


@pytest.fixture
def lab() -> Iterator[Lab]:
    with emulated_account() as clients:
        yield Lab(clients)


class Lab:
    """An account in which several apps use the dead-letter queue SHARED."""

    def __init__(self, clients: Clients) -> None:
        self.sqs, self.clients, self.runs = clients.sqs, clients, RunFactory(clients)

    def start(self, app: str) -> RunNames:
        fleet_id = self.runs.create_run(app, dead_letter_queue=SHARED)
        return self.runs.build_names(app, fleet_id, dead_letter_queue=SHARED)

    def make_queue_of_colleague(self) -> dict[str, str]:
        """Create SHARED without tags, with a queue that uses it. Return SHARED's attributes."""
        url = self.sqs.create_queue(QueueName=SHARED, Attributes={"MessageRetentionPeriod": "345600"})["QueueUrl"]
        arn = self.read_attributes(url)["QueueArn"]
        redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 5})
        self.sqs.create_queue(QueueName="Colleague", Attributes={"RedrivePolicy": redrive})
        return self.read_attributes(url)

    def read_attributes(self, url: str | None = None) -> dict[str, str]:
        response = self.sqs.get_queue_attributes(QueueUrl=url or self.get_url(), AttributeNames=["All"])
        return {key: value for key, value in response["Attributes"].items() if not key.startswith("Approximate")}

    def read_owner(self) -> str | None:
        return self.sqs.list_queue_tags(QueueUrl=self.get_url()).get("Tags", {}).get("app")

    def get_url(self) -> str:
        return self.sqs.get_queue_url(QueueName=SHARED)["QueueUrl"]

    def fail_job(self) -> None:
        self.sqs.send_message(QueueUrl=self.get_url(), MessageBody="{}")

    def has_queue(self) -> bool:
        return any(url.endswith(f"/{SHARED}") for url in self.sqs.list_queues().get("QueueUrls", []))

    def clean_up(self, names: RunNames, recorded_failures: int = 1) -> str:
        """Clean up, check that nothing remains that must be deleted, and return the report on one line."""
        report = self.runs.clean_up(names, count_recorded_failures=lambda: recorded_failures)
        assert report.is_complete
        assert wait_for_removal(self.clients, names, FakeTime().sleep).is_clean
        return " ".join(format_cleanup_report(report).split())


def test_the_queue_outlives_the_app_that_created_it_while_another_app_uses_it(lab: Lab) -> None:
    first, second = lab.start("First"), lab.start("Second")
    attributes = lab.read_attributes()
    for _ in range(2):
        lab.fail_job()
    assert lab.read_owner() == "First"

    assert f"kept dead-letter queue {SHARED} (other queues use it)" in lab.clean_up(first)
    assert lab.read_attributes() == attributes
    # Now no queue uses it. Only the first app may delete it.
    text = f"kept dead-letter queue {SHARED} (it belongs to the app First, whose cleanup deletes it)"
    assert text in lab.clean_up(second)
    assert lab.has_queue()
    names = lab.start("First")
    assert f"removed dead-letter queue {SHARED}" in lab.clean_up(names, recorded_failures=2)
    assert not lab.has_queue()


def test_the_app_that_created_the_queue_deletes_it_if_it_is_the_last(lab: Lab) -> None:
    first, second = lab.start("First"), lab.start("Second")
    lab.fail_job()

    lab.clean_up(second)
    assert lab.has_queue()
    assert f"removed dead-letter queue {SHARED}" in lab.clean_up(first)
    assert not lab.has_queue()


def test_letters_of_the_other_app_keep_the_queue_after_it_has_ended(lab: Lab) -> None:
    first, second = lab.start("First"), lab.start("Second")
    for _ in range(3):
        lab.fail_job()

    lab.clean_up(second, recorded_failures=2)
    text = f"kept dead-letter queue {SHARED} (it is not empty; cleanup --failed-too deletes it)"
    assert text in lab.clean_up(first, recorded_failures=1)


@pytest.mark.parametrize("order", [("First", "Second"), ("Second", "First")])
def test_a_colleagues_queue_gets_one_tag_and_is_never_changed_or_deleted(lab: Lab, order: tuple[str, str]) -> None:
    attributes = lab.make_queue_of_colleague()
    names = {app: lab.start(app) for app in ("First", "Second")}
    tags = lab.sqs.list_queue_tags(QueueUrl=lab.get_url())["Tags"]
    lab.fail_job()
    assert tags == {"app": "shared"}

    for app in order:
        kept = f"kept dead-letter queue {SHARED} (several apps share it)"
        assert kept in lab.clean_up(names[app])
    assert lab.read_attributes() == attributes
    assert lab.sqs.list_queue_tags(QueueUrl=lab.get_url())["Tags"] == tags


def test_a_queue_that_a_colleague_begins_to_use_later_is_kept(lab: Lab) -> None:
    first = lab.start("First")
    redrive = json.dumps({"deadLetterTargetArn": lab.read_attributes()["QueueArn"], "maxReceiveCount": 5})
    lab.sqs.create_queue(QueueName="Colleague", Attributes={"RedrivePolicy": redrive})
    lab.sqs.set_queue_attributes(QueueUrl=lab.get_url(), Attributes={"MessageRetentionPeriod": "345600"})

    lab.runs.set_up("First", dead_letter_queue=SHARED)
    assert lab.read_attributes()["MessageRetentionPeriod"] == "345600"
    assert "(other queues use it)" in lab.clean_up(first)


def test_the_inventory_of_the_account_lists_a_shared_queue_as_kept(lab: Lab) -> None:
    lab.make_queue_of_colleague()
    lab.sqs.create_queue(QueueName="orders", tags={"app": "shared"})  # a foreign queue does not become "remaining"
    lab.clients.ecs.create_cluster(clusterName="shop", tags=[{"key": "app", "value": "shared"}])
    lab.clean_up(lab.start("First"))

    inventory = observe_all_resources(lab.clients)

    assert inventory.is_clean
    assert [format_resource(resource) for resource in inventory.filter_by_state(ResourceState.KEPT)] == [
        f"queue {SHARED} (several apps share it)", "queue orders (several apps share it)"
    ]  # fmt: skip
    assert "nothing is left" in format_inventory(inventory)


def test_the_inventory_of_the_account_lists_an_apps_queue_as_kept_while_another_app_uses_it(lab: Lab) -> None:
    first = lab.start("First")
    lab.start("Second")
    lab.clean_up(first)

    kept = observe_all_resources(lab.clients).filter_by_state(ResourceState.KEPT)

    assert [format_resource(resource) for resource in kept] == [f"queue {SHARED} (other queues use it)"]
