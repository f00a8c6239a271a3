"""A scenario in moto: users and roles set up an account and run jobs with only the policies that they really have.

Moto denies calls that the caller's policies do not allow, but its evaluation is coarse. It therefore gets simplified
policies: without conditions (moto denies every statement with a condition), without resources except for S3 (moto
evaluates most calls against `*`), and with separate permissions for batch calls (AWS has no such permissions). To check
resources and conditions too, the tests replay the requests recorded here (`rights/replay.py`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from io import BytesIO
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from zipfile import ZipFile

import boto3
import botocore.session
import pytest
from moto import mock_aws
from moto import settings as moto_settings
from moto.core.authorization import ActionAuthenticatorMixin, disable_iam_authentication
from moto.core.responses import ActionResult, BaseResponse
from moto.ec2.models import ec2_backends
from moto.ecs.models import ecs_backends
from moto.iam.access_control import IAMRequestBase
from moto.iam.models import SERVICE_NAME_CONVERSION

from distributed_something.account.policy_documents import PolicyDocument, build_trust_policy
from distributed_something.account.setup_aws import Buckets, delete_account_setup, set_up_account, set_up_topic
from distributed_something.account.step import SetupState
from distributed_something.account.topic.plan_topic import Subscriber
from distributed_something.account.user_policies import (
    SERVICE_LINKED_ROLES,
    build_administrator_policy,
    build_control_policies,
)
from distributed_something.aws.clients import Clients
from distributed_something.aws.cloudwatch_logs import build_log_group_names
from distributed_something.aws.ecs import find_task_roles
from distributed_something.aws.s3 import iter_object_keys
from distributed_something.cli.test_run.plan import build_test_plan
from distributed_something.cli.test_run.removal import Traces, list_missing_log_groups, remove_test_run
from distributed_something.core.clock import Clock
from distributed_something.core.image_name import parse_image_reference
from distributed_something.core.monitor_file import MonitorFile, build_monitor_file_key
from distributed_something.core.names import (
    MONITOR_FUNCTION,
    MONITOR_ROLE,
    TASK_ROLE,
    AwsAccount,
    build_monitor_rule_name,
)
from distributed_something.diagnose.check.check import run_preflight_checks
from distributed_something.diagnose.check.container_image.ecr import EcrImage
from distributed_something.diagnose.check.container_image.http import HttpResponse
from distributed_something.diagnose.check.container_image.manifests import find_architectures
from distributed_something.diagnose.why.job_causes import JobEvidence
from distributed_something.diagnose.why.rank import rank_causes
from distributed_something.diagnose.why.view import format_diagnosis
from distributed_something.fleet.fleet_file import load_fleet_file
from distributed_something.fleet.write_fleet_file import FleetFileOptions, write_fleet_file
from distributed_something.jobs.job_file import load_job_file
from distributed_something.jobs.submission.journal import SubmissionJournal
from distributed_something.jobs.submission.plan import plan_submission
from distributed_something.jobs.submission.submit import Submission, submit_jobs
from distributed_something.localcloud.emulators.moto_ec2 import patch_moto_ec2
from distributed_something.localcloud.emulators.moto_ecs import patch_moto_ecs
from distributed_something.localcloud.play.fleets import update_fleets
from distributed_something.localcloud.play.machines import MachineSimulator
from distributed_something.observe.evidence import build_subject_from_run, gather_evidence, observe_active_subject
from distributed_something.observe.machines import (
    iter_disconnected_instances,
    list_absent_ids,
    list_running_machines,
)
from distributed_something.observe.queue import count_jobs
from distributed_something.observe.service import count_protected_tasks
from distributed_something.results.command_line import CommandLine
from distributed_something.run import auto_monitor
from distributed_something.run.auto_monitor import handler
from distributed_something.run.cleanup.clean_up import clean_up_and_verify
from distributed_something.run.cleanup.inventory import observe_all_resources
from distributed_something.run.cleanup.orphans import delete_orphans, find_orphans
from distributed_something.run.dashboard import build_dashboard, ensure_dashboard
from distributed_something.run.finish import RunEnd, monitor_run
from distributed_something.run.monitor.policy import Pace
from distributed_something.run.run_context import RunContext
from distributed_something.run.setup import set_up_run
from distributed_something.run.start import start_run, watch_machine_arrivals
from distributed_something.worker.attempt.handler import Hooks
from distributed_something.worker.container import container
from distributed_something.worker.container.container import Container
from distributed_something.worker.container.stop import STOP_RESERVE_SECONDS
from distributed_something.worker.job.checks import usual_failure
from distributed_something.worker.job.message.job_template import job_from_message
from distributed_something.worker.job.worker_settings import read_worker_settings
from distributed_something.worker.machine.idle_alarm import build_alarm_request
from tests.support.emulator import wait_until
from tests.support.fakes import SETTINGS, FakeOutput, FakeTime
from tests.support.paths import ROOT
from tests.support.rights.tags import Tags, read_tags

ACCOUNT = AwsAccount("123456789012", "us-east-1")
BUCKET = SETTINGS.AWS_BUCKET
BUCKETS = Buckets(BUCKET)
TOPIC = ACCOUNT.topic()
INSTANCE = "i-0123456789abcdef0"
DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403"}
AT_ONCE = Pace(interval_seconds=0.01, short_interval_seconds=0.01, settling_seconds=0.02, new_machine_seconds=0.0)
# Additional permissions that moto requires where IAM requires only one.
# moto does not know the permission for GetBucketEncryption and checks ListBucket instead.
_MOTO_PERMISSIONS = {
    f"sqs:{name}": [f"sqs:{name}Batch"] for name in ("SendMessage", "DeleteMessage", "ChangeMessageVisibility")
} | {"s3:ListBucket": ["s3:HeadBucket"], "s3:GetObject": ["s3:HeadObject"],
     "s3:GetEncryptionConfiguration": ["s3:ListBucket"]}  # fmt: skip
USER, ADMINISTRATOR, CONTAINER, MONITOR = "a user", "the administrator", "a container", "the auto-monitor"
NOBODY = "nobody"  # calls that prepare the account for the scenario
# Responses to calls that moto does not support. All other unsupported calls get an empty response.
_UNSUPPORTED_RESPONSES: dict[str, Any] = {
    "DescribeInstances": {"Reservations": []},  # moto does not support one of the filters
    "GetDownloadUrlForLayer": {"downloadUrl": "https://registry"},
}


@dataclass
class Call:
    """One request: the caller, boto3's name for the service, the operation, the parameters, and any error code.

    `tags`: the tags of all resources in the account when the request was sent.
    """

    login: str
    service: str
    operation: str
    parameters: dict[str, Any]
    tags: Tags = field(repr=False)
    error: str = ""


@dataclass
class Login:
    """A user or role in the scenario: its name, its original policies, and its boto3 session."""

    who: str
    documents: list[PolicyDocument]
    session: boto3.Session

    @cached_property
    def clients(self) -> Clients:
        return Clients(self.session)

    @property
    def policies(self) -> dict[str, PolicyDocument]:
        return {str(number): document for number, document in enumerate(self.documents)}


@dataclass
class EmulatedAccount:
    """An empty account, and the calls that were made in it."""

    folder: Path
    calls: list[Call] = field(default_factory=list)
    loader: Any = field(default_factory=lambda: botocore.session.get_session().get_component("data_loader"))

    def create_session(self, who: str, *keys: str) -> boto3.Session:
        """Return a session that records all calls by its clients. All sessions share the loaded service models."""
        core = botocore.session.Session()
        core.register_component("data_loader", self.loader)
        core.register("before-parameter-build", lambda **arguments: self._record_call(who, **arguments))
        core.register("after-call", self._record_error)
        core.register("after-call-error", lambda **_: None)
        return boto3.Session(*keys, region_name=ACCOUNT.region, botocore_session=core)

    def _record_call(self, who: str, params: dict[str, Any], model: Any, context: dict[str, Any], **_: Any) -> None:
        tags = read_tags(ACCOUNT.account_id, ACCOUNT.region)
        context["call"] = Call(who, model.service_model.service_name, model.name, dict(params), tags)
        self.calls.append(context["call"])

    def _record_error(self, parsed: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        if "Error" in parsed:
            context["call"].error = str(parsed["Error"].get("Code", ""))

    @cached_property
    def root(self) -> Clients:
        """Clients for a user with all permissions. They must be created before policies are enforced."""
        clients = Clients(self.create_session(NOBODY, "test", "test"))
        clients.iam.create_user(UserName="root")
        policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
        clients.iam.put_user_policy(UserName="root", PolicyName="all", PolicyDocument=json.dumps(policy))
        key = clients.iam.create_access_key(UserName="root")["AccessKey"]
        return Clients(self.create_session(NOBODY, key["AccessKeyId"], key["SecretAccessKey"]))

    def create_user(self, who: str, documents: Iterable[PolicyDocument]) -> Login:
        """Create a user who has only these policies."""
        name, documents = who.replace(" ", "-"), list(documents)
        self.root.iam.create_user(UserName=name)
        for number, document in enumerate(documents):
            text = json.dumps(simplify_policy(document))
            self.root.iam.put_user_policy(UserName=name, PolicyName=str(number), PolicyDocument=text)
        key = self.root.iam.create_access_key(UserName=name)["AccessKey"]
        return Login(who, documents, self.create_session(who, key["AccessKeyId"], key["SecretAccessKey"]))

    def assume_role(self, who: str, name: str) -> Login:
        """Assume a role that setupAWS created, and simplify the role's policies."""
        iam, documents = self.root.iam, []
        for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]:
            documents.append(iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"])
            text = json.dumps(simplify_policy(documents[-1]))  # type: ignore[arg-type]
            iam.put_role_policy(RoleName=name, PolicyName=policy, PolicyDocument=text)
        with disable_iam_authentication():  # moto cannot evaluate a trust policy for a service
            key = self.root.sts.assume_role(RoleArn=ACCOUNT.role(name), RoleSessionName="rehearsal")["Credentials"]
        session = self.create_session(who, key["AccessKeyId"], key["SecretAccessKey"], key["SessionToken"])
        return Login(who, documents, session)  # type: ignore[arg-type]


def simplify_policy(document: Mapping[str, Any]) -> PolicyDocument:
    """Return a copy of the policy in a form that moto can evaluate."""
    return {**document, "Statement": [_simplify_statement(statement) for statement in document["Statement"]]}


def _simplify_statement(statement: Mapping[str, Any]) -> dict[str, Any]:
    actions = [name for action in statement["Action"] for name in (action, *_MOTO_PERMISSIONS.get(action, ()))]
    # moto takes a service's name from the request's signature, in which CloudWatch is "monitoring"
    actions = [action.replace("cloudwatch:", "monitoring:") for action in actions]
    resource = statement["Resource"] if actions[0].startswith("s3:") else "*"
    return {"Effect": statement["Effect"], "Action": actions, "Resource": resource}


@contextmanager
def emulate_account(folder: Path, *, enforced: bool = True) -> Iterator[EmulatedAccount]:
    """Run moto, patched as in the local cloud, while the block runs. With `enforced`, enforce policies."""
    with pytest.MonkeyPatch.context() as patch:
        _patch_moto(patch)
        patch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "true")
        for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL"):
            patch.delenv(name, raising=False)
        with mock_aws(config={"lambda": {"use_docker": False}}):
            new_stage = EmulatedAccount(folder)
            new_stage.root.s3.create_bucket(Bucket=BUCKET)
            if enforced:
                _enforce_policies(patch)
            yield new_stage


