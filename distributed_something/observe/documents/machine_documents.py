"""Reads the machines' documents, which workers and the monitor write, for the report of a run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from distributed_something.aws.s3 import iter_bucket_objects
from distributed_something.core.errors import is_missing_object
from distributed_something.observe.documents.parallel import read_in_parallel
from distributed_something.worker import RunKeys

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MAX_HEALTH_DOCUMENTS = 100
MAX_SLOTS = 1000  # of a container; DOCKER_CORES is at most this
MAX_PRICE = 1e6  # USD per hour; a larger number is a mistake


@dataclass(frozen=True)
class MachineDocument:
    """What is known about a machine of a run; None means unknown. Times are in seconds since 1970.

    `slots`: of one container. `ended`: None also while the machine runs. `end_code` and `end_reason`: EC2's, of the
    termination. `price`: the mean in USD per hour.
    """

    machine: str
    type: str | None = None
    zone: str | None = None
    is_spot: bool | None = None
    launched: float | None = None
    slots: int | None = None
    ended: float | None = None
    end_code: str | None = None
    end_reason: str | None = None
    price: float | None = None


def list_machine_documents(s3: S3Client, bucket: str, keys: RunKeys) -> list[MachineDocument]:
    """Return the documents of a run's machines: one listing, and one request for each. AWS errors are not caught."""
    found = (keys.find_machine(item["Key"]) for item in iter_bucket_objects(s3, bucket, keys.machines))
    machines = [machine for machine in found if machine is not None]
    contents = read_in_parallel(machines, partial(read_machine_content, s3, bucket, keys))
    return [parse_machine_document(machine, content) for machine, content in contents]


@dataclass(frozen=True)
class Pause:
    """A time in which a container of a machine took no jobs. Times are in seconds since 1970.

    `until`: None if no end is known, as of a container that is paused or that ended while it was.
    """

    machine: str
    since: float
    until: float | None
    reason: str


def list_pauses(s3: S3Client, bucket: str, keys: RunKeys) -> list[Pause]:
    """Return when the run's containers were paused, of MAX_HEALTH_DOCUMENTS of them. AWS errors are not caught.

    Only containers that paused have a health document. Takes a listing, and one request for each document.
    """
    found = [item["Key"] for item in iter_bucket_objects(s3, bucket, keys.machines)]
    health = [key for key in found if keys.find_machine(key) is None][:MAX_HEALTH_DOCUMENTS]
    contents = read_in_parallel(health, partial(_read_content, s3, bucket))
    return [pause for _, content in contents for pause in _parse_pauses(content)]


def _parse_pauses(content: Mapping[str, Any]) -> Iterable[Pause]:
    machine, earlier = _read_text(content, "machine"), content.get("earlier_pauses")
    current = [content] if content.get("state") == "paused" else []
    for entry in [*(earlier if isinstance(earlier, list) else ()), *current]:
        if isinstance(entry, dict) and machine and (since := _read_time(entry, "since")) is not None:
            yield Pause(machine, since, _read_time(entry, "until"), _read_text(entry, "reason") or "")


def read_machine_contents(
    s3: S3Client, bucket: str, keys: RunKeys, machines: Iterable[str]
) -> Iterable[tuple[str, dict[str, Any]]]:
    """Yield each machine with the content of its document, as `read_machine_content` returns it."""
    return read_in_parallel(machines, partial(read_machine_content, s3, bucket, keys))


def read_machine_content(s3: S3Client, bucket: str, keys: RunKeys, machine: str) -> dict[str, Any]:
    """Return the content of a machine's document; {} if there is none or if it is not valid."""
    return _read_content(s3, bucket, keys.machine(machine))


def _read_content(s3: S3Client, bucket: str, key: str) -> dict[str, Any]:
    try:
        content = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    except ClientError as error:
        if is_missing_object(error):
            return {}
        raise
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def parse_machine_document(machine: str, content: Mapping[str, Any]) -> MachineDocument:
    """Return what a document says. A value that is not valid is unknown."""
    is_spot, slots, price = content.get("spot"), content.get("slots"), content.get("price")
    is_price = isinstance(price, int | float) and not isinstance(price, bool) and 0 <= price < MAX_PRICE
    return MachineDocument(
        machine,
        _read_text(content, "type"), _read_text(content, "zone"),
        is_spot if isinstance(is_spot, bool) else None,
        _read_time(content, "launched"),
        slots if isinstance(slots, int) and not isinstance(slots, bool) and 0 < slots <= MAX_SLOTS else None,
        _read_time(content, "ended"), _read_text(content, "end_code"), _read_text(content, "end_reason"),
        float(price) if is_price and price is not None else None,
    )  # fmt: skip


def _read_text(content: Mapping[str, Any], key: str) -> str | None:
    value = content.get(key)
    return value if isinstance(value, str) and value else None


def _read_time(content: Mapping[str, Any], key: str) -> float | None:
    """Return a time in seconds since 1970; None if it is not valid. A time without a zone is in UTC."""
    try:
        time = datetime.fromisoformat(str(content.get(key)))
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
