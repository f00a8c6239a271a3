"""Gathers what a report needs besides the attempts: the machines, and what the run was started with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from distributed_something.aws.spot_prices import compute_mean_price, list_prices_between, select_reports
from distributed_something.core.errors import AWSError
from distributed_something.core.text import format_count
from distributed_something.observe.documents.machine_documents import (
    MachineDocument,
    list_machine_documents,
    list_pauses,
)
from distributed_something.results.command_line import CommandLine
from distributed_something.results.outcome import read_record
from distributed_something.results.report.data import Provenance
from distributed_something.results.report.numbers.build_report import RunFacts
from distributed_something.results.status.document import RunState
from distributed_something.worker import RunKeys, mask_secrets, mask_text

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from distributed_something.aws.clients import Clients
    from distributed_something.core.monitor_file import MonitorFile

MAX_JOB_FILES = 20  # that the report names; the newest ones
MAX_RETRIED_RUNS = 20  # whose documents are read; further ones were retried from these
LEFT_OUT = (
    "The cost is that of the machines: their disks and public addresses, data transfer, S3 storage and requests, and"
    " logs are not included.",
    "EC2 charges at least 60 seconds for a machine, which is not included either.",
)


@dataclass(frozen=True)
class RunMoment:
    """The run's state at a moment. Times are in seconds since 1970; `ended`: None during the run. `cost`: in USD.

    `has_waiting`: whether jobs are in the queue, which `retry` does not touch without --yes.
    """

    state: RunState
    at: float
    ended: float | None
    running: int
    cost: float | None
    has_waiting: bool


def gather_run_facts(clients: Clients, file: MonitorFile, moment: RunMoment, line: CommandLine) -> RunFacts:
    """Return the facts for the report. AWS errors are not caught, except while prices are looked up."""
    s3, bucket = clients.s3, file.MONITOR_BUCKET_NAME
    document = read_record(s3, bucket, file.keys.run_document)
    machines = list_machine_documents(s3, bucket, file.keys)
    config = _read_object(_read_object(document, "config"), "values")
    # The page is kept, and the monitor file belongs to the next run as soon as that starts.
    kept_line = replace(line, monitor_file=file.run) if file.run else line
    return RunFacts(
        file, s3.meta.region_name, moment.state.value, moment.at, moment.ended, moment.running, moment.cost,
        add_spot_prices(clients, file, machines, moment.at), config,
        build_provenance(file, document, config),
        format_retry=lambda group: kept_line.format_retry("--only", group.id, has_waiting=moment.has_waiting),
        mask=mask_text,
        run_job_command=find_run_job_command(s3, file, document, line),
        pauses=list_pauses(s3, bucket, file.keys),
    )  # fmt: skip


def find_run_job_command(s3: S3Client, file: MonitorFile, document: Mapping[str, Any], line: CommandLine) -> str:
    """Return the command that runs one of the run's jobs on the user's computer, up to the job's ID.

    Return "" if it is not known which Job file the job is in: no document names one, or there were several.
    `document`: the run's, {} if an older version started the run. AWS errors are not caught.
    """
    paths, seen, documents = set[str](), {file.run}, [document]
    while documents and len(seen) <= MAX_RETRIED_RUNS:
        for entry in _list_entries(documents.pop()):
            retried = str(entry.get("retry_of") or "")
            paths.add(str(entry.get("path") or ""))
            if retried and retried not in seen:  # its jobs are in the Job file of that run
                seen.add(retried)
                key = RunKeys(file.MONITOR_APP_NAME, retried).run_document
                documents.append(read_record(s3, file.MONITOR_BUCKET_NAME, key))
    used = paths - {""}
    return line.format_command("runJob", line.select_job_file(used.pop()).job_file, "--id") if len(used) == 1 else ""


def _list_entries(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what the run's document says about each submission of its jobs."""
    entries = document.get("job_files")
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def add_spot_prices(
    clients: Clients, file: MonitorFile, machines: Sequence[MachineDocument], now: float
) -> list[MachineDocument]:
    """Return the documents with prices for spot machines that have none, such as those that still run."""
    missing = [machine for machine in machines if machine.price is None and machine.is_spot]
    types = {machine.type for machine in missing if machine.type is not None}
    if not types:
        return list(machines)
    start, prices = file.MONITOR_START_TIME / 1000, {}
    with suppress(*AWSError):  # without prices, the cost is an estimate
        prices = list_prices_between(clients.ec2, types, start, max(start, now))
    return [_add_price(machine, prices, now) for machine in machines]


def _add_price(machine: MachineDocument, prices: Mapping[tuple[str, str], Any], now: float) -> MachineDocument:
    reports = prices.get((machine.type or "", machine.zone or ""), ())
    if machine.price is not None or not machine.is_spot or machine.launched is None:
        return machine
    ended = max(machine.launched, machine.ended if machine.ended is not None else now)
    return replace(
        machine, price=compute_mean_price(select_reports(reports, machine.launched), machine.launched, ended)
    )


def build_provenance(file: MonitorFile, document: Mapping[str, Any], config: Mapping[str, Any]) -> Provenance:
    """Return where the numbers come from. `document`: the run's, {} if an older version started the run."""
    image, versions = _read_object(document, "image"), _read_object(document, "versions")
    fleet_file, config_file = _read_object(document, "fleet_file"), _read_object(document, "config")
    digest, name = image.get("digest"), image.get("name")
    address = f"s3://{file.MONITOR_BUCKET_NAME}/{file.keys.prefix}"
    facts = [
        ("records", address),
        ("image", f"{name} {digest}" if digest else name),
        ("distributed_something", versions.get("distributed_something")),
        *(("Job file", text) for text in _list_job_files(document)),
        ("Fleet file", _format_file(fleet_file)),
        ("config", _format_file(config_file)),
        ("git commit", document.get("git_commit")),
        ("owner", document.get("owner")),
        ("user", document.get("user")),
        ("times", "in UTC; on axes, since the start of the run"),
        ("memory", "of a program and all processes that it started, sampled once a second"),
    ]
    known = tuple((label, mask_text(str(text))) for label, text in facts if text)
    values = tuple((str(key), _format_value(value)) for key, value in sorted(mask_secrets(dict(config)).items()))
    return Provenance(known, values, LEFT_OUT)


def _list_job_files(document: Mapping[str, Any]) -> list[str]:
    texts = []
    for entry in _list_entries(document)[-MAX_JOB_FILES:]:
        path = str(entry.get("path") or "")
        digest, jobs = _read_object(_read_object(entry, "files"), path).get("sha256"), entry.get("jobs")
        retried = f", failed jobs of run {entry['retry_of']}" if entry.get("retry_of") else ""
        count = f", {format_count(jobs, 'job')}" if isinstance(jobs, int) else ""
        texts.append(f"{path or 'retry'}{f' (SHA-256 {digest})' if digest else ''}{count}{retried}")
    return texts


def _format_file(described: Mapping[str, Any]) -> str:
    path, digest = described.get("path"), described.get("sha256")
    return f"{path} (SHA-256 {digest})" if path and digest else str(path or "")


def _format_value(value: object) -> str:
    """Return a value of the config as text; Booleans as in config.py."""
    if isinstance(value, str | bool):
        return str(value)
    return json.dumps(value, ensure_ascii=False)


def _read_object(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    return value if isinstance(value, dict) else {}
