"""Checks of the account: who calls, the bucket, the roles, log export, and names that another app uses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

from control import asked, cluster, policies
from control.errors import AWSError, explain
from control.facts import Facts, QueueFacts
from control.findings import Finding, ok, warning, wrong
from control.rights import is_login, missing_right, why_not

NO_RIGHT = "ask your administrator for this right, or ignore this line"
SET_UP_ACCOUNT = "run setupAWS, which makes it, then fleetFile"
FLEET_SERVICE, MACHINE_SERVICE = "spotfleet.amazonaws.com", "ec2.amazonaws.com"


def login(facts: Facts) -> Iterator[Finding]:
    """Any credentials may ask who they are; so whoever is refused here can do nothing."""
    try:
        who = facts.identity
    except AWSError as error:
        if not is_login(error):
            raise
        yield wrong("account", why_not(error), str(explain("logging in", error)).rpartition(" — ")[2])
        return
    settings = facts.settings
    yield ok("account", f"{who['Account']} as {asked.name_of_profile(who['Arn'])}, region {settings.AWS_REGION}")


def bucket(facts: Facts) -> Iterator[Finding]:
    """It is there, near the machines, and may be written to."""
    settings = facts.settings
    try:
        yield from judge_bucket(settings.AWS_BUCKET, facts.bucket_region, settings.AWS_REGION)
    except ClientError as error:
        if missing_right(error) is None:
            raise
        said = (
            f"whether {settings.AWS_BUCKET} is there is not told: needs {missing_right(error)}, if it is yours at all"
        )
        yield warning("bucket", said, NO_RIGHT)
    if facts.no_bucket:
        return
    try:
        facts.try_to_write()
    except ClientError as error:
        if missing_right(error) is None:
            raise
        yield wrong(
            "bucket",
            f"you may not write to it: {why_not(error)}",
            "ask for this right, or name a bucket of yours in AWS_BUCKET",
        )
    else:
        yield ok("bucket", "may be written to (tried; nothing was left in it)")


def judge_bucket(name: str, region: str | None, wanted: str) -> Iterator[Finding]:
    """`region`: of the bucket; None: there is none; '': not told."""
    if region is None:
        yield wrong("bucket", f"there is no bucket {name}", "make it, or correct AWS_BUCKET in the config")
    elif region and region != wanted:
        yield warning(
            "bucket",
            f"{name} is in {region}, the machines would be in {wanted}: every byte between them is paid for",
            f"write AWS_REGION = '{region}' and use a fleet file of that region",
        )
    else:
        yield ok("bucket", f"{name} is there, in {region or 'a region that S3 does not tell'}")


def fleet_role(facts: Facts) -> Iterator[Finding]:
    """The role with which the fleet starts and tags machines."""
    if facts.fleet is not None:
        name = asked.name_of_profile(str(facts.fleet.get("IamFleetRole", "")))
        yield from judge_role("fleet role", name, facts.fleet_role, FLEET_SERVICE)


def profiles(facts: Facts) -> Iterator[Finding]:
    """The machines' instance profiles."""
    if facts.fleet is None:
        return
    if any(one.profile is None and not one.unread for one in facts.specifications):
        said = "a launch specification names no IamInstanceProfile: its machines could not join the cluster"
        yield wrong("profile", said, "put the ARN of the instance profile ecsInstanceRole there", by_user=True)
    for name, found in facts.profiles.items():
        yield from judge_profile(name, found)


def same_account(facts: Facts) -> Iterator[Finding]:
    """The Fleet file is of the account that one is logged in to."""
    if facts.fleet is None:
        return
    arns = {"IamFleetRole": {str(facts.fleet.get("IamFleetRole", ""))}}
    arns["IamInstanceProfile"] = {one.profile for one in facts.specifications if one.profile}
    for key, some_arns in arns.items():
        for arn in sorted(some_arns):
            yield from judge_account(arn, key, facts.identity["Account"])


def judge_account(arn: str, key: str, account: str) -> Iterator[Finding]:
    """An ARN (a name tells no account) of the account that is logged in."""
    parts = arn.split(":")
    if len(parts) > 4 and parts[4] != account:
        yield wrong(
            "roles",
            f"{key} is of account {parts[4]}, you are logged in to {account}",
            "use a fleet file of this account, or another AWS_PROFILE",
            by_user=True,
        )


def judge_profile(name: str, found: Mapping[str, Any] | None) -> Iterator[Finding]:
    """An instance profile holds the role that a machine has; the console makes both, other ways only the role."""
    if found is None:
        said = f"there is no instance profile {name} (a role of that name is not enough)"
        yield wrong("profile", said, SET_UP_ACCOUNT)
    elif not found.get("Roles"):
        yield wrong("profile", f"the instance profile {name} holds no role", SET_UP_ACCOUNT)
    else:
        role = found["Roles"][0]
        yield from judge_role("profile", str(role["RoleName"]), role, MACHINE_SERVICE)


