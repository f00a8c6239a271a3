"""Checks the account: credentials, bucket, roles, log export, and whether another app uses the same names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from distributed_something.account.bucket import is_policy_hidden
from distributed_something.account.bucket_key import BucketKey, format_key_problem, is_key_allowed
from distributed_something.account.policy_documents import list_trusted_services
from distributed_something.aws.cloudwatch_logs import build_log_group_names
from distributed_something.core.errors import (
    AWSError,
    fill_in_profile,
    find_missing_permission,
    find_remedy,
    format_lookup_error,
    is_foreign_response,
    is_login_error,
    is_settings_error,
)
from distributed_something.core.names import CHINA_DOMAIN_SUFFIX, EXPORT_PREFIX, SHARED_APP, AwsAccount
from distributed_something.core.tags import parse_tags
from distributed_something.diagnose.check.findings import (
    Finding,
    build_ok_finding,
    build_warning_finding,
    build_wrong_finding,
)
from distributed_something.diagnose.check.lookups import Lookups, QueueFacts
from distributed_something.diagnose.check.permissions.resource_policy import (
    PolicyVerdict,
    ServiceRequest,
    judge_request,
)
from distributed_something.fleet.launch_specs import parse_arn_name

if TYPE_CHECKING:
    from distributed_something.core.config_settings import Settings

MISSING_PERMISSION_REMEDY = "ask your administrator for this permission, or ignore this warning"
SETUP_AWS_REMEDY = "run setupAWS, which creates it, then fleetFile"
FLEET_SERVICE_PRINCIPAL, EC2_SERVICE_PRINCIPAL = "spotfleet.amazonaws.com", "ec2.amazonaws.com"


def check_login(lookups: Lookups) -> Iterator[Finding]:
    """Check that AWS answers and accepts the credentials.

    `GetCallerIdentity` needs no permission, so if it fails, the credentials or the way to AWS are wrong.
    """
    try:
        identity = lookups.identity.value
    except AWSError as error:
        if not (is_login_error(error) or is_settings_error(error) or is_foreign_response(error)):
            raise
        remedy = fill_in_profile(find_remedy(error), lookups.settings.AWS_PROFILE)
        yield build_wrong_finding("account", format_lookup_error(error), remedy)
        return
    name, region = parse_arn_name(identity["Arn"]), lookups.settings.AWS_REGION
    yield build_ok_finding("account", f"{identity['Account']} as {name}, region {region}")


def check_bucket(lookups: Lookups) -> Iterator[Finding]:
    """Check that the bucket exists, is in the machines' region, is writable, and has a key that containers may use."""
    settings = lookups.settings
    try:
        yield from judge_bucket(settings.AWS_BUCKET, lookups.bucket_region.value, settings.AWS_REGION)
    except ClientError as error:
        if find_missing_permission(error) is None:
            raise
        permission = find_missing_permission(error)
        yield build_warning_finding(
            "bucket",
            f"cannot tell whether {settings.AWS_BUCKET} exists: the lookup needs {permission}, or someone else "
            "owns the bucket",
            MISSING_PERMISSION_REMEDY,
        )
    if lookups.is_bucket_missing:
        return
    try:
        lookups.check_bucket_write()
    except ClientError as error:
        if find_missing_permission(error) is None:
            raise
        yield build_wrong_finding(
            "bucket",
            f"you cannot write to it: {format_lookup_error(error)}",
            "ask your administrator for this permission, or set AWS_BUCKET to a bucket you own",
        )
    else:
        yield build_ok_finding("bucket", "you can write to it (tested; the test left no files)")
    yield from _check_bucket_keys(lookups)


def _check_bucket_keys(lookups: Lookups) -> Iterator[Finding]:
    """Check that the containers' role may use the KMS keys that encrypt the config's buckets, if there are any."""
    for key in lookups.bucket_keys.value:
        if key.problem:
            remedy = MISSING_PERMISSION_REMEDY if key.permission else "run check again"
            details = {"right": key.permission or None}
            yield build_warning_finding("bucket", format_key_problem(key), remedy, details=details)
        elif key.arn:
            is_written = key.bucket in (lookups.buckets.own, *lookups.buckets.write)
            policy = lookups.read_key_policy(key.bucket)
            yield judge_bucket_key(key, policy, lookups.identity.value["Account"], is_written=is_written)


