"""Explanations of what AWS reports about fleets, services, and tasks: the cause in plain words, and a remedy.

There are three tables: Spot Fleet events (including the EC2 error codes inside them), ECS service events, and the
reasons why tasks stopped. The first matching pattern in a table is used, so specific error codes are listed before the
events that contain them. Event kinds and exit codes are compared exactly; only messages are searched for a pattern.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from distributed_something.core.failures.remedies import (
    AGENT_REMEDY,
    CAPACITY_REMEDY,
    FLEET_FILE_REMEDY,
    FOREIGN_MACHINE_REMEDY,
    IMAGE_REMEDY,
    LOG_GROUP_REMEDY,
    NEW_FLEET,
    PRICE_REMEDY,
    RETRY_REMEDY,
    Remedy,
    build_room_remedy,
)


@dataclass(frozen=True)
class AWSEvent:
    """An event that AWS reported. `at`: seconds since 1970; `message`: AWS's message."""

    at: float
    kind: str
    message: str


@dataclass(frozen=True)
class FailurePattern:
    """A kind of failure: how to recognize it, what it means, and what to do.

    `pattern`: a regular expression to search for in AWS's message. `kinds`: AWS's names for such events. `exit_codes`:
    exit codes of a container. `weight`: how likely this failure is to stop a run, from 0 to 100. `is_placement`:
    whether it says that no machine has room for a container, which is normal while a machine is missing.
    `remedy_without_image`: what to do if workers do not run in containers; None if that is the same.
    """

    pattern: str
    cause: str
    remedy: Remedy
    weight: int
    kinds: frozenset[str] = frozenset()
    exit_codes: Collection[int] = ()
    is_placement: bool = False
    remedy_without_image: Remedy | None = None

    def matches(self, kind: str, message: str, exit_codes: Collection[int] = ()) -> bool:
        """Return whether a report of this kind, with this message and these exit codes, is this kind of failure."""
        return (
            kind in self.kinds
            or any(code in self.exit_codes for code in exit_codes)
            or (self.pattern != "" and re.search(self.pattern, message, re.S) is not None)
        )


