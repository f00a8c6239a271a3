"""Looks up the AWS account in use and the current user's name."""

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
    """Return the account that the credentials belong to. Raise CloudError if the lookup fails."""
    with translate_aws_errors("looking up your AWS account"):
        response = clients.sts.get_caller_identity()
    return AwsAccount(response["Account"], region, response["Arn"].split(":")[1])


def resolve_owner(sts: STSClient, settings: Settings) -> str:
    """Return OWNER from the config or, if it is not set, the name of the current IAM user or role session.

    Looking up the name requires no permissions. Raise CloudError if the lookup fails.
    """
    if settings.OWNER:
        return settings.OWNER
    with translate_aws_errors("looking up your user name (not needed if the config sets OWNER)"):
        arn = sts.get_caller_identity()["Arn"]
    return build_tag_value(arn.rsplit(":", 1)[-1].rsplit("/", 1)[-1])
