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

EVERY_SECONDS = 60.0
LONGEST_STREAM = 512  # characters; CloudWatch Logs, which allows neither colons nor asterisks
log = logging.getLogger("worker")


class Usage:
    """Reports to the stream `machine`; lines name `container`, as several share one. `disk`: a path on the disk."""

    def __init__(
        self, logs: Any, log_group_name: str, machine: str, container: str, disk: Path, proc: Path = Path("/proc")
    ) -> None:
        self._logs, self._machine, self._container, self._disk, self._proc = logs, machine, container, disk, proc
        self._stream = {
            "logGroupName": f"{log_group_name}_perInstance",
            "logStreamName": re.sub(r"[:*]", "-", machine)[:LONGEST_STREAM],
        }
        self._cpu = _cpu(proc)
        self._said = False

    def tick(self, now: float) -> None:
        """Sends one line; `now`: seconds since 1970. A refusal is said once, and the line dropped."""
        try:
            self._send({"timestamp": int(now * 1000), "message": json.dumps(self._line())})
        except (ClientError, BotoCoreError) as error:
            if not self._said:
                log.warning("this machine's usage is not reported: %s", " ".join(str(error).split()))
            self._said = True

    def _line(self) -> dict[str, Any]:
        line = {"container": self._container, "machine": self._machine}
        return line | _disk(self._disk) | _memory(self._proc) | self._busy()

    def _busy(self) -> dict[str, float]:
        """Of all processors, since the last line."""
        before, self._cpu = self._cpu, _cpu(self._proc)
        if before is None or self._cpu is None or self._cpu[1] <= before[1]:
            return {}
        idle, total = self._cpu[0] - before[0], self._cpu[1] - before[1]
        return {"cpu_percent": _percent(total - idle, total)}

    def _send(self, event: dict[str, Any]) -> None:
        try:
            self._logs.put_log_events(**self._stream, logEvents=[event])
        except self._logs.exceptions.ResourceNotFoundException:
            self._create()
            self._logs.put_log_events(**self._stream, logEvents=[event])

    def _create(self) -> None:
        with suppress(self._logs.exceptions.ResourceAlreadyExistsException):  # another container was faster
            self._logs.create_log_stream(**self._stream)


def _disk(path: Path) -> dict[str, float]:
    try:
        found = shutil.disk_usage(path)
    except OSError:
        return {}
    return {
        "disk_total_bytes": found.total,
        "disk_free_bytes": found.free,
        "disk_percent": _percent(found.used, found.used + found.free),  # as df: without what is root's
    }


def _memory(proc: Path) -> dict[str, float]:
    """MemAvailable counts what the kernel's caches would give back."""
    found = dict(re.findall(r"^(MemTotal|MemAvailable): +(\d+) kB$", _text(proc / "meminfo"), re.M))
    if len(found) < 2:
        return {}
    total, available = int(found["MemTotal"]) * 1024, int(found["MemAvailable"]) * 1024
    return {
        "memory_total_bytes": total,
        "memory_available_bytes": available,
        "memory_percent": _percent(total - available, total),
    }


def _cpu(proc: Path) -> tuple[int, int] | None:
    """Idle and all ticks since the start, from the first line of /proc/stat (proc(5)). Guests' are in user's."""
    found = re.match(r"cpu +((?:\d+ ?){8})", _text(proc / "stat"))
    if not found:
        return None
    ticks = [int(text) for text in found[1].split()]
    return ticks[3] + ticks[4], sum(ticks)  # idle and waiting for the disk


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _percent(part: int, whole: int) -> float:
    return round(min(100.0, max(0.0, 100 * part / whole)), 1) if whole else 0.0
