"""An example's generic-worker.py as a module, with what it imports from its own folder."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from distributed_something.worker.job.worker_settings import Settings, read_worker_settings
from tests.support.paths import ROOT

ENVIRONMENT = {"APP_NAME": "App", "SQS_QUEUE_URL": "https://sqs/q", "AWS_BUCKET": "ours"}


def load(name: str, patch: pytest.MonkeyPatch) -> ModuleType:
    """`examples/NAME/worker/generic-worker.py`. Modules beside it are this example's, as long as the test lasts."""
    folder = ROOT / "examples" / name / "worker"
    patch.syspath_prepend(folder)
    for beside in folder.glob("*.py"):
        patch.delitem(sys.modules, beside.stem, raising=False)
    spec = importlib.util.spec_from_file_location(f"worker_of_{name}", folder / "generic-worker.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def settings(work_dir: Path, **more: str) -> Settings:
    """A worker's settings, with `more` variables of its environment."""
    return read_worker_settings(ENVIRONMENT | {"WORK_DIR": str(work_dir)} | more)
