"""Emulates Lambda functions and the schedules that call them.

Each call runs the function's code in its own process. As on AWS, the code can import boto3, but no other package on
this computer and no file in the project, so a missing dependency shows up here too. A call runs in the background, and
its caller polls whether it has ended.
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
"""Packages that Lambda's Python runtime provides in addition to the standard library."""

CALL_CODE = """
import importlib, json, sys
sys.path[:0] = sys.argv[1:3]
module, _, name = sys.argv[3].rpartition(".")
result = getattr(importlib.import_module(module), name)(json.loads(sys.argv[4]), None)
print(json.dumps(result), flush=True)
"""


@dataclass
class FunctionCall:
    """A running call. `deadline` is when the function's timeout expires, in seconds since the epoch."""

    process: subprocess.Popen[bytes]
    deadline: float

    def check_ended(self, now: float) -> bool:
        """Kill the call if its deadline has passed. Return whether it has ended."""
        if self.process.poll() is None and now >= self.deadline:
            self.kill()
        return self.process.returncode is not None

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class FunctionRunner:
    """Runs the functions in moto's Lambda. It unpacks code and writes logs in `layout.root`."""

    def __init__(self, layout: CloudLayout) -> None:
        self._root = layout.root / "functions"
        self._key = layout.key

    def start_call(self, function: Any, event: str, environment: Mapping[str, str], now: float) -> FunctionCall:
        """Start a call to one of moto's functions.

        `event` is the input as JSON, `environment` contains the variables for boto3, and `now` is in seconds since the
        epoch.
        """
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
        variables = {
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
        with open(self._root / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                command,
                cwd=code,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return FunctionCall(process, now + float(function.timeout))

    def _unpack_code(self, function: Any) -> Path:
        """Return the folder with the function's code. Unpack the code on the first call."""
        folder = self._root / re.sub(r"\W", "-", str(function.code_sha_256), flags=re.ASCII)
        if not folder.exists():
            draft = folder.with_suffix(".part")
            zipfile.ZipFile(io.BytesIO(function.code_bytes)).extractall(draft)
            draft.rename(folder)
        return folder

    @cached_property
    def _packages_folder(self) -> Path:
        """Folder with links to boto3 and its dependencies, recreated at each start because Python may have moved."""
        folder = self._root / "packages"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in LAMBDA_PACKAGES:
            spec = importlib.util.find_spec(name)
            path = Path(spec.origin) if spec and spec.origin else None
            if path is not None:
                source = path.parent if path.name == "__init__.py" else path
                (folder / source.name).symlink_to(source)
        return folder


def build_function_input(target: Mapping[str, Any]) -> str:
    """Return the JSON input that EventBridge passes to a target: the target's input or a minimal scheduled event."""
    return str(target.get("Input") or json.dumps({"source": "aws.events", "detail-type": "Scheduled Event"}))


MINUTE_SECONDS = 2.0
"""Seconds in the local cloud for each minute of a rule's rate."""

UNIT_MINUTES = {"minute": 1, "hour": 60, "day": 24 * 60}
"""Minutes per unit of a rule's rate."""

log = logging.getLogger(__name__)


class ScheduleSimulator:
    """Simulates one region's EventBridge rules that call functions.

    `environment` returns the environment variables for functions in a region.
    """

    def __init__(
        self, events: Any, lambda_: Any, functions: FunctionRunner, environment: Callable[[str], dict[str, str]]
    ) -> None:
        self._events, self._lambda = events, lambda_
        self._functions, self._environment = functions, environment
        self._due_times: dict[str, float] = {}
        self._calls: dict[str, list[FunctionCall]] = {}

    def simulate_step(self, now: float) -> list[str]:
        """Advance one step. Return the names of deleted rules whose last calls have now ended."""
        rules = {rule.name: rule for rule in self._list_active_rules()}
        for name, calls in list(self._calls.items()):
            self._calls[name] = [call for call in calls if not call.check_ended(now)]
        for name, rule in rules.items():
            due_time = self._due_times.setdefault(name, now + parse_rate_seconds(rule.scheduled_expression))
            if now >= due_time and not self._calls.get(name):
                self._due_times[name] = now + parse_rate_seconds(rule.scheduled_expression)
                self._calls[name] = list(self._start_calls(rule, now))
        ended = [name for name in self._due_times if name not in rules and not self._calls.get(name)]
        for name in ended:
            del self._due_times[name]
        return ended

    def kill_calls(self) -> None:
        """Kill all running calls."""
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
                log.error("the rule %s calls %s, which does not exist", rule.name, target["Arn"])
                continue
            environment = self._environment(self._events.region_name)
            calls.append(self._functions.start_call(function, build_function_input(target), environment, now))
        return calls


def parse_rate_seconds(expression: str | None) -> float:
    """Return the seconds between calls for `rate(N UNIT)` in the local cloud, or 0 for any other expression."""
    match = re.fullmatch(r"rate\((\d+) (minute|hour|day)s?\)", expression or "")
    return int(match[1]) * UNIT_MINUTES[match[2]] * MINUTE_SECONDS if match else 0.0
