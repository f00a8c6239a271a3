"""The steps of a test run, in order, and how long each of them may take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from distributed_something.diagnose.why.cause import JOINING_SECONDS
from distributed_something.run.monitor.policy import FIRST_CONTAINER_SECONDS


class Step(Enum):
    """A step of a test run, as the user sees it. The steps are in the order in which they happen."""

    CHECKED = "account checked"
    SET_UP = "set up"
    SENT = "jobs sent"
    REQUESTED = "machine requested"
    LAUNCHED = "machine launched"
    JOINED = "machine joined"
    PULLED = "image pulled"
    STARTED = "container started"
    PROTECTED = "protected"
    LOGGED = "logged"
    VERIFIED = "results verified"
    CLEANED = "cleaned up"


# The steps that take place in AWS while `testRun` watches.
WATCHED_STEPS = (
    Step.LAUNCHED, Step.JOINED, Step.PULLED, Step.STARTED, Step.PROTECTED, Step.LOGGED, Step.VERIFIED,
)  # fmt: skip
# Seconds that a step may take after the one before it, with the reason for the number.
AWS_LIMITS: Mapping[Step, float] = {
    Step.LAUNCHED: 600.0,  # as long as `startCluster` waits unless --wait is given
    Step.JOINED: JOINING_SECONDS,  # as in `why`; usually one to three minutes
    Step.PULLED: FIRST_CONTAINER_SECONDS,  # as in `monitor`: a large image takes several minutes
    # After the pull, Docker unpacks nothing more; ECS gives a container 3 minutes to start (ECS_CONTAINER_START_TIMEOUT
    # in the ECS developer guide) and then tries again.
    Step.STARTED: 400.0,
    # The worker takes its first job within seconds. If ECS refuses the protection, it asks again after at most a minute
    # (RETRY_SECONDS in worker/machine/scale_in_protection.py), so that this is two tries.
    Step.PROTECTED: 150.0,
    Step.LOGGED: 120.0,  # the worker sends its lines within a minute (log_stream.py); CloudWatch shows them in seconds
    # Two attempts at each job, and the lease of one whose receipt was lost (SQS_MESSAGE_VISIBILITY, by default 2 min).
    Step.VERIFIED: 300.0,
}
LOCAL_LIMIT_SECONDS = 30.0  # the local cloud does each step within a few seconds, even on a busy computer
POLL_SECONDS, LOCAL_POLL_SECONDS = 5.0, 0.5  # between two looks; one takes about ten calls
# How long an error of EC2 must have been reported, while no machine starts, before the test run stops. Other zones are
# tried within a minute or two ("Spot Fleet: allocation" in the EC2 user guide gives no time; an estimate).
REFUSAL_SECONDS = 180.0
MAX_FAILED_CONTAINERS = 2  # one may have been an accident; ECS starts another one at once


@dataclass(frozen=True)
class StepPace:
    """How often a test run looks, and how long its steps may take, in seconds."""

    poll_seconds: float
    limits: Mapping[Step, float]
    refusal_seconds: float = REFUSAL_SECONDS


AWS_PACE = StepPace(POLL_SECONDS, AWS_LIMITS)
LOCAL_PACE = StepPace(LOCAL_POLL_SECONDS, dict.fromkeys(WATCHED_STEPS, LOCAL_LIMIT_SECONDS), LOCAL_LIMIT_SECONDS)
