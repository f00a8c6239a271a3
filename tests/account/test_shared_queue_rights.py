"""Two apps that share dead-letter queues, with the policies enforced: everyone may do what is needed, and no more.

moto denies calls that a login's policies do not allow, but it ignores their conditions. Therefore, each request is also
checked against the tag `app` that its queue had at that moment.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from distributed_something.account.setup_aws import set_up_account
from distributed_something.account.user_policies import build_administrator_policy, build_control_policies
from distributed_something.aws.clients import Clients
from distributed_something.core.config_settings import Settings
from distributed_something.core.monitor_file import build_monitor_file
from distributed_something.core.names import MONITOR_ROLE, TASK_ROLE
from distributed_something.observe.resources import ResourceKind
from distributed_something.run.cleanup.inventory import RunNames, observe_all_resources, observe_run_resources
from distributed_something.run.cleanup.remove import CleanupRequest, delete_run_resources
from distributed_something.run.cleanup.report import CleanupReport
from distributed_something.run.setup import set_up_run
from tests.support.fakes import SETTINGS, START, FakeTime
from tests.support.paths import ROOT
from tests.support.rights.replay import list_denied
from tests.support.rights.requests import list_permissions
from tests.support.scenario import (
    ACCOUNT,
    ADMINISTRATOR,
    BUCKET,
    BUCKETS,
    CONTAINER,
    DENIED,
    MONITOR,
    USER,
    Call,
    EmulatedAccount,
    Login,
    emulate_account,
)  # fmt: skip

SHARED, OWNED = "ColleagueDead", "FirstDead"


class SharedQueues:
    """Two apps in an account that enforces policies. The logins are a user, the containers, and the auto-monitor."""

    def __init__(self, account: EmulatedAccount) -> None:
        self.account, self.time = account, FakeTime()
        administrator = account.create_user(ADMINISTRATOR, [build_administrator_policy(ACCOUNT, [BUCKET])])
        list(set_up_account(administrator.clients, ACCOUNT, BUCKETS, ROOT, self.time.sleep))
        self.user = account.create_user(USER, build_control_policies(ACCOUNT, [BUCKET]).values())
        self.container = account.assume_role(CONTAINER, TASK_ROLE)
        self.monitor = account.assume_role(MONITOR, MONITOR_ROLE)

    @property
    def logins(self) -> dict[str, Login]:
        return {login.who: login for login in (self.user, self.container, self.monitor)}

    def make_queue_of_colleague(self) -> None:
        """Create the untagged queue SHARED, and a queue of another program that uses it."""
        sqs = self.account.root.sqs
        url = sqs.create_queue(QueueName=SHARED)["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 5})
        sqs.create_queue(QueueName="Colleague", Attributes={"RedrivePolicy": redrive})

    def set_up(self, app: str, dead_letter_queue: str) -> Settings:
        settings = SETTINGS.model_copy(update={
            "APP_NAME": app, "SQS_QUEUE_NAME": f"{app}Queue", "SQS_DEAD_LETTER_QUEUE": dead_letter_queue,
            "ECS_CLUSTER": f"{app}-cluster", "LOG_GROUP_NAME": f"{app}Logs",
        })  # fmt: skip
        for _ in range(2):
            set_up_run(self.user.clients, settings, lambda text: None, self.time.sleep)
        return settings

    def fail_job(self, settings: Settings) -> None:
        """Take a job and move it to the dead-letter queue, as a worker does."""
        self.user.clients.sqs.send_message(QueueUrl=self.get_url(settings.SQS_QUEUE_NAME), MessageBody="{}")
        sqs = self.container.session.client("sqs")
        job_queue = self.get_url(settings.SQS_QUEUE_NAME)
        (message,) = sqs.receive_message(QueueUrl=job_queue, VisibilityTimeout=60)["Messages"]
        sqs.change_message_visibility(QueueUrl=job_queue, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=30)
        sqs.send_message(QueueUrl=self.get_url(settings.SQS_DEAD_LETTER_QUEUE), MessageBody=message["Body"])
        sqs.delete_message(QueueUrl=job_queue, ReceiptHandle=message["ReceiptHandle"])

    def clean_up(self, clients: Clients, settings: Settings) -> CleanupReport:
        """Clean up and check that nothing remains, as monitor, cleanup, and the auto-monitor do."""
        file = replace(build_monitor_file(settings, "sfr-0123abcd", START), MONITOR_MACHINES=0)
        request = CleanupRequest(
            file, settings.SQS_DEAD_LETTER_QUEUE, count_recorded_failures=lambda: 1, retry_steps=False
        )
        report = delete_run_resources(clients, request, self.time.sleep)
        inventory = observe_run_resources(clients, RunNames(file, settings.SQS_DEAD_LETTER_QUEUE))
        assert (report.failed, inventory.unchecked_parts) == ([], [])
        assert inventory.is_clean
        return report

    def get_url(self, name: str) -> str:
        return self.account.root.sqs.get_queue_url(QueueName=name)["QueueUrl"]

    def list_requests_on_queues(self) -> Iterator[tuple[Call, str | None]]:
        """Yield every request to SQS that names a queue, with the queue's tag `app` at that moment (None: no tag)."""
        for call in [call for call in self.account.calls if call.service == "sqs" and not call.error]:
            name = call.parameters.get("QueueName") or str(call.parameters.get("QueueUrl", "")).rsplit("/", 1)[-1]
            if name:
                yield call, call.tags.get(name, {}).get("app")


