"""Checks of the account: who calls, the bucket, the roles, log export, and names that another app uses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

from distributed_something.account.policy_documents import list_trusted_services, wrap_in_list
from distributed_something.core.errors import (
    AWSError,
    find_missing_permission,
    find_remedy,
    format_lookup_error,
    is_login_error,
)
from distributed_something.core.names import CHINA_DOMAIN_SUFFIX
from distributed_something.core.tags import parse_tags
from distributed_something.diagnose.check.findings import (
    Finding,
    build_ok_finding,
    build_warning_finding,
    build_wrong_finding,
)
from distributed_something.diagnose.check.lookups import Lookups, QueueFacts
from distributed_something.fleet.launch_specs import parse_arn_name

MISSING_RIGHT_REMEDY = "ask your administrator for this right, or ignore this line"
SETUP_AWS_REMEDY = "run setupAWS, which makes it, then fleetFile"
FLEET_SERVICE_PRINCIPAL, EC2_SERVICE_PRINCIPAL = "spotfleet.amazonaws.com", "ec2.amazonaws.com"


def check_login(facts: Lookups) -> Iterator[Finding]:
    """Any credentials may ask who they are; so whoever is refused here can do nothing."""
    try:
        who = facts.identity.value
    except AWSError as error:
        if not is_login_error(error):
            raise
        yield build_wrong_finding("account", format_lookup_error(error), find_remedy(error))
        return
    settings = facts.settings
    yield build_ok_finding("account", f"{who['Account']} as {parse_arn_name(who['Arn'])}, region {settings.AWS_REGION}")


def check_bucket(facts: Lookups) -> Iterator[Finding]:
    """It is there, near the machines, and may be written to."""
    settings = facts.settings
    try:
        yield from judge_bucket(settings.AWS_BUCKET, facts.bucket_region.value, settings.AWS_REGION)
    except ClientError as error:
        if find_missing_permission(error) is None:
            raise
        right = find_missing_permission(error)
        said = f"whether {settings.AWS_BUCKET} is there is not told: needs {right}, if it is yours at all"
        yield build_warning_finding("bucket", said, MISSING_RIGHT_REMEDY)
    if facts.no_bucket:
        return
    try:
        facts.check_bucket_write()
    except ClientError as error:
        if find_missing_permission(error) is None:
            raise
        yield build_wrong_finding(
            "bucket",
            f"you may not write to it: {format_lookup_error(error)}",
            "ask for this right, or name a bucket of yours in AWS_BUCKET",
        )
    else:
        yield build_ok_finding("bucket", "may be written to (tried; nothing was left in it)")


def judge_bucket(name: str, region: str | None, wanted: str) -> Iterator[Finding]:
    """`region`: of the bucket; None: there is none; '': not told."""
    if region is None:
        yield build_wrong_finding(
            "bucket", f"there is no bucket {name}", "make it, or correct AWS_BUCKET in the config"
        )
    elif region and region != wanted:
        yield build_warning_finding(
            "bucket",
            f"{name} is in {region}, the machines would be in {wanted}: every byte between them is paid for",
            f"write AWS_REGION = '{region}' and use a fleet file of that region",
        )
    else:
        yield build_ok_finding("bucket", f"{name} is there, in {region or 'a region that S3 does not tell'}")


def check_fleet_role(facts: Lookups) -> Iterator[Finding]:
    """The role with which the fleet starts and tags machines."""
    if facts.fleet is not None:
        name = parse_arn_name(str(facts.fleet.get("IamFleetRole", "")))
        yield from judge_role("fleet role", name, facts.fleet_role.value, FLEET_SERVICE_PRINCIPAL)


def check_instance_profiles(facts: Lookups) -> Iterator[Finding]:
    """The machines' instance profiles."""
    if facts.fleet is None:
        return
    if any(one.profile is None and not one.unread for one in facts.specifications):
        said = "a launch specification names no IamInstanceProfile: its machines could not join the cluster"
        yield build_wrong_finding(
            "profile", said, "put the ARN of the instance profile ecsInstanceRole there", by_user=True
        )
    for name, found in facts.profiles.value.items():
        yield from judge_instance_profile(name, found)


def check_same_account(facts: Lookups) -> Iterator[Finding]:
    """The Fleet file is of the account that one is logged in to."""
    if facts.fleet is None:
        return
    arns = {"IamFleetRole": {str(facts.fleet.get("IamFleetRole", ""))}}
    arns["IamInstanceProfile"] = {one.profile for one in facts.specifications if one.profile}
    for key, some_arns in arns.items():
        for arn in sorted(some_arns):
            yield from judge_arn_account(arn, key, facts.identity.value["Account"])


def judge_arn_account(arn: str, key: str, account: str) -> Iterator[Finding]:
    """An ARN (a name tells no account) of the account that is logged in."""
    parts = arn.split(":")
    if len(parts) > 4 and parts[4] != account:
        yield build_wrong_finding(
            "roles",
            f"{key} is of account {parts[4]}, you are logged in to {account}",
            "use a fleet file of this account, or another AWS_PROFILE",
            by_user=True,
        )


