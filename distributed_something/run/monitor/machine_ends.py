"""Completes the documents of the run's machines: how each one ended, and its price.

EC2 forgets an ended machine within an hour, so this happens when the machine has left the fleet, and for all others at
the end of the run. A run works without it, so no error here ends anything: the next tick tries again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from distributed_something.aws.spot_prices import PriceReport, compute_mean_price, list_prices_between, select_reports
from distributed_something.core.errors import AWSError
from distributed_something.core.monitor_file import MonitorFile
from distributed_something.observe.documents.machine_documents import (
    list_machine_documents,
    parse_machine_document,
    read_machine_contents,
)
from distributed_something.observe.documents.parallel import read_in_parallel
from distributed_something.observe.machines import ObservedMachine, list_machines
from distributed_something.observe.snapshot import RunSnapshot
from distributed_something.run.monitor.history import RunHistory

if TYPE_CHECKING:
    from distributed_something.aws.clients import Clients

Prices = Mapping[tuple[str, str], Sequence[PriceReport]]


def record_machine_ends(clients: Clients, file: MonitorFile, history: RunHistory, snapshot: RunSnapshot) -> RunHistory:
    """Complete the documents of the machines that have left the fleet. Return the history without them.

    If no machine has left, this makes no request.
    """
    current = set(snapshot.fleet.machines) if snapshot.fleet else set()
    gone = [machine for machine in history.fleet if machine not in current]
    if not gone:
        return history
    ended = set(_try_to_complete(clients, file, gone, snapshot.at))
    return replace(history, fleet=tuple(machine for machine in history.fleet if machine not in ended))


def record_last_machines(clients: Clients, file: MonitorFile, history: RunHistory, now: float) -> None:
    """Complete the documents of the machines that the run had until its end, and of those whose end nobody saw.

    `now`: seconds since 1970.
    """
    with suppress(*AWSError):
        documents = list_machine_documents(clients.s3, file.MONITOR_BUCKET_NAME, file.keys)
        unseen = [document.machine for document in documents if document.ended is None]
        noticed = dict.fromkeys(unseen) | dict.fromkeys(history.fleet, now)
        if noticed:
            _complete_documents(clients, file, noticed, now)


def _try_to_complete(clients: Clients, file: MonitorFile, machines: Sequence[str], now: float) -> list[str]:
    """Return the machines whose documents are complete. Those that still run are left as they are."""
    with suppress(*AWSError):
        return _complete_documents(clients, file, dict.fromkeys(machines, now), now)
    return []


def _complete_documents(
    clients: Clients, file: MonitorFile, noticed: Mapping[str, float | None], now: float
) -> list[str]:
    """Return the machines that have ended. `noticed`: when their ends were noticed; None if long after the end."""
    observed = {machine.id: machine for machine in list_machines(clients.ec2, list(noticed))}
    ended = [name for name, machine in observed.items() if machine.is_ending and name in noticed]
    types = {observed[name].machine_type for name in ended} - {""}
    start = file.MONITOR_START_TIME / 1000
    prices = list_prices_between(clients.ec2, types, start, max(start, now)) if types else {}
    s3, bucket, keys = clients.s3, file.MONITOR_BUCKET_NAME, file.keys
    bodies = {
        name: json.dumps(complete_content(content, observed[name], prices, noticed[name])).encode()
        for name, content in read_machine_contents(s3, bucket, keys, ended)
    }

    def write(name: str) -> object:
        return s3.put_object(Bucket=bucket, Key=keys.machine(name), Body=bodies[name], ContentType="application/json")

    written = [name for name, _ in read_in_parallel(ended, write)]
    return [*written, *(name for name in noticed if name not in observed)]  # EC2 has forgotten the latter


def complete_content(
    content: Mapping[str, Any], observed: ObservedMachine, prices: Prices, noticed: float | None
) -> dict[str, Any]:
    """Return the document's content with how the machine ended. `content`: what the worker wrote, or {}.

    `noticed`: when the end was noticed, which is used if EC2 does not say when it was; None if that was too late.
    """
    written = parse_machine_document(observed.id, content)
    if written.ended is not None:  # another monitor was first
        return dict(content)
    known = _describe_observed(observed) | {key: value for key, value in content.items() if value is not None}
    launched = parse_machine_document(observed.id, known).launched
    ended = observed.ended if observed.ended is not None else noticed
    ended = None if ended is None else max(ended, launched or 0.0)
    price = None
    if observed.is_spot and launched is not None and ended is not None:
        reports = prices.get((observed.machine_type, observed.zone), ())
        price = compute_mean_price(select_reports(reports, launched), launched, ended)
    return {"machine": observed.id, "slots": None} | known | {
        "ended": None if ended is None else _format_time(ended),
        "end_code": observed.end_code or None,
        "end_reason": _describe_end(observed),
        "price": price,
    }  # fmt: skip


def _describe_end(machine: ObservedMachine) -> str | None:
    """Return EC2's message, which usually begins with the code already."""
    return machine.end_reason.removeprefix(f"{machine.end_code}: ") or None


def _describe_observed(machine: ObservedMachine) -> dict[str, Any]:
    return {
        "type": machine.machine_type or None,
        "zone": machine.zone or None,
        "spot": machine.is_spot,
        "launched": _format_time(machine.launch_time) if machine.launch_time else None,
    }


def _format_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
