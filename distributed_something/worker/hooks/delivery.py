"""Results that the hook `deliver` sends elsewhere, instead of the bucket or beside it."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from distributed_something.worker.job.failures import Failed
from distributed_something.worker.job.job import Folders, Job
from distributed_something.worker.transfer.result_files import get_output_folder, list_result_files

DELIVERY_CLASS = "delivery"
MAX_LINE_CHARACTERS = 200  # of what a program printed about its failure


class DeliveryError(Failed):
    """Raised if results could not be delivered for a reason that may be temporary."""

    reason_class = DELIVERY_CLASS


@dataclass(frozen=True)
class Delivery:
    """A file that was delivered. The job's record contains it.

    `place`: where it is, such as `sftp://store.example.org/plates`. `name`: its path there. `size` is in bytes.
    `checksum` says how it was computed, such as `sha256:` and 64 digits.
    """

    place: str
    name: str
    size: int
    checksum: str

    def build_record_entry(self) -> dict[str, Any]:
        """Return the file's entry in the job's record."""
        return asdict(self)


def read_delivery(entry: Mapping[str, Any]) -> Delivery:
    """Return the delivery in an entry of a record. Raise KeyError if the entry is not complete."""
    return Delivery(**{field.name: entry[field.name] for field in fields(Delivery)})


def list_results(job: Job, folders: Folders) -> dict[str, Path]:
    """Return the job's result files, keyed by their names relative to the output folder. None is outside the job's
    folder.

    Raise Failed if a file cannot be a result, as for an upload.
    """
    files = list_result_files(get_output_folder(job, folders), job.output_location, job.leave_out)
    return {key.removeprefix(f"{job.output_location}/"): path for key, path in files.items()}


def describe_delivery(place: str, name: str, path: Path) -> Delivery:
    """Return the delivery of the file `path` to `place` under `name`, with the size and SHA-256 of the file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Delivery(place, name, file.tell(), f"sha256:{digest}")


def check_deliveries(job: Job, deliveries: object) -> list[Delivery]:
    """Return what `deliver` returned, as a list. Raise Failed if it is not a list of deliveries, or too short."""
    is_list = isinstance(deliveries, (list, tuple))
    if not isinstance(deliveries, (list, tuple)) or not all(map(_is_valid, deliveries)):
        given = "a list with something else" if is_list else f"a value of type {type(deliveries).__name__}"
        raise Failed(f"deliver() in generic-worker.py returned {given}, not a list of Delivery objects", "worker code")
    if not job.upload_results and len(deliveries) < job.expected_files:
        raise Failed(f"{len(deliveries)} of {job.expected_files} expected files delivered", DELIVERY_CLASS)
    return list(deliveries)


def _is_valid(delivery: object) -> bool:
    return (
        isinstance(delivery, Delivery)
        and all(isinstance(text, str) for text in (delivery.place, delivery.name, delivery.checksum))
        and type(delivery.size) is int
        and delivery.size >= 0
    )


def describe_program_error(error: subprocess.SubprocessError) -> str:
    """Return why a program that `deliver` started failed, with the last line that was captured, but without its
    arguments, which may contain a secret."""
    if not isinstance(error, subprocess.CalledProcessError | subprocess.TimeoutExpired):
        return str(error)
    words = error.cmd if isinstance(error.cmd, (list, tuple)) else str(error.cmd).split()
    end = (
        f"ended with exit code {error.returncode}"
        if isinstance(error, subprocess.CalledProcessError)
        else f"did not end within {error.timeout:g} s"
    )
    captured = error.stderr or error.stdout or ""
    text = captured.decode(errors="replace") if isinstance(captured, bytes) else captured
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    program = Path(str(words[0])).name if words else "a program"
    return f"{program} {end}{f': {lines[-1][:MAX_LINE_CHARACTERS]}' if lines else ''}"
