"""Records all requests of a process through botocore, one JSON object per line, in the folder RECORDED_REQUESTS.

Python imports this module at its start if this folder is in PYTHONPATH. Code that runs in a project can load it too.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import FrameType
from typing import Any

FOLDER = os.environ.get("RECORDED_REQUESTS")


class ClientFinder(MetaPathFinder):
    """Wraps botocore's client class once it is imported."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name != "botocore.client":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        load = spec.loader.exec_module

        def load_and_wrap(module: Any) -> None:
            load(module)
            module.BaseClient._make_api_call = record_calls(module.BaseClient._make_api_call)

        spec.loader.exec_module = load_and_wrap  # type: ignore[method-assign]
        return spec


def record_calls(call: Any) -> Any:
    """Return a version of botocore's function that writes each request to a file before it is sent."""

    def record_and_call(client: Any, operation: str, parameters: dict[str, Any]) -> Any:
        entry = {
            "program": os.path.basename(sys.argv[0]), "local_cloud": is_called_by_local_cloud(sys._getframe()),
            "service": client.meta.service_model.service_name, "operation": operation, "parameters": parameters,
        }  # fmt: skip
        with open(f"{FOLDER}/{os.getpid()}.jsonl", "a") as file:
            file.write(json.dumps(entry, default=str) + "\n")
        return call(client, operation, parameters)

    return record_and_call


def is_called_by_local_cloud(frame: FrameType | None) -> bool:
    """Return whether the local cloud sends the request, which nobody sends to AWS."""
    while frame is not None:
        if "/localcloud/" in frame.f_code.co_filename:
            return True
        frame = frame.f_back
    return False


if FOLDER:
    sys.meta_path.insert(0, ClientFinder())
