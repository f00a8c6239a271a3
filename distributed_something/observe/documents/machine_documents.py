"""Reads the machines' documents, which workers and the monitor write, for the report of a run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from distributed_something.aws.s3 import iter_bucket_objects
from distributed_something.core.errors import is_missing_object
from distributed_something.observe.documents.parallel import read_in_parallel
from distributed_something.worker import RunKeys

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


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


def read_machine_contents(
    s3: S3Client, bucket: str, keys: RunKeys, machines: Iterable[str]
) -> Iterable[tuple[str, dict[str, Any]]]:
    """Yield each machine with the content of its document, as `read_machine_content` returns it."""
    return read_in_parallel(machines, partial(read_machine_content, s3, bucket, keys))


def read_machine_content(s3: S3Client, bucket: str, keys: RunKeys, machine: str) -> dict[str, Any]:
    """Return the content of a machine's document; {} if there is none or if it is not valid."""
    try:
        content = json.loads(s3.get_object(Bucket=bucket, Key=keys.machine(machine))["Body"].read())
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
    is_price = isinstance(price, int | float) and not isinstance(price, bool) and 0 <= price < float("inf")
    return MachineDocument(
        machine,
        _read_text(content, "type"), _read_text(content, "zone"),
        is_spot if isinstance(is_spot, bool) else None,
        _read_time(content, "launched"),
        slots if isinstance(slots, int) and not isinstance(slots, bool) and slots > 0 else None,
        _read_time(content, "ended"), _read_text(content, "end_code"), _read_text(content, "end_reason"),
        float(price) if is_price and price is not None else None,
    )  # fmt: skip


def _read_text(content: Mapping[str, Any], key: str) -> str | None:
    value = content.get(key)
    return value if isinstance(value, str) and value else None


def _read_time(content: Mapping[str, Any], key: str) -> float | None:
    try:
        return datetime.fromisoformat(str(content.get(key))).timestamp()
    except (ValueError, OverflowError):
        return None
