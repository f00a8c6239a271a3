"""Lambda functions, played: the code that the function was given, in a process of its own, with boto3 and no more.

The process sees neither this computer's other packages nor the project's files, so that what a function lacks in AWS
it lacks here too. A call is let go on its own; whoever made it asks whether it has ended.
"""

from __future__ import annotations

import importlib.util
import io
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from moto.awslambda.exceptions import UnknownFunctionException

from distributed_something.localcloud.base.layout import CloudLayout
from distributed_something.localcloud.base.processes import CLOUD_MARK

LAMBDA_PACKAGES = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "six", "urllib3")
"""What Lambda's Python has beside its standard library."""

CALL_CODE = """
import importlib, json, sys
sys.path[:0] = sys.argv[1:3]
module, _, name = sys.argv[3].rpartition(".")
answer = getattr(importlib.import_module(module), name)(json.loads(sys.argv[4]), None)
print(json.dumps(answer), flush=True)
"""


@dataclass
class FunctionCall:
    """One call under way; it is ended when its function's time is up, at `until` (seconds since 1970)."""

    process: subprocess.Popen[bytes]
    until: float

    def is_over(self, now: float) -> bool:
        """Whether it has ended, by itself or just now, its time being up."""
        if self.process.poll() is None and now >= self.until:
            self.kill()
        return self.process.returncode is not None

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class FunctionRunner:
    """Calls functions of moto's Lambda. `layout`: where their code is unpacked and their log is written."""

    def __init__(self, layout: CloudLayout) -> None:
        self._root = layout.root / "functions"
        self._key = layout.key

    def start_call(self, function: Any, event: str, environment: Mapping[str, str], now: float) -> FunctionCall:
        """Starts a call. `function`: moto's; `event`: the input as JSON; `environment`: where AWS is."""
        code, name = self._unpack_code(function), str(function.function_name)
        command = [
            sys.executable,
            "-I",
            "-S",
            "-c",
            CALL_CODE,
            str(code),
            str(self._packages_folder),
            function.handler,
            event,
        ]
        own = {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            **environment,
            "AWS_LAMBDA_FUNCTION_NAME": name,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_size),
            "LAMBDA_TASK_ROOT": str(code),
            **dict(function.environment_vars or {}),
            CLOUD_MARK: self._key,
        }
        quiet = subprocess.DEVNULL
        with open(self._root / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                command, cwd=code, env=own, stdin=quiet, stdout=log, stderr=log, start_new_session=True
            )
        return FunctionCall(process, now + float(function.timeout))

    def _unpack_code(self, function: Any) -> Path:
        """The folder of the function's code, unpacked once."""
        folder = self._root / re.sub(r"\W", "-", str(function.code_sha_256), flags=re.ASCII)
        if not folder.exists():
            draft = folder.with_suffix(".part")
            zipfile.ZipFile(io.BytesIO(function.code_bytes)).extractall(draft)
            draft.rename(folder)
        return folder

    @cached_property
    def _packages_folder(self) -> Path:
        """A folder with links to boto3 and what it needs, new with every start: Python's own may have moved."""
        folder = self._root / "packages"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in LAMBDA_PACKAGES:
            found = importlib.util.find_spec(name)
            path = Path(found.origin) if found and found.origin else None
            if path is not None:
                source = path.parent if path.name == "__init__.py" else path
                (folder / source.name).symlink_to(source)
        return folder


def build_function_input(target: Mapping[str, Any]) -> str:
    """What EventBridge hands to this target; without an input of its own an event that says only that it is time."""
    return str(target.get("Input") or json.dumps({"source": "aws.events", "detail-type": "Scheduled Event"}))


MINUTE_SECONDS = 2.0
"""Seconds that a minute of a rule's rate lasts here."""

UNIT_MINUTES = {"minute": 1, "hour": 60, "day": 24 * 60}
"""Minutes of each."""

log = logging.getLogger(__name__)


class ScheduleSimulator:
    """The rules of one region. `environment`: of a region, for boto3 in a function."""

    def __init__(
        self, events: Any, lambda_: Any, functions: FunctionRunner, environment: Callable[[str], dict[str, str]]
    ) -> None:
        self._events, self._lambda = events, lambda_
        self._functions, self._environment = functions, environment
        self._due: dict[str, float] = {}
        self._calls: dict[str, list[FunctionCall]] = {}

    def simulate_step(self, now: float) -> list[str]:
        """One step; names the rules that were deleted since the last one, and whose last calls have ended."""
        rules = {rule.name: rule for rule in self._list_active_rules()}
        for name, calls in list(self._calls.items()):
            self._calls[name] = [call for call in calls if not call.is_over(now)]
        for name, rule in rules.items():
            due = self._due.setdefault(name, now + parse_rate_seconds(rule.scheduled_expression))
            if now >= due and not self._calls.get(name):
                self._due[name] = now + parse_rate_seconds(rule.scheduled_expression)
                self._calls[name] = list(self._start_calls(rule, now))
        ended = [name for name in self._due if name not in rules and not self._calls.get(name)]
        for name in ended:
            del self._due[name]
        return ended

    def kill_calls(self) -> None:
        """Ends every call, now."""
        for call in (call for calls in self._calls.values() for call in calls):
            call.kill()

    def _list_active_rules(self) -> list[Any]:
        buses = list(self._events.event_buses.values())
        rules = [rule for bus in buses for rule in list(bus.rules.values())]
        return [rule for rule in rules if rule.state == "ENABLED" and parse_rate_seconds(rule.scheduled_expression)]

    def _start_calls(self, rule: Any, now: float) -> list[FunctionCall]:
        calls = []
        for target in rule.targets:
            if ":lambda:" not in target["Arn"]:
                continue
            try:
                function = self._lambda.get_function(target["Arn"])
            except UnknownFunctionException:
                log.error("the rule %s calls %s, which is not there", rule.name, target["Arn"])
                continue
            environment = self._environment(self._events.region_name)
            calls.append(self._functions.start_call(function, build_function_input(target), environment, now))
        return calls


def parse_rate_seconds(expression: str | None) -> float:
    """Seconds between two calls of `rate(N UNIT)`, here; 0 for what is no rate."""
    found = re.fullmatch(r"rate\((\d+) (minute|hour|day)s?\)", expression or "")
    return int(found[1]) * UNIT_MINUTES[found[2]] * MINUTE_SECONDS if found else 0.0