def _enforce_policies(patch: pytest.MonkeyPatch) -> None:
    """Enforce policies from now on. Ignore signatures, because moto computes Lambda's signatures incorrectly."""
    patch.setattr(IAMRequestBase, "check_signature", lambda _: None)
    patch.setattr(moto_settings, "INITIAL_NO_AUTH_ACTION_COUNT", 0)
    patch.setattr(ActionAuthenticatorMixin, "request_count", 0)


def _patch_moto(patch: pytest.MonkeyPatch) -> None:
    def replace_in(owner: type, *functions: Callable[..., Any], **named: Any) -> None:
        for name, function in {**{function.__name__: function for function in functions}, **named}.items():
            patch.setattr(owner, name, function, raising=False)

    patch_moto_ec2(replace_in)
    patch_moto_ecs(replace_in)
    patch.setattr(BaseResponse, "call_action", _accept_unsupported_calls(BaseResponse.call_action))
    for name, service in SERVICE_LINKED_ROLES.items():  # moto's names for these roles differ from AWS's
        service_name = service.removesuffix(".amazonaws.com")
        patch.setitem(SERVICE_NAME_CONVERSION, service_name, name.removeprefix("AWSServiceRoleFor"))


def _accept_unsupported_calls(call_action: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a version of `call_action` with a default response for calls that moto does not support.

    By then, moto has already checked whether the call is allowed.
    """

    def call_action_or_default(self: Any) -> Any:
        try:
            return call_action(self)
        except NotImplementedError:
            return self.serialized(ActionResult(_UNSUPPORTED_RESPONSES.get(self._get_action(), {})))

    return call_action_or_default


# The scenario

RUN_SETTINGS = SETTINGS.model_copy(update={
    "AUTO_MONITOR": True, "CREATE_DASHBOARD": True, "CLEAN_DASHBOARD": True, "EXPORT_LOGS": True, "JOB_RETRIES": 2,
    "CLUSTER_MACHINES": 2, "TASKS_PER_MACHINE": 1, "MOUNT_S3": False, "NOTIFY": TOPIC,
})  # fmt: skip
BIG = 33 * 1024 * 1024  # in bytes; a multipart upload needs several parts for it


DIGEST = f"sha256:{'0' * 64}"
MANIFEST = {
    "schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
    "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "size": 7, "digest": DIGEST},
    "layers": [],
}  # fmt: skip


class Scenario:
    """The scenario: its users, its roles, and its steps. A step raises the same errors as its command."""

    def __init__(self, stage: EmulatedAccount, patch: pytest.MonkeyPatch) -> None:
        self.stage, self.patch, self.folder = stage, patch, stage.folder
        self.administrator = stage.create_user(ADMINISTRATOR, [build_administrator_policy(ACCOUNT, [BUCKET], TOPIC)])
        self.user = stage.create_user(USER, build_control_policies(ACCOUNT, [BUCKET], topic=TOPIC).values())
        self.time = FakeTime(time.time())
        backends = ec2_backends[ACCOUNT.account_id][ACCOUNT.region], ecs_backends[ACCOUNT.account_id][ACCOUNT.region]
        self._machines = MachineSimulator(*backends)

    def run(self) -> None:
        """Run every command, the machines' work, and the auto-monitor in three runs, and then clean up everything."""
        self.prepare_account()
        self.write_fleet_file()
        self.create_resources_of_the_published_system()
        self.remove_test_run()
        self.submit()
        run = self.start(with_template=True)
        self._create_orphaned_volume(run)
        self._terminate_machine(run)
        self.tick()
        self.work(run)
        self.diagnose(run)
        wait_until(lambda: self.tick().get("done") is True, "the auto-monitor did not end")
        self.submit()
        run = self.start(with_template=True)
        self.fail_to_start(run)
        assert self.clean_up(run)
        self.submit()
        run = self.start()
        self.work(run)
        assert self.watch(run).is_clean
        assert self.clean_up(None)
        self.clean_up_orphans()
        self.delete_account_setup()

    def prepare_account(self) -> None:
        self._encrypt_bucket()
        self._set_up_account()
        self._damage_account_setup()
        self._set_up_account()
        self.container = self.stage.assume_role(CONTAINER, TASK_ROLE)
        self.monitor = self.stage.assume_role(MONITOR, MONITOR_ROLE)

    def _encrypt_bucket(self) -> None:
        """Encrypt the bucket with a customer key, which the bucket's configuration names by an alias."""
        root, alias = self.stage.root, "alias/lab"
        key = root.kms.create_key()["KeyMetadata"]["KeyId"]
        root.kms.create_alias(AliasName=alias, TargetKeyId=key)
        default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": alias}
        rules: Any = {"Rules": [{"ApplyServerSideEncryptionByDefault": default}]}
        root.s3.put_bucket_encryption(Bucket=BUCKET, ServerSideEncryptionConfiguration=rules)

    def write_fleet_file(self) -> None:
        clients, config = self.user.clients, self.folder / "config.py"
        self.fleet = self.folder / "fleet.json"
        for source in ("203.0.113.7", "203.0.113.8", None):  # the second address replaces the first
            options = FleetFileOptions(self.fleet, config, force=True, ssh_from=source)
            settings = RUN_SETTINGS.model_copy(update={"SSH_KEY_NAME": "key" if source else ""})
            write_fleet_file(clients, settings, ACCOUNT, options, self.time.sleep)

    def create_resources_of_the_published_system(self) -> None:
        """Create untagged log groups and an untagged dead-letter queue, which the published system leaves behind."""
        for name in build_log_group_names(RUN_SETTINGS.LOG_GROUP_NAME):
            self.stage.root.logs.create_log_group(logGroupName=name)
        self.stage.root.sqs.create_queue(QueueName=RUN_SETTINGS.SQS_DEAD_LETTER_QUEUE)

    def remove_test_run(self) -> None:
        """Remove what a test run writes to the bucket and to the app's log group. Its other calls are a run's."""
        clients, logs = self.user.clients, self.stage.root.logs
        plan = build_test_plan(RUN_SETTINGS, self.fleet, {}, "m5.large")
        set_up_run(clients, RUN_SETTINGS, lambda _: None, self.time.sleep)
        for key in (plan.input_key, build_monitor_file_key(plan.settings.APP_NAME)):
            clients.s3.put_object(Bucket=BUCKET, Key=key, Body=b"")
        stream = f"{plan.settings.APP_NAME}/worker/0123"
        logs.create_log_stream(logGroupName=RUN_SETTINGS.LOG_GROUP_NAME, logStreamName=stream)
        clock = Clock(time.time, self.time.sleep)
        assert list_missing_log_groups(clients, plan) == []
        assert remove_test_run(clients, plan, Traces(), self.folder / "monitor.json", clock, 0.0) == []

    def submit(self) -> None:
        clients, ignore = self.user.clients, lambda _: None
        for settings in (
            RUN_SETTINGS.model_copy(update={"SQS_MESSAGE_VISIBILITY": 600}),
            RUN_SETTINGS,
        ):  # the second setup changes the queue
            set_up_run(clients, settings, ignore, self.time.sleep)
        (self.folder / "up").mkdir(exist_ok=True)
        (self.folder / "up" / "a.txt").write_text("a")
        path = self.folder / "job.json"
        groups = [{"n": "1", "size": BIG}, {"n": "2", "size": "no-number"}]  # the second job fails
        path.write_text(json.dumps({
            "command": "cat {input_dir}/a.txt && head -c {size} /dev/zero > {output_dir}/out", "shell": True,
            "inputs": ["in/"], "upload": {"up": "in"}, "groups": groups,
        }))  # fmt: skip
        loaded = load_job_file(path, lambda bucket, prefix: iter_object_keys(clients.s3, bucket, prefix))
        progress, clock = lambda *_: None, Clock(time.time, self.time.sleep)
        for has_waiting_jobs in (False, True):
            journal = SubmissionJournal(path, replace=has_waiting_jobs)
            submission = Submission(loaded, plan_submission(loaded), journal, replace=has_waiting_jobs)
            submit_jobs(clients, RUN_SETTINGS, submission, clock, progress=progress, print_progress=ignore)

    def start(self, *, with_template: bool = False) -> MonitorFile:
        clients, path = self.user.clients, self.fleet
        family = RUN_SETTINGS.names.task_family
        assert find_task_roles(clients.iam, clients.ecs, family).keys() == {"taskRoleArn", "executionRoleArn"}
        content = self._build_template_fleet() if with_template else _add_specification(load_fleet_file(path))
        settings = RUN_SETTINGS.model_copy(
            update={"MACHINE_TYPE": RUN_SETTINGS.MACHINE_TYPE * (1 if with_template else 2)}
        )
        clock = Clock(time.time, self.time.sleep)
        checked = content if with_template else _add_key_and_snapshot(content)
        check_account = lambda: run_preflight_checks(clients, settings, path, checked, datetime.now(UTC))  # noqa: E731
        context = RunContext(clients, settings, FakeOutput(), clock)
        run = start_run(context, path, content, self.folder, check_account=check_account)
        assert "dashboard" in ensure_dashboard(clients.cloudwatch, RUN_SETTINGS, run.MONITOR_FLEET_ID)
        watch_machine_arrivals(
            clients, RUN_SETTINGS, run, clock, wait_minutes=0, pause=0.0, print_progress=lambda _: None
        )
        self._simulate_machines()
        return run

    def diagnose(self, run: MonitorFile) -> None:
        clients = self.user.clients
        self._create_stopped_task(run)
        self._write_log_line()
        image = parse_image_reference(f"{ACCOUNT.account_id}.dkr.ecr.{ACCOUNT.region}.amazonaws.com/worker:1")
        self.stage.root.ecr.create_repository(repositoryName="worker")
        self.stage.root.ecr.put_image(repositoryName="worker", imageManifest=json.dumps(MANIFEST), imageTag="1")
        assert image is not None
        find_architectures(EcrImage(clients.ecr, image, lambda *_: HttpResponse(200, {}, b"{}")))
        for subject in (build_subject_from_run(run), observe_active_subject(clients, RUN_SETTINGS)):
            evidence = gather_evidence(clients, subject, time.time())
            format_diagnosis(evidence, rank_causes(evidence), JobEvidence(), CommandLine())

    def fail_to_start(self, run: MonitorFile) -> None:
        """Let the auto-monitor end a run whose only container failed before it wrote a journal."""
        self._create_stopped_task(run)
        self.patch.setenv("FIRST_CONTAINER_SECONDS", "0")
        result = self.tick()
        assert (result["ended"], result["done"]) == ("nothing works", True)
        assert "containers started and stopped without taking a job" in " ".join(result["words"].split())
        self.patch.delenv("FIRST_CONTAINER_SECONDS")

    def _observe_details(self, run: MonitorFile) -> None:
        """Look up what the monitor needs only in the tail of a run, or if machines do not join the cluster."""
        cluster = run.MONITOR_ECS_CLUSTER
        for clients in (self.user.clients, self.monitor.clients):
            assert count_protected_tasks(clients.ecs, cluster, run.names.service) is not None
            assert list_absent_ids(clients.ecs, cluster, ["i-0123456789abcdef0"]) == ["i-0123456789abcdef0"]
            list_running_machines(clients.ec2, ["i-0123456789abcdef0"])
            assert not list(iter_disconnected_instances(clients.ecs, cluster))

    def work(self, run: MonitorFile) -> None:
        """Run a container on the run's first machine until one job is done and one has failed in all attempts."""
        sqs = self.stage.root.sqs
        url, dead_url = (
            sqs.get_queue_url(QueueName=name)["QueueUrl"] for name in (RUN_SETTINGS.SQS_QUEUE_NAME, "AppDead")
        )
        environment = {
            "APP_NAME": "App", "RUN": run.run, "SQS_QUEUE_URL": url, "SQS_DEAD_LETTER_QUEUE_URL": dead_url,
            "AWS_BUCKET": BUCKET, "LOG_GROUP_NAME": RUN_SETTINGS.LOG_GROUP_NAME, "SQS_MESSAGE_VISIBILITY": "3",
            "JOB_RETRIES": "2", "AWS_REGION": ACCOUNT.region, "INSTANCE_ID": next(iter(self._machines.joined)),
            "WORK_DIR": str(self.folder),
        }  # fmt: skip
        for name in ("CLOSED_CHECK_SECONDS", "HEALTH_CHECK_SECONDS", "USAGE_REPORT_SECONDS"):
            self.patch.setattr(container, name, 0.05)
        self.patch.setenv("ECS_CONTAINER_METADATA_URI_V4", "http://127.0.0.1:9")
        self.patch.setattr(container, "Clients", lambda *_: WorkerClients(self.container.session))
        stop_requests: SimpleQueue[float] = SimpleQueue()
        hooks = Hooks(job_from_message, lambda *_: None, usual_failure)
        metadata: Any = Ec2Metadata(environment["INSTANCE_ID"])
        worker = Container(read_worker_settings(environment), hooks, stop_requests, metadata)
        with ThreadPoolExecutor(1) as pool:
            exit_code = pool.submit(worker.serve)
            try:
                wait_until(
                    lambda: count_jobs(sqs, "AppDead") and not count_jobs(sqs, RUN_SETTINGS.SQS_QUEUE_NAME),
                    "the queue still contains jobs",
                    60,
                )
            finally:
                stop_requests.put(STOP_RESERVE_SECONDS)
            assert exit_code.result() == 0

    def tick(self) -> dict[str, Any]:
        """Call the auto-monitor once, as its rule does, and then advance the machines."""
        event = json.loads(self.stage.root.events.list_targets_by_rule(Rule=self._rule)["Targets"][0]["Input"])
        for name, seconds in (("LOOK", 0.01), ("SOON", 0.01), ("SETTLING", 0.02), ("NEW_MACHINE", 0.0)):
            self.patch.setenv(f"{name}_SECONDS", str(seconds))
        self.patch.setattr(auto_monitor, "Clients", lambda _: self.monitor.clients)
        self.patch.setattr(auto_monitor.boto3, "Session", lambda: None)
        result = handler(event, None)
        self._simulate_machines()
        return result

    def watch(self, run: MonitorFile) -> RunEnd:
        """Run the `monitor` command on a run whose jobs have finished."""
        return monitor_run(self.context, run, cheapest=True, pace=AT_ONCE)

    def clean_up(self, run: MonitorFile | None) -> bool:
        """Clean up immediately, including waiting and failed jobs."""
        return clean_up_and_verify(self.context, run, self.fleet, yes=True, failed_too=True)

    def clean_up_orphans(self) -> None:
        """Clean up one resource of each kind that older runs can leave behind."""
        self._create_orphans()
        later = time.time() + 7 * 24 * 3600
        orphans = find_orphans(self.user.clients, lambda: later)
        assert orphans.unchecked_parts == []
        assert delete_orphans(self.user.clients, orphans).failed == []
        assert observe_all_resources(self.user.clients).unchecked_parts == []

    def _set_up_account(self) -> None:
        clients, subscriber = self.administrator.clients, Subscriber("email", "lab@example.org")
        list(set_up_account(clients, ACCOUNT, BUCKETS, ROOT, self.time.sleep))
        list(set_up_topic(clients, TOPIC, subscriber, self.time.sleep))

    def _damage_account_setup(self) -> None:
        """Damage everything that setupAWS must be able to repair."""
        root, name = self.stage.root, MONITOR_FUNCTION
        trust = json.dumps(build_trust_policy("ec2.amazonaws.com"))
        root.iam.update_assume_role_policy(RoleName=TASK_ROLE, PolicyDocument=trust)
        root.lambda_.update_function_configuration(FunctionName=name, Timeout=3)
        content = BytesIO()
        with ZipFile(content, "w") as archive:
            archive.writestr("older.py", "")
        root.lambda_.update_function_code(FunctionName=name, ZipFile=content.getvalue())
        root.lambda_.remove_permission(FunctionName=name, StatementId="distributed-something-rules")
        root.lambda_.add_permission(
            FunctionName=name, StatementId="distributed-something-rules", Action="lambda:InvokeFunction",
            Principal="events.amazonaws.com",
        )  # fmt: skip
        root.logs.delete_retention_policy(logGroupName=f"/aws/lambda/{name}")

    def delete_account_setup(self) -> None:
        rows = list(
            delete_account_setup(self.administrator.clients, ACCOUNT, BUCKETS, Clock(time.time, self.time.sleep))
        )
        assert [row for row in rows if row.state is SetupState.NOT_DONE] == []

    @property
    def context(self) -> RunContext:
        """Context whose clock does not really sleep, but advances the machines as AWS would in the meantime."""
        clock = Clock(time.time, lambda _: self._simulate_machines())
        return RunContext(self.user.clients, RUN_SETTINGS, FakeOutput(), clock, pause=0.01)

    def _create_stopped_task(self, run: MonitorFile) -> None:
        """Create a stopped task of the run's service."""
        self.stage.root.ecs.run_task(
            cluster=run.MONITOR_ECS_CLUSTER, taskDefinition="AppTask", group=f"service:{run.names.service}"
        )
        self._observe_details(run)
        for task in self._machines.ecs.tasks[run.MONITOR_ECS_CLUSTER].values():
            task.desired_status = "STOPPED"

    def _write_log_line(self) -> None:
        """Write a line to a log stream with a name in the style of ECS's log driver."""
        stream = {"logGroupName": f"{RUN_SETTINGS.LOG_GROUP_NAME}_perInstance", "logStreamName": "App/worker/0123"}
        self.stage.root.logs.create_log_stream(**stream)
        line: Any = {"timestamp": int(time.time() * 1000), "message": "it runs"}
        self.stage.root.logs.put_log_events(**stream, logEvents=[line])

    def _terminate_machine(self, run: MonitorFile) -> None:
        """Terminate a machine. The fleet replaces it only after the auto-monitor has noticed that it is missing."""
        ec2 = self.stage.root.ec2
        instances = ec2.describe_spot_fleet_instances(SpotFleetRequestId=run.MONITOR_FLEET_ID)["ActiveInstances"]
        ec2.terminate_instances(InstanceIds=[instances[0]["InstanceId"]])

    def _create_orphaned_volume(self, run: MonitorFile) -> None:
        """Create a volume like one that remains if a machine is terminated before EC2 marks its disk for deletion."""
        tags: Any = [{"Key": "app", "Value": "App"}, {"Key": "run", "Value": run.run}]
        self.stage.root.ec2.create_volume(
            AvailabilityZone=f"{ACCOUNT.region}a",
            Size=8,
            TagSpecifications=[{"ResourceType": "volume", "Tags": tags}],
        )

    def _create_orphans(self) -> None:
        """Create one resource of each kind that a run can leave behind, all for an unknown app."""
        root, tags = self.stage.root, [{"Key": "app", "Value": "Old"}, {"Key": "run", "Value": "20250101T000000Z"}]
        root.cloudwatch.put_metric_alarm(**build_alarm_request("Old", INSTANCE, ACCOUNT.region, "aws", 2))
        root.events.put_rule(Name=build_monitor_rule_name("Old"), ScheduleExpression="rate(1 minute)")
        zone = f"{ACCOUNT.region}a"
        root.ec2.create_volume(
            AvailabilityZone=zone, Size=8, TagSpecifications=[{"ResourceType": "volume", "Tags": tags}]
        )
        root.ec2.create_launch_template(
            LaunchTemplateName="Old-20250101T000000Z",
            LaunchTemplateData={"InstanceType": "m5.large"},
            TagSpecifications=[{"ResourceType": "launch-template", "Tags": tags}],
        )
        for name in ("OldLogs", "OldLogs_perInstance"):
            root.logs.create_log_group(logGroupName=name, tags={"app": "Old"})
        environment: Any = [{"name": "SQS_QUEUE_URL", "value": "https://sqs.us-east-1.amazonaws.com/1/OldQueue"}]
        root.ecs.register_task_definition(
            family="OldTask",
            containerDefinitions=[{"name": "x", "image": "x", "memory": 100, "environment": environment}],
            tags=[{"key": "app", "value": "Old"}],
        )
        body = json.dumps(build_dashboard(RUN_SETTINGS.model_copy(update={"APP_NAME": "Old"}), "sfr-0"))
        root.cloudwatch.put_dashboard(DashboardName="Old", DashboardBody=body)

    _rule = build_monitor_rule_name("App")

    def _simulate_machines(self) -> None:
        """Simulate what EC2 and the machines' ECS agents would do."""
        update_fleets(self._machines.ec2)
        self._machines.simulate_step()
        for cluster in self._machines.ecs.clusters.values():
            cluster.registered_container_instances_count = len(self._machines.ecs.container_instances[cluster.name])
            cluster.running_tasks_count = 0  # moto also counts tasks that no service started

    def _build_template_fleet(self) -> dict[str, Any]:
        """Return the content of a fleet file that uses an existing launch template."""
        content = load_fleet_file(self.fleet)
        specification = content.pop("LaunchSpecifications")[0]
        interface = specification.pop("NetworkInterfaces")[0]
        data = specification | {"SecurityGroupIds": interface["Groups"]}
        name = f"template-{time.monotonic()}"
        self.stage.root.ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)
        reference = {"LaunchTemplateName": name, "Version": "$Default"}
        overrides = [{"SubnetId": subnet} for subnet in interface["SubnetId"].split(",")]
        return content | {"LaunchTemplateConfigs": [{"LaunchTemplateSpecification": reference, "Overrides": overrides}]}