def judge_bucket_key(key: BucketKey, policy: Mapping[str, Any] | None, account: str, *, is_written: bool) -> Finding:
    """Check that the policy of the containers' role allows the bucket's key. `policy`: None if there is none.

    The key's own policy may allow the role too, which users often cannot see, so a missing policy is a warning.
    """
    if policy is None or not is_key_allowed(policy, key.arn, write=is_written):
        problem = f"{key.bucket} is encrypted with {key.arn}, and the policies of the containers' role do not allow it"
        return build_warning_finding("bucket", problem, "run setupAWS, which adds the permission")
    owner = "" if key.account_id == account else f", if account {key.account_id} allows it in the key policy too"
    return build_ok_finding("bucket", f"containers may use the key of {key.bucket}{owner}")


def judge_bucket(name: str, region: str | None, wanted_region: str) -> Iterator[Finding]:
    """Compare the bucket's region with the machines' region.

    `region` is None if the bucket does not exist and '' if S3 does not report its region.
    """
    if region is None:
        yield build_wrong_finding(
            "bucket", f"there is no bucket {name}", "create it, or correct AWS_BUCKET in the config"
        )
    elif region and region != wanted_region:
        yield build_warning_finding(
            "bucket",
            f"{name} is in {region}, but the machines would be in {wanted_region}: AWS charges for every transfer "
            "between regions",
            f"set AWS_REGION = '{region}' and use a Fleet file for that region",
        )
    else:
        yield build_ok_finding("bucket", f"{name} exists, in {region or 'a region that S3 does not report'}")


def check_fleet_role(lookups: Lookups) -> Iterator[Finding]:
    """Check the role that lets the fleet start and tag machines."""
    if lookups.fleet is not None:
        name = parse_arn_name(str(lookups.fleet.get("IamFleetRole", "")))
        yield from judge_role("fleet role", name, lookups.fleet_role.value, FLEET_SERVICE_PRINCIPAL)


def check_instance_profiles(lookups: Lookups) -> Iterator[Finding]:
    """Check the machines' instance profiles."""
    if lookups.fleet is None:
        return
    if any(specification.profile is None and not specification.unread for specification in lookups.specifications):
        message = "a launch specification has no IamInstanceProfile, so its machines could not join the cluster"
        yield build_wrong_finding(
            "profile", message, "add it, with the ARN of the instance profile ecsInstanceRole", is_user_error=True
        )
    for name, profile in lookups.profiles.value.items():
        yield from judge_instance_profile(name, profile)


def check_same_account(lookups: Lookups) -> Iterator[Finding]:
    """Check that the roles in the Fleet file belong to the account that the user is logged in to."""
    if lookups.fleet is None:
        return
    arns_by_key = {"IamFleetRole": {str(lookups.fleet.get("IamFleetRole", ""))}}
    arns_by_key["IamInstanceProfile"] = {
        specification.profile for specification in lookups.specifications if specification.profile
    }
    for key, arns in arns_by_key.items():
        for arn in sorted(arns):
            yield from judge_arn_account(arn, key, lookups.identity.value["Account"])


def judge_arn_account(arn: str, key: str, account: str) -> Iterator[Finding]:
    """Check that the ARN belongs to the logged-in account. A bare name, which contains no account, passes."""
    parts = arn.split(":")
    if len(parts) > 4 and parts[4] != account:
        yield build_wrong_finding(
            "roles",
            f"{key} belongs to account {parts[4]}, but you are logged in to {account}",
            f"use a Fleet file for {account}, or set AWS_PROFILE to a profile for {parts[4]}",
            is_user_error=True,
        )


def judge_instance_profile(name: str, profile: Mapping[str, Any] | None) -> Iterator[Finding]:
    """Check that the instance profile exists and contains a role.

    The AWS console creates an instance profile with each EC2 role; the API and the command line create only the role.
    """
    if profile is None:
        message = f"there is no instance profile {name} (a role with that name is not enough)"
        yield build_wrong_finding("profile", message, SETUP_AWS_REMEDY)
    elif not profile.get("Roles"):
        yield build_wrong_finding("profile", f"the instance profile {name} contains no role", SETUP_AWS_REMEDY)
    else:
        role = profile["Roles"][0]
        yield from judge_role("profile", str(role["RoleName"]), role, EC2_SERVICE_PRINCIPAL)


