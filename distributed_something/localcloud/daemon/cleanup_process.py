"""A process that waits until the daemon ends, for whatever reason, and then cleans up what the daemon left running.

It reads from a pipe that the daemon never writes to. When the daemon ends, even after `kill -9`, the kernel closes the
pipe. If this process is killed too, the cleanup takes place when the local cloud is next started or stopped.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from distributed_something.localcloud.base.layout import CloudLayout, build_layout
from distributed_something.localcloud.base.remaining_processes import delete_remaining_resources


def start_cleanup_process(layout: CloudLayout) -> subprocess.Popen[bytes]:
    """Start a process that cleans up after the calling process, once the returned process's `stdin` is closed."""
    command = [sys.executable, "-P", "-m", __spec__.name, str(layout.project)]
    return subprocess.Popen(command, cwd=layout.root, stdin=subprocess.PIPE, start_new_session=True)


def main(project: str) -> None:
    sys.stdin.buffer.read()
    # The working directory is the local cloud's folder, wherever the project was moved.
    delete_remaining_resources(build_layout(Path(project)), Path())


if __name__ == "__main__":
    main(sys.argv[1])
