"""What the checks look up in AWS. Each thing is asked once, when a check first wants it; a refusal is kept as well.

So the number of calls is small and fixed: about twenty, one more for each hundred machine types and for each page of
prices. Nothing here judges, and nothing is changed in AWS.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from distributed_something.aws.clients import Clients
from distributed_something.aws.ecs import describe_cluster, describe_service
from distributed_something.aws.instance_types import (
    MachineType,
    QuotaClass,
    find_quota_class,
    list_machine_types,
    list_type_offerings,
    read_quota_value,
)
from distributed_something.aws.retry import none_if_missing
from distributed_something.aws.spot_prices import PriceReport, list_price_reports
from distributed_something.core.errors import AWSError
from distributed_something.fleet.launch_specs import (
    LAUNCH_TEMPLATE_CONFIGS_KEY,
    LaunchSpecification,
    build_launch_specifications,
    build_launch_specs,
    parse_arn_name,
)
from distributed_something.fleet.launch_template import find_template_data
from distributed_something.observe.queue import QueueCounts, observe_queue
from distributed_something.worker import RUNS_PREFIX

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

    from distributed_something.core.config_settings import Settings


T = TypeVar("T")
_MISSING_CODES = {"404", "NoSuchBucket", "NoSuchEntity", "NoSuchBucketPolicy"}


@dataclass(frozen=True)
class Answer(Generic[T]):
    """What AWS answered to one look-up: a result, or a refusal, which every use of `value` raises."""

    result: T | None = None
    refusal: BaseException | None = None

    @property
    def value(self) -> T:
        if self.refusal is not None:
            raise self.refusal
        return self.result  # type: ignore[return-value]  # what is None is a T then


def ask(look: Callable[[], T]) -> Answer[T]:
    """Look once. Errors that are none of AWS's pass."""
    try:
        return Answer(look())
    except AWSError as error:
        return Answer(refusal=error)


@dataclass(frozen=True)
class QueueFacts:
    """A queue: its counts, its tags, and the dead-letter queue that it feeds (a name, '' without)."""

    counts: QueueCounts
    tags: dict[str, str]
    feeds: str


