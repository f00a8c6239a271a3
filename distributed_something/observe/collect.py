"""Several looks one after the other, where a look that AWS refuses does not stop the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from distributed_something.core.errors import AWSError, CloudError, explain_aws_error, is_access_denied, is_login_error

Found = TypeVar("Found")


@dataclass(frozen=True)
class UnseenPart:
    """A look that AWS refused. `denied`: it will refuse the next one too."""

    error: CloudError
    denied: bool


def collect_findings(
    looks: Iterable[tuple[str, Callable[[], Iterable[Found]]]],
) -> tuple[list[Found], list[UnseenPart]]:
    """Take every look, each with the words for what is looked for; return everything found, and what AWS refused.

    Raises CloudError only where AWS does not know who asks.
    """
    found: list[Found] = []
    unseen: list[UnseenPart] = []
    for what, look in looks:
        try:
            found.extend(look())
        except AWSError as error:
            told = explain_aws_error(f"looking for {what}", error)
            if is_login_error(error):
                raise told from error
            unseen.append(UnseenPart(told, is_access_denied(error)))
    return found, unseen
