"""What every command of a run needs: AWS, the config, the clock, and where to print."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from distributed_something.core.clock import Clock

if TYPE_CHECKING:
    from distributed_something.aws.clients import Clients
    from distributed_something.core.config_settings import Settings
    from distributed_something.core.output import Output


@dataclass(frozen=True)
class RunContext:
    """Passed down by the commands. `pause`: seconds between two tries of what AWS does not do at once."""

    clients: Clients
    settings: Settings
    output: Output
    clock: Clock = field(default_factory=Clock)
    pause: float = 10.0
