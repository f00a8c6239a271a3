"""The environment in which boto3 talks to the local cloud, and to nothing else.

Two emulators share the work: ministack is fast where jobs pass (queue, bucket, logs, metrics), moto knows the rest.
Every variable by which the user's own AWS settings could still have a say is overridden, because an environment can
add to another one but not take away.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

MINISTACK_SERVICES = ("SQS", "S3", "CLOUDWATCH_LOGS", "CLOUDWATCH")
MOTO_SERVICES = ("EC2", "ECS", "SSM", "IAM", "STS", "LAMBDA", "SNS", "EVENTBRIDGE")

ACCOUNT_ID = "123456789012"
"""Moto's fixed account number; ministack is told the same, so that names of one fit the other."""

CONTROL_PATH = "/_localcloud/"
"""On moto's port: where commands reach the daemon."""

AGENT_PATH, METADATA_PATH = "/_localcloud-agent/", "/_localcloud-metadata/"
"""On moto's port: what a task asks its machine's ECS agent, and a machine EC2's metadata."""

FUNCTION_TIMINGS = {"LOOK_SECONDS": "2", "SOON_SECONDS": "0.5", "SETTLING_SECONDS": "2", "NEW_MACHINE_SECONDS": "3"}
"""What the auto-monitor's function is told of this cloud: a minute of its rule is short, counts of the queue are exact,
machines start at once."""

DUMMY_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_SESSION_TOKEN": ""}

NEUTRAL_VARIABLES = {
    "AWS_SECURITY_TOKEN": "",
    "AWS_ROLE_ARN": "",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": "",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "false",
    "AWS_USE_FIPS_ENDPOINT": "false",
    "AWS_USE_DUALSTACK_ENDPOINT": "false",
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}


def build_endpoint_variables(moto: str, ministack: str) -> dict[str, str]:
    """botocore's endpoint variables; whatever is not named goes to moto."""
    own = dict.fromkeys(MOTO_SERVICES, moto) | dict.fromkeys(MINISTACK_SERVICES, ministack)
    return {"AWS_ENDPOINT_URL": moto, **{f"AWS_ENDPOINT_URL_{service}": url for service, url in own.items()}}


def build_worker_environment(moto: str, ministack: str, region: str) -> dict[str, str]:
    """For a process that starts with an empty environment: where the cloud is, and credentials that mean nothing."""
    loopback = "127.0.0.1,localhost"
    return {
        **build_endpoint_variables(moto, ministack),
        **DUMMY_CREDENTIALS,
        **NEUTRAL_VARIABLES,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "NO_PROXY": loopback,
        "no_proxy": loopback,
    }


def build_task_environment(moto: str, ministack: str, region: str, task_id: str, instance_id: str) -> dict[str, str]:
    """For a task: beside the cloud the addresses that ECS's agent and EC2 have for it alone."""
    return {
        **build_worker_environment(moto, ministack, region),
        "ECS_AGENT_URI": f"{moto}{AGENT_PATH}{task_id}",
        "AWS_EC2_METADATA_DISABLED": "false",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"{moto}{METADATA_PATH}{instance_id}",
    }


def build_function_environment(moto: str, ministack: str, region: str) -> dict[str, str]:
    """For a Lambda function."""
    return {**build_worker_environment(moto, ministack, region), **FUNCTION_TIMINGS}


def build_command_environment(
    moto: str, ministack: str, region: str, config_file: Path, user: Mapping[str, str]
) -> dict[str, str]:
    """For a command of the user's own shell (`user`), whose AWS settings must all lose.

    An empty AWS_PROFILE or AWS_CA_BUNDLE is an error to botocore. So `config_file` holds an empty default profile, and
    stands for the bundle too, which plain HTTP never reads.
    """
    environment = build_worker_environment(moto, ministack, region)
    strays = (name for name in user if name.startswith("AWS_ENDPOINT_URL_"))
    environment |= {name: moto for name in strays if name not in environment}
    for name in ("NO_PROXY", "no_proxy"):
        environment[name] = ",".join(filter(None, (environment[name], user.get(name, ""))))
    environment |= dict.fromkeys(("AWS_PROFILE", "AWS_DEFAULT_PROFILE"), "default")
    return environment | dict.fromkeys(("AWS_CONFIG_FILE", "AWS_CA_BUNDLE"), str(config_file))
