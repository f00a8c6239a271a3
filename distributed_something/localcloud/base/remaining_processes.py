"""Cleans up everything that a project's local cloud may leave running, no matter how its daemon ended."""

from __future__ import annotations

from pathlib import Path

from distributed_something.localcloud.base.container_engine import delete_containers
from distributed_something.localcloud.base.layout import CloudLayout
from distributed_something.localcloud.base.processes import CLOUD_MARK, kill_marked_processes


def delete_remaining_resources(layout: CloudLayout, root: Path | None = None) -> None:
    """Kill all processes of a project's local cloud, except the calling process, and remove its containers.

    `root` is the local cloud's folder, if the project was moved and the folder is no longer where the layout says.
    """
    kill_marked_processes(CLOUD_MARK, layout.key)
    delete_containers(root or layout.root, layout.key)