def judge_instance_profile(name: str, found: Mapping[str, Any] | None) -> Iterator[Finding]:
    """An instance profile holds the role that a machine has; the console makes both, other ways only the role."""
    if found is None:
        said = f"there is no instance profile {name} (a role of that name is not enough)"
        yield build_wrong_finding("profile", said, SETUP_AWS_REMEDY)
    elif not found.get("Roles"):
        yield build_wrong_finding("profile", f"the instance profile {name} holds no role", SETUP_AWS_REMEDY)
    else:
        role = found["Roles"][0]
        yield from judge_role("profile", str(role["RoleName"]), role, EC2_SERVICE_PRINCIPAL)


def judge_role(topic: str, name: str, role: Mapping[str, Any] | None, service: str) -> Iterator[Finding]:
    """The role is there, and `service`, whatever it is called in China, may take it on."""
    if role is None:
        yield build_wrong_finding(topic, f"there is no role {name}", SETUP_AWS_REMEDY)
    elif not {service, service + CHINA_DOMAIN_SUFFIX} & list_trusted_services(role.get("AssumeRolePolicyDocument", {})):
        yield build_wrong_finding(
            topic, f"{service} may not take on the role {name}", f"add {service} to its trust policy; setupAWS does so"
        )
    else:
        yield build_ok_finding(topic, f"{name} is there, for {service}")


def check_log_export(facts: Lookups) -> Iterator[Finding]:
    """Log export puts logs into the bucket by a right that the bucket's policy gives."""
    if facts.no_bucket:
        return
    if is_log_export_allowed(facts.bucket_policy.value, facts.settings.AWS_REGION):
        yield build_ok_finding("log export", "the bucket's policy lets CloudWatch Logs write")
    else:
        yield build_warning_finding(
            "log export",
            "the bucket's policy does not let CloudWatch Logs write: logs are not exported "
            "at the end (jobs' logs lie in the bucket anyhow)",
            "run setupAWS, which adds it",
        )


def is_log_export_allowed(policy: Mapping[str, Any], region: str) -> bool:
    """Whether the bucket's policy lets CloudWatch Logs of that region read its ACL and write objects."""
    names = {"logs.amazonaws.com", f"logs.{region}.amazonaws.com", f"logs.{region}.amazonaws.com{CHINA_DOMAIN_SUFFIX}"}
    actions: set[str] = set()
    for statement in wrap_in_list(policy.get("Statement")):
        principal = statement.get("Principal", {})
        services = {"*"} if principal == "*" else set(wrap_in_list(principal.get("Service")))
        if statement.get("Effect") == "Allow" and services & (names | {"*"}):
            actions |= set(wrap_in_list(statement.get("Action")))
    everything = bool(actions & {"*", "s3:*"})
    return everything or {"s3:GetBucketAcl", "s3:PutObject"} <= actions


def check_name_owners(facts: Lookups) -> Iterator[Finding]:
    """Nothing that this run would use is another app's."""
    settings, app = facts.settings, facts.settings.APP_NAME
    found = [
        *judge_queue_owner(settings.SQS_QUEUE_NAME, facts.job_queue.value, app, "SQS_QUEUE_NAME"),
        *judge_queue_owner(settings.SQS_DEAD_LETTER_QUEUE, facts.dead_queue.value, app, "SQS_DEAD_LETTER_QUEUE"),
        *judge_cluster_owner(settings.ECS_CLUSTER, facts.cluster.value, app),
        *judge_service_owner(settings.names.service, facts.service.value, app),
    ]
    yield from found or [build_ok_finding("names", "queues, cluster and service are no other app's")]


def judge_queue_owner(name: str, found: QueueFacts | None, app: str, key: str) -> Iterator[Finding]:
    """A queue that two apps share mixes their jobs; of one without a tag the roles of setupAWS let nobody take any."""
    if found is None:
        return
    owner = found.tags.get("app")
    if not owner:
        yield build_warning_finding(
            "names", f"the queue {name} carries no tag `app`, on which rights depend", "run setup, which adds it"
        )
    elif owner != app:
        yield build_wrong_finding(
            "names",
            f"the queue {name} belongs to the app {owner}: its jobs would mix with yours",
            f"choose another {key}",
            by_user=True,
        )


def judge_cluster_owner(name: str, found: Mapping[str, Any] | None, app: str) -> Iterator[Finding]:
    """Apps may share a cluster; one of their own is simpler to watch."""
    owner = _find_owner(found)
    if owner and owner != app:
        yield build_warning_finding(
            "names",
            f"the cluster {name} was made by the app {owner}, and machines of both would be in it",
            "choose another ECS_CLUSTER, unless you mean it",
        )


def judge_service_owner(name: str, found: Mapping[str, Any] | None, app: str) -> Iterator[Finding]:
    """A service of the app that wants tasks now is a run under way; without a tag it is the published version's."""
    owner = _find_owner(found)
    if owner and owner != app:
        yield build_wrong_finding(
            "names", f"the service {name} belongs to the app {owner}", "choose another APP_NAME", by_user=True
        )
    elif found and not owner:
        yield build_warning_finding(
            "names",
            f"the service {name} carries no tag `app`, on which rights depend",
            "once nothing runs in it, aws ecs delete-service --force deletes it, and setup makes it anew",
        )
    elif found and found.get("desiredCount"):
        yield build_warning_finding(
            "names",
            f"the service {name} wants {found['desiredCount']} containers: a run of {app} is under way",
            "watch it with monitor; a second run needs another APP_NAME",
        )


def _find_owner(described: Mapping[str, Any] | None) -> str | None:
    """The app whose tag a cluster or service has; None without one."""
    return parse_tags(described.get("tags") if described else None).get("app")
