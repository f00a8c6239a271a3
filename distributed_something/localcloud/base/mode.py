"""Whether the local cloud answers like AWS where AWS is difficult: LOCALCLOUD_AWS=strict, when it starts."""

from __future__ import annotations

import os
from collections.abc import Mapping

from distributed_something.localcloud.base.errors import LocalCloudError

STRICT_VARIABLE, STRICT_VALUE = "LOCALCLOUD_AWS", "strict"


def is_strict(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether the local cloud answers like AWS where AWS is difficult."""
    return environment.get(STRICT_VARIABLE) == STRICT_VALUE


def check_mode(environment: Mapping[str, str] = os.environ) -> None:
    """Raise LocalCloudError if the variable has a value that would have no effect."""
    value = environment.get(STRICT_VARIABLE, "")
    if value not in ("", STRICT_VALUE):
        raise LocalCloudError(
            f"{STRICT_VARIABLE}: {value!r} is not {STRICT_VALUE!r}; write {STRICT_VARIABLE}={STRICT_VALUE}, or leave "
            "it out",
            exit_code=2,
        )


def describe_other_mode(is_running_strictly: bool, environment: Mapping[str, str] = os.environ) -> str | None:
    """Return a note if the running local cloud is not strict, although the variable says so; otherwise, None.

    Without the variable, a strict one needs no note: the variable is given only when it starts.
    """
    if is_running_strictly or not is_strict(environment):
        return None
    return (
        f"{STRICT_VARIABLE}={STRICT_VALUE} has no effect, because the local cloud was already running without it; to "
        "switch it on, run stop, which deletes the queues, and then this command again"
    )
