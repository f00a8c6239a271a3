"""Everything that a project's cloud may leave running, found and ended, however its daemon died."""

from __future__ import annotations

from distributed_something.localcloud.base.container_engine import delete_containers
from distributed_something.localcloud.base.layout import CloudLayout
from distributed_something.localcloud.base.processes import CLOUD_MARK, kill_marked_processes


def delete_remaining_resources(layout: CloudLayout) -> None:
    """Ends all processes and containers of a project's cloud but the caller."""
    kill_marked_processes(CLOUD_MARK, layout.key)
    delete_containers(layout.root, layout.key)
