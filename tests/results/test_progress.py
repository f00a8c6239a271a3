"""Progress of a run from the lines of its journals: ends per time, slow jobs, and interruptions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from distributed_something.results.status.forecast import TREND_COLUMNS, estimate_remaining_seconds, measure_speed
from distributed_something.results.status.progress import RunProgress, SlowJob

START = datetime(2026, 11, 23, 10, 45, tzinfo=UTC).timestamp()


def format_time(seconds: float) -> str:
    return datetime.fromtimestamp(START + seconds, UTC).isoformat(timespec="milliseconds")


def build_line(job: str, ended: float, seconds: float = 1.0, state: str = "done", **more: Any) -> dict[str, Any]:
    times = {"program_started": format_time(ended - seconds), "program_ended": format_time(ended)}
    return {"job": job, "state": state, "final": True, "message_id": job, "ended": format_time(ended), **times, **more}


def build_progress(*lines: dict[str, Any]) -> RunProgress:
    progress = RunProgress()
    for line in lines:
        progress.add_line(line)
    return progress


def build_steady_progress(minutes: int, per_minute: int) -> RunProgress:
    count = minutes * per_minute
    return build_progress(*(build_line(f"j{n}", 60 * n / per_minute, 30) for n in range(count)))


def test_the_slowest_jobs_come_first_and_the_median_is_that_of_all() -> None:
    progress = build_progress(*(build_line(f"j{seconds}", 100, seconds) for seconds in (5, 1, 9, 7, 3)))
    assert progress.slowest_jobs == [SlowJob(9, "j9"), SlowJob(7, "j7"), SlowJob(5, "j5")]
    assert progress.median_seconds == 5


def test_failed_skipped_and_interrupted_attempts_do_not_change_the_times() -> None:
    progress = build_progress(
        build_line("a", 1, 50, "failed"), build_line("b", 2, 60, "skipped"),
        build_line("c", 3, 70, "interrupted", final=False),
    )  # fmt: skip
    assert (progress.slowest_jobs, progress.median_seconds) == ([], None)
    assert (progress.interrupted_attempts, progress.last_interruption) == (1, (START + 3, "c"))


def test_lines_without_times_count_but_have_no_speed() -> None:
    progress = build_progress({"job": "a", "state": "done", "final": True}, {"job": "b", "ended": "noon"})
    assert progress.counter.count_jobs().done == 1
    assert measure_speed(progress, START, START + 60) is None


def test_a_steady_run_has_an_even_trend_and_its_speed() -> None:
    speed = measure_speed(build_steady_progress(60, 30), START, START + 3600)
    assert speed is not None
    assert 28 <= speed.per_minute <= 32
    assert len(speed.trend) == TREND_COLUMNS
    assert max(speed.trend) - min(speed.trend) < 2


def test_a_run_that_has_just_begun_has_a_speed_but_no_trend() -> None:
    speed = measure_speed(build_progress(build_line("a", 3)), START, START + 5)
    assert speed is not None
    assert speed.trend == ()
    assert speed.per_minute > 0


def test_the_remaining_time_follows_from_the_recent_speed() -> None:
    estimate = estimate_remaining_seconds(build_steady_progress(60, 30), START, START + 3600, 300)
    assert estimate is not None
    assert estimate.low <= estimate.value <= estimate.high
    assert abs(estimate.value - 600) < 60


def test_a_run_that_becomes_slower_has_a_wide_range() -> None:
    fast = [build_line(f"f{n}", n) for n in range(1800)]
    slow = [build_line(f"s{n}", 1800 + 20 * n) for n in range(90)]
    estimate = estimate_remaining_seconds(build_progress(*fast, *slow), START, START + 3600, 30)
    assert estimate is not None
    assert estimate.high > 300


def test_the_last_jobs_take_at_least_half_as_long_as_usual() -> None:
    progress = build_progress(*(build_line(f"j{n}", n, 1000) for n in range(100)))
    estimate = estimate_remaining_seconds(progress, START, START + 100, 1)
    assert estimate is not None
    assert estimate.low == 500


def test_without_jobs_or_ends_there_is_no_estimate() -> None:
    assert estimate_remaining_seconds(RunProgress(), START, START + 60, 5) is None
    assert estimate_remaining_seconds(build_steady_progress(1, 60), START, START + 60, 0) is None


@given(st.lists(st.floats(0, 3600), max_size=50), st.integers(1, 1000), st.floats(0, 7200))
def test_estimates_are_never_negative_and_their_range_contains_them(ends: list[float], jobs: int, now: float) -> None:
    progress = build_progress(*(build_line(f"j{n}", ended) for n, ended in enumerate(ends)))
    estimate = estimate_remaining_seconds(progress, START, START + now, jobs)
    if estimate is not None:
        assert 0 <= estimate.low <= estimate.value <= estimate.high