def judge_role(topic: str, name: str, role: Mapping[str, Any] | None, service: str) -> Iterator[Finding]:
    """Check that the role exists and that `service` (or its name in the China regions) may assume it."""
    if role is None:
        yield build_wrong_finding(topic, f"there is no role {name}", SETUP_AWS_REMEDY)
    elif not {service, service + CHINA_DOMAIN_SUFFIX} & list_trusted_services(role.get("AssumeRolePolicyDocument", {})):
        remedy = f"run setupAWS, which adds {service} to its trust policy"
        yield build_wrong_finding(topic, f"{service} may not assume the role {name}", remedy)
    else:
        yield build_ok_finding(topic, f"{name} exists, and {service} may assume it")


def check_log_export(lookups: Lookups) -> Iterator[Finding]:
    """Check that the bucket policy lets CloudWatch Logs write to the bucket, which log export requires."""
    if lookups.is_bucket_missing:
        return
    if lookups.bucket_policy.error is not None and is_policy_hidden(lookups.bucket_policy.error):
        permission = "s3:GetBucketPolicy"
        problem = (
            f"cannot tell whether the bucket has a policy that lets CloudWatch Logs write to it: needs {permission}"
        )
        remedy = "ask the bucket's owner for this permission, or ignore this warning"
        yield build_warning_finding("log export", problem, remedy, details={"right": permission})
    else:
        verdict = judge_log_export(lookups.bucket_policy.value, lookups.account, lookups.settings)
        yield _build_log_export_finding(verdict)


def _build_log_export_finding(verdict: PolicyVerdict) -> Finding:
    result = "so the run cannot export its logs at the end (each job's log is in the bucket anyway)"
    match verdict:
        case PolicyVerdict.ALLOWED:
            return build_ok_finding("log export", "the bucket policy lets CloudWatch Logs write to the bucket")
        case PolicyVerdict.UNKNOWN:
            problem = (
                "cannot tell whether the bucket policy lets CloudWatch Logs write to the bucket: it has conditions or "
                "exceptions that check does not evaluate"
            )
            remedy = (
                "run setupAWS, which adds what the export needs; if this stays, look at the policy's Deny statements"
            )
        case PolicyVerdict.NOT_ALLOWED:
            problem = f"the bucket policy does not let CloudWatch Logs write to the bucket, {result}"
            remedy = "run setupAWS, which adds the missing statement"
        case PolicyVerdict.DENIED:
            problem = (
                f"a Deny statement of the bucket policy keeps CloudWatch Logs from writing to the bucket, {result}"
            )
            remedy = "correct this statement, or ask the bucket's owner to"
    return build_warning_finding("log export", problem, remedy)


def judge_log_export(policy: Mapping[str, Any], account: AwsAccount, settings: Settings) -> PolicyVerdict:
    """Return whether the bucket policy lets CloudWatch Logs read the bucket's ACL and write the app's logs.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/S3ExportTasks.html
    """
    names = {"logs.amazonaws.com", f"logs.{account.region}.amazonaws.com"}
    services = frozenset(names | {name + CHINA_DOMAIN_SUFFIX for name in names})
    groups = [f"log-group:{name}" for name in build_log_group_names(settings.LOG_GROUP_NAME)]
    values = {
        "aws:sourceaccount": [account.account_id],
        "aws:sourcearn": [account.arn("logs", f"{name}{end}", account.region) for name in groups for end in ("", ":*")],
        "aws:principalisawsservice": ["true"],
        "aws:principalservicename": services,
        "aws:securetransport": ["true"],
    }
    bucket, key = settings.AWS_BUCKET, f"{EXPORT_PREFIX}/{settings.APP_NAME}/run/file"
    verdicts = (
        judge_request(policy, ServiceRequest(services, "s3:GetBucketAcl", account.bucket(bucket), values)),
        judge_request(
            policy,
            ServiceRequest(
                services, "s3:PutObject", account.bucket(bucket, key),
                values | {"s3:x-amz-acl": ["bucket-owner-full-control"]},
            ),
        ),
    )  # fmt: skip
    return max(verdicts, key=list(PolicyVerdict).index)


