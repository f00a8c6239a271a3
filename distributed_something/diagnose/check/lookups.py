"""AWS lookups for the checks. Each lookup is made once, when a check first needs it; its result or error is cached.

The number of calls is therefore small and fixed: about 40 with those of `permissions`, plus one per 100 machine types
and one per page of prices.
Nothing here evaluates a result or changes anything in AWS.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from distributed_something.account.bucket_key import BucketKey, find_bucket_keys
from distributed_something.account.setup_aws import Buckets, collect_buckets, get_key_policy_name
from distributed_something.aws.clients import Clients
from distributed_something.aws.ecs import describe_cluster, describe_service
from distributed_something.aws.instance_types import (
    GP3_STORAGE_QUOTA,
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
from distributed_something.core.names import TASK_ROLE, AwsAccount
from distributed_something.diagnose.check.container_image.http import Fetch
from distributed_something.fleet.launch_specs import (
    LAUNCH_TEMPLATE_CONFIGS_KEY,
    LaunchSpecification,
    build_launch_specifications,
    build_launch_specs,
    parse_arn_name,
)
from distributed_something.fleet.launch_template import find_template_data
from distributed_something.observe.queue import QueueCounts, observe_queue
from distributed_something.results.next_run.document import RunMeasurement, load_measurement
from distributed_something.worker import RUNS_PREFIX

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

    from distributed_something.core.config_settings import Settings


T = TypeVar("T")
_MISSING_CODES = {"404", "NoSuchBucket", "NoSuchEntity", "NoSuchBucketPolicy"}


@dataclass(frozen=True)
class LookupResult(Generic[T]):
    """Result of one lookup, or its AWS error, which `value` raises on every access."""

    result: T | None = None
    error: BaseException | None = None

    @property
    def value(self) -> T:
        if self.error is not None:
            raise self.error
        return self.result  # type: ignore[return-value]  # without an error, None is a valid T


def look_up(call: Callable[[], T]) -> LookupResult[T]:
    """Return the result of `call`, or its AWS error. Other errors are raised."""
    try:
        return LookupResult(call())
    except AWSError as error:
        return LookupResult(error=error)


@dataclass(frozen=True)
class QueueFacts:
    """Counts and tags of a queue, and the name of its dead-letter queue ('' if it has none)."""

    counts: QueueCounts
    tags: dict[str, str]
    dead_letter_queue: str


@dataclass
class Lookups:
    """All lookups of one `check`, each made when it is first needed.

    `fleet` is the content of a valid Fleet file, or None. `fetch` sends requests to image registries; None sends none.
    `is_local`: the lookups are made in the local cloud.
    A resource that does not exist is None or missing from the result.
    """

    settings: Settings
    clients: Clients
    now: datetime
    fleet: dict[str, Any] | None = None
    fetch: Fetch | None = None
    is_local: bool = False

    @property
    def specifications(self) -> list[LaunchSpecification]:
        """The fleet's launch specifications; without a Fleet file, only the machine types in the config.

        If the launch template cannot be read, the specifications contain only the values in the Fleet file itself;
        `check_launch_template` reports the error.
        """
        if self.fleet is None:
            is_public = self.settings.ASSIGN_IP
            return [LaunchSpecification(name, has_public_address=is_public) for name in self.settings.MACHINE_TYPE]
        specs = build_launch_specs(self.settings, self.fleet, self.template.result)
        return build_launch_specifications(self.settings, specs)

    @property
    def has_public_addresses(self) -> bool:
        """Whether all machines get a public address."""
        return all(specification.has_public_address for specification in self.specifications)

    @property
    def spot_machines(self) -> int:
        """Number of spot machines that the config requests."""
        return self.settings.CLUSTER_MACHINES - self.settings.ON_DEMAND_MACHINES

    @property
    def type_names(self) -> list[str]:
        return sorted(
            {specification.machine_type for specification in self.specifications if specification.machine_type}
        )

    @property
    def zones(self) -> set[str]:
        """Zones of the fleet's subnets; empty if the Fleet file lists no subnets or their lookup fails."""
        return {subnet["AvailabilityZone"] for subnet in (self.subnets.result or {}).values()}

    @cached_property
    def identity(self) -> LookupResult[Any]:
        """Account and ARN of the user or role that calls AWS."""
        return look_up(self.clients.sts.get_caller_identity)

    @cached_property
    def bucket_region(self) -> LookupResult[str | None]:
        """Region of the bucket; None if the bucket does not exist, '' if S3 does not report the region."""
        return look_up(self._find_bucket_region)

    @property
    def is_bucket_missing(self) -> bool:
        """Whether the bucket is known not to exist (False if it could not be looked up)."""
        return self.bucket_region == LookupResult(None)

    @cached_property
    def bucket_policy(self) -> LookupResult[dict[str, Any]]:
        """Bucket policy; empty if there is none."""
        return look_up(self._read_bucket_policy)

    @cached_property
    def buckets(self) -> Buckets:
        return collect_buckets(self.settings)

    @cached_property
    def bucket_keys(self) -> LookupResult[list[BucketKey]]:
        """The key of each bucket in the config."""
        return look_up(lambda: find_bucket_keys(self.clients, self.account, self.buckets.all))

    def read_key_policy(self, bucket: str) -> dict[str, Any] | None:
        """Return the policy with which setupAWS lets containers use the bucket's key; None if there is none.

        AWS errors are not caught.
        """
        name = get_key_policy_name(bucket)
        read: Any = partial(self.clients.iam.get_role_policy, RoleName=TASK_ROLE, PolicyName=name)
        return (none_if_missing(read, *_MISSING_CODES) or {}).get("PolicyDocument")

    @property
    def account(self) -> AwsAccount:
        parts = self.identity.value["Arn"].split(":")
        return AwsAccount(self.identity.value["Account"], self.settings.AWS_REGION, parts[1])

    def check_bucket_write(self) -> None:
        """Raise ClientError if the bucket is not writable.

        Starts a multipart upload, which requires write permission, and aborts it, so that no object is created.
        """
        location = {"Bucket": self.settings.AWS_BUCKET, "Key": f"{RUNS_PREFIX}/{self.settings.APP_NAME}/check"}
        upload_id = self.clients.s3.create_multipart_upload(**location)["UploadId"]  # type: ignore[arg-type]
        self.clients.s3.abort_multipart_upload(**location, UploadId=upload_id)  # type: ignore[arg-type]

    @cached_property
    def fleet_role(self) -> LookupResult[Any | None]:
        """The fleet's role; None if it does not exist."""
        name = parse_arn_name(str((self.fleet or {}).get("IamFleetRole", "")))
        find_role = partial(self.clients.iam.get_role, RoleName=name)
        return look_up(lambda: (none_if_missing(find_role, *_MISSING_CODES) or {}).get("Role"))

    @cached_property
    def profiles(self) -> LookupResult[dict[str, Any | None]]:
        """The fleet's instance profiles, keyed by name; None for each profile that does not exist."""
        names = sorted(
            {parse_arn_name(specification.profile) for specification in self.specifications if specification.profile}
        )
        return look_up(lambda: {name: self._find_profile(name) for name in names})

    @cached_property
    def job_queue(self) -> LookupResult[QueueFacts | None]:
        return look_up(partial(_find_queue_facts, self.clients.sqs, self.settings.SQS_QUEUE_NAME))

    @cached_property
    def dead_letter_queue(self) -> LookupResult[QueueFacts | None]:
        return look_up(partial(_find_queue_facts, self.clients.sqs, self.settings.SQS_DEAD_LETTER_QUEUE))

    @cached_property
    def cluster(self) -> LookupResult[Any | None]:
        return look_up(partial(describe_cluster, self.clients.ecs, self.settings.ECS_CLUSTER))

    @cached_property
    def service(self) -> LookupResult[Any | None]:
        """The app's active service with its tags; None if there is none."""
        return look_up(self._find_active_service)

    @cached_property
    def template(self) -> LookupResult[dict[str, Any] | None]:
        """Content of the fleet's launch template; None if the Fleet file uses none or the template does not exist."""
        if self.fleet is None or LAUNCH_TEMPLATE_CONFIGS_KEY not in self.fleet:
            return LookupResult(None)
        return look_up(partial(find_template_data, self.clients.ec2, self.fleet))

    @cached_property
    def subnets(self) -> LookupResult[dict[str, Any]]:
        ids = {subnet for specification in self.specifications for subnet in specification.subnets}
        return self._describe_by_filter("describe_subnets", "subnet-id", ids, "Subnets", "SubnetId")

    @cached_property
    def routes(self) -> LookupResult[dict[str, Any]]:
        """Route tables of the subnets' networks, keyed by ID."""
        networks = {subnet["VpcId"] for subnet in (self.subnets.result or {}).values()}
        return self._describe_by_filter("describe_route_tables", "vpc-id", networks, "RouteTables", "RouteTableId")

    @cached_property
    def groups(self) -> LookupResult[dict[str, Any]]:
        ids = {group for specification in self.specifications for group in specification.groups}
        return self._describe_by_filter("describe_security_groups", "group-id", ids, "SecurityGroups", "GroupId")

    @cached_property
    def key_pairs(self) -> LookupResult[dict[str, Any]]:
        names = {specification.key for specification in self.specifications if specification.key}
        return self._describe_by_filter("describe_key_pairs", "key-name", names, "KeyPairs", "KeyName")

    @cached_property
    def images(self) -> LookupResult[dict[str, Any]]:
        ids = {specification.image for specification in self.specifications if specification.image}
        return self._describe_by_filter("describe_images", "image-id", ids, "Images", "ImageId", IncludeDeprecated=True)

    @cached_property
    def snapshots(self) -> LookupResult[dict[str, Any]]:
        """Snapshots in the launch specifications, keyed by ID."""
        ids = {
            snapshot for specification in self.specifications for _, _, snapshot in specification.volumes if snapshot
        }
        return self._describe_by_filter("describe_snapshots", "snapshot-id", ids, "Snapshots", "SnapshotId")

    @cached_property
    def types(self) -> LookupResult[dict[str, MachineType]]:
        return look_up(partial(list_machine_types, self.clients.ec2, self.type_names))

    @cached_property
    def type_offerings(self) -> LookupResult[set[tuple[str, str]]]:
        return look_up(partial(list_type_offerings, self.clients.ec2, self.type_names))

    @cached_property
    def quotas(self) -> LookupResult[dict[QuotaClass, float]]:
        """The account's quota for spot machines, in virtual CPUs, for each class of the fleet's machine types."""
        classes = {quota for name in self.type_names if (quota := find_quota_class(name)) is not None}
        ordered = sorted(classes, key=lambda quota: quota.code)
        return look_up(lambda: {quota: read_quota_value(self.clients.service_quotas, quota) for quota in ordered})

    @cached_property
    def on_demand_quotas(self) -> LookupResult[dict[QuotaClass, float]]:
        """The same for on-demand machines."""
        classes = {quota for name in self.type_names if (quota := find_quota_class(name, on_demand=True)) is not None}
        ordered = sorted(classes, key=lambda quota: quota.code)
        return look_up(lambda: {quota: read_quota_value(self.clients.service_quotas, quota) for quota in ordered})

    @cached_property
    def gp3_storage_quota(self) -> LookupResult[float]:
        """The account's quota for gp3 volumes in the region, in TiB."""
        return look_up(partial(read_quota_value, self.clients.service_quotas, GP3_STORAGE_QUOTA))

    @cached_property
    def prices(self) -> LookupResult[list[PriceReport]]:
        """Last week's spot prices in the subnets' zones or, if the zones are unknown, in the whole region."""
        return look_up(partial(list_price_reports, self.clients.ec2, self.type_names, self.zones, self.now))

    @cached_property
    def measurement(self) -> LookupResult[RunMeasurement | None]:
        """What the app's latest run measured; None if no run has."""
        bucket, app = self.settings.AWS_BUCKET, self.settings.APP_NAME
        return look_up(partial(load_measurement, self.clients.s3, bucket, app))

    def _describe_by_filter(
        self, method: str, filter_name: str, values: set[str], list_key: str, id_key: str, **options: Any
    ) -> LookupResult[dict[str, Any]]:
        """Return EC2's descriptions of the matching resources, keyed by ID. Makes no call if `values` is empty."""
        if not values:
            return LookupResult({})
        filters = [{"Name": filter_name, "Values": sorted(values)}]
        describe = partial(getattr(self.clients.ec2, method), Filters=filters, **options)
        return look_up(lambda: {resource[id_key]: resource for resource in describe()[list_key]})

    def _find_bucket_region(self) -> str | None:
        head: Any = partial(self.clients.s3.head_bucket, Bucket=self.settings.AWS_BUCKET)
        response = none_if_missing(head, *_MISSING_CODES)
        if response is None:
            return None
        headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        return str(response.get("BucketRegion") or headers.get("x-amz-bucket-region") or "")

    def _read_bucket_policy(self) -> dict[str, Any]:
        read: Any = partial(self.clients.s3.get_bucket_policy, Bucket=self.settings.AWS_BUCKET)
        response = none_if_missing(read, *_MISSING_CODES)
        policy = json.loads(response["Policy"] or "{}") if response else {}
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
