"""The forecast of a Job file's next run: what is measured, how it is extrapolated, and which limits would be hit."""

from __future__ import annotations

import json
from dataclasses import replace
from math import exp
from random import Random
from typing import Any

import pytest

from distributed_something.core.submission import SubmissionDocument, build_submission
from distributed_something.core.text import TERMINAL_COLUMNS
from distributed_something.results.next_run.document import RunMeasurement, load_measurement, save_measurement
from distributed_something.results.next_run.forecast import MIN_JOBS, Cluster, forecast_run, is_lognormal
from distributed_something.results.next_run.limits import GIB, MIB, LimitKind, RunLimits, find_limit_risks
from distributed_something.results.next_run.measure_run import MAX_IDLE_SECONDS, measure_next_run
from distributed_something.results.next_run.measured_jobs import SAMPLE_SIZE, JobMeasurer, MeasuredJobs
from distributed_something.results.next_run.view import NextRun, forecast_next_run, format_next_run_rows
from distributed_something.worker import AppKeys
from tests.support.account import emulate_account
from tests.support.fakes import MONITOR_FILE, START, FakeBucket

CLUSTER = Cluster(machines=10, slots=2, usd_per_hour=0.5, startup_seconds=120, idle_seconds=60)


def measure(*seconds: float, **changes: Any) -> MeasuredJobs:
    ordered = tuple(sorted(seconds))
    return replace(MeasuredJobs(len(seconds), sum(seconds), ordered, ordered), **changes)


def draw_lognormal(count: int, seed: int = 1, mean: float = 600.0, sigma: float = 0.5) -> list[float]:
    random = Random(seed)
    return [mean * exp(random.gauss(0, sigma)) for _ in range(count)]


def build_line(job: str = "a", *, start: int = 0, fetch: int = 5, program: int = 60, upload: int = 2,
               state: str = "done", **more: Any) -> dict[str, Any]:  # fmt: skip
    """Return a journal's line for a job. `start`: seconds after 10:00."""
    times = [start, start + fetch, start + fetch + program, start + fetch + program + upload]
    texts = [f"2026-11-23T{10 + time // 3600}:{time // 60 % 60:02}:{time % 60:02}.000Z" for time in times]
    return {
        "job": job, "message_id": f"id-{job}", "state": state, "final": True, "started": texts[0],
        "program_started": texts[1], "program_ended": texts[2], "ended": texts[3], "seconds": fetch + program + upload,
        "time_limit_seconds": 300.0, "peak_memory_bytes": 7, "bytes_in": 10, "bytes_out": 1, **more,
    }  # fmt: skip


# Measuring


@pytest.mark.parametrize(("times", "slot"), [((5, 60, 2), 60), ((90, 60, 2), 90), ((5, 60, 100), 100)])
def test_a_job_occupies_its_slot_for_the_longest_of_fetch_program_and_upload(
    times: tuple[int, int, int], slot: int
) -> None:
    measurer = JobMeasurer()
    measurer.add_end(build_line(fetch=times[0], program=times[1], upload=times[2]))
    measured = measurer.finish(0.0)
    assert (measured.count, measured.total_seconds, measured.program_seconds) == (1, slot, (60,))
    assert (measured.peak_memory, measured.file_bytes, measured.time_limit) == ((7,), (21,), 300)


def test_jobs_that_were_skipped_or_failed_are_not_measured_but_those_that_timed_out_are() -> None:
    measurer = JobMeasurer()
    measurer.add_end(build_line("a", state="skipped"))
    measurer.add_end(build_line("b", state="failed", reason_class="program"))
    measurer.add_end(build_line("c", state="failed", reason_class="time-out", start=100))
    measured = measurer.finish(0.0)
    assert (measured.count, measured.failures) == (1, {"program": 1, "time-out": 1})
    assert measured.last_end is not None
    assert measured.last_end - (measured.first_start or 0) == 100 + 67  # since the start of b, which also ran


def test_repeated_attempts_make_jobs_longer() -> None:
    measurer = JobMeasurer()
    measurer.add_end(build_line(program=60, fetch=0, upload=0))
    assert measurer.finish(90.0).total_seconds == pytest.approx(90)
    assert measurer.finish(60.0).total_seconds == pytest.approx(60)


@pytest.mark.parametrize("line", [{}, {"state": "done"}, {"state": "done", "program_started": 5, "seconds": "x"}])
def test_lines_that_lack_times_are_not_measured(line: dict[str, Any]) -> None:
    measurer = JobMeasurer()
    measurer.add_end(line)
    assert measurer.finish(0.0).count == 0