def check_name_owners(lookups: Lookups) -> Iterator[Finding]:
    """Check that the job queue, cluster, and service do not belong to another app, and who else uses the others."""
    settings, app = lookups.settings, lookups.settings.APP_NAME
    findings = [
        *judge_queue_owner(settings.SQS_QUEUE_NAME, lookups.job_queue.value, app),
        *judge_dead_letter_owner(settings.SQS_DEAD_LETTER_QUEUE, lookups.dead_letter_queue.value, app),
        *judge_cluster_owner(settings.ECS_CLUSTER, lookups.cluster.value, app),
        *judge_service_owner(settings.names.service, lookups.service.value, app),
    ]
    yield from findings or [build_ok_finding("names", "no other app uses the queues, the cluster, or the service")]


def judge_queue_owner(name: str, queue: QueueFacts | None, app: str) -> Iterator[Finding]:
    """Check the job queue's `app` tag.

    If two apps share a queue, their jobs get mixed up. Without the tag, the roles that setupAWS creates do not allow
    workers to receive jobs.
    """
    if queue is None:
        return
    owner = queue.tags.get("app")
    if not owner:
        yield _build_missing_tag_finding(name)
    elif owner == SHARED_APP:
        problem = f"the queue {name} is a dead-letter queue that several apps share"
        yield build_wrong_finding("names", problem, "choose another SQS_QUEUE_NAME", is_user_error=True)
    elif owner != app:
        yield build_wrong_finding(
            "names",
            f"the queue {name} belongs to the app {owner}: its jobs would get mixed up with yours",
            "choose another SQS_QUEUE_NAME",
            is_user_error=True,
        )


def judge_dead_letter_owner(name: str, queue: QueueFacts | None, app: str) -> Iterator[Finding]:
    """Check the dead-letter queue's `app` tag, and that it is not a job queue. Apps may share a dead-letter queue."""
    if queue is None:
        return
    owner = queue.tags.get("app")
    if queue.dead_letter_queue:
        yield build_wrong_finding(
            "names",
            f"the queue {name} is a job queue: it has a dead-letter queue itself, {queue.dead_letter_queue}",
            "choose another SQS_DEAD_LETTER_QUEUE",
            is_user_error=True,
        )
    elif not owner:
        yield _build_missing_tag_finding(name)
    elif owner != app:
        sharing = "several apps share it" if owner == SHARED_APP else f"it belongs to the app {owner}"
        yield build_ok_finding("names", f"the dead-letter queue {name} is not only yours ({sharing}); cleanup keeps it")


def _build_missing_tag_finding(queue: str) -> Finding:
    problem = f"the queue {queue} has no `app` tag, which permissions depend on"
    return build_warning_finding("names", problem, "run setup, which adds it")


def judge_cluster_owner(name: str, cluster: Mapping[str, Any] | None, app: str) -> Iterator[Finding]:
    """Check the cluster's `app` tag. Apps may share a cluster, but separate clusters are easier to watch."""
    owner = _find_owner(cluster)
    if owner and owner != app:
        yield build_warning_finding(
            "names",
            f"the cluster {name} was created by the app {owner}; it would contain the machines of both apps",
            "choose another ECS_CLUSTER, unless you want to share it",
        )


def judge_service_owner(name: str, service: Mapping[str, Any] | None, app: str) -> Iterator[Finding]:
    """Check the service's `app` tag and whether a run is using the service.

    A service without the tag was created by the published system.
    """
    owner = _find_owner(service)
    if owner and owner != app:
        yield build_wrong_finding(
            "names", f"the service {name} belongs to the app {owner}", "choose another APP_NAME", is_user_error=True
        )
    elif service and not owner:
        yield build_warning_finding(
            "names",
            f"the service {name} has no `app` tag, which permissions depend on",
            "when nothing runs in it, delete it with aws ecs delete-service --force; setup then creates it again",
        )
    elif service and service.get("desiredCount"):
        yield build_warning_finding(
            "names",
            f"the service {name} is set to run {service['desiredCount']} containers: a run of {app} is in progress",
            "watch it with monitor; for a second run, use another APP_NAME",
        )


def _find_owner(described: Mapping[str, Any] | None) -> str | None:
    """Return the `app` tag of a cluster or service; None if it has no such tag."""
    return parse_tags(described.get("tags") if described else None).get("app")
