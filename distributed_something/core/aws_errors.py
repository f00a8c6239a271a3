"""What AWS says when something does not start, in plain words: cause and remedy.

Three tables: events of a Spot Fleet (and the EC2 error codes inside them), events of an ECS service, and the reasons
why tasks stopped. In each the first pattern that matches counts, so a code stands before the event that wraps it. What
AWS tells as a code or a number is compared as such; only its messages are searched for words.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass

from distributed_something.core.text import format_one_line


@dataclass(frozen=True)
class AWSEvent:
    """Something that AWS reports; `at`: seconds since 1970."""

    at: float
    kind: str
    said: str


@dataclass(frozen=True)
class FailurePattern:
    """What it means, what to do, and how surely it keeps a run from going (0 to 100).

    `pattern`: a regular expression that is searched for in AWS's message. `kinds`: what AWS calls such events.
    `exit_codes`: of a container; what it logged last says more then.
    """

    pattern: str
    cause: str
    remedy: str
    weight: int
    kinds: frozenset[str] = frozenset()
    exit_codes: Collection[int] = ()

    def matches(self, kind: str, said: str, exit_codes: Collection[int] = ()) -> bool:
        """Whether AWS's report of this kind, with this message and these containers' exit codes, means this."""
        return (
            kind in self.kinds
            or any(code in self.exit_codes for code in exit_codes)
            or (self.pattern != "" and re.search(self.pattern, said, re.S) is not None)
        )


FLEET_FILE_REMEDY = "correct the Fleet file, or write one with fleetFile; then cleanup, setup and startCluster"

FLEET_FAILURE_PATTERNS = (
    FailurePattern(
        r"MaxSpotInstanceCountExceeded|spotInstanceCountLimitExceeded|VcpuLimitExceeded|InstanceLimitExceeded",
        "the account's quota of spot machines (virtual CPUs) is used up",
        "ask for more at Service Quotas, Amazon EC2, «… Spot Instance Requests»; or smaller or fewer machines",
        92,
        kinds=frozenset({"spotInstanceCountLimitExceeded"}),
    ),
    FailurePattern(
        r"service-linked role|ServiceLinkedRole",
        "the account lacks AWS's own role for spot machines",
        "run once: aws iam create-service-linked-role --aws-service-name spot.amazonaws.com",
        93,
    ),
    FailurePattern(
        r"PendingVerification|OptInRequired|Blocked",
        "AWS has not yet opened this account for EC2 in this region",
        "wait some hours after opening the account or the region; else ask AWS's support",
        93,
    ),
    FailurePattern(
        r"InvalidSubnetID", "a subnet of the Fleet file is not in this account and region", FLEET_FILE_REMEDY, 92
    ),
    FailurePattern(
        r"InvalidGroup|InvalidSecurityGroup", "a security group of the Fleet file is not there", FLEET_FILE_REMEDY, 92
    ),
    FailurePattern(
        r"InvalidAMIID", "the machine image (AMI) of the Fleet file is not in this region", FLEET_FILE_REMEDY, 92
    ),
    FailurePattern(r"InvalidKeyPair", "the key pair of the Fleet file is not in this region", FLEET_FILE_REMEDY, 92),
    FailurePattern(r"InvalidSnapshot", "a snapshot that the Fleet file names is not there", FLEET_FILE_REMEDY, 92),
    FailurePattern(
        r"InvalidBlockDeviceMapping",
        "the disks of the Fleet file do not fit its image",
        "take SnapshotId out; EBS_VOL_SIZE must be at least the image's own size",
        92,
    ),
    FailurePattern(
        r"(?i)instance ?profile",
        "the machines' instance profile is not there, or may not be handed on",
        "run setupAWS; the fleet's role needs iam:PassRole for the machines' role",
        92,
    ),
    FailurePattern(
        r"InsufficientFreeAddresses",
        "the subnets have no free addresses",
        "add subnets to the Fleet file",
        88,
    ),
    FailurePattern(
        r"VolumeLimitExceeded",
        "the account's limit of disk space (EBS) is reached",
        "lower EBS_VOL_SIZE, or ask for more at Service Quotas, EBS",
        88,
    ),
    FailurePattern(
        r"SpotMaxPriceTooLow|launchSpecUnusable|fleetProgressHalted|[Ss]pot market price|price-too-low",
        "MACHINE_PRICE is below the market's price",
        "raise MACHINE_PRICE (you pay the market's price, not the bid), or add types",
        90,
        kinds=frozenset({"launchSpecUnusable", "fleetProgressHalted"}),
    ),
    FailurePattern(
        r"InsufficientInstanceCapacity|InsufficientCapacity|[Cc]apacity.not.available|UnfulfillableCapacity",
        "AWS has no free machines of these types in these zones now",
        "wait, the fleet goes on trying; more types in MACHINE_TYPE and more subnets give more chances",
        75,
    ),
    FailurePattern(
        r"iamFleetRoleInvalid|UnauthorizedOperation|AccessDenied|not authorized",
        "the fleet's role may not start, tag or end machines",
        "run setupAWS, and put its role as IamFleetRole into the Fleet file",
        92,
        kinds=frozenset({"iamFleetRoleInvalid"}),
    ),
    FailurePattern(
        r"Unsupported",
        "a machine type is not offered in a zone of the subnets, or not with this image",
        "run check with the Fleet file: it names the types and zones",
        85,
    ),
    FailurePattern(
        r"InvalidParameterCombination|InvalidParameterValue|InvalidParameter|spotFleetRequestConfigurationInvalid"
        r"|MissingParameter|InvalidInput",
        "values of the Fleet file do not fit together (image and type, disk, network)",
        "run check with the Fleet file; then correct what EC2 says here",
        90,
        kinds=frozenset({"spotFleetRequestConfigurationInvalid"}),
    ),
    FailurePattern(
        r"RequestLimitExceeded|Throttl", "EC2 asks to be called less often", "wait; it tries again by itself", 30
    ),
    FailurePattern(r"InternalError|ServerInternal", "EC2 had a fault of its own", "wait; it tries again by itself", 40),
    FailurePattern(
        r"TemporarilyBlacklisted",
        "EC2 refused every specification of the fleet several times",
        "run check with the Fleet file; the fleet tries again after some minutes",
        80,
        kinds=frozenset({"launchSpecTemporarilyBlacklisted", "allLaunchSpecsTemporarilyBlacklisted"}),
    ),
)
SERVICE_FAILURE_PATTERNS = (
    FailurePattern(
        r"No Container Instances were found",
        "no machine has joined the cluster",
        "see what keeps the machines from starting or joining",
        45,
    ),
    FailurePattern(
        r"insufficient memory",
        "no machine has room for a container: memory",
        "lower MEMORY or TASKS_PER_MACHINE, or take larger machines; then setup and startCluster",
        84,
    ),
    FailurePattern(
        r"insufficient CPU",
        "no machine has room for a container: CPU",
        "lower CPU_SHARES or TASKS_PER_MACHINE, or take larger machines; then setup and startCluster",
        84,
    ),
    FailurePattern(
        r"missing an attribute|constraint|did not meet",
        "the machines in the cluster are not this app's, or lack what its containers ask for",
        "was the fleet requested by this version's startCluster? Else cleanup and start again",
        82,
    ),
    FailurePattern(
        r"(?i)agent.*(disconnected|not connected)|error 'AGENT'|\"AGENT\"",
        "the ECS agent on the machines has lost its connection",
        "the machines need a way out to AWS (HTTPS); end them, and the fleet starts others",
        80,
    ),
    FailurePattern(
        r"unable to assume (the )?role",
        "ECS may not take on the task's or the execution role",
        "run setupAWS, then setup",
        86,
    ),
    FailurePattern(
        r"unable to consistently start",
        "containers start and end again and again, so ECS waits between them",
        "see the stopped containers' reasons",
        60,
    ),
    FailurePattern(
        r"unable to place a task",
        "ECS finds no machine for a container",
        "compare MEMORY and CPU_SHARES with the machines: check",
        70,
    ),
)
TASK_FAILURE_PATTERNS = (
    FailurePattern(
        r"(?i)toomanyrequests|rate limit",
        "the image cannot be pulled: Docker Hub allows only so many pulls",
        "copy the image to ECR, and name it there in DOCKERHUB_TAG",
        88,
    ),
    FailurePattern(
        r"(?i)no matching manifest|exec format error|image operating system|does not match the .*platform",
        "the image is not made for the machines' processors",
        "build it for them (docker build --platform), or choose other MACHINE_TYPE",
        90,
    ),
    FailurePattern(
        r"(?i)no space left",
        "the disk of the machine is full",
        "raise EBS_VOL_SIZE; then cleanup, setup and startCluster",
        88,
    ),
    FailurePattern(
        r"(?i)CannotPull.*(not found|manifest unknown|does not exist|pull access denied|invalid reference)",
        "the image cannot be pulled: it is not there, or private",
        "correct DOCKERHUB_TAG and push the image (make push); then setup",
        90,
    ),
    FailurePattern(
        r"(?i)CannotPull.*(basic auth|denied|403|not authorized|unauthorized)",
        "the image cannot be pulled: the machines' role may not",
        "run setupAWS: the role needs the right to read from ECR; a private image elsewhere must become public",
        90,
    ),
    FailurePattern(
        r"(?i)CannotPull.*(timeout|timed out|connection refused|no such host|deadline|canceled|unreachable)",
        "the image cannot be pulled: the machines do not reach the registry",
        "the subnets need a way to the internet (ASSIGN_IP or a NAT gateway) and outgoing HTTPS",
        88,
    ),
    FailurePattern(
        r"CannotPull",
        "the image cannot be pulled",
        "look at AWS's words; correct DOCKERHUB_TAG, push the image, then setup",
        87,
    ),
    FailurePattern(
        r"(?i)logging driver|ResourceNotFoundException.*log|awslogs",
        "containers cannot open their log",
        "run setup, which makes the log groups; the machines' role needs logs:CreateLogStream and PutLogEvents",
        88,
    ),
    FailurePattern(
        r"OutOfMemory",
        "containers are killed, for want of memory it seems",
        "raise MEMORY, or lower DOCKER_CORES; then setup",
        80,
        exit_codes=(137,),
    ),
    FailurePattern(
        "",
        "the worker ends at once: its settings do not fit its version",
        "build and push the image anew, then setup and startCluster; its log says more",
        86,
        exit_codes=(2,),
    ),
    FailurePattern(
        "",
        "the image cannot start its program: a file is missing or may not be run",
        "build the image with worker/Dockerfile, and try it: make build, run.py --local --containers",
        88,
        exit_codes=(126, 127),
    ),
    FailurePattern(
        "",
        "the worker crashes (segmentation fault)",
        "try the image on this computer: run.py --local --containers",
        80,
        exit_codes=(139,),
    ),
    FailurePattern(
        r"CannotStartContainer|CannotCreateContainer|ContainerRuntime|TaskFailedToStart|ResourceInitialization",
        "containers cannot be started",
        "look at AWS's words; try the image on this computer: run.py --local --containers",
        85,
        kinds=frozenset({"TaskFailedToStart"}),
    ),
    FailurePattern(
        "",
        "the worker ends with an error",
        "its log says why",
        78,
        exit_codes=range(1, 256),
    ),
)
# A container that ended for a reason that is none of its own: ECS's stop codes, or its words if the code is another.
_HARMLESS_STOP_CODES = {"SpotInterruption", "TerminationNotice", "UserInitiated"}
_HARMLESS_STOP_PATTERN = re.compile(
    r"(?i)scaling activity|spot interruption|host ec2|instance .*terminated|deployment|stopped by user|draining"
)
# EC2's codes for the end of a machine. Others that begin like these are faults of the request or of EC2.
_ORDERED_END_CODES = {
    "Client.InstanceInitiatedShutdown",
    "Client.UserInitiatedHibernate",
    "Client.UserInitiatedShutdown",
}
_FAULTY_END_PREFIXES = ("Client.", "Server.Internal")
_SPOT_END_CODES = {"Server.SpotInstanceShutdown", "Server.SpotInstanceTermination"}


def is_harmless_stop(kind: str, said: str) -> bool:
    """Whether a task with this stop code and reason ended because it was told to, or lost its machine."""
    return kind in _HARMLESS_STOP_CODES or _HARMLESS_STOP_PATTERN.search(said) is not None


def is_faulty_end(code: str) -> bool:
    """Whether a machine that ended with this code could not run: not because spot or a person took it."""
    return code.startswith(_FAULTY_END_PREFIXES) and code not in _ORDERED_END_CODES


def is_spot_interruption(code: str) -> bool:
    """Whether EC2 took the spot machine that ended with this code."""
    return code in _SPOT_END_CODES


def find_failure_pattern(
    table: tuple[FailurePattern, ...], kind: str, said: str, exit_codes: Collection[int] = ()
) -> FailurePattern | None:
    """Return the first pattern of the table that AWS's report matches."""
    return next((pattern for pattern in table if pattern.matches(kind, said, exit_codes)), None)


@dataclass(frozen=True)
class FleetProblem:
    """Something that keeps a fleet from starting machines: the first event of its cause, and what the event means.

    `pattern` is None where the table does not know the event.
    """

    event: AWSEvent
    pattern: FailurePattern | None

    @property
    def cause(self) -> Hashable:
        """What two events of the same problem share."""
        return self.pattern or (self.event.kind, self.event.said)


def list_fleet_problems(events: Iterable[AWSEvent]) -> tuple[FleetProblem, ...]:
    """Return what these events of a fleet mean, each cause once."""
    problems: dict[Hashable, FleetProblem] = {}
    for event in events:
        pattern = find_failure_pattern(FLEET_FAILURE_PATTERNS, event.kind, event.said)
        problem = FleetProblem(event, pattern)
        problems.setdefault(problem.cause, problem)
    return tuple(problems.values())


def format_fleet_problem(problem: FleetProblem) -> str:
    """Return the cause, its remedy, and EC2's words, in one line; for an unknown event EC2's words alone."""
    said = format_one_line(f"{problem.event.kind}: {problem.event.said}")
    pattern = problem.pattern
    return f"{pattern.cause} — {pattern.remedy} ({said})" if pattern else said
