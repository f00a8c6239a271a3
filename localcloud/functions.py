"""Lambda functions, played: the code that the function was given, in a process of its own, with boto3 and no more.

The process sees neither this computer's other packages nor the project's files, so that what a function lacks in AWS
it lacks here too. A call is let go on its own; whoever made it asks whether it has ended.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .layout import Layout
from .processes import CLOUD_MARK

PACKAGES = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "six", "urllib3")
"""What Lambda's Python has beside its standard library."""

RUN = """
import importlib, json, sys
sys.path[:0] = sys.argv[1:3]
module, _, name = sys.argv[3].rpartition(".")
answer = getattr(importlib.import_module(module), name)(json.loads(sys.argv[4]), None)
print(json.dumps(answer), flush=True)
"""


@dataclass
class Call:
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


class Functions:
    """Calls functions of moto's Lambda. `layout`: where their code is unpacked and their log is written."""

    def __init__(self, layout: Layout) -> None:
        self._root = layout.root / "functions"
        self._key = layout.key

    def call(self, function: Any, event: str, environment: Mapping[str, str], now: float) -> Call:
        """Starts a call. `function`: moto's; `event`: the input as JSON; `environment`: where AWS is."""
        code, name = self._unpacked(function), str(function.function_name)
        command = [sys.executable, "-I", "-S", "-c", RUN, str(code), str(self._packages), function.handler, event]
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
        return Call(process, now + float(function.timeout))

    def _unpacked(self, function: Any) -> Path:
        """The folder of the function's code, unpacked once."""
        folder = self._root / "".join(one if one.isalnum() else "-" for one in str(function.code_sha_256))
        if not folder.exists():
            draft = folder.with_suffix(".part")
            zipfile.ZipFile(io.BytesIO(function.code_bytes)).extractall(draft)
            draft.rename(folder)
        return folder

    @cached_property
    def _packages(self) -> Path:
        """A folder with links to boto3 and what it needs, new with every start: Python's own may have moved."""
        folder = self._root / "packages"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in PACKAGES:
            found = importlib.util.find_spec(name)
            path = Path(found.origin) if found and found.origin else None
            if path is not None:
                source = path.parent if path.name == "__init__.py" else path
                (folder / source.name).symlink_to(source)
        return folder


def input_of(target: Mapping[str, Any]) -> str:
    """What EventBridge hands to this target; without an input of its own an event that says only that it is time."""
    return str(target.get("Input") or json.dumps({"source": "aws.events", "detail-type": "Scheduled Event"}))
