"""Progress of a run from the lines of its journals: ends per time, slow jobs, and interruptions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_something.results.status.forecast import (
    MAX_TREND_COLUMNS,
    estimate_remaining_seconds,
    measure_average_speed,
    measure_speed,
)
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


def test_skipped_and_interrupted_attempts_do_not_change_the_times() -> None:
    progress = build_progress(build_line("b", 2, 60, "skipped"), build_line("c", 3, 70, "interrupted", final=False))
    assert (progress.slowest_jobs, progress.median_seconds) == ([], None)
    assert (progress.interrupted_attempts, progress.last_interruption) == (1, (START + 3, "c"))


def test_a_job_that_timed_out_is_slow_once_and_is_not_in_the_median() -> None:
    attempts = (build_line("a", ended, seconds, "failed", final=False) for ended, seconds in ((9, 42), (60, 40)))
    progress = build_progress(*attempts, build_line("b", 60, 5), build_line("c", 60, 3))
    assert progress.slowest_jobs == [SlowJob(42, "a"), SlowJob(5, "b"), SlowJob(3, "c")]
    assert progress.median_seconds == 4


def test_lines_without_times_count_but_have_no_speed() -> None:
    progress = build_progress({"job": "a", "state": "done", "final": True}, {"job": "b", "ended": "noon"})
    assert progress.counter.count_jobs().done == 1
    assert measure_speed(progress, START, START + 60) is None


def test_a_steady_run_has_an_even_trend_and_its_speed() -> None:
    speed = measure_speed(build_steady_progress(60, 30), START, START + 3600)
    assert speed is not None
    assert 28 <= speed.per_minute <= 32
    assert len(speed.trend) == MAX_TREND_COLUMNS
    assert max(speed.trend) - min(speed.trend) < 2


def test_the_speed_is_unknown_until_a_few_jobs_have_ended() -> None:
    lines = [build_line(f"j{n}", 3 + n) for n in range(3)]
    assert measure_speed(build_progress(*lines[:2]), START, START + 6) is None
    assert estimate_remaining_seconds(build_progress(*lines[:2]), START, START + 6, 5) is None
    speed = measure_speed(build_progress(*lines), START, START + 6)
    assert speed is not None
    assert speed.per_minute == pytest.approx(36), "three jobs in the last five seconds"
    assert speed.trend == (), "the parts would be too short"


def test_a_short_run_has_a_shorter_trend() -> None:
    speed = measure_speed(build_progress(*(build_line(f"j{n}", n) for n in range(10))), START, START + 10)
    assert speed is not None
    assert len(speed.trend) == 5


def test_the_time_before_the_first_job_began_does_not_count() -> None:
    lines = [build_line(f"j{n}", 600 + n, started=format_time(600)) for n in range(1, 31)]
    speed = measure_speed(build_progress(*lines), START, START + 630)
    assert speed is not None
    assert 50 <= speed.per_minute <= 70
    average = measure_average_speed(build_progress(*lines), START)
    assert average is not None
    assert average.is_average
    assert 55 <= average.per_minute <= 60


def test_the_speed_is_never_0_while_jobs_end_rarely() -> None:
    """At the end of a run, a few long jobs are left; the others ended long ago."""
    progress = build_progress(*(build_line(f"j{n}", n) for n in range(1000)))
    speed = measure_speed(progress, START, START + 50_000)
    assert speed is not None
    assert speed.per_minute > 0
    estimate = estimate_remaining_seconds(progress, START, START + 50_000, 2)
    assert estimate is not None
    assert estimate.low < estimate.high


def test_jobs_that_begin_and_end_together_do_not_make_the_speed_jump() -> None:
    """100 jobs that take an hour end in the same minute, three times; 10 minutes later, the speed is still right."""
    lines = [
        build_line(f"j{hour}-{n}", 3600 * hour + n / 2, 3600, started=format_time(3600 * (hour - 1)))
        for hour in (1, 2, 3) for n in range(100)
    ]  # fmt: skip
    speed = measure_speed(build_progress(*lines), START, START + 3 * 3600 + 600)
    assert speed is not None
    assert 1.4 <= speed.per_minute <= 2


def test_the_average_is_that_of_the_time_in_which_jobs_ran() -> None:
    assert measure_average_speed(RunProgress(), START) is None
    average = measure_average_speed(build_steady_progress(10, 30), START)
    assert average is not None
    assert average.per_minute == pytest.approx(30, rel=0.02)
    assert len(average.trend) == MAX_TREND_COLUMNS


def test_the_more_jobs_have_ended_the_narrower_the_range_is() -> None:
    widths = []
    for minutes in (1, 10, 100):
        estimate = estimate_remaining_seconds(build_steady_progress(minutes, 10), START, START + 60 * minutes, 100)
        assert estimate is not None
        assert estimate.low < estimate.value < estimate.high
        widths.append(estimate.high - estimate.low)
    assert widths == sorted(widths, reverse=True)


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
    assert (estimate.value, estimate.low, estimate.high) == (500, 500, 1000)


def test_without_jobs_or_ends_there_is_no_estimate() -> None:
    assert estimate_remaining_seconds(RunProgress(), START, START + 60, 5) is None
    assert estimate_remaining_seconds(build_steady_progress(1, 60), START, START + 60, 0) is None


@given(st.lists(st.floats(0, 3600), max_size=50), st.integers(1, 1000), st.floats(0, 7200))
def test_estimates_are_never_negative_and_their_range_contains_them(ends: list[float], jobs: int, now: float) -> None:
    progress = build_progress(*(build_line(f"j{n}", ended) for n, ended in enumerate(ends)))
    estimate = estimate_remaining_seconds(progress, START, START + now, jobs)
    if estimate is not None:
        assert 0 <= estimate.low <= estimate.value <= estimate.high
