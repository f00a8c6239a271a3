"""Who is logged in, and to whose account."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distributed_something.aws.clients import Clients
from distributed_something.core.errors import translate_aws_errors
from distributed_something.core.names import AwsAccount
from distributed_something.core.tags import build_tag_value

if TYPE_CHECKING:
    from mypy_boto3_sts import STSClient

    from distributed_something.core.config_settings import Settings


def identify_account(clients: Clients, region: str) -> AwsAccount:
    """Whose account this login is of; raises CloudError."""
    with translate_aws_errors("asking AWS who you are"):
        answer = clients.sts.get_caller_identity()
    return AwsAccount(answer["Account"], region, answer["Arn"].split(":")[1])


def resolve_owner(settings: Settings, sts: STSClient) -> str:
    """OWNER of the config; without it the name of who is logged in: a user, or the session of a role. Nobody needs a
    right for that call. Raises CloudError."""
    if settings.OWNER:
        return settings.OWNER
    with translate_aws_errors("looking up who you are (OWNER in the config spares it)"):
        arn = sts.get_caller_identity()["Arn"]
    return build_tag_value(arn.rsplit(":", 1)[-1].rsplit("/", 1)[-1])
