"""Environment variables that make boto3 talk to the local cloud and to nothing else.

Two emulators share the work. Ministack serves the traffic of the jobs (queue, bucket, logs, metrics) because it is
fast; moto emulates all other services. These variables are added to an existing environment and cannot remove anything
from it, so they override every variable through which the user's own AWS settings could take effect.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

MINISTACK_SERVICES = ("SQS", "S3", "CLOUDWATCH_LOGS", "CLOUDWATCH")
MOTO_SERVICES = ("EC2", "ECS", "SSM", "IAM", "STS", "LAMBDA", "SNS", "EVENTBRIDGE")

ACCOUNT_ID = "123456789012"
"""Moto's fixed account number. Ministack is configured with the same number, so that ARNs match."""

CONTROL_PATH = "/_localcloud/"
"""Path on moto's port where commands reach the daemon."""

AGENT_PATH, METADATA_PATH = "/_localcloud-agent/", "/_localcloud-metadata/"
"""Paths on moto's port: the ECS agent, which tasks call, and the EC2 instance metadata, which machines read."""

FUNCTION_TIMINGS = {
    "LOOK_SECONDS": "2",
    "SOON_SECONDS": "0.5",
    "SETTLING_SECONDS": "2",
    "NEW_MACHINE_SECONDS": "3",
    "FIRST_CONTAINER_SECONDS": "20",
}
"""Timings for the auto-monitor function in the local cloud. They are shorter than on AWS because the function is called
every two seconds, queue counts are exact, and machines start immediately."""

OWN_ACCESS_KEY = "localcloud"
"""Signs the requests that the local cloud itself sends, so that they can be distinguished from users' requests."""

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


CERTIFICATE_VARIABLES = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
"""Variables that name a file with certificates, which workers need for inputs from the web."""


def build_certificate_variables(user: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of `user`, the shell's environment, that name certificates, with absolute paths."""
    return {name: os.path.abspath(user[name]) for name in CERTIFICATE_VARIABLES if user.get(name)}


def build_endpoint_variables(moto: str, ministack: str) -> dict[str, str]:
    """Return botocore's endpoint variables. Services without a variable of their own use moto."""
    urls = dict.fromkeys(MOTO_SERVICES, moto) | dict.fromkeys(MINISTACK_SERVICES, ministack)
    return {"AWS_ENDPOINT_URL": moto, **{f"AWS_ENDPOINT_URL_{service}": url for service, url in urls.items()}}


def build_worker_environment(moto: str, ministack: str, region: str) -> dict[str, str]:
    """Return the variables for a worker whose environment is otherwise empty: endpoints and dummy credentials."""
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
    """Return the variables for a task.

    In addition to the worker variables, these are the addresses of its ECS agent and EC2 metadata, its name (its host
    name is this computer's), and how often it writes its journal, which `monitor` shows almost live.
    """
    return {
        **build_worker_environment(moto, ministack, region),
        "ECS_AGENT_URI": f"{moto}{AGENT_PATH}{task_id}",
        "AWS_EC2_METADATA_DISABLED": "false",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"{moto}{METADATA_PATH}{instance_id}",
        "LOCAL_CONTAINER": task_id,
        "JOURNAL_SECONDS": "1",
        "SICK_PAUSE_SECONDS": "20",  # no alarm replaces a machine here
        "RETRY_SECONDS": "0,1",  # SQS accepts only whole seconds
    }


def build_function_environment(moto: str, ministack: str, region: str) -> dict[str, str]:
    """Return the variables for a Lambda function: the worker variables and shorter timings."""
    return {**build_worker_environment(moto, ministack, region), **FUNCTION_TIMINGS}


def build_command_environment(
    moto: str, ministack: str, region: str, config_file: Path, user: Mapping[str, str]
) -> dict[str, str]:
    """Return the variables that a command in the user's shell needs in addition to `user`, the shell's environment.

    They override all AWS settings in `user`. Botocore fails if AWS_PROFILE or AWS_CA_BUNDLE is empty, so `config_file`
    contains an empty default profile. The file also serves as the CA bundle, which is never read because the emulators
    use plain HTTP.
    """
    environment = build_worker_environment(moto, ministack, region)
    user_endpoints = (name for name in user if name.startswith("AWS_ENDPOINT_URL_"))
    environment |= {name: moto for name in user_endpoints if name not in environment}
    for name in ("NO_PROXY", "no_proxy"):
        environment[name] = ",".join(filter(None, (environment[name], user.get(name, ""))))
    environment |= dict.fromkeys(("AWS_PROFILE", "AWS_DEFAULT_PROFILE"), "default")
    return environment | dict.fromkeys(("AWS_CONFIG_FILE", "AWS_CA_BUNDLE"), str(config_file))