def judge_role(topic: str, name: str, role: Mapping[str, Any] | None, service: str) -> Iterator[Finding]:
    """The role is there, and `service`, whatever it is called in China, may take it on."""
    if role is None:
        yield wrong(topic, f"there is no role {name}", SET_UP_ACCOUNT)
    elif not {service, service + policies.CHINA} & policies.trusted(role.get("AssumeRolePolicyDocument", {})):
        yield wrong(
            topic, f"{service} may not take on the role {name}", f"add {service} to its trust policy; setupAWS does so"
        )
    else:
        yield ok(topic, f"{name} is there, for {service}")


def log_export(facts: Facts) -> Iterator[Finding]:
    """Log export puts logs into the bucket by a right that the bucket's policy gives."""
    if facts.no_bucket:
        return
    if lets_logs_in(facts.bucket_policy, facts.settings.AWS_REGION):
        yield ok("log export", "the bucket's policy lets CloudWatch Logs write")
    else:
        yield warning(
            "log export",
            "the bucket's policy does not let CloudWatch Logs write: logs are not exported "
            "at the end (jobs' logs lie in the bucket anyhow)",
            "run setupAWS, which adds it",
        )


def lets_logs_in(policy: Mapping[str, Any], region: str) -> bool:
    """Whether the bucket's policy lets CloudWatch Logs of that region read its ACL and write objects."""
    names = {"logs.amazonaws.com", f"logs.{region}.amazonaws.com", f"logs.{region}.amazonaws.com{policies.CHINA}"}
    actions: set[str] = set()
    for statement in policies.listed(policy.get("Statement")):
        principal = statement.get("Principal", {})
        services = {"*"} if principal == "*" else set(policies.listed(principal.get("Service")))
        if statement.get("Effect") == "Allow" and services & (names | {"*"}):
            actions |= set(policies.listed(statement.get("Action")))
    everything = bool(actions & {"*", "s3:*"})
    return everything or {"s3:GetBucketAcl", "s3:PutObject"} <= actions


def names(facts: Facts) -> Iterator[Finding]:
    """Nothing that this run would use is another app's."""
    settings, app = facts.settings, facts.settings.APP_NAME
    found = [
        *judge_queue_owner(settings.SQS_QUEUE_NAME, facts.job_queue, app, "SQS_QUEUE_NAME"),
        *judge_queue_owner(settings.SQS_DEAD_LETTER_QUEUE, facts.dead_queue, app, "SQS_DEAD_LETTER_QUEUE"),
        *judge_cluster(settings.ECS_CLUSTER, facts.cluster, app),
        *judge_service(settings.service_name, facts.service, app),
    ]
    yield from found or [ok("names", "queues, cluster and service are no other app's")]


def judge_queue_owner(name: str, found: QueueFacts | None, app: str, key: str) -> Iterator[Finding]:
    """A queue that two apps share mixes their jobs; of one without a tag the roles of setupAWS let nobody take any."""
    if found is None:
        return
    owner = found.tags.get("app")
    if not owner:
        yield warning(
            "names", f"the queue {name} carries no tag `app`, on which rights depend", "run setup, which adds it"
        )
    elif owner != app:
        yield wrong(
            "names",
            f"the queue {name} belongs to the app {owner}: its jobs would mix with yours",
            f"choose another {key}",
            by_user=True,
        )


def judge_cluster(name: str, found: Mapping[str, Any] | None, app: str) -> Iterator[Finding]:
    """Apps may share a cluster; one of their own is simpler to watch."""
    owner = _tag(found, "app") if found and not cluster.is_of(found, app) else None
    if owner:
        yield warning(
            "names",
            f"the cluster {name} was made by the app {owner}, and machines of both would be in it",
            "choose another ECS_CLUSTER, unless you mean it",
        )


def judge_service(name: str, found: Mapping[str, Any] | None, app: str) -> Iterator[Finding]:
    """A service of the app that wants tasks now is a run under way; without a tag it is the published version's."""
    owner = _tag(found, "app")
    if owner and owner != app:
        yield wrong("names", f"the service {name} belongs to the app {owner}", "choose another APP_NAME", by_user=True)
    elif found and not owner:
        yield warning(
            "names",
            f"the service {name} carries no tag `app`, on which rights depend",
            "once nothing runs in it, aws ecs delete-service --force deletes it, and setup makes it anew",
        )
    elif found and found.get("desiredCount"):
        yield warning(
            "names",
            f"the service {name} wants {found['desiredCount']} containers: a run of {app} is under way",
            "watch it with monitor; a second run needs another APP_NAME",
        )


def _tag(found: Mapping[str, Any] | None, key: str) -> str | None:
    tags = found.get("tags", ()) if found else ()
    return next((str(tag.get("value")) for tag in tags if tag.get("key") == key), None)
