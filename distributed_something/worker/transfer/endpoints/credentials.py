"""The credentials for S3 servers other than AWS's.

They are in the file ENDPOINT_CREDENTIALS_FILE, or else in ENDPOINT_ACCESS_KEY_ID and ENDPOINT_SECRET_ACCESS_KEY.
Without credentials for a server, requests to it are not signed.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from distributed_something.worker.job.worker_settings import BadEnvironment

FILE_VARIABLE = "ENDPOINT_CREDENTIALS_FILE"
KEY_VARIABLE, SECRET_VARIABLE, REGION_VARIABLE = (
    f"ENDPOINT_{name}" for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "REGION")
)
_FILE_KEYS = ("aws_access_key_id", "aws_secret_access_key")
DEFAULT_REGION = "us-east-1"  # in signatures; most servers accept it, whatever their own setting is


@dataclass(frozen=True)
class EndpointCredentials:
    """What requests to a server are signed with. Without a key, they are not signed."""

    key_id: str = ""
    secret: str = ""
    region: str = DEFAULT_REGION


def read_endpoint_credentials(
    env: Mapping[str, str] = os.environ,
) -> tuple[EndpointCredentials, dict[str, EndpointCredentials]]:
    """Return the credentials for all servers, and those for servers that the file names, by host (and port).

    Raise BadEnvironment if the file cannot be read, or if a part of the credentials is missing.
    """
    key_id, secret = env.get(KEY_VARIABLE, ""), env.get(SECRET_VARIABLE, "")
    if bool(key_id) != bool(secret):
        missing = SECRET_VARIABLE if key_id else KEY_VARIABLE
        raise BadEnvironment(f"the environment variable {missing} is not set; set both or neither of the two")
    default = EndpointCredentials(key_id, secret, env.get(REGION_VARIABLE) or DEFAULT_REGION)
    return default, _read_credentials_file(env[FILE_VARIABLE], default.region) if env.get(FILE_VARIABLE) else {}


def _read_credentials_file(name: str, region: str) -> dict[str, EndpointCredentials]:
    """Return the credentials in a file with a section for each server, in the format of AWS's credentials file."""
    start = f"the environment variable {FILE_VARIABLE} is {name!r}:"
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(Path(name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadEnvironment(
            f"{start} {getattr(error, 'strerror', None) or 'it is not a text file in UTF-8'}"
        ) from None
    except configparser.Error as error:  # its message may quote a line, and with it a secret
        problem = type(error).__name__
        raise BadEnvironment(f"{start} it is not in the format of an AWS credentials file ({problem})") from None
    credentials = {}
    for host in parser.sections():
        section = parser[host]
        if missing := [key for key in _FILE_KEYS if not section.get(key)]:
            raise BadEnvironment(f"{start} [{host}] has no {' and no '.join(missing)}")
        key_id, secret = (section[key] for key in _FILE_KEYS)
        credentials[host.lower()] = EndpointCredentials(key_id, secret, section.get("region") or region)
    return credentials
