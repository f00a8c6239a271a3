"""Starts a command, waits for it, and writes what it took to a file descriptor, as JSON.

The kernel's peak memory of a process includes the memory of the process that started it (getrusage(2)). The benchmarks
need much more memory than some programs that they measure, so this small process starts the programs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time


def main(descriptor: str, *command: str) -> None:
    start = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    numbers = {
        "seconds": time.perf_counter() - start,
        "processor_seconds": usage.ru_utime + usage.ru_stime,
        "max_rss": usage.ru_maxrss,
        "exit_code": os.waitstatus_to_exitcode(status),
    }
    os.write(int(descriptor), json.dumps(numbers).encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
