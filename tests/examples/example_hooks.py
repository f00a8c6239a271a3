"""Loads an example's generic-worker.py as a module, together with the modules in its folder."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from distributed_something.worker.job.worker_settings import Settings, read_worker_settings
from tests.support.paths import ROOT

ENVIRONMENT = {"APP_NAME": "App", "SQS_QUEUE_URL": "https://sqs/q", "AWS_BUCKET": "ours"}


def load_hooks(name: str, patch: pytest.MonkeyPatch) -> ModuleType:
    """Return `examples/NAME/worker/generic-worker.py` as a module.

    `patch`: used so that it can import modules from its folder.
    """
    folder = ROOT / "examples" / name / "worker"
    patch.syspath_prepend(folder)
    for path in folder.glob("*.py"):
        patch.delitem(sys.modules, path.stem, raising=False)
    spec = importlib.util.spec_from_file_location(f"worker_of_{name}", folder / "generic-worker.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build_settings(work_dir: Path, **variables: str) -> Settings:
    """Return a worker's settings, with additional environment variables."""
    return read_worker_settings(ENVIRONMENT | {"WORK_DIR": str(work_dir)} | variables)
