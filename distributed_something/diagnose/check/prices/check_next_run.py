"""Shows the forecast of the next run, if an earlier run of the app has measured its jobs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from statistics import median
from typing import TYPE_CHECKING, Any

from distributed_something.aws.spot_prices import build_spot_markets
from distributed_something.core.errors import AWSError
from distributed_something.core.submission import SubmissionDocument
from distributed_something.core.text import format_count, shorten_start
from distributed_something.diagnose.check.findings import Finding, build_ok_finding, build_warning_finding
from distributed_something.diagnose.check.lookups import Lookups
from distributed_something.observe.documents.submissions import list_queue_submissions
from distributed_something.observe.queue import observe_queue
from distributed_something.results.next_run.limits import RunLimits
from distributed_something.results.next_run.measure_run import build_cluster
from distributed_something.results.next_run.view import forecast_next_run, iter_risk_texts, list_next_run_texts

if TYPE_CHECKING:
    from distributed_something.aws.clients import Clients
    from distributed_something.core.config_settings import Settings

TOPIC = "next run"


def check_next_run(lookups: Lookups) -> Iterator[Finding]:
    """Forecast the next run on the config's machines, at the current prices. Yield nothing if no run was measured."""
    settings = lookups.settings
    measurement = None if lookups.is_bucket_missing else lookups.measurement.value
    if measurement is None:
        return
    price = _find_price(lookups)
    slots = settings.TASKS_PER_MACHINE * settings.DOCKER_CORES
    cluster = build_cluster(measurement, settings.CLUSTER_MACHINES, slots, price or settings.MACHINE_PRICE)
    limits = RunLimits(
        settings.DOCKER_CORES, slots, settings.MEMORY, settings.EBS_VOL_SIZE, settings.MAX_COST, settings.MAX_RUN_HOURS
    )
    next_run = forecast_next_run(measurement, cluster, limits, is_bid=price is None)
    details: dict[str, Any] = {
        "run": measurement.run,
        "job_file": measurement.job_file,
        "jobs": measurement.jobs,
        "digest": measurement.digest,
        "forecast": asdict(next_run.forecast) if next_run.forecast else None,
    }
    if not lookups.is_local:
        details["usd_per_machine_hour"] = cluster.usd_per_hour
    yield build_ok_finding(TOPIC, "; ".join(list_next_run_texts(next_run)), details=details, is_tabulated=True)
    if measurement.machine_types and not set(measurement.machine_types) & set(settings.MACHINE_TYPE):
        types = ", ".join(measurement.machine_types)
        yield build_warning_finding(
            TOPIC, f"the jobs were measured on {types}, which is not in MACHINE_TYPE", "send a canary on the new types"
        )
    for text, remedy in iter_risk_texts(next_run):
        yield build_warning_finding(TOPIC, text, remedy)


def select_waiting_forecast(
    findings: Iterable[Finding], clients: Clients, settings: Settings, now: float
) -> list[Finding]:
    """Return the findings without those about the next run, unless they are about the jobs that wait in the queue.

    If some of these jobs have results already, a finding says so instead: the forecast is for jobs that are not
    skipped. `now`: seconds since 1970. If the submissions cannot be read, that is not known.
    """
    findings = list(findings)
    details = next((finding.details for finding in findings if finding.topic == TOPIC and finding.details), None)
    if details is None:
        return findings
    waiting = list[SubmissionDocument]()
    with suppress(*AWSError):
        waiting = _list_waiting_submissions(clients, settings, now)
    same = [
        document
        for document in waiting
        if document.job_file_path == details["job_file"]
        and document.digest == details["digest"]
        and document.sent == details["jobs"]
    ]
    others = [finding for finding in findings if finding.topic != TOPIC]
    if len(waiting) != 1 or same != waiting:
        return others
    return [*others, _build_skip_finding(same[0])] if same[0].already_there else findings


def _build_skip_finding(document: SubmissionDocument) -> Finding:
    count, jobs = document.already_there, format_count(document.sent, "job")
    verb, object_ = ("has", "it") if count == 1 else ("have", "them")
    text = f"{count:,} of {jobs} of {shorten_start(document.job_file_path)} {verb} results and will be skipped"
    again = f"; to run {object_} again, type submitJob with --replace --again"
    return build_ok_finding(TOPIC, text + again, is_tabulated=True)


def _list_waiting_submissions(clients: Clients, settings: Settings, now: float) -> list[SubmissionDocument]:
    """Return the submissions that sent jobs since the queue was created or emptied. AWS errors are not caught."""
    queue = observe_queue(clients.sqs, settings.SQS_QUEUE_NAME)
    if queue is None:
        return []
    submissions = list_queue_submissions(clients.s3, settings.AWS_BUCKET, settings.APP_NAME, queue, now)
    first = max((number for number, document in enumerate(submissions) if document.replaced), default=0)
    return [document for document in submissions[first:] if document.sent]


def _find_price(lookups: Lookups) -> float | None:
    """Return the median of the current spot prices up to the bid, in USD per hour; None if there is none."""
    bid = lookups.settings.MACHINE_PRICE
    markets = build_spot_markets(lookups.prices.result or (), bid, lookups.now)
    return median(affordable) if (affordable := [market.now for market in markets if market.now <= bid]) else None