@pytest.fixture(scope="module")
def queues(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedQueues]:
    """Both apps' whole use of a colleague's queue, and of a queue that one of them owns; the other one ends first."""
    with emulate_account(Path(tmp_path_factory.mktemp("shared"))) as account:
        queues = SharedQueues(account)
        queues.make_queue_of_colleague()
        for name in (SHARED, OWNED):
            first, second = queues.set_up("First", name), queues.set_up("Second", name)
            for settings in (first, second):
                queues.fail_job(settings)
            assert queues.clean_up(queues.user.clients, second).list_removed(ResourceKind.DEAD_LETTER_QUEUE) == []
            account.root.sqs.purge_queue(QueueUrl=queues.get_url(name))
            queues.clean_up(queues.monitor.clients, first)
            assert observe_all_resources(queues.user.clients).is_clean
        yield queues


def test_the_emulator_denies_no_call(queues: SharedQueues) -> None:
    calls = [call for call in queues.account.calls if call.login in queues.logins]

    assert len(calls) > 200
    assert {(call.login, call.operation) for call in calls if call.error in DENIED} == set()


def test_each_request_to_a_queue_is_allowed_for_the_tag_that_the_queue_has(queues: SharedQueues) -> None:
    checked, denied = set(), set()
    for call, owner in queues.list_requests_on_queues():
        if call.login not in queues.logins:
            continue
        needs = list_permissions(ACCOUNT.account_id, call.service, call.operation, call.parameters, call.tags)
        checked.add((call.login, call.operation, owner))
        if list_denied(queues.logins[call.login].policies, needs):
            denied.add((call.login, call.operation, owner))
    assert denied == set()
    assert {
        (USER, "TagQueue", None), (CONTAINER, "SendMessage", "shared"), (CONTAINER, "SendMessage", "First"),
        (USER, "DeleteQueue", "Second"), (MONITOR, "DeleteQueue", "First"),
        (MONITOR, "ListDeadLetterSourceQueues", "shared"),
    } <= checked  # fmt: skip
    assert not [request for request in checked if request[2] == "shared" and request[1].startswith(("Set", "Delete"))]


def test_only_the_owner_deletes_its_queue_and_nobody_deletes_the_colleagues(queues: SharedQueues) -> None:
    remaining = {url.rsplit("/", 1)[-1] for url in queues.account.root.sqs.list_queues()["QueueUrls"]}

    assert remaining == {SHARED, "Colleague"}
