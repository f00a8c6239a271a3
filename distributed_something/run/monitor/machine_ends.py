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
from distributed_something.observe.documents.machine_documents import parse_machine_document, read_machine_contents
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
    """Complete the documents of the machines that the run had until its end. `now`: seconds since 1970."""
    if history.fleet:
        _try_to_complete(clients, file, history.fleet, now)


def _try_to_complete(clients: Clients, file: MonitorFile, machines: Sequence[str], now: float) -> list[str]:
    """Return the machines whose documents are complete. Those that still run are left as they are."""
    with suppress(*AWSError):
        return _complete_documents(clients, file, machines, now)
    return []


def _complete_documents(clients: Clients, file: MonitorFile, machines: Sequence[str], now: float) -> list[str]:
    observed = {machine.id: machine for machine in list_machines(clients.ec2, machines)}
    ended = [machine for machine in machines if machine not in observed or observed[machine].is_ending]
    types = {observed[machine].machine_type for machine in ended if machine in observed} - {""}
    start = file.MONITOR_START_TIME / 1000
    prices = list_prices_between(clients.ec2, types, start, max(start, now)) if types else {}
    s3, bucket, keys = clients.s3, file.MONITOR_BUCKET_NAME, file.keys
    contents = read_machine_contents(s3, bucket, keys, ended)
    bodies = {
        machine: json.dumps(complete_content(machine, content, observed.get(machine), prices, now)).encode()
        for machine, content in contents
    }

    def write(machine: str) -> object:
        return s3.put_object(
            Bucket=bucket, Key=keys.machine(machine), Body=bodies[machine], ContentType="application/json"
        )

    return [machine for machine, _ in read_in_parallel(ended, write)]


def complete_content(
    machine: str, content: Mapping[str, Any], observed: ObservedMachine | None, prices: Prices, now: float
) -> dict[str, Any]:
    """Return the document's content with how the machine ended. `content`: what the worker wrote, or {}.

    `observed`: None if EC2 has forgotten the machine. `now`: when the end was noticed, which is used if EC2 does not
    say when it was.
    """
    written = parse_machine_document(machine, content)
    if written.ended is not None:  # another monitor was first
        return dict(content)
    facts = _describe_observed(observed) if observed is not None else {}
    known = {"machine": machine} | facts | {key: value for key, value in content.items() if value is not None}
    launched = parse_machine_document(machine, known).launched
    ended = observed.ended if observed is not None and observed.ended is not None else now
    ended = max(ended, launched or 0.0)
    price = None
    if observed is not None and observed.is_spot and launched is not None:
        reports = prices.get((observed.machine_type, observed.zone), ())
        price = compute_mean_price(select_reports(reports, launched), launched, ended)
    empty = dict.fromkeys(("type", "zone", "spot", "launched", "slots"))
    return empty | known | {
        "ended": _format_time(ended),
        "end_code": observed.end_code or None if observed is not None else None,
        "end_reason": _describe_end(observed) if observed is not None else None,
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
