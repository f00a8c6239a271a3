"""The bucket's own rule that ends uploads which nobody completes: a worker that is killed leaves parts of a large file.

S3 keeps and bills them, and lists them nowhere where people look. The rule is AWS's own remedy; other rules of the
bucket stay. https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpu-abort-incomplete-mpu-lifecycle-config.html
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from control.errors import code_of
from control.steps import CHANGED, FOUND, LEFT, MADE, REMOVED, Row, Step, or_none

if TYPE_CHECKING:
    from control.clients import Clients

NAME = "distributed-something-incomplete-uploads"
DAYS = 7  # no upload of a worker lasts longer than a job may: 12 hours; other people's in the bucket may
RULE = {
    "ID": NAME,
    "Status": "Enabled",
    "Filter": {"Prefix": ""},
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": DAYS},
}
MAY_NOT = (
    "this login may not read and change the bucket's rules: ask its owner for s3:GetLifecycleConfiguration and "
    "s3:PutLifecycleConfiguration, or for a rule that ends incomplete uploads"
)
_LEFT = {
    "NoSuchBucket": "there is no such bucket: make it, then type setupAWS again",
    "AccessDenied": MAY_NOT,
}
_row = partial(Row, "bucket rule")


def rule(clients: Clients, bucket: str) -> Step:
    """Adds the rule, if the bucket has none that does the same."""
    try:
        current = _current(clients, bucket)
    except ClientError as error:
        if code_of(error) not in _LEFT:
            raise
        return Step(_row(bucket, LEFT, _LEFT[code_of(error)]))
    rules = current.get("Rules", [])
    if any(_does_it(one) for one in rules):
        return Step(_row(bucket, FOUND))
    others = [one for one in rules if one.get("ID") != NAME]
    note = f"parts of files whose upload was begun {DAYS} days ago and not completed are deleted"
    put = partial(_put, clients, bucket, current, [*others, RULE])
    return Step(_row(bucket, CHANGED if rules else MADE, note), put, if_denied=MAY_NOT)


def end_rule(clients: Clients, bucket: str) -> Iterator[Step]:
    """Takes the rule away."""
    try:
        current = _current(clients, bucket)
    except ClientError as error:
        if code_of(error) not in _LEFT:
            raise
        if code_of(error) != "NoSuchBucket":
            yield Step(_row(bucket, LEFT, MAY_NOT))
        return
    rules = current.get("Rules", [])
    others = [one for one in rules if one.get("ID") != NAME]
    if others == rules:
        return
    delete = partial(clients.s3.delete_bucket_lifecycle, Bucket=bucket)
    yield Step(_row(bucket, REMOVED), partial(_put, clients, bucket, current, others) if others else delete)


def _does_it(one: dict[str, Any]) -> bool:
    """Whether a rule ends incomplete uploads in the whole bucket, in a week or less. Old rules have `Prefix` alone."""
    everywhere = one.get("Filter", {"Prefix": one.get("Prefix")}) in ({}, {"Prefix": ""})
    days = one.get("AbortIncompleteMultipartUpload", {}).get("DaysAfterInitiation", DAYS + 1)
    return one.get("Status") == "Enabled" and everywhere and days <= DAYS


def _current(clients: Clients, bucket: str) -> dict[str, Any]:
    ask = partial(clients.s3.get_bucket_lifecycle_configuration, Bucket=bucket)
    return or_none(ask, "NoSuchLifecycleConfiguration") or {}


def _put(clients: Clients, bucket: str, current: dict[str, Any], rules: list[dict[str, Any]]) -> None:
    """All rules at once: S3 replaces what there is."""
    smallest = "TransitionDefaultMinimumObjectSize"  # of the whole configuration; what is not said again is lost
    kept: Any = {smallest: current[smallest]} if smallest in current else {}
    wanted: Any = {"Rules": [_in_new_form(one) for one in rules]}
    clients.s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=wanted, **kept)


def _in_new_form(one: dict[str, Any]) -> dict[str, Any]:
    """S3 refuses rules with a `Prefix`, as older tools write them, beside rules with a `Filter`; both say the same."""
    if "Filter" in one:
        return one
    rest = {key: value for key, value in one.items() if key != "Prefix"}
    return rest | {"Filter": {"Prefix": one.get("Prefix", "")}}
