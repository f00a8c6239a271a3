"""The machine's document: what this machine is, for the report of the run. EC2 forgets it within an hour of its end.

All containers of a machine write the same document, and only the first one succeeds. The monitor adds how the machine
ended and what it cost.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from distributed_something.worker.job.failures import AWS_ERRORS
from distributed_something.worker.job.worker_settings import Settings
from distributed_something.worker.machine.idle_alarm import iter_retry_pauses
from distributed_something.worker.machine.metadata import InstanceMetadata, find_instance_id
from distributed_something.worker.machine.times import build_utc_timestamp
from distributed_something.worker.transfer.s3_file import build_write_condition, is_precondition_error

IDENTITY_PATH = "/latest/dynamic/instance-identity/document"  # signed by EC2; its keys are in EC2's documentation
LIFE_CYCLE_PATH = "/latest/meta-data/instance-life-cycle"  # `spot`, `on-demand`, or `scheduled`
log = logging.getLogger("worker")


def write_machine_document(
    s3: Any, settings: Settings, metadata: InstanceMetadata, wait: Callable[[float], bool],
    choose_share: Callable[[], float] = random.random,
) -> None:  # fmt: skip
    """Write the document unless it exists. If AWS refuses, try again, for about an hour in all.

    `wait` waits for this many seconds and returns whether the container is stopping. `choose_share`: returns a random
    number from 0 to 1. Outside EC2, nothing is written.
    """
    instance = find_instance_id(metadata)
    if instance is None or instance != settings.machine:
        return
    body = json.dumps(build_machine_document(instance, metadata, settings.docker_cores)).encode()
    request = {"Bucket": settings.aws_bucket, "Key": settings.keys.machine(instance), "Body": body}
    for seconds in iter_retry_pauses(choose_share):
        try:
            s3.put_object(**request, ContentType="application/json", **build_write_condition(None))
        except AWS_ERRORS as error:
            if isinstance(error, ClientError) and is_precondition_error(error):
                return  # another container of this machine has written it
            log.warning("the machine's document could not be written: %s", error)
            if wait(seconds):
                return
        else:
            return


def build_machine_document(instance: str, metadata: InstanceMetadata, slots: int) -> dict[str, Any]:
    """Return the document. A fact that the metadata do not contain is None. `slots`: of one container."""
    identity = _parse_identity(metadata.get(IDENTITY_PATH))
    life_cycle = (metadata.get(LIFE_CYCLE_PATH) or "").strip()
    return {
        "machine": instance,
        "type": _read_text(identity, "instanceType"),
        "zone": _read_text(identity, "availabilityZone"),
        "spot": life_cycle == "spot" if life_cycle else None,
        "launched": _read_time(identity, "pendingTime"),
        "slots": slots,
        "ended": None,
        "end_reason": None,
        "price": None,
    }


def _parse_identity(text: str | None) -> dict[str, Any]:
    try:
        identity = json.loads(text or "")
    except (ValueError, RecursionError):
        return {}
    return identity if isinstance(identity, dict) else {}


def _read_text(identity: dict[str, Any], key: str) -> str | None:
    value = identity.get(key)
    return value if isinstance(value, str) and value else None


def _read_time(identity: dict[str, Any], key: str) -> str | None:
    try:
        return build_utc_timestamp(datetime.fromisoformat(str(identity.get(key))).timestamp())
    except (ValueError, OverflowError):
        return None
