"""The worker: the code in the container that takes jobs from the queue, runs the program, and uploads the results.

This module is the worker's public interface: `generic-worker.py` and the rest of `distributed_something` import only
from here. The worker itself imports no other part of `distributed_something`, because the container image contains only
the worker. Start reading in `container/serve.py`.

Each name is loaded on first use, so that `submitJob` can use job IDs and placeholders without loading boto3.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .admission.closing import is_run_closed
    from .admission.pauses import MAX_PAUSE_DOCUMENTS, list_paused_containers
    from .admission.replacement import build_replacement_document
    from .attempt.attempt import (
        AGAIN_ATTRIBUTE,
        RETRY_JOB_ATTRIBUTE,
        RETRY_RUN_ATTRIBUTE,
        SUBMISSION_ATTRIBUTE,
    )
    from .batches import split_into_batches
    from .container.check_messages import CHECK_VARIABLE, FILES_FILE, MESSAGES_FILE, NUMBER_FILE, VERDICTS_FILE
    from .container.serve import serve
    from .container.test_job import TEST_RUN_VARIABLE
    from .hooks.delivery import Delivery, describe_delivery, list_results
    from .image_files import find_image_damage
    from .job.addresses import CREDENTIALS_PROBLEM, MOUNT_FOLDER, BadAddress, check_endpoint, remove_mount_folder
    from .job.checks import EXIT_CODE_ACCEPTED, missing_files, missing_key, missing_text, usual_failure, wrong_text
    from .job.failures import (
        Failed,
        find_named_permission,
        find_permission_in_text,
        get_error_code,
        is_access_denied,
        is_missing_object,
    )
    from .job.job import BadMessage, Folders, Job
    from .job.job_id import JobIdentifier, job_id, remove_hash
    from .job.message.job_template import JobTemplate, fill_key, job_from_message, upload_arguments
    from .job.message.message_keys import MAX_JOB_SECONDS, hide_message_credentials
    from .job.placeholders import TemplateError, as_text, list_placeholders, split_command
    from .job.program_result import Result, convert_exit_code
    from .job.run_keys import RUNS_PREFIX, AppKeys, RunKeys
    from .job.shell.shell_template import parse_shell_template
    from .job.shell.shell_values import fill_shell
    from .job.upload_flags import parse_upload_flags
    from .job.worker_settings import BadEnvironment, JobDefaults, Settings
    from .machine.machine_names import build_alarm_name, build_machine_log_group
    from .macos_files import is_macos_file
    from .processors import use_one_processor
    from .responses.foreign_response import ForeignResponseError, reject_foreign_responses
    from .responses.response_length import reject_truncated_responses
    from .secret_values import has_secret, has_secret_in_prose, mask_lines, mask_secrets, mask_text
    from .stored_record import read_stored_record
    from .table import (
        TableError,
        find_undecodable_text,
        iter_table_rows,
        open_table_text,
        read_table_names,
    )
    from .transfer.endpoints.clients import EndpointClients, build_endpoint_arguments
    from .transfer.endpoints.credentials import EndpointCredentials
    from .transfer.s3_file import compute_object_sha256
    from .transfer.stored_result import ResultOwner, StoredResult, read_stored_result
    from .version import VERSION
    from .visible_text import make_visible, show_name, split_lines

_MODULES = {
    # for generic-worker.py
    "image_files": "find_image_damage",
    "job.checks": "EXIT_CODE_ACCEPTED missing_files missing_key missing_text usual_failure wrong_text",
    "job.failures": "Failed find_named_permission find_permission_in_text get_error_code is_access_denied"
    " is_missing_object",
    "job.job": "BadMessage Folders Job",
    "job.message.job_template": "JobTemplate job_from_message fill_key upload_arguments",
    "job.job_id": "JobIdentifier job_id remove_hash",
    "job.message.message_keys": "MAX_JOB_SECONDS hide_message_credentials",
    "job.placeholders": "TemplateError as_text list_placeholders split_command",
    "job.program_result": "Result convert_exit_code",
    "job.shell.shell_values": "fill_shell",
    "job.worker_settings": "BadEnvironment JobDefaults Settings",
    "container.serve": "serve",
    "hooks.delivery": "Delivery describe_delivery list_results",
    "table": "TableError find_undecodable_text iter_table_rows open_table_text read_table_names",
    # for the rest of distributed_something
    "admission.closing": "is_run_closed",
    "admission.pauses": "MAX_PAUSE_DOCUMENTS list_paused_containers",
    "admission.replacement": "build_replacement_document",
    "attempt.attempt": "AGAIN_ATTRIBUTE RETRY_JOB_ATTRIBUTE RETRY_RUN_ATTRIBUTE SUBMISSION_ATTRIBUTE",
    "batches": "split_into_batches",
    "container.check_messages": "CHECK_VARIABLE FILES_FILE MESSAGES_FILE NUMBER_FILE VERDICTS_FILE",
    "container.test_job": "TEST_RUN_VARIABLE",
    "job.addresses": "BadAddress CREDENTIALS_PROBLEM MOUNT_FOLDER check_endpoint remove_mount_folder",
    "job.run_keys": "AppKeys RUNS_PREFIX RunKeys",
    "job.shell.shell_template": "parse_shell_template",
    "job.upload_flags": "parse_upload_flags",
    "machine.machine_names": "build_alarm_name build_machine_log_group",
    "macos_files": "is_macos_file",
    "processors": "use_one_processor",
    "secret_values": "has_secret has_secret_in_prose mask_lines mask_secrets mask_text",
    "stored_record": "read_stored_record",
    "responses.foreign_response": "ForeignResponseError reject_foreign_responses",
    "responses.response_length": "reject_truncated_responses",
    "transfer.endpoints.clients": "EndpointClients build_endpoint_arguments",
    "transfer.endpoints.credentials": "EndpointCredentials",
    "transfer.s3_file": "compute_object_sha256",
    "transfer.stored_result": "ResultOwner StoredResult read_stored_result",
    "version": "VERSION",
    "visible_text": "make_visible show_name split_lines",
}
_MODULE_BY_NAME = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = [
    "AGAIN_ATTRIBUTE", "CHECK_VARIABLE", "CREDENTIALS_PROBLEM", "EXIT_CODE_ACCEPTED", "FILES_FILE",
    "MAX_JOB_SECONDS", "MAX_PAUSE_DOCUMENTS", "MESSAGES_FILE", "MOUNT_FOLDER", "NUMBER_FILE", "RETRY_JOB_ATTRIBUTE",
    "RETRY_RUN_ATTRIBUTE", "RUNS_PREFIX", "SUBMISSION_ATTRIBUTE",
    "TEST_RUN_VARIABLE", "VERDICTS_FILE", "VERSION", "AppKeys", "BadAddress",
    "BadEnvironment", "BadMessage", "Delivery", "EndpointClients", "EndpointCredentials", "Failed", "Folders",
    "ForeignResponseError", "Job", "JobDefaults", "JobIdentifier", "JobTemplate", "Result", "ResultOwner",
    "RunKeys", "Settings", "StoredResult", "TableError", "TemplateError", "as_text", "build_alarm_name",
    "build_endpoint_arguments", "build_machine_log_group", "build_replacement_document", "check_endpoint",
    "compute_object_sha256", "convert_exit_code", "describe_delivery", "fill_key", "fill_shell",
    "find_image_damage", "find_named_permission", "find_permission_in_text", "find_undecodable_text",
    "get_error_code", "has_secret", "has_secret_in_prose", "hide_message_credentials", "is_access_denied",
    "is_macos_file", "is_missing_object", "is_run_closed", "iter_table_rows", "job_from_message", "job_id",
    "list_paused_containers", "list_placeholders", "list_results", "make_visible", "mask_lines", "mask_secrets",
    "mask_text", "missing_files", "missing_key", "missing_text", "open_table_text", "parse_shell_template",
    "parse_upload_flags", "read_stored_record", "read_stored_result", "read_table_names",
    "reject_foreign_responses", "reject_truncated_responses", "remove_hash", "remove_mount_folder", "serve",
    "show_name", "split_command", "split_into_batches", "split_lines", "upload_arguments", "use_one_processor",
    "usual_failure", "wrong_text",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _MODULE_BY_NAME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULE_BY_NAME[name]}", __name__), name)