def test_only_a_sample_of_many_jobs_is_kept_and_it_does_not_depend_on_their_order() -> None:
    lines = [build_line(f"job-{number}", program=number % 50) for number in range(3 * SAMPLE_SIZE)]
    forward, backward = JobMeasurer(), JobMeasurer()
    for line in lines:
        forward.add_end(line)
    for line in reversed(lines):
        backward.add_end(line)
    measured = forward.finish(0.0)
    assert measured == backward.finish(0.0)
    assert (len(measured.seconds), measured.count) == (SAMPLE_SIZE, 3 * SAMPLE_SIZE)


# The forecast


def test_jobs_that_all_take_as_long_have_a_forecast_without_a_range() -> None:
    forecast = forecast_run(measure(*[600.0] * 30), 1000, replace(CLUSTER, startup_seconds=0, idle_seconds=0))
    assert forecast is not None
    # 20 slots run 50 jobs each.
    assert (forecast.seconds.low, forecast.seconds.high) == pytest.approx((30_000, 30_000))
    assert forecast.usd.value == pytest.approx(10 * 30_000 / 3600 * 0.5)


def test_how_long_machines_take_to_start_and_to_end_varies() -> None:
    forecast = forecast_run(measure(*[600.0] * 30), 1000, CLUSTER)
    assert forecast is not None
    assert 30_000 + 100 < forecast.seconds.low < 30_180 < forecast.seconds.high < 30_000 + 300


def test_the_same_numbers_give_the_same_forecast() -> None:
    measured = measure(*draw_lognormal(30))
    assert forecast_run(measured, 1000, CLUSTER) == forecast_run(measured, 1000, CLUSTER)


def test_the_more_jobs_were_measured_the_narrower_is_the_range() -> None:
    ranges = []
    for count in (10, 100, 1000):
        forecast = forecast_run(measure(*draw_lognormal(count)), 1000, CLUSTER)
        assert forecast is not None
        assert forecast.usd.low <= forecast.usd.value <= forecast.usd.high
        ranges.append((forecast.usd.high - forecast.usd.low) / forecast.usd.value)
    assert ranges == sorted(ranges, reverse=True)
    assert ranges[-1] < 0.02  # all jobs were measured; only the order of the last ones is unknown


def test_the_range_contains_the_sum_of_lognormal_jobs_about_nine_times_out_of_ten() -> None:
    """The complete simulation, in which machines start and are interrupted, is in tests/measure/forecast."""
    hits = 0
    for seed in range(40):
        times = draw_lognormal(1000, seed)
        forecast = forecast_run(measure(*times[16::34]), 1000, Cluster(1, 1, 3600.0))
        assert forecast is not None
        hits += forecast.usd.low <= sum(times) <= forecast.usd.high
    assert 32 <= hits <= 40


def test_two_kinds_of_jobs_are_not_taken_for_lognormal_ones() -> None:
    """A lognormal distribution with the same spread would contain jobs of many hours."""
    times = [10.0, 1000.0] * 15
    assert not is_lognormal(times)
    assert is_lognormal(draw_lognormal(30))
    forecast = forecast_run(measure(*times), 1000, CLUSTER)
    assert forecast is not None
    assert forecast.seconds.high < 2 * forecast.seconds.low


def test_machines_without_a_job_are_paid_until_the_monitor_ends_them() -> None:
    forecast = forecast_run(measure(*[600.0] * 5), 5, CLUSTER)
    assert forecast is not None
    assert forecast.seconds.value == pytest.approx(780, rel=0.02)
    assert forecast.usd.value == pytest.approx((5 * 780 + 5 * 180) / 3600 * 0.5, rel=0.03)


def test_thousands_of_machines_cost_as_much_as_their_share() -> None:
    few, many = (
        forecast_run(measure(*draw_lognormal(100)), 100 * machines, Cluster(machines, 4, 1.0))
        for machines in (50, 5000)
    )
    assert few is not None
    assert many is not None
    assert many.usd.value == pytest.approx(100 * few.usd.value, rel=0.05)


@pytest.mark.parametrize("count", [0, MIN_JOBS - 1])
def test_too_few_jobs_have_no_forecast(count: int) -> None:
    assert forecast_run(measure(*[60.0] * count), 100, CLUSTER) is None


# Limits


def find_kinds(measured: MeasuredJobs, limits: RunLimits, jobs: int = 1000) -> dict[LimitKind, int]:
    forecast = forecast_run(measured, jobs, CLUSTER)
    return {risk.kind: risk.jobs for risk in find_limit_risks(measured, jobs, limits, forecast)}


