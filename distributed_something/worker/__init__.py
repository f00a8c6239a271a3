"""What runs in the container: it takes jobs from the queue, runs the program, and uploads verified results.

This is the package's one public module. `generic-worker.py` imports everything that it needs from here, and so does the
rest of `distributed_something`. The package itself imports nothing of the others, because the image holds it alone.
Start reading in `container/serve.py`.

Names are loaded when they are first used: `submitJob` needs job ids and placeholders, but neither boto3 nor threads.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .admission.closing import is_run_closed
    from .admission.pauses import list_paused_containers
    from .attempt.batches import split_into_batches
    from .container.serve import serve
    from .job.checks import missing_files, missing_key, missing_text, usual_failure, wrong_text
    from .job.failures import Failed, find_named_permission, get_error_code, is_access_denied, is_missing_object
    from .job.job import MAX_JOB_SECONDS, BadMessage, Folders, Job, job_from_message, upload_arguments
    from .job.job_id import job_id
    from .job.placeholders import TemplateError, as_text, list_placeholders, split_command
    from .job.program_result import Result
    from .job.run_keys import RUNS_PREFIX, RunKeys
    from .job.shell_values import fill_shell
    from .job.upload_flags import parse_upload_flags
    from .job.worker_settings import JobDefaults, Settings
    from .machine.machine_names import build_alarm_name, build_machine_log_group

_MODULES = {
    # what a generic-worker.py uses
    "job.checks": "missing_files missing_key missing_text usual_failure wrong_text",
    "job.failures": "Failed find_named_permission get_error_code is_access_denied is_missing_object",
    "job.job": "BadMessage Folders Job MAX_JOB_SECONDS job_from_message upload_arguments",
    "job.job_id": "job_id",
    "job.placeholders": "TemplateError as_text list_placeholders split_command",
    "job.program_result": "Result",
    "job.shell_values": "fill_shell",
    "job.worker_settings": "JobDefaults Settings",
    "container.serve": "serve",
    # what the rest of distributed_something uses
    "admission.closing": "is_run_closed",
    "admission.pauses": "list_paused_containers",
    "attempt.batches": "split_into_batches",
    "job.run_keys": "RUNS_PREFIX RunKeys",
    "job.upload_flags": "parse_upload_flags",
    "machine.machine_names": "build_alarm_name build_machine_log_group",
}
_MODULE_BY_NAME = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = [
    "MAX_JOB_SECONDS", "RUNS_PREFIX", "BadMessage", "Failed", "Folders", "Job", "JobDefaults", "Result", "RunKeys",
    "Settings", "TemplateError", "as_text", "build_alarm_name", "build_machine_log_group", "fill_shell",
    "find_named_permission", "get_error_code", "is_access_denied", "is_missing_object", "is_run_closed",
    "job_from_message", "job_id", "list_paused_containers", "list_placeholders", "missing_files",
    "missing_key", "missing_text", "parse_upload_flags", "serve", "split_command", "split_into_batches",
    "upload_arguments", "usual_failure", "wrong_text",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _MODULE_BY_NAME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULE_BY_NAME[name]}", __name__), name)
