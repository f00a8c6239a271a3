"""The machinery that `generic-worker.py` calls. Only relative imports: it runs in the image and beside the repo.

The names below are what an implementation needs; they are loaded when first used, because `submitJob` reads job ids
and templates from here too and needs neither boto3 nor threads for that.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .container import serve
    from .failures import Failed
    from .job import BadMessage, Folders, Job, job_from_message, upload_arguments
    from .jobid import job_id
    from .program import Result
    from .settings import Settings

__all__ = [
    "BadMessage", "Failed", "Folders", "Job", "Result", "Settings", "job_from_message", "job_id", "serve",
    "upload_arguments",
]  # fmt: skip

_HOMES = {
    "BadMessage": "job", "Folders": "job", "Job": "job", "job_from_message": "job", "job_id": "jobid",
    "upload_arguments": "job", "Failed": "failures", "Result": "program", "serve": "container", "Settings": "settings",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(name)
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
