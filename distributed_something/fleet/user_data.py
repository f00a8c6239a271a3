"""User data: the script that a machine runs at startup, which makes it join the run's cluster.

The ECS agent on the ECS-optimized image reads /etc/ecs/ecs.config; if a name occurs twice, the last line takes effect
(amazon-ecs-agent: ecs-init/docker/docker.go). Task roles and the awslogs driver are enabled there by default.
ECS_AWSVPC_BLOCK_IMDS must stay unset, because workers read the machine's interruption notice from the instance metadata
service.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from distributed_something.aws.task_definition import MACHINE_ATTRIBUTE, STOP_SECONDS

if TYPE_CHECKING:
    from distributed_something.core.config_settings import Settings


# How long the agent keeps the files of a stopped container. With the default of three hours, killed containers could
# fill the disk.
CONTAINER_RETENTION_MINUTES = 10
MAX_USER_DATA_BYTES = 16 * 1024  # EC2: size of the user data before encoding
LATEST_END = 9_999_999_999.0  # as long as any time in user data
_SHELL_SHEBANGS = ("#!/bin/bash", "#!/bin/sh")


class UserDataError(Exception):
    """Raised if the lines that join the cluster cannot be added to the user data."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem, remedy)
        self.problem, self.remedy = problem, remedy


def build_user_data(settings: Settings, end: float | None = None) -> str:
    """Return the complete script, encoded in base64, as EC2 expects. `end`: see `extend_user_data`."""
    return _encode_script(f"#!/bin/bash\n{_build_shutdown_line(end)}{build_ecs_config_lines(settings)}")


def extend_user_data(settings: Settings, user_data: str, end: float | None = None) -> str:
    """Return `user_data` with the lines that join the cluster added at the end.

    Input (unless empty) and output are base64. `end`: when the machine shuts down, in seconds since 1970; None if it
    does not by itself.

    Raise UserDataError if `user_data` is not a shell script, or if the result is too long.
    """
    script = _decode_script(user_data)
    if not script.strip():
        return build_user_data(settings, end)
    if not script.startswith(_SHELL_SHEBANGS):
        raise UserDataError("its user data is not a shell script", "begin it with #!/bin/bash, or remove it")
    shebang, _, rest = script.rstrip("\n").partition("\n")
    # The timer is first, so that a script that hangs does not keep the machine running forever.
    timer, lines = _build_shutdown_line(end), build_ecs_config_lines(settings)
    extended = f"{shebang}\n{timer}{rest}\n{lines}" if rest else f"{shebang}\n{timer}{lines}"
    if len(extended.encode()) > MAX_USER_DATA_BYTES:
        free = MAX_USER_DATA_BYTES - len(timer + lines)
        raise UserDataError(f"its user data has {len(script.encode()):,} bytes", f"shorten it to {free:,} bytes")
    return _encode_script(extended)


def _build_shutdown_line(end: float | None) -> str:
    """Return the line that shuts the machine down at `end`, which terminates it; an empty string if `end` is None.

    A machine that starts later than that shuts down after a minute.
    """
    if end is None:
        return ""
    return f"minutes=$(( ({end:.0f} - $(date +%s)) / 60 )); shutdown -P +$(( minutes > 1 ? minutes : 1 )) &\n"


def build_ecs_config_lines(settings: Settings) -> str:
    """Return the lines for the ECS agent.

    The attribute keeps other apps' containers off the machine, because each app's containers require that app's
    attribute.
    """
    gpu_support = "ECS_ENABLE_GPU_SUPPORT=true\n" if settings.GPUS else ""
    return (
        "cat >> /etc/ecs/ecs.config <<'EOF'\n"
        f"ECS_CLUSTER={settings.ECS_CLUSTER}\n"
        f'ECS_INSTANCE_ATTRIBUTES={{"{MACHINE_ATTRIBUTE}":"{settings.APP_NAME}"}}\n'
        "ECS_ENABLE_SPOT_INSTANCE_DRAINING=true\n"
        f"{gpu_support}"
        f"ECS_CONTAINER_STOP_TIMEOUT={STOP_SECONDS}s\n"
        f"ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION={CONTAINER_RETENTION_MINUTES}m\n"
        "EOF\n"
    )


def _encode_script(script: str) -> str:
    return base64.b64encode(script.encode()).decode()


def _decode_script(user_data: str) -> str:
    try:
        return base64.b64decode(user_data, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise UserDataError(
            "its user data is not base64 of UTF-8 text", "use a script that begins with #!/bin/bash"
        ) from None
