"""When to fetch the next job's inputs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from distributed_something.worker.container.prefetch import JobDurations


@given(st.lists(st.floats(0, 1e5)), st.lists(st.floats(0, 1e5)))
def test_the_prefetch_delay_is_between_zero_and_the_longest_program(
    programs: list[float], fetches: list[float]
) -> None:
    durations = JobDurations()
    for seconds in programs:
        durations.add_program_time(seconds)
    for seconds in fetches:
        durations.add_fetch_time(seconds)
    delay = durations.get_prefetch_delay()
    assert delay is None if not programs else delay is not None and 0 <= delay <= max(programs)