def _add_specification(content: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of a fleet file with a second, different specification."""
    (specification,) = content["LaunchSpecifications"]
    second = deepcopy(specification) | {"EbsOptimized": True}
    return content | {"LaunchSpecifications": [specification, second]}


def _add_key_and_snapshot(content: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of a fleet file with a key pair and a disk from a snapshot, because `check` looks these up, too."""
    changed = deepcopy(content)
    disk = {"DeviceName": "/dev/xvdb", "Ebs": {"SnapshotId": "snap-0123456789abcdef0"}}
    for specification in changed["LaunchSpecifications"]:
        specification["KeyName"] = "key"
        specification["BlockDeviceMappings"].append(deepcopy(disk))
    return changed


class Ec2Metadata:
    """Instance metadata of an EC2 machine that contains only the instance ID."""

    is_on_ec2 = True

    def __init__(self, instance: str) -> None:
        self._instance = instance

    def get(self, path: str) -> str | None:
        return self._instance if path.endswith("instance-id") else None


class WorkerClients:
    """Clients for a container, with the role that containers have in the scenario."""

    def __init__(self, session: boto3.Session) -> None:
        self._session = session

    def __call__(self, service: Any, **_: Any) -> Any:
        return self._session.client(service)

    def create_transfers(self, _: Any) -> None:
        """Return no transfers through awscrt, whose requests would not be recorded."""

    def create_endpoint_client(self, *_: Any) -> Any:
        raise AssertionError("the scenario's jobs use only AWS")

    def create_lease_client(self, _: float) -> Any:
        return self._session.client("sqs")
