"""Remedies as data: what to correct, and how a run or a test run continues after that.

The same failure needs the same correction in both. But a run has a fleet, which may recover by itself or must be
replaced, whereas nothing is left of a test run: it can only be started again.
"""

from __future__ import annotations

from dataclasses import dataclass

REPETITION = "run testRun again"


@dataclass(frozen=True)
class Remedy:
    """What to do about a failure.

    `correction`: what to change; "" if the failure ends by itself. `in_run`: how a run continues: which commands to
    type, or what happens by itself. `in_test`: how a test run continues instead; None if it is to be run again after
    the correction, unless `in_run` is "" too. `note`: what ends both. These parts follow one another as they are, and
    may contain {build} and {memory}, which `format_remedy` fills in.
    """

    correction: str
    in_run: str = ""
    in_test: str | None = None
    note: str = ""

    @property
    def test_ending(self) -> str:
        """How a test run continues after the correction."""
        if self.in_test is not None:
            return self.in_test
        return f"; then {REPETITION}" if self.in_run else ""


def format_remedy(
    remedy: Remedy, *, is_pushed: bool = True, memory: str = "raise MEMORY", is_test: bool = False
) -> str:
    """Return the remedy as text, for a run or, with `is_test`, for a test run.

    `is_pushed`: whether machines pull the image, so that it is pushed after it was built. `memory`: what to change in
    the config if programs run out of memory.
    """
    build = "build and push the image (buildImage --push)" if is_pushed else "build the image (buildImage)"
    ending = remedy.test_ending if is_test else remedy.in_run
    return f"{remedy.correction}{ending}{remedy.note}".format(build=build, memory=memory)


# A new fleet needs the end of the old one. cleanup also removes the queue, so that the jobs must be sent again.
NEW_FLEET = "run cleanup --yes, setup, submitJob, and startCluster"
FLEET_FILE_REMEDY = Remedy("correct the Fleet file or create one with fleetFile", f"; then {NEW_FLEET}")
PRICE_REMEDY = Remedy(
    "raise MACHINE_PRICE (you pay the spot price, not your maximum), or add machine types", f"; then {NEW_FLEET}"
)
CAPACITY_REMEDY = Remedy(
    "",
    "wait: the fleet keeps trying; more types in MACHINE_TYPE and more subnets improve the chances",
    # Its only type is the cheapest one of MACHINE_TYPE, so that more types alone do not help.
    f"{REPETITION} later or with other types in MACHINE_TYPE; more subnets improve the chances",
)
RETRY_REMEDY = Remedy("", "wait: the fleet retries automatically", f"{REPETITION} in a few minutes")
JOINING_REMEDY = (
    "run check with the Fleet file: machines need an instance profile with ECS permissions (setupAWS creates it), an "
    "ECS-optimized image (fleetFile finds it), and a route to the internet"
)
FOREIGN_MACHINE_REMEDY = Remedy(
    "",
    f"if another version of startCluster requested the fleet, {NEW_FLEET}",
    f"run check with the Fleet file; then {REPETITION}",
)
AGENT_REMEDY = Remedy(
    "check that the machines can reach AWS over HTTPS", "; if you terminate them, the fleet starts new ones"
)
LOG_GROUP_REMEDY = Remedy(
    "",
    "run setup, which creates the log groups; ",
    f"run setupAWS, then {REPETITION}, which creates the log groups; ",
    "the machines' role needs logs:CreateLogStream and logs:PutLogEvents",
)
_CRASH_CORRECTION = "correct worker/generic-worker.py, or the library that it calls"
CRASH_REMEDY = Remedy(f"{_CRASH_CORRECTION}; {{build}}", ", and run setup")
CRASH_REMEDY_WITHOUT_IMAGE = Remedy(_CRASH_CORRECTION, ", and run setup")
IMAGE_REMEDY = Remedy(
    "build the image with worker/Dockerfile (buildImage), and try it with run.py --local --containers"
)


def build_room_remedy(constant: str) -> Remedy:
    """Return what to do if no machine has room for a container. `constant`: the one of the config to lower."""
    return Remedy(
        f"lower {constant}",
        f", and run setup; or use larger machines, and {NEW_FLEET}",
        f", or use larger machines; then {REPETITION}",
    )
