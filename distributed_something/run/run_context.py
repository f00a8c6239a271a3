"""The context that every run command needs: AWS clients, settings, output, and the clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from distributed_something.core.clock import Clock
from distributed_something.observe.queue import SETTLING_SECONDS
from distributed_something.results.command_line import CommandLine

if TYPE_CHECKING:
    from distributed_something.aws.clients import Clients
    from distributed_something.core.config_settings import Settings
    from distributed_something.run.output import Output


@dataclass(frozen=True)
class RunContext:
    """The context that a command passes to the functions it calls.

    `pause`: seconds to wait before retrying a step that AWS has not completed. `settling_seconds`: how long SQS's
    counts take to settle; 0 in the local cloud. `command_line`: how the user types commands, for advice.
    """

    clients: Clients
    settings: Settings
    output: Output
    clock: Clock = field(default_factory=Clock)
    pause: float = 10.0
    settling_seconds: float = SETTLING_SECONDS
    command_line: CommandLine = field(default_factory=CommandLine)
