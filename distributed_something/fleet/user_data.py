"""The script that a machine runs when it starts: with it alone the machine joins the run's cluster.

ECS's agent on the ECS-optimised image reads /etc/ecs/ecs.config, of lines of the same name the last one
(amazon-ecs-agent: ecs-init/docker/docker.go). Roles for tasks and the awslogs driver are on there without a line. Not
set on purpose: ECS_AWSVPC_BLOCK_IMDS, as workers ask the machine whether it is being taken away.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from distributed_something.aws.task_definition import MACHINE_ATTRIBUTE, STOP_SECONDS

if TYPE_CHECKING:
    from distributed_something.core.config_settings import Settings


# Of an ended container's files; by the agent's own three hours, some that were killed fill the disk.
CONTAINER_RETENTION_MINUTES = 10
MAX_USER_DATA_BYTES = 16 * 1024  # EC2: user data before it is encoded
_SHELL_SHEBANGS = ("#!/bin/bash", "#!/bin/sh")


class UserDataError(Exception):
    """User data to which the lines that join the cluster cannot be added: what is wrong with it, and what to do."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem, remedy)
        self.problem, self.remedy = problem, remedy


def build_user_data(settings: Settings) -> str:
    """The whole script, in base64 as EC2 takes it."""
    return _encode_script("#!/bin/bash\n" + build_ecs_config_lines(settings))


def extend_user_data(theirs: str, settings: Settings) -> str:
    """`theirs` (user data in base64, or nothing) and then the lines that join the cluster, in base64.

    Raises UserDataError where `theirs` is no shell script, or both are too long.
    """
    script = _decode_script(theirs)
    if not script.strip():
        return build_user_data(settings)
    if not script.startswith(_SHELL_SHEBANGS):
        raise UserDataError("its user data is no shell script", "begin it with #!/bin/bash, or leave it out")
    whole = script.rstrip("\n") + "\n" + build_ecs_config_lines(settings)
    if len(whole.encode()) > MAX_USER_DATA_BYTES:
        free = MAX_USER_DATA_BYTES - len(build_ecs_config_lines(settings))
        raise UserDataError("its user data is too long", f"shorten it to {free} bytes")
    return _encode_script(whole)


def build_ecs_config_lines(settings: Settings) -> str:
    """The lines for ECS's agent. The attribute keeps other apps' containers off: each app's demand their own."""
    return (
        "cat >> /etc/ecs/ecs.config <<'EOF'\n"
        f"ECS_CLUSTER={settings.ECS_CLUSTER}\n"
        f'ECS_INSTANCE_ATTRIBUTES={{"{MACHINE_ATTRIBUTE}":"{settings.APP_NAME}"}}\n'
        "ECS_ENABLE_SPOT_INSTANCE_DRAINING=true\n"
        f"ECS_CONTAINER_STOP_TIMEOUT={STOP_SECONDS}s\n"
        f"ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION={CONTAINER_RETENTION_MINUTES}m\n"
        "EOF\n"
    )


def _encode_script(script: str) -> str:
    return base64.b64encode(script.encode()).decode()


def _decode_script(theirs: str) -> str:
    try:
        return base64.b64decode(theirs, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise UserDataError("its user data is no text", "use a script that begins with #!/bin/bash") from None
