"""The KMS keys that encrypt buckets, which every role that reads or writes such a bucket must be allowed to use.

A bucket may be encrypted with a customer key in KMS (SSE-KMS). Access to the bucket is then not enough: S3 also checks
the caller's permission to use the key. S3's own keys, and the key `aws/s3`, need no permission.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from distributed_something.account.policy_documents import PolicyDocument, allow_actions, build_document, wrap_in_list
from distributed_something.account.step import SetupRow, SetupState
from distributed_something.aws.clients import Clients
from distributed_something.core.errors import find_missing_permission, format_lookup_error, is_login_error
from distributed_something.core.names import AwsAccount

_NO_KEY_CODES = {"NoSuchBucket", "ServerSideEncryptionConfigurationNotFoundError"}
_AWS_MANAGED_ALIAS = "alias/aws/s3"  # AWS lets everyone use it who may use the bucket, but only within an account
READ_ACTION, WRITE_ACTION = "kms:Decrypt", "kms:GenerateDataKey"  # uploads in parts need both


@dataclass(frozen=True)
class BucketKey:
    """The key that encrypts a bucket.

    `arn`: of a customer key in KMS; "" if the bucket needs no permission for its key. `problem`: why that could not be
    found out, or "". `permission`: the permission that is missing for that, or "".
    """

    bucket: str
    arn: str = ""
    problem: str = ""
    permission: str = ""

    @property
    def account_id(self) -> str:
        """The account that owns the key."""
        return self.arn.split(":")[4] if self.arn else ""


def find_bucket_keys(clients: Clients, account: AwsAccount, buckets: Iterable[str]) -> list[BucketKey]:
    """Return the key of each bucket. Raise ClientError only if the user must log in again."""
    return [find_bucket_key(clients, account, bucket) for bucket in buckets]


def find_bucket_key(clients: Clients, account: AwsAccount, bucket: str) -> BucketKey:
    """Return the bucket's key. Raise ClientError only if the user must log in again."""
    try:
        response: Any = clients.s3.get_bucket_encryption(Bucket=bucket)
        key = _find_key(response["ServerSideEncryptionConfiguration"].get("Rules", []))
        return BucketKey(bucket, _resolve_key(clients, account, key))
    except ClientError as error:
        if is_login_error(error):
            raise
        if error.response.get("Error", {}).get("Code") in _NO_KEY_CODES:
            return BucketKey(bucket)
        return BucketKey(bucket, "", format_lookup_error(error), find_missing_permission(error) or "")


def _find_key(rules: Iterable[Mapping[str, Any]]) -> str:
    """Return the key as the bucket's encryption names it: its ARN, its ID, or an alias; "" if it names none."""
    for rule in rules:
        default = rule.get("ApplyServerSideEncryptionByDefault", {})
        if str(default.get("SSEAlgorithm", "")).startswith("aws:kms"):  # also aws:kms:dsse
            return str(default.get("KMSMasterKeyID") or "")
    return ""


def _resolve_key(clients: Clients, account: AwsAccount, key: str) -> str:
    """Return the key's ARN, since permissions apply to keys and not to their aliases; "" for the key `aws/s3`.

    S3 looks for a key without an account in the account of the user, not in that of the bucket.
    """
    if not key or key.endswith(_AWS_MANAGED_ALIAS):
        return ""
    if "alias/" in key:
        return str(clients.kms.describe_key(KeyId=key)["KeyMetadata"]["Arn"])
    return key if key.startswith("arn:") else account.arn("kms", f"key/{key}", account.region)


def format_key_problem(key: BucketKey) -> str:
    """Return the sentence that says what could not be found out about the bucket's key, and why."""
    return f"cannot tell whether {key.bucket} is encrypted with a key of yours in KMS: {key.problem}"


def build_key_row(key: BucketKey, account: AwsAccount) -> SetupRow | None:
    """Return the row that reports the bucket's key, or that it is unknown; None if the bucket needs none."""
    if key.problem:
        note = f"{format_key_problem(key)}; if it is, run setupAWS again with this permission"
        return SetupRow("bucket key", key.bucket, SetupState.WARNING, note)
    if not key.arn:
        return None
    owner = f"; its owner, account {key.account_id}, must also allow these roles in the key policy"
    note = f"{key.arn}: setupAWS lets the roles use it{owner if key.account_id != account.account_id else ''}"
    return SetupRow("bucket key", key.bucket, SetupState.EXISTS, note)


def build_key_policy(arn: str, *, write: bool) -> PolicyDocument:
    """Return the policy that lets a role use the key to read a bucket's objects and, if `write`, to write them."""
    actions = (READ_ACTION, WRITE_ACTION) if write else (READ_ACTION,)
    return build_document(allow_actions("UseKey", *actions, on=arn))


def is_key_allowed(document: Mapping[str, Any], arn: str, *, write: bool) -> bool:
    """Return whether the policy that setupAWS made allows a role to use the key."""
    wanted = build_key_policy(arn, write=write)["Statement"]
    return all(statement in wrap_in_list(document.get("Statement")) for statement in wanted)
