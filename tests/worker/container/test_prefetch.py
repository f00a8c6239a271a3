"""When the next job's inputs are fetched."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from distributed_something.worker.container.prefetch import JobDurations


@given(st.lists(st.floats(0, 1e5)), st.lists(st.floats(0, 1e5)))
def test_a_fetch_ahead_is_never_due_before_the_program_starts_or_after_it_usually_ends(
    programs: list[float], fetches: list[float]
) -> None:
    pace = JobDurations()
    for seconds in programs:
        pace.add_program_time(seconds)
    for seconds in fetches:
        pace.add_fetch_time(seconds)
    due = pace.get_prefetch_delay()
    assert due is None if not programs else due is not None and 0 <= due <= max(programs)