def test_a_time_limit_is_hit_if_the_distribution_reaches_it_although_no_measured_job_did() -> None:
    times = draw_lognormal(30)
    limit = max(times) * 1.1
    risks = find_kinds(measure(*times, time_limit=limit), RunLimits())
    assert 1 <= risks[LimitKind.TIME] <= 100
    assert find_kinds(measure(*times, time_limit=100 * limit), RunLimits()) == {}


def test_failures_because_of_a_limit_are_extrapolated() -> None:
    measured = measure(*[60.0] * 27, failures={"out of memory": 3, "program": 5})
    assert find_kinds(measured, RunLimits()) == {LimitKind.MEMORY: 100}


def test_jobs_in_a_container_or_on_a_machine_share_its_memory_and_disk() -> None:
    memory, files = tuple([900.0 * MIB] * 30), tuple([3.0 * GIB] * 30)
    measured = measure(*[60.0] * 30, peak_memory=memory, file_bytes=files)
    fitting = RunLimits(jobs_per_container=4, slots=8, memory_mib=4000, disk_gib=30)
    assert find_kinds(measured, fitting) == {}
    assert find_kinds(measured, replace(fitting, memory_mib=3500)) == {LimitKind.MEMORY: 1000}
    assert find_kinds(measured, replace(fitting, disk_gib=22)) == {LimitKind.DISK: 1000}


def test_a_cost_limit_below_p5_is_certain_and_one_below_p95_is_not() -> None:
    measured = measure(*draw_lognormal(30))
    forecast = forecast_run(measured, 1000, CLUSTER)
    assert forecast is not None
    certain = {}
    for limit in (forecast.usd.low * 0.9, forecast.usd.value, forecast.usd.high * 1.1):
        risks = find_limit_risks(measured, 1000, RunLimits(max_cost=limit), forecast)
        certain[limit] = [(risk.kind, risk.is_certain) for risk in risks]
    assert list(certain.values()) == [[(LimitKind.COST, True)], [(LimitKind.COST, False)], []]


# The run's document


def build_account_responses(bucket: FakeBucket, price: str = "0.04") -> dict[str, Any]:
    history = [{"InstanceType": "m5.large", "AvailabilityZone": "us-east-1a", "SpotPrice": price, "Timestamp": 0}]
    return {
        "s3.GetObject": lambda parameters: bucket.get_object(**parameters),
        "s3.PutObject": lambda parameters: bucket.put_object(**parameters),
        "ec2.DescribeSpotPriceHistory": {"SpotPriceHistory": history},
    }


def write_documents(bucket: FakeBucket, *submissions: dict[str, Any]) -> None:
    """Write a run's document, and those of its submissions."""
    entries = []
    for number, changes in enumerate(submissions):
        document = SubmissionDocument(
            "App", "q", f"20261123T10000{number}.000Z", "job.json", "d", 30, 30, path="job.json"
        )
        document = replace(document, **changes)
        key = AppKeys("App").submission(document.time)
        bucket.objects[key] = build_submission(document)
        entries.append({"path": document.path, "submission": key, "retry_of": document.retry_of})
    config = {"values": {"MACHINE_TYPE": ["m5.large"], "MEMORY": 1000, "EBS_VOL_SIZE": 30, "MAX_RUN_HOURS": 168}}
    run = {"config": config, "job_files": entries}
    bucket.objects[MONITOR_FILE.keys.run_document] = json.dumps(run).encode()


FILE = replace(
    MONITOR_FILE, MONITOR_MACHINES=10, MONITOR_TASKS_PER_MACHINE=1, MONITOR_JOBS_PER_TASK=2, MONITOR_MACHINE_PRICE=0.1
)


def test_a_canary_forecasts_all_jobs_of_its_job_file_at_the_current_price() -> None:
    bucket = FakeBucket()
    write_documents(bucket, {"canary_of": 1000})
    measured = measure(*draw_lognormal(30), first_start=START + 100, last_end=START + 4000)
    with emulate_account(build_account_responses(bucket)) as account:
        next_run = measure_next_run(account.clients, FILE, measured, START + 4100)
        assert next_run is not None
        save_measurement(account.clients.s3, "b-1", "App", next_run.measurement, next_run.forecast)
        assert load_measurement(account.clients.s3, "b-1", "App") == next_run.measurement
    measurement = next_run.measurement
    assert (measurement.jobs, measurement.canary, measurement.usd_per_hour) == (1000, 30, 0.04)
    assert (measurement.startup_seconds, measurement.idle_seconds) == (100, 100)
    assert next_run.cluster == Cluster(10, 2, 0.04, 100, 100)
    assert json.loads(bucket.objects[AppKeys("App").forecast])["forecast"]["usd"]["low"] > 0
    rows = "\n".join(format_next_run_rows(next_run)).splitlines()
    assert "1,000 jobs of job.json on 10 machines, from 30 measured jobs" in rows[0]
    assert max(map(len, rows)) <= TERMINAL_COLUMNS


