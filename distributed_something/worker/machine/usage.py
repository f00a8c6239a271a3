"""Reports this machine's disk, memory, and CPU usage as one JSON line per minute in LOG_GROUP_NAME_perInstance.

The numbers describe the whole machine, because /proc shows them even inside a container. Values that the system does
not provide (outside Linux) are omitted.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from distributed_something.worker.machine.machine_names import build_machine_log_group

USAGE_REPORT_SECONDS = 60.0
MAX_USAGE_STREAM_CHARACTERS = 512  # CloudWatch's limit for a stream name, which must not contain ':' or '*'
log = logging.getLogger("worker")


class UsageReporter:
    """Reports usage to the log stream named `machine`.

    Each line names the container, because several containers can share a machine. `disk`: any path on the disk whose
    usage is reported.
    """

    def __init__(
        self, logs: Any, log_group_name: str, machine: str, container: str, disk: Path, proc: Path = Path("/proc")
    ) -> None:
        self._logs, self._machine, self._container, self._disk, self._proc = logs, machine, container, disk, proc
        self._stream = {
            "logGroupName": build_machine_log_group(log_group_name),
            "logStreamName": re.sub(r"[:*]", "-", machine)[:MAX_USAGE_STREAM_CHARACTERS],
        }
        self._cpu = _read_cpu_ticks(proc)
        self._has_failed = False

    def tick(self, now: float) -> None:
        """Send one line; `now` is in seconds since 1970.

        If the call fails, the line is dropped. Only the first failure is logged.
        """
        try:
            self._send_event({"timestamp": int(now * 1000), "message": json.dumps(self._build_usage_line())})
        except (ClientError, BotoCoreError) as error:
            if not self._has_failed:
                log.warning(
                    "this machine's usage could not be reported to CloudWatch: %s", " ".join(str(error).split())
                )
            self._has_failed = True

    def _build_usage_line(self) -> dict[str, Any]:
        line = {"container": self._container, "machine": self._machine}
        return line | _read_disk_usage(self._disk) | _read_memory_usage(self._proc) | self._read_cpu_usage()

    def _read_cpu_usage(self) -> dict[str, float]:
        """Return the usage of all processors since the previous line."""
        previous, self._cpu = self._cpu, _read_cpu_ticks(self._proc)
        if previous is None or self._cpu is None or self._cpu[1] <= previous[1]:
            return {}
        idle, total = self._cpu[0] - previous[0], self._cpu[1] - previous[1]
        return {"cpu_percent": _compute_percent(total - idle, total)}

    def _send_event(self, event: dict[str, Any]) -> None:
        try:
            self._logs.put_log_events(**self._stream, logEvents=[event])
        except self._logs.exceptions.ResourceNotFoundException:
            self._create_stream()
            self._logs.put_log_events(**self._stream, logEvents=[event])

    def _create_stream(self) -> None:
        with suppress(self._logs.exceptions.ResourceAlreadyExistsException):  # another container created it first
            self._logs.create_log_stream(**self._stream)


def _read_disk_usage(path: Path) -> dict[str, float]:
    try:
        usage = shutil.disk_usage(path)
    except OSError:
        return {}
    return {
        "disk_total_bytes": usage.total,
        "disk_free_bytes": usage.free,
        "disk_percent": _compute_percent(usage.used, usage.used + usage.free),  # like df, without root's reserved space
    }


def _read_memory_usage(proc: Path) -> dict[str, float]:
    """Return the memory usage. MemAvailable includes caches that the kernel would free."""
    kilobytes = dict(re.findall(r"^(MemTotal|MemAvailable): +(\d+) kB$", _read_text(proc / "meminfo"), re.M))
    if len(kilobytes) < 2:
        return {}
    total, available = int(kilobytes["MemTotal"]) * 1024, int(kilobytes["MemAvailable"]) * 1024
    return {
        "memory_total_bytes": total,
        "memory_available_bytes": available,
        "memory_percent": _compute_percent(total - available, total),
    }


def _read_cpu_ticks(proc: Path) -> tuple[int, int] | None:
    """Return the idle ticks and the total ticks since boot, from the first line of /proc/stat (proc(5)).

    Guest ticks are already included in the user ticks.
    """
    match = re.match(r"cpu +((?:\d+ ?){8})", _read_text(proc / "stat"))
    if not match:
        return None
    ticks = [int(text) for text in match[1].split()]
    return ticks[3] + ticks[4], sum(ticks)  # idle time plus time spent waiting for the disk


def _read_text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _compute_percent(part: int, whole: int) -> float:
    return round(min(100.0, max(0.0, 100 * part / whole)), 1) if whole else 0.0
