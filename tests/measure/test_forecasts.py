"""Forecasts from a canary, compared with simulated runs."""

from __future__ import annotations

import pytest

from tests.measure.forecast.canaries import format_row, simulate_trial


def test_forecasts_of_small_runs_contain_most_of_them() -> None:
    trials = [simulate_trial("lognormal", seed, jobs=200, canary=20) for seed in range(8)]
    assert sum(trial.has_cost_in_range for trial in trials) >= 6
    assert sum(trial.has_time_in_range for trial in trials) >= 5
    assert format_row("lognormal", trials)[:2] == ("lognormal", "8")


@pytest.mark.long
@pytest.mark.parametrize("first", [1, 21])
def test_the_cost_of_lognormal_jobs_is_in_the_range_in_at_least_16_of_20_runs(first: int) -> None:
    trials = [simulate_trial("lognormal", seed) for seed in range(first, first + 20)]
    assert sum(trial.has_cost_in_range for trial in trials) >= 16
