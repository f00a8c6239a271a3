"""Cleans up everything that a project's local cloud may leave running, no matter how its daemon ended."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from distributed_something.localcloud.base.container_engine import delete_containers
from distributed_something.localcloud.base.layout import CloudLayout
from distributed_something.localcloud.base.processes import CLOUD_MARK, kill_marked_processes

SHORT_TEMP_DIR, LINK_PATTERN = Path("/tmp"), "job-*.tmp"
"""Where a worker makes short links to its jobs' folders for temporary files, and the names of these links."""


def delete_remaining_resources(layout: CloudLayout, root: Path | None = None) -> None:
    """Kill all processes of a project's local cloud, except the calling process, and remove its containers and links.

    `root` is the local cloud's folder, if the project was moved and the folder is no longer where the layout says.
    """
    kill_marked_processes(CLOUD_MARK, layout.key)
    delete_containers(root or layout.root, layout.key)
    _delete_links((root or layout.root) / layout.tasks.name)


def _delete_links(tasks: Path) -> None:
    """Delete the links of workers that were killed; they lead to folders below `tasks`."""
    for link in SHORT_TEMP_DIR.glob(LINK_PATTERN):
        with suppress(OSError):  # not a link, or another user's
            if Path(os.readlink(link)).is_relative_to(tasks):
                link.unlink()
