"""The object in the bucket that keeps two test runs of an app apart, because each removes everything of that name.

It is created before anything else, with a conditional write, which only one of them can make. A killed test run leaves
it behind: `cleanup` of the test run deletes it, and after LOCK_SECONDS another test run replaces it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from distributed_something.aws.s3 import parse_response_time
from distributed_something.core.errors import InputError, get_error_code, is_missing_object
from distributed_something.core.names import MONITOR_PREFIX

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from distributed_something.core.config_settings import Settings

LOCK_SECONDS = 2 * 3600.0  # the limits of all steps (AWS_LIMITS) are 51 minutes; its machine ends after 60
_MAX_BYTES = 64 << 10  # read of the object; what a test run writes is a few hundred bytes long
_MAX_WRITES = 3  # each one fails only if another test run took or released the lock at that moment
# S3: another writer was first, a write to the same key is in progress, or the object to replace has been deleted.
_OCCUPIED_CODES = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409", "NoSuchKey"}


@dataclass(frozen=True)
class LockHolder:
    """The test run that holds the lock: who started it, when (seconds since 1970), and the log groups it creates."""

    token: str
    owner: str
    started: float
    is_expired: bool
    etag: str
    new_log_groups: tuple[str, ...]


class TestRunLock:
    """The lock of an app's test runs. `settings`: those of the test run. `removal`: the command that ends a killed one.

    `is_taken`: whether this test run has taken it. AWS errors are not caught.
    """

    __test__ = False  # it is not a test

    def __init__(self, s3: S3Client, settings: Settings, removal: str) -> None:
        self._s3, self._bucket, self._removal = s3, settings.AWS_BUCKET, removal
        self._key = f"{MONITOR_PREFIX}/{settings.APP_NAME}Lock.json"
        self._token = uuid.uuid4().hex
        self.is_taken = False

    @property
    def address(self) -> str:
        return f"s3://{self._bucket}/{self._key}"

    def find_holder(self, now: float) -> LockHolder | None:
        """Return the test run that holds the lock, if one does. `now` is used only if S3 sends no time."""
        try:
            response = self._s3.get_object(Bucket=self._bucket, Key=self._key)
            content = _parse_content(response["Body"].read(_MAX_BYTES))
        except ClientError as error:
            if is_missing_object(error):
                return None
            raise
        started = response["LastModified"].timestamp()
        is_expired = parse_response_time(response, now) - started > LOCK_SECONDS
        token, owner = str(content.get("token", "")), str(content.get("owner", "somebody"))
        return LockHolder(token, owner, started, is_expired, response["ETag"], _read_log_groups(content))

    def take(self, owner: str, new_log_groups: Sequence[str], now: float) -> None:
        """Take the lock. Raise InputError if another test run holds it."""
        body = json.dumps({"token": self._token, "owner": owner, "new_log_groups": list(new_log_groups)}).encode()
        holder = self.check_free(now)
        for _ in range(_MAX_WRITES):
            if holder is not None and holder.token == self._token:  # S3's response to the request was lost
                break
            condition: dict[str, Any] = {"IfMatch": holder.etag} if holder else {"IfNoneMatch": "*"}
            try:
                self._s3.put_object(Bucket=self._bucket, Key=self._key, Body=body, **condition)
                break
            except ClientError as error:
                if get_error_code(error) not in _OCCUPIED_CODES:
                    raise
            holder = self.check_free(now)
        else:
            raise InputError(self.address, "", "another testRun of this app is starting", "wait until it ends")
        self.is_taken = True

    def check_free(self, now: float) -> LockHolder | None:
        """Return the holder that this test run may replace: itself, or one that has expired.

        Raise InputError if another one holds the lock.
        """
        holder = self.find_holder(now)
        if holder is not None and not holder.is_expired and holder.token != self._token:
            raise self.build_error(holder)
        return holder

    def build_error(self, holder: LockHolder) -> InputError:
        began = datetime.fromtimestamp(holder.started, UTC).strftime("%Y-%m-%d %H:%M UTC")
        problem = f"a testRun of this app is in progress, which {holder.owner} started at {began}"
        remedy = f"wait until it ends; if it was killed, wait {LOCK_SECONDS / 3600:.0f} hours, or type"
        return InputError(self.address, "", problem, remedy, commands=[self._removal])

    def release(self, now: float) -> None:
        """Delete the lock if this test run holds it."""
        holder = self.find_holder(now)
        if holder is not None and holder.token == self._token:
            self.delete()

    def delete(self) -> None:
        """Delete the lock, whoever holds it."""
        self._s3.delete_object(Bucket=self._bucket, Key=self._key)


def _parse_content(body: bytes) -> dict[str, Any]:
    """Return what the lock says; nothing if somebody has changed it."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _read_log_groups(content: dict[str, Any]) -> tuple[str, ...]:
    groups = content.get("new_log_groups")
    if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
        return ()
    return tuple(groups)
