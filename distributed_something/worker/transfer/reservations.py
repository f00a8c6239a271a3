"""Reservations of files in shared output locations: which job may replace an existing file during this run.

S3's conditions compare only an object's ETag, which depends on nothing but its content. They are enough to create a
file, but not to replace one: if a job has seen an old file and another job then replaces the file with the same bytes,
the first job's condition still holds, and it would silently replace the other job's result. Therefore, a job reserves
an existing file before it replaces the file or relies on another job's identical file. A reservation is a small object
in the app's bucket. Its content changes with each update, so conditions on its ETag are reliable.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from botocore.exceptions import ClientError

from distributed_something.worker.job.failures import UploadError, is_missing_object
from distributed_something.worker.job.run_keys import RunKeys
from distributed_something.worker.transfer.s3_file import build_write_condition, is_precondition_error

MAX_WRITE_ATTEMPTS = 20  # each one that fails means that another job changed the reservation


@dataclass(frozen=True, slots=True)
class Reservation:
    """The right of `job` to write a file with this SHA-256 (hexadecimal).

    `shared_with`: another job that relies on the same content, so that the content can no longer change; None if only
    `job` relies on it. `replaced_job`: the job whose reservation this one replaced; kept here because the attempt that
    replaced it may die before it records that.
    """

    job: str
    checksum_sha256: str
    shared_with: str | None = None
    replaced_job: str | None = None

    @property
    def user(self) -> str:
        """The job that made this reservation or joined it."""
        return self.shared_with or self.job

    def find_other_job(self, wanted: Reservation) -> str | None:
        """Return a job whose content this reservation protects from what `wanted` would write, or None."""
        if self.checksum_sha256 == wanted.checksum_sha256:
            return None
        return next((name for name in (self.job, self.shared_with) if name not in (None, wanted.user)), None)

    def add_request(self, wanted: Reservation) -> Reservation:
        """Return the reservation that also covers `wanted`, or replaces this one if the content differs."""
        if self.checksum_sha256 != wanted.checksum_sha256:
            return replace(wanted, replaced_job=self.find_other_job(wanted) or self.replaced_job)
        return self if self.shared_with or wanted.user == self.job else replace(self, shared_with=wanted.user)


class Reservations:
    """The reservations of one run. They are stored in the app's bucket."""

    def __init__(self, s3: Any, app_bucket: str, keys: RunKeys) -> None:
        self._s3, self._bucket, self._keys = s3, app_bucket, keys

    def reserve_file(self, bucket: str, key: str, wanted: Reservation, *, may_replace: bool) -> str | None:
        """Reserve the file at `key`, and return another job that has reserved it for other content, if any.

        That job's reservation is kept, unless `may_replace` is set. Raise UploadError if other jobs keep changing the
        reservation.
        """
        location = {"Bucket": self._bucket, "Key": self._keys.reservation(bucket, key)}
        for _ in range(MAX_WRITE_ATTEMPTS):
            existing, etag = self._read_reservation(location)
            other = existing.find_other_job(wanted) if existing else None
            if other is not None and not may_replace:
                return other
            updated = existing.add_request(wanted) if existing else wanted
            if updated == existing or self._write_reservation(location, f"s3://{bucket}/{key}", updated, etag):
                return other or (None if wanted.shared_with else updated.replaced_job)
        raise UploadError(f"other jobs keep reserving {key}")

    def _read_reservation(self, location: dict[str, str]) -> tuple[Reservation | None, str | None]:
        """Return the reservation and its ETag. The reservation is None if it does not exist or cannot be read."""
        try:
            response = self._s3.get_object(**location)
        except ClientError as error:
            if is_missing_object(error):
                return None, None
            raise
        try:
            content = json.loads(response["Body"].read())
            reservation = Reservation(**{name: content[name] for name in Reservation.__slots__})
        except (ValueError, LookupError, TypeError):
            reservation = None  # workers write only complete reservations, so no worker wrote this
        return reservation, response["ETag"]

    def _write_reservation(
        self, location: dict[str, str], file: str, reservation: Reservation, etag: str | None
    ) -> bool:
        """Write the reservation if the stored one has `etag` (None: if none is stored), and return whether it was."""
        body = json.dumps({"file": file, **asdict(reservation)}, indent=1).encode()
        condition = build_write_condition(etag)
        try:
            self._s3.put_object(**location, Body=body, ContentType="application/json", **condition)
        except ClientError as error:
            if not is_precondition_error(error):
                raise
            return False
        return True
