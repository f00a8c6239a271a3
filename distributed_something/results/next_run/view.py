"""The forecast of a Job file's next run as text, for the summary of a run and for `check`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from distributed_something.core.text import (
    MIN_SHOWN_USD,
    format_cost,
    format_count,
    format_duration,
    format_usd,
    format_wrapped_row,
    shorten_start,
)
from distributed_something.results.next_run.document import RunMeasurement
from distributed_something.results.next_run.forecast import MIN_JOBS, Cluster, RunForecast, forecast_run
from distributed_something.results.next_run.limits import (
    MIB,
    LimitKind,
    LimitRisk,
    RunLimits,
    find_limit_risks,
)
from distributed_something.results.status.forecast import Estimate


@dataclass(frozen=True)
class NextRun:
    """The forecast of a Job file's next run on a cluster. `forecast`: None if too few jobs were measured.

    `is_bid`: whether the price of a machine is MACHINE_PRICE, because the market price is unknown.
    """

    measurement: RunMeasurement
    cluster: Cluster
    forecast: RunForecast | None
    risks: tuple[LimitRisk, ...]
    is_bid: bool = False


def forecast_next_run(
    measurement: RunMeasurement, cluster: Cluster, limits: RunLimits, *, is_bid: bool = False
) -> NextRun:
    """Return the forecast of a run of the entire Job file on these machines."""
    forecast = forecast_run(measurement.measured, measurement.jobs, cluster)
    risks = find_limit_risks(measurement.measured, measurement.jobs, limits, forecast)
    return NextRun(measurement, cluster, forecast, tuple(risks), is_bid)


def format_next_run_rows(next_run: NextRun) -> list[str]:
    """Return the rows of a summary: the forecast, and the limits that would be hit."""
    first, *others = list_next_run_texts(next_run)
    others += [f"warning: {text}; {remedy}" for text, remedy in iter_risk_texts(next_run)]
    return [format_wrapped_row("next run", first), *(format_wrapped_row("", text) for text in others)]


def list_next_run_texts(next_run: NextRun) -> list[str]:
    """Return what was measured, and the forecast of the time and the cost."""
    measurement, cluster, forecast = next_run.measurement, next_run.cluster, next_run.forecast
    jobs, measured = format_count(measurement.jobs, "job"), format_count(measurement.measured.count, "measured job")
    source, machines = shorten_start(measurement.job_file), format_count(cluster.machines, "machine")
    subject = f"{jobs} of {source} on {machines}, from {measured}"
    if forecast is None:
        return [f"{subject}: no forecast, which needs at least {MIN_JOBS}"]
    price_name = "MACHINE_PRICE" if next_run.is_bid else "spot price"
    price = f"{price_name} {format_usd(cluster.usd_per_hour)} an hour"
    cost = "under 0.01" if forecast.usd.high < MIN_SHOWN_USD else _format_estimate(forecast.usd, format_cost)
    return [subject, f"time {_format_estimate(forecast.seconds, format_duration)}", f"cost {cost} USD, {price}"]


def iter_risk_texts(next_run: NextRun) -> Iterator[tuple[str, str]]:
    """Yield what would hit a limit, and what to do about it."""
    for risk in next_run.risks:
        jobs = f"about {risk.jobs:,} of {format_count(next_run.measurement.jobs, 'job')} may"
        certainty = "will probably" if risk.is_certain else "may"
        match risk.kind:
            case LimitKind.TIME:
                limit = f" of {format_duration(risk.limit)}" if risk.limit else ""
                yield f"{jobs} reach the time limit{limit}", "raise timeout_minutes"
            case LimitKind.MEMORY:
                share = f" of {risk.limit / MIB:,.0f} MiB" if risk.limit else ""
                yield f"{jobs} need more than their share of MEMORY{share}", "raise MEMORY, or lower DOCKER_CORES"
            case LimitKind.DISK:
                share = f" of {risk.limit / MIB:,.0f} MiB" if risk.limit else ""
                yield f"{jobs} need more than their share of EBS_VOL_SIZE{share}", "raise EBS_VOL_SIZE"
            case LimitKind.COST:
                where = "p5" if risk.is_certain else "p95"
                text = f"MAX_COST {format_usd(risk.limit)} is below {where}, so the run {certainty} stop at it"
                yield text, "raise MAX_COST, or expect that jobs stay in the queue"
            case LimitKind.HOURS:
                where = "p5" if risk.is_certain else "p95"
                yield (
                    f"MAX_RUN_HOURS {risk.limit:g} is below {where}, so the run {certainty} stop",
                    "raise MAX_RUN_HOURS",
                )


def _format_estimate(estimate: Estimate, format_value: Callable[[float], str]) -> str:
    low, middle, high = (format_value(value) for value in (estimate.low, estimate.value, estimate.high))
    return f"{middle} (p5 {low}, p95 {high})"