def test_a_price_above_the_bid_is_not_paid_so_the_bid_is_shown_instead() -> None:
    bucket = FakeBucket()
    write_documents(bucket, {"canary_of": 1000})
    with emulate_account(build_account_responses(bucket, "0.5")) as account:
        next_run = measure_next_run(account.clients, FILE, measure(*draw_lognormal(30)), START + 99_999)
    assert next_run is not None
    assert (next_run.cluster.usd_per_hour, next_run.is_bid) == (0.1, True)
    assert next_run.cluster.idle_seconds <= MAX_IDLE_SECONDS
    assert "USD, MACHINE_PRICE 0.10 an hour" in "".join(format_next_run_rows(next_run))


@pytest.mark.parametrize(
    "submissions",
    [[], [{"retry_of": "20261122T100000Z"}], [{}, {"path": "other.json"}], [{"canary_of": 99}, {"retry_of": "x"}]],
)
def test_jobs_of_several_files_or_of_retry_have_no_forecast(submissions: list[dict[str, Any]]) -> None:
    bucket = FakeBucket()
    write_documents(bucket, *submissions)
    with emulate_account(build_account_responses(bucket)) as account:
        assert measure_next_run(account.clients, FILE, measure(*draw_lognormal(30)), START) is None


def test_a_run_without_a_document_has_no_forecast() -> None:
    with emulate_account(build_account_responses(FakeBucket())) as account:
        assert measure_next_run(account.clients, FILE, measure(*draw_lognormal(30)), START) is None


def test_a_canary_that_is_too_small_says_so_and_a_small_run_says_nothing() -> None:
    bucket = FakeBucket()
    write_documents(bucket, {"canary_of": 1000})
    with emulate_account(build_account_responses(bucket)) as account:
        next_run = measure_next_run(account.clients, FILE, measure(60.0), START)
        write_documents(bucket, {})
        assert measure_next_run(account.clients, FILE, measure(60.0), START) is None
    assert next_run is not None
    assert "no forecast, which needs at least 5" in " ".join("".join(format_next_run_rows(next_run)).split())


def test_a_canary_that_measured_nothing_keeps_what_an_earlier_run_of_its_file_measured() -> None:
    """For example, all jobs of the canary were done before."""
    bucket = FakeBucket()
    write_documents(bucket, {"canary_of": 1000, "digest": "x", "canary_digest": "d"})
    earlier = RunMeasurement("earlier", "job.json", 1000, measured=measure(*draw_lognormal(86)), digest="d")
    with emulate_account(build_account_responses(bucket)) as account:

        def measure_after(measurement: RunMeasurement) -> NextRun | None:
            save_measurement(account.clients.s3, FILE.MONITOR_BUCKET_NAME, FILE.MONITOR_APP_NAME, measurement, None)
            return measure_next_run(account.clients, FILE, measure(60.0), START)

        kept = measure_after(earlier)
        assert kept is not None
        assert kept.measurement == earlier
        assert kept.forecast is not None
        assert measure_after(replace(earlier, digest="of the file before it was edited")) is None
        other = measure_after(replace(earlier, job_file="other.json"))
    assert other is not None
    assert other.measurement.measured.count == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"run": "r", "job_file": "j", "jobs": -1}',
        b'{"run": "r", "job_file": "j", "jobs": 1, "measured": {"seconds": ["x"]}}',
    ],
)
def test_a_document_that_is_not_valid_is_like_none(body: bytes) -> None:
    bucket = FakeBucket()
    bucket.objects[AppKeys("App").forecast] = body
    s3: Any = bucket
    assert load_measurement(s3, "b-1", "App") is None


def test_the_warnings_name_the_limit_and_what_to_change() -> None:
    measured = measure(*draw_lognormal(30), time_limit=300.0)
    measurement = RunMeasurement("r", "job.json", 1000, canary=30, measured=measured)
    rows = format_next_run_rows(forecast_next_run(measurement, CLUSTER, RunLimits(max_cost=1.0)))
    text = " ".join("\n".join(rows).split())
    assert "may reach the time limit of 5 min; raise timeout_minutes" in text
    assert "warning: MAX_COST 1.00 is below p5, so the run will probably stop at it; raise MAX_COST" in text