@dataclass
class Lookups:
    """All look-ups of one check, each made when it is first wanted. `fleet`: the content of a Fleet file that is right;
    None without one.

    What does not exist is None, or missing in the result.
    """

    settings: Settings
    clients: Clients
    now: datetime
    fleet: dict[str, Any] | None = None

    @property
    def specifications(self) -> list[LaunchSpecification]:
        """What the fleet asks for; without a fleet file just the config's types. Of a launch template that may not be
        read (the check of the template tells that) only what the file says itself."""
        if self.fleet is None:
            return [LaunchSpecification(name) for name in self.settings.MACHINE_TYPE]
        return build_launch_specifications(build_launch_specs(self.fleet, self.settings, self.template.result))

    @property
    def spot_machines(self) -> int:
        """How many of the machines are asked for as spot machines."""
        return self.settings.CLUSTER_MACHINES - self.settings.ON_DEMAND_MACHINES

    @property
    def type_names(self) -> list[str]:
        return sorted(
            {specification.machine_type for specification in self.specifications if specification.machine_type}
        )

    @property
    def zones(self) -> set[str]:
        """The zones of the fleet's subnets; empty where it names none, or where they may not be looked up."""
        return {subnet["AvailabilityZone"] for subnet in (self.subnets.result or {}).values()}

    @cached_property
    def identity(self) -> Answer[Any]:
        """Who calls: account, ARN."""
        return ask(self.clients.sts.get_caller_identity)

    @cached_property
    def bucket_region(self) -> Answer[str | None]:
        """Where the bucket is; None where there is none, '' where S3 does not say."""
        return ask(self._find_bucket_region)

    @property
    def no_bucket(self) -> bool:
        """Whether it is known that there is none."""
        return self.bucket_region == Answer(None)

    @cached_property
    def bucket_policy(self) -> Answer[dict[str, Any]]:
        """The bucket's policy; empty where there is none."""
        return ask(self._read_bucket_policy)

    def check_bucket_write(self) -> None:
        """Raises ClientError where nothing may be written to the bucket. Leaves nothing behind: it begins an upload
        in parts, which needs the right to write, and ends it without a part."""
        place = {"Bucket": self.settings.AWS_BUCKET, "Key": f"{RUNS_PREFIX}/{self.settings.APP_NAME}/check"}
        begun = self.clients.s3.create_multipart_upload(**place)["UploadId"]  # type: ignore[arg-type]
        self.clients.s3.abort_multipart_upload(**place, UploadId=begun)  # type: ignore[arg-type]

    @cached_property
    def fleet_role(self) -> Answer[Any | None]:
        """The fleet's role; None where there is no such one."""
        name = parse_arn_name(str((self.fleet or {}).get("IamFleetRole", "")))
        find_role = partial(self.clients.iam.get_role, RoleName=name)
        return ask(lambda: (none_if_missing(find_role, *_MISSING_CODES) or {}).get("Role"))

    @cached_property
    def profiles(self) -> Answer[dict[str, Any | None]]:
        """The instance profiles that the fleet names, each None where there is no such one."""
        wanted = sorted(
            {parse_arn_name(specification.profile) for specification in self.specifications if specification.profile}
        )
        return ask(lambda: {name: self._find_profile(name) for name in wanted})

    @cached_property
    def job_queue(self) -> Answer[QueueFacts | None]:
        return ask(partial(_find_queue_facts, self.clients.sqs, self.settings.SQS_QUEUE_NAME))

    @cached_property
    def dead_queue(self) -> Answer[QueueFacts | None]:
        return ask(partial(_find_queue_facts, self.clients.sqs, self.settings.SQS_DEAD_LETTER_QUEUE))

    @cached_property
    def cluster(self) -> Answer[Any | None]:
        return ask(partial(describe_cluster, self.clients.ecs, self.settings.ECS_CLUSTER))

    @cached_property
    def service(self) -> Answer[Any | None]:
        """The app's active service with its tags."""
        return ask(self._find_active_service)

    @cached_property
    def template(self) -> Answer[dict[str, Any] | None]:
        """The content of the launch template that the Fleet file names; None where it names none that is there."""
        if self.fleet is None or LAUNCH_TEMPLATE_CONFIGS_KEY not in self.fleet:
            return Answer(None)
        return ask(partial(find_template_data, self.fleet, self.clients.ec2))

    @cached_property
    def subnets(self) -> Answer[dict[str, Any]]:
        wanted = {subnet for specification in self.specifications for subnet in specification.subnets}
        return self._describe_by_filter("describe_subnets", "subnet-id", wanted, "Subnets", "SubnetId")

    @cached_property
    def routes(self) -> Answer[dict[str, Any]]:
        """The route tables of the subnets' networks."""
        networks = {subnet["VpcId"] for subnet in (self.subnets.result or {}).values()}
        return self._describe_by_filter("describe_route_tables", "vpc-id", networks, "RouteTables", "RouteTableId")

    @cached_property
    def groups(self) -> Answer[dict[str, Any]]:
        wanted = {group for specification in self.specifications for group in specification.groups}
        return self._describe_by_filter("describe_security_groups", "group-id", wanted, "SecurityGroups", "GroupId")

    @cached_property
    def keys(self) -> Answer[dict[str, Any]]:
        wanted = {specification.key for specification in self.specifications if specification.key}
        return self._describe_by_filter("describe_key_pairs", "key-name", wanted, "KeyPairs", "KeyName")

    @cached_property
    def images(self) -> Answer[dict[str, Any]]:
        wanted = {specification.image for specification in self.specifications if specification.image}
        return self._describe_by_filter(
            "describe_images", "image-id", wanted, "Images", "ImageId", IncludeDeprecated=True
        )

    @cached_property
    def snapshots(self) -> Answer[dict[str, Any]]:
        """The snapshots that the fleet file itself names."""
        wanted = {
            snapshot for specification in self.specifications for _, _, snapshot in specification.volumes if snapshot
        }
        return self._describe_by_filter("describe_snapshots", "snapshot-id", wanted, "Snapshots", "SnapshotId")

    @cached_property
    def types(self) -> Answer[dict[str, MachineType]]:
        return ask(partial(list_machine_types, self.clients.ec2, self.type_names))

    @cached_property
    def offered(self) -> Answer[set[tuple[str, str]]]:
        return ask(partial(list_type_offerings, self.clients.ec2, self.type_names))

    @cached_property
    def quotas(self) -> Answer[dict[QuotaClass, float]]:
        """Virtual CPUs for each class of the fleet's types."""
        classes = {quota for name in self.type_names if (quota := find_quota_class(name)) is not None}
        ordered = sorted(classes, key=lambda quota: quota.code)
        return ask(lambda: {quota: read_quota_value(self.clients.service_quotas, quota) for quota in ordered})

    @cached_property
    def prices(self) -> Answer[list[PriceReport]]:
        """Of the last week, in the zones of the subnets; where these are not known, in the whole region."""
        return ask(partial(list_price_reports, self.clients.ec2, self.type_names, self.zones, self.now))

    def _describe_by_filter(
        self, call: str, by: str, wanted: set[str], listed: str, key: str, **more: Any
    ) -> Answer[dict[str, Any]]:
        """What EC2 knows of `wanted`, by id; no call where nothing is wanted."""
        if not wanted:
            return Answer({})
        filters = [{"Name": by, "Values": sorted(wanted)}]
        describe = partial(getattr(self.clients.ec2, call), Filters=filters, **more)
        return ask(lambda: {described[key]: described for described in describe()[listed]})

    def _find_bucket_region(self) -> str | None:
        head: Any = partial(self.clients.s3.head_bucket, Bucket=self.settings.AWS_BUCKET)
        answer = none_if_missing(head, *_MISSING_CODES)
        if answer is None:
            return None
        headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        return str(answer.get("BucketRegion") or headers.get("x-amz-bucket-region") or "")

    def _read_bucket_policy(self) -> dict[str, Any]:
        read: Any = partial(self.clients.s3.get_bucket_policy, Bucket=self.settings.AWS_BUCKET)
        answer = none_if_missing(read, *_MISSING_CODES)
        policy = json.loads(answer["Policy"] or "{}") if answer else {}
        return policy if isinstance(policy, dict) else {}

    def _find_profile(self, name: str) -> Any | None:
        find = partial(self.clients.iam.get_instance_profile, InstanceProfileName=name)
        return (none_if_missing(find, *_MISSING_CODES) or {}).get("InstanceProfile")

    def _find_active_service(self) -> Any | None:
        cluster, name = self.settings.ECS_CLUSTER, self.settings.names.service
        described = describe_service(self.clients.ecs, cluster, name, with_tags=True)
        return described if described is not None and described["status"] == "ACTIVE" else None


def _find_queue_facts(sqs: SQSClient, name: str) -> QueueFacts | None:
    queue = observe_queue(sqs, name)
    if queue is None:
        return None
    tags = sqs.list_queue_tags(QueueUrl=queue.url).get("Tags", {})
    return QueueFacts(queue.counts, dict(tags), queue.dead_letter_queue or "")
