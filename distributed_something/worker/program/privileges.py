"""What the wrapped program may not have: the worker's credentials, its memory, and permissions of the container.

The worker's own environment contains the address of its AWS credentials. A process of the same user could read it in
`/proc`, so the worker hides it from all processes that may not trace others (CAP_SYS_PTRACE). The launchers give up
this permission, and the one to mount file systems (CAP_SYS_ADMIN), before they start programs. On systems other than
Linux, the functions that change a process do nothing.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import NamedTuple

_AWS_VARIABLES = re.compile(
    r"AWS_(ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN|SECURITY_TOKEN|CREDENTIAL_\w+|CONTAINER_\w+"
    r"|WEB_IDENTITY_TOKEN_FILE|ROLE_\w+|PROFILE|DEFAULT_PROFILE|SHARED_CREDENTIALS_FILE|CONFIG_FILE|LOGIN_\w+"
    r"|ENDPOINT_URL_SQS|EC2_METADATA_SERVICE_ENDPOINT)"
    r"|ECS_CONTAINER_METADATA_URI\w*|ECS_AGENT_URI|SQS_\w+"
    r"|ENDPOINT_(ACCESS_KEY_ID|SECRET_ACCESS_KEY|REGION|CREDENTIALS_FILE)"
)
# prctl(2) and capabilities(7)
_PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_LOWER = 4, 24, 38, 47, 3
_CAP_SYS_PTRACE, _CAP_SYS_ADMIN, _CAP_PERFMON = 19, 21, 38
# To read another process's memory, newer kernels accept CAP_PERFMON, too.
_DROPPED_CAPABILITIES = (_CAP_SYS_PTRACE, _CAP_SYS_ADMIN, _CAP_PERFMON)
_CAPABILITY_VERSION_3 = 0x20080522
# Each attempt has a group of its own, so that no other attempt can enter its folder. The numbers are higher than those
# in images, and they also exist where Docker maps a container's users to only 65,536 others.
_FIRST_GROUP, _GROUP_COUNT = 20_000, 40_000
_group_numbers = count()


class NoSuchUser(Exception):
    """Raised if programs cannot run as PROGRAM_USER. The error message says why, in one line."""


class ProgramUser(NamedTuple):
    """The user that programs run as: numbers of the user and of its usual group, and its home folder."""

    number: int
    usual_group: int
    home: str


class ProgramIdentity(NamedTuple):
    """The user and the group of one attempt's programs. `groups`: the user's other groups."""

    user: int
    group: int
    groups: list[int]


def remove_aws_variables(env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables without AWS credentials, their addresses, and the addresses of queues."""
    return {name: value for name, value in env.items() if not _AWS_VARIABLES.fullmatch(name)}


def hide_process() -> None:
    """Let no process without CAP_SYS_PTRACE read this process's memory or its environment."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def drop_permissions() -> None:
    """Give up the permissions to trace processes and to mount, for this process and all that it starts."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    for capability in _DROPPED_CAPABILITIES:
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
        libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_LOWER, capability, 0, 0)
    # capset(2): a header, and three sets of capabilities (effective, permitted, inheritable), in two halves
    header, sets = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    if libc.capget(header, sets) == 0:
        for capability in _DROPPED_CAPABILITIES:
            half, bit = divmod(capability, 32)
            for position in range(3 * half, 3 * half + 3):
                sets[position] &= ~(1 << bit)
        libc.capset(header, sets)


def forbid_new_privileges() -> None:
    """Let no program regain permissions, such as with `sudo`; for this process and all that it starts."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def find_program_user(name: str, users: Path = Path("/etc/passwd")) -> ProgramUser | None:
    """Return the user with this name or number; None if `name` is "", because programs then run as the worker's user.

    Raise NoSuchUser if programs cannot run as this user.
    """
    if not name:
        return None
    if sys.platform != "linux" or os.geteuid() != 0:
        problem = "this container does not start as root, so it cannot start programs as another user"
        raise NoSuchUser(
            f"PROGRAM_USER is {name!r}, but {problem}; remove PROGRAM_USER, or USER from the Dockerfile"
            " (a --local run can do this only with --containers)"
        )
    user = _look_up_user(name, users)
    if user is None:
        raise NoSuchUser(f"PROGRAM_USER is {name!r}, but the image has no such user; write a number, such as '1000'")
    if user.number == 0:
        raise NoSuchUser(f"PROGRAM_USER is {name!r}, which is root; write another user")
    return user


def _look_up_user(name: str, users: Path) -> ProgramUser | None:
    """Return the user as in the image's /etc/passwd, which the worker's own C library may not read."""
    with suppress(OSError):
        for line in users.read_text(encoding="utf-8", errors="replace").splitlines():
            fields = line.split(":")
            if len(fields) == 7 and name in (fields[0], fields[2]) and fields[2].isdecimal() and fields[3].isdecimal():
                return ProgramUser(int(fields[2]), int(fields[3]), fields[5])
    return ProgramUser(int(name), int(name), "") if name.isdecimal() else None


def choose_home(user: ProgramUser, folder: Path) -> str:
    """Return the value of HOME: the user's home folder, or the job's folder if the user has none."""
    return user.home if user.home and os.path.isdir(user.home) else str(folder)


def choose_identity(user: ProgramUser) -> ProgramIdentity:
    """Return an identity for one attempt's programs, with a group that no other attempt of this container has."""
    return ProgramIdentity(user.number, _FIRST_GROUP + next(_group_numbers) % _GROUP_COUNT, [user.usual_group])
