"""Makes a series of AWS lookups; a failed lookup does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from distributed_something.core.errors import AWSError, CloudError, explain_aws_error, is_access_denied, is_login_error

Item = TypeVar("Item")


@dataclass(frozen=True)
class UncheckedPart:
    """A lookup that failed. `is_denied`: whether a permission is missing, so that a retry would fail too."""

    error: CloudError
    is_denied: bool


def collect_lookup_results(
    lookups: Iterable[tuple[str, Callable[[], Iterable[Item]]]],
) -> tuple[list[Item], list[UncheckedPart]]:
    """Make all lookups; return the items they yield and the lookups that failed.

    Each lookup has a label for error messages, such as "queues". Raise CloudError only if AWS rejects the
    credentials.
    """
    items: list[Item] = []
    failed_lookups: list[UncheckedPart] = []
    for label, look_up in lookups:
        try:
            items.extend(look_up())
        except AWSError as error:
            explained_error = explain_aws_error(f"looking for {label}", error)
            if is_login_error(error):
                raise explained_error from error
            failed_lookups.append(UncheckedPart(explained_error, is_access_denied(error)))
    return items, failed_lookups