FLEET_FAILURE_PATTERNS = (
    FailurePattern(
        r"MaxSpotInstanceCountExceeded|spotInstanceCountLimitExceeded|VcpuLimitExceeded|InstanceLimitExceeded",
        "the account's quota for spot machines (virtual CPUs) is used up",
        Remedy("request more (Service Quotas, Amazon EC2, 'Spot Instance Requests'), or use fewer or smaller machines"),
        92,
        kinds=frozenset({"spotInstanceCountLimitExceeded"}),
    ),
    FailurePattern(
        r"service-linked role|ServiceLinkedRole",
        "the account does not have AWS's service-linked role for spot machines",
        Remedy("run this once: aws iam create-service-linked-role --aws-service-name spot.amazonaws.com"),
        93,
    ),
    FailurePattern(
        r"PendingVerification|OptInRequired|Blocked",
        "AWS has not yet enabled EC2 for this account in this region",
        Remedy(
            "wait a few hours after opening the account or enabling the region; if that does not help, contact AWS "
            "Support"
        ),
        93,
    ),
    FailurePattern(
        r"InvalidSubnetID",
        "a subnet in the Fleet file does not exist in this account and region",
        FLEET_FILE_REMEDY,
        92,
    ),
    FailurePattern(
        r"InvalidGroup|InvalidSecurityGroup",
        "a security group in the Fleet file does not exist",
        FLEET_FILE_REMEDY,
        92,
    ),
    FailurePattern(
        r"InvalidAMIID",
        "the machine image (AMI) in the Fleet file does not exist in this region",
        FLEET_FILE_REMEDY,
        92,
    ),
    FailurePattern(
        r"InvalidKeyPair", "the key pair in the Fleet file does not exist in this region", FLEET_FILE_REMEDY, 92
    ),
    FailurePattern(r"InvalidSnapshot", "a snapshot in the Fleet file does not exist", FLEET_FILE_REMEDY, 92),
    FailurePattern(
        r"InvalidBlockDeviceMapping",
        "the disks in the Fleet file do not match its machine image",
        Remedy("remove SnapshotId, and set EBS_VOL_SIZE to at least the size of the image", f"; then {NEW_FLEET}"),
        92,
    ),
    FailurePattern(
        r"(?i)instance ?profile",
        "the machines' instance profile does not exist, or the fleet's role is not allowed to pass it",
        Remedy("run setupAWS", "; the fleet's role needs iam:PassRole for the machines' role"),
        92,
    ),
    FailurePattern(
        r"InsufficientFreeAddresses",
        "the subnets have no free IP addresses",
        Remedy("add subnets to the Fleet file", f"; then {NEW_FLEET}"),
        88,
    ),
    FailurePattern(
        r"VolumeLimitExceeded",
        "the account's quota for disk space (EBS) is used up",
        Remedy("lower EBS_VOL_SIZE, or request a higher quota (Service Quotas, EBS)"),
        88,
    ),
    FailurePattern(
        r"SpotMaxPriceTooLow|launchSpecUnusable|fleetProgressHalted|[Ss]pot market price|price-too-low",
        "MACHINE_PRICE is below the current spot price",
        PRICE_REMEDY,
        90,
        kinds=frozenset({"launchSpecUnusable", "fleetProgressHalted"}),
    ),
    FailurePattern(
        r"InsufficientInstanceCapacity|InsufficientCapacity|[Cc]apacity.not.available|UnfulfillableCapacity",
        "AWS has no free machines of these types in these zones at the moment",
        CAPACITY_REMEDY,
        75,
    ),
    FailurePattern(
        r"iamFleetRoleInvalid|UnauthorizedOperation|AccessDenied|not authorized",
        "the fleet's role is not allowed to start, tag, or terminate machines",
        Remedy("run setupAWS, and set IamFleetRole in the Fleet file to the role it creates"),
        92,
        kinds=frozenset({"iamFleetRoleInvalid"}),
    ),
    FailurePattern(
        r"Unsupported",
        "a machine type is not offered in one of the subnets' zones, or does not support this image",
        Remedy("run check with the Fleet file: it lists the types and zones"),
        85,
    ),
    FailurePattern(
        r"InvalidParameterCombination|InvalidParameterValue|InvalidParameter|spotFleetRequestConfigurationInvalid"
        r"|MissingParameter|InvalidInput",
        "values in the Fleet file contradict each other (image and type, disk, or network)",
        Remedy("run check with the Fleet file, then correct what EC2 reports here"),
        90,
        kinds=frozenset({"spotFleetRequestConfigurationInvalid"}),
    ),
    FailurePattern(
        r"RequestLimitExceeded|Throttl",
        "EC2 is limiting how often it can be called",
        RETRY_REMEDY,
        30,
    ),
    FailurePattern(r"InternalError|ServerInternal", "EC2 had an internal error", RETRY_REMEDY, 40),
    FailurePattern(
        r"TemporarilyBlacklisted",
        "EC2 has rejected all of the fleet's launch specifications several times",
        Remedy("run check with the Fleet file", "; the fleet retries after a few minutes"),
        80,
        kinds=frozenset({"launchSpecTemporarilyBlacklisted", "allLaunchSpecsTemporarilyBlacklisted"}),
    ),
)
SERVICE_FAILURE_PATTERNS = (
    FailurePattern(
        r"No Container Instances were found",
        "no machine has joined the cluster",
        Remedy("find out what keeps the machines from starting or joining"),
        45,
        is_placement=True,
    ),
    FailurePattern(
        r"insufficient memory",
        "no machine has enough free memory for a container",
        build_room_remedy("MEMORY"),
        84,
        is_placement=True,
    ),
    FailurePattern(
        r"insufficient CPU",
        "no machine has enough free CPU for a container",
        build_room_remedy("CPU_SHARES"),
        84,
        is_placement=True,
    ),
    FailurePattern(
        r"insufficient GPU",
        "no machine has enough free GPUs for a container",
        Remedy("lower GPUS or TASKS_PER_MACHINE, or use machine types with more GPUs, and run check"),
        84,
        is_placement=True,
    ),
    FailurePattern(
        r"missing an attribute|constraint|did not meet",
        "the machines in the cluster belong to another app, or lack an attribute that the containers require",
        FOREIGN_MACHINE_REMEDY,
        82,
        is_placement=True,
    ),
    FailurePattern(
        r"(?i)agent.*(disconnected|not connected)|error 'AGENT'|\"AGENT\"",
        "the ECS agent on the machines has lost its connection",
        AGENT_REMEDY,
        80,
    ),
    FailurePattern(
        r"unable to assume (the )?role",
        "ECS is not allowed to assume the task role or the execution role",
        Remedy("run setupAWS", ", then setup"),
        86,
    ),
    FailurePattern(
        r"unable to consistently start",
        "containers keep stopping soon after they start, so ECS waits before it starts more",
        Remedy("find out why the containers stopped"),
        60,
    ),
    FailurePattern(
        r"unable to place a task",
        "ECS cannot find a machine for a container",
        Remedy("run check, which compares MEMORY and CPU_SHARES with the machines"),
        70,
        is_placement=True,
    ),
)
TASK_FAILURE_PATTERNS = (
    FailurePattern(
        r"(?i)toomanyrequests|rate limit",
        "the image cannot be pulled: Docker Hub's pull limit was reached",
        Remedy("copy the image to ECR and set DOCKERHUB_TAG to its name there"),
        88,
    ),
    FailurePattern(
        r"(?i)no matching manifest|exec format error|image operating system|does not match the .*platform",
        "the image was built for a different processor type than the machines have",
        Remedy("{build}, which builds it for MACHINE_TYPE; or change MACHINE_TYPE"),
        90,
    ),
    FailurePattern(
        r"(?i)no space left",
        "the machine's disk is full",
        Remedy("raise EBS_VOL_SIZE", f"; then {NEW_FLEET}"),
        88,
    ),
    FailurePattern(
        r"(?i)CannotPull.*(not found|manifest unknown|does not exist|pull access denied|invalid reference)",
        "the image cannot be pulled: it does not exist or is private",
        Remedy("correct DOCKERHUB_TAG, or {build}", "; then run setup"),
        90,
    ),
    FailurePattern(
        r"(?i)CannotPull.*(basic auth|denied|403|not authorized|unauthorized)",
        "the image cannot be pulled: the machines' role is not allowed to pull it",
        Remedy(
            "run setupAWS, which lets the role read from ECR; if the image is private in another registry, make it "
            "public"
        ),
        90,
    ),
    FailurePattern(
        r"(?i)CannotPull.*(timeout|timed out|connection refused|no such host|deadline|canceled|unreachable)",
        "the image cannot be pulled: the machines cannot reach the registry",
        Remedy("give the machines a way to the internet (a NAT gateway or public addresses) and allow outgoing HTTPS"),
        88,
    ),
    FailurePattern(
        r"CannotPull",
        "the image cannot be pulled",
        Remedy("read the message; correct DOCKERHUB_TAG, or {build}", "; then run setup"),
        87,
    ),
    FailurePattern(
        r"(?i)logging driver|ResourceNotFoundException.*log|awslogs",
        "containers cannot write to their log",
        LOG_GROUP_REMEDY,
        88,
    ),
    FailurePattern(
        r"OutOfMemory",
        "containers are killed, probably because they run out of memory",
        Remedy("{memory}", "; then run setup"),
        80,
        exit_codes=(137,),
        remedy_without_image=Remedy(
            "free memory on this computer, or find out what else kills the workers", "; then run setup"
        ),
    ),
    FailurePattern(
        "",
        "the worker stops at once: its settings do not match its version",
        Remedy("{build}", ", then run setup", note="; see its log for details"),
        86,
        exit_codes=(2,),
        remedy_without_image=Remedy(
            "correct worker/generic-worker.py", ", and run setup", note="; see its log for details"
        ),
    ),
    FailurePattern(
        r"(?i)CannotStartContainer.*(executable file not found|no such file|permission denied|no command specified)",
        "the image cannot start its program: a file is missing or not executable",
        IMAGE_REMEDY,
        88,
        exit_codes=(126, 127),
        remedy_without_image=Remedy("correct worker/generic-worker.py; see its log for details"),
    ),
    FailurePattern(
        "",
        "the image's program ends at once and without an error, so it is not this package's worker",
        IMAGE_REMEDY,
        77,
        exit_codes=(0,),
    ),
    FailurePattern(
        "",
        "the worker crashes (segmentation fault)",
        Remedy("try the image on this computer with run.py --local --containers"),
        80,
        exit_codes=(139,),
        remedy_without_image=Remedy(
            "correct worker/generic-worker.py or a package that it imports; see its log for details"
        ),
    ),
    FailurePattern(
        r"CannotStartContainer|CannotCreateContainer|ContainerRuntime|TaskFailedToStart|ResourceInitialization",
        "containers cannot be started",
        Remedy("read the message; try the image on this computer with run.py --local --containers"),
        85,
        kinds=frozenset({"TaskFailedToStart"}),
    ),
    FailurePattern(
        "",
        "the worker stops with an error",
        Remedy("correct what its log shows, {build}", ", and run setup"),
        78,
        exit_codes=range(1, 256),
        remedy_without_image=Remedy("correct what its log shows in worker/generic-worker.py", ", and run setup"),
    ),
)
# ECS's stop codes for containers that did not fail, and words in the stop reason for when the code is not specific.
SPOT_STOP_CODE = "SpotInterruption"
_HARMLESS_STOP_CODES = {SPOT_STOP_CODE, "TerminationNotice", "UserInitiated"}
_HARMLESS_STOP_PATTERN = re.compile(
    r"(?i)scaling activity|spot interruption|host ec2|instance .*terminated|deployment|stopped by user|draining"
)
# EC2's codes for instances that somebody stopped. Other codes with the prefixes below mean that the instance failed.
_ORDERED_END_CODES = {
    "Client.InstanceInitiatedShutdown",
    "Client.UserInitiatedHibernate",
    "Client.UserInitiatedShutdown",
}
_FAULTY_END_PREFIXES = ("Client.", "Server.Internal")
_SPOT_END_CODES = {"Server.SpotInstanceShutdown", "Server.SpotInstanceTermination"}


def is_harmless_stop(kind: str, message: str) -> bool:
    """Return whether a task with this stop code and reason was stopped on purpose or lost its machine."""
    return kind in _HARMLESS_STOP_CODES or _HARMLESS_STOP_PATTERN.search(message) is not None


def is_faulty_end(code: str) -> bool:
    """Return whether an instance that ended with this code failed, rather than being interrupted or stopped."""
    return code.startswith(_FAULTY_END_PREFIXES) and code not in _ORDERED_END_CODES


def is_spot_interruption(code: str) -> bool:
    """Return whether EC2 interrupted the spot instance that ended with this code."""
    return code in _SPOT_END_CODES


def find_failure_pattern(
    table: tuple[FailurePattern, ...], kind: str, message: str, exit_codes: Collection[int] = ()
) -> FailurePattern | None:
    """Return the first pattern in the table that matches AWS's report; None if no pattern does."""
    return next((pattern for pattern in table if pattern.matches(kind, message, exit_codes)), None)
