"""A process that waits for the daemon's death, however it comes, and then ends everything that it left behind.

It holds the reading end of a pipe that the daemon never writes to; the kernel closes the pipe with the daemon, on
every system and even after `kill -9`. Should it be killed too, the next start or stop does the same work.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from distributed_something.localcloud.base.layout import CloudLayout, build_layout
from distributed_something.localcloud.base.remaining_processes import delete_remaining_resources


def start_cleanup_process(layout: CloudLayout) -> subprocess.Popen[bytes]:
    """Start the clean-up process of the calling process; it begins to clean up when its `stdin` closes."""
    command = [sys.executable, "-P", "-m", __spec__.name, str(layout.project)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)


def main(project: str) -> None:
    sys.stdin.buffer.read()
    delete_remaining_resources(build_layout(Path(project)))


if __name__ == "__main__":
    main(sys.argv[1])
