"""How full this machine is (disk, memory, CPU), one JSON line a minute in LOG_GROUP_NAME_perInstance.

The whole machine's, not the container's: /proc tells that even in a container. What a system does not tell (not
Linux) is left out.
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
MAX_USAGE_STREAM_CHARACTERS = 512  # characters; CloudWatch Logs, which allows neither colons nor asterisks
log = logging.getLogger("worker")


class UsageReporter:
    """Reports to the stream `machine`; lines name `container`, as several share one. `disk`: a path on the disk."""

    def __init__(
        self, logs: Any, log_group_name: str, machine: str, container: str, disk: Path, proc: Path = Path("/proc")
    ) -> None:
        self._logs, self._machine, self._container, self._disk, self._proc = logs, machine, container, disk, proc
        self._stream = {
            "logGroupName": build_machine_log_group(log_group_name),
            "logStreamName": re.sub(r"[:*]", "-", machine)[:MAX_USAGE_STREAM_CHARACTERS],
        }
        self._cpu = _read_cpu_ticks(proc)
        self._said = False

    def tick(self, now: float) -> None:
        """Sends one line; `now`: seconds since 1970. A refusal is said once, and the line dropped."""
        try:
            self._send_event({"timestamp": int(now * 1000), "message": json.dumps(self._build_usage_line())})
        except (ClientError, BotoCoreError) as error:
            if not self._said:
                log.warning("this machine's usage is not reported: %s", " ".join(str(error).split()))
            self._said = True

    def _build_usage_line(self) -> dict[str, Any]:
        line = {"container": self._container, "machine": self._machine}
        return line | _read_disk_usage(self._disk) | _read_memory_usage(self._proc) | self._read_cpu_usage()

    def _read_cpu_usage(self) -> dict[str, float]:
        """Of all processors, since the last line."""
        before, self._cpu = self._cpu, _read_cpu_ticks(self._proc)
        if before is None or self._cpu is None or self._cpu[1] <= before[1]:
            return {}
        idle, total = self._cpu[0] - before[0], self._cpu[1] - before[1]
        return {"cpu_percent": _compute_percent(total - idle, total)}

    def _send_event(self, event: dict[str, Any]) -> None:
        try:
            self._logs.put_log_events(**self._stream, logEvents=[event])
        except self._logs.exceptions.ResourceNotFoundException:
            self._create_stream()
            self._logs.put_log_events(**self._stream, logEvents=[event])

    def _create_stream(self) -> None:
        with suppress(self._logs.exceptions.ResourceAlreadyExistsException):  # another container was faster
            self._logs.create_log_stream(**self._stream)


def _read_disk_usage(path: Path) -> dict[str, float]:
    try:
        found = shutil.disk_usage(path)
    except OSError:
        return {}
    return {
        "disk_total_bytes": found.total,
        "disk_free_bytes": found.free,
        "disk_percent": _compute_percent(found.used, found.used + found.free),  # as df: without what is root's
    }


def _read_memory_usage(proc: Path) -> dict[str, float]:
    """MemAvailable counts what the kernel's caches would give back."""
    found = dict(re.findall(r"^(MemTotal|MemAvailable): +(\d+) kB$", _read_text(proc / "meminfo"), re.M))
    if len(found) < 2:
        return {}
    total, available = int(found["MemTotal"]) * 1024, int(found["MemAvailable"]) * 1024
    return {
        "memory_total_bytes": total,
        "memory_available_bytes": available,
        "memory_percent": _compute_percent(total - available, total),
    }


def _read_cpu_ticks(proc: Path) -> tuple[int, int] | None:
    """Idle and all ticks since the start, from the first line of /proc/stat (proc(5)). Guests' are in user's."""
    found = re.match(r"cpu +((?:\d+ ?){8})", _read_text(proc / "stat"))
    if not found:
        return None
    ticks = [int(text) for text in found[1].split()]
    return ticks[3] + ticks[4], sum(ticks)  # idle and waiting for the disk


def _read_text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _compute_percent(part: int, whole: int) -> float:
    return round(min(100.0, max(0.0, 100 * part / whole)), 1) if whole else 0.0
