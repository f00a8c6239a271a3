"""Cleans up everything that a project's local cloud may leave running, no matter how its daemon ended."""

from __future__ import annotations

from distributed_something.localcloud.base.container_engine import delete_containers
from distributed_something.localcloud.base.layout import CloudLayout
from distributed_something.localcloud.base.processes import CLOUD_MARK, kill_marked_processes


def delete_remaining_resources(layout: CloudLayout) -> None:
    """Kill all processes of a project's local cloud, except the calling process, and remove its containers."""
    kill_marked_processes(CLOUD_MARK, layout.key)
    delete_containers(layout.root, layout.key)
