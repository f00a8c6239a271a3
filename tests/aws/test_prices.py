"""Spot prices: the requests to EC2, and statistics over a week of reports."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_something.aws.ec2_fleet import FleetState
from distributed_something.aws.spot_prices import (
    PRICE_HISTORY_PERIOD,
    PRICE_REFRESH_SECONDS,
    PriceReport,
    SpotPriceCache,
    build_spot_markets,
    list_price_reports,
    list_spot_prices,
)
from tests.support.account import Account, emulate_account
from tests.support.fakes import START, ExactClients, expect_exact_calls

NOW = datetime(2026, 11, 23, 10, 45, tzinfo=UTC)
hours = st.floats(min_value=0, max_value=24 * 9)
amounts = st.floats(min_value=0.0001, max_value=50)


@pytest.fixture
def aws() -> Iterator[ExactClients]:
    with expect_exact_calls() as emulated:
        yield emulated


def build_report(price: float, hours_ago: float, zone: str = "us-east-1a", kind: str = "m5.large") -> PriceReport:
    return PriceReport(kind, zone, price, NOW - timedelta(hours=hours_ago))


def build_request(**filters: object) -> dict[str, object]:
    week = {
        "StartTime": NOW - PRICE_HISTORY_PERIOD,
        "EndTime": NOW,
        "ProductDescriptions": ["Linux/UNIX"],
        "MaxResults": 1000,
    }
    return {"InstanceTypes": ["c5.large", "m5.large"], **week, **filters}


def describe_price(price: str, zone: str = "us-east-1a") -> dict[str, object]:
    at = NOW - timedelta(hours=3)
    return {"InstanceType": "m5.large", "AvailabilityZone": zone, "SpotPrice": price, "Timestamp": at}


def test_a_weeks_reports_for_some_zones_are_read_from_all_pages(aws: ExactClients) -> None:
    zones = [{"Name": "availability-zone", "Values": ["us-east-1a", "us-east-1b"]}]
    request, call = build_request(Filters=zones), "ec2.describe_spot_price_history"
    aws.expect_call(call, request, SpotPriceHistory=[describe_price("0.0412")], NextToken="more")
    next_request = request | {"NextToken": "more"}
    aws.expect_call(call, next_request, SpotPriceHistory=[describe_price("0.05", "us-east-1b")])
    reports = list_price_reports(
        aws.clients.ec2, ["m5.large", "c5.large", "m5.large"], ["us-east-1b", "us-east-1a"], NOW
    )
    assert reports == [build_report(0.0412, 3), build_report(0.05, 3, "us-east-1b")]


def test_if_no_zones_are_given_reports_for_the_entire_region_are_requested(aws: ExactClients) -> None:
    aws.expect_call("ec2.describe_spot_price_history", build_request(), SpotPriceHistory=[])
    assert list_price_reports(aws.clients.ec2, ["m5.large", "c5.large"], [], NOW) == []


def test_prices_of_up_to_a_hundred_types_are_requested_in_one_call(aws: ExactClients) -> None:
    for _ in range(2):
        aws.expect_call("ec2.describe_spot_price_history", None, SpotPriceHistory=[])
    list_price_reports(aws.clients.ec2, [f"m{number}.large" for number in range(101)], [], NOW)


def test_a_price_is_valid_until_the_next_report() -> None:
    reports = [build_report(0.05, 24), build_report(0.03, 24 * 8), build_report(0.04, 84)]
    # Within the week, the price was 0.03 for 84 hours, 0.04 for 60 hours, and 0.05 for 24 hours.
    (market,) = build_spot_markets(reports, 0.045, NOW)
    assert (market.now, market.lowest, market.highest) == (0.05, 0.03, 0.05)
    assert market.share_above_bid == pytest.approx(24 / 168)


def test_a_price_from_before_the_week_counts_only_from_the_start_of_the_week() -> None:
    (market,) = build_spot_markets([build_report(0.09, 24 * 30), build_report(0.01, 84)], 0.05, NOW)
    assert market.share_above_bid == pytest.approx(0.5)


def test_each_type_and_zone_is_a_separate_market_and_the_cheapest_is_first() -> None:
    reports = [build_report(0.05, 1), build_report(0.02, 1, "us-east-1b"), build_report(0.03, 1, kind="c5.large")]
    markets = build_spot_markets(reports, 1.0, NOW)
    assert [(market.machine_type, market.zone) for market in markets] == [
        ("m5.large", "us-east-1b"), ("c5.large", "us-east-1a"), ("m5.large", "us-east-1a"),
    ]  # fmt: skip


def test_a_price_that_has_just_changed_still_counts() -> None:
    (market,) = build_spot_markets([build_report(0.05, 0)], 0.01, NOW)
    assert (market.now, market.share_above_bid) == (0.05, 1.0)


@given(st.lists(st.tuples(amounts, hours), min_size=1, max_size=20), amounts)
def test_a_markets_statistics_are_consistent(history: list[tuple[float, float]], bid: float) -> None:
    (market,) = build_spot_markets([build_report(price, hours_ago) for price, hours_ago in history], bid, NOW)
    assert market.lowest <= market.now <= market.highest
    assert 0 <= market.share_above_bid <= 1 + 1e-9
    assert (market.share_above_bid > 0) <= (market.highest > bid)


# A fleet's current cost


def build_market_responses(prices: dict[str, float]) -> dict[str, Any]:
    """Return the responses of an EC2 that has these prices and accepts at most 100 types per call."""

    def respond(request: dict[str, Any]) -> dict[str, Any]:
        names = request["InstanceTypes"]
        assert len(names) <= 100
        known_names = [name for name in names if name in prices]
        return {
            "SpotPriceHistory": [describe_price(str(prices[name])) | {"InstanceType": name} for name in known_names]
        }

    return {"ec2.DescribeSpotPriceHistory": respond}


@pytest.fixture
def market(request: pytest.FixtureRequest) -> Iterator[Account]:
    with emulate_account(build_market_responses(request.param)) as emulated:
        yield emulated


def build_fleet(*types: str) -> FleetState:
    return FleetState("active", len(types), tuple(f"i-{number}" for number in range(len(types))), types)


MANY_TYPES = [f"m{number}.large" for number in range(120)]


@pytest.mark.parametrize("market", [dict.fromkeys(MANY_TYPES, 0.05)], indirect=True)
def test_every_type_has_its_own_price_even_if_there_are_too_many_types_for_one_call(market: Account) -> None:
    prices = SpotPriceCache(fallback_price=0.10)
    assert prices.compute_hourly_cost(market.clients.ec2, build_fleet(*MANY_TYPES), START) == pytest.approx(6.00)
    assert len(market.calls) == 2


@pytest.mark.parametrize("market", [{"m5.large": 0.05}], indirect=True)
def test_a_type_without_a_price_costs_the_fallback_price_and_is_not_requested_every_time(market: Account) -> None:
    prices, fleet = SpotPriceCache(fallback_price=0.10), build_fleet("m5.large", "m9.huge")
    for number in range(20):
        assert prices.compute_hourly_cost(market.clients.ec2, fleet, START + 30 * number) == pytest.approx(0.15)
    assert len(market.calls) == 1


@pytest.mark.parametrize("market", [{"m5.large": 0.05, "c5.large": 0.04}], indirect=True)
def test_only_a_fleets_new_types_are_requested(market: Account) -> None:
    prices = SpotPriceCache()
    prices.compute_hourly_cost(market.clients.ec2, build_fleet("m5.large"), START)
    assert prices.compute_hourly_cost(
        market.clients.ec2, build_fleet("m5.large", "c5.large"), START + 1
    ) == pytest.approx(0.09)
    assert [request["InstanceTypes"] for _, request in market.requests] == [["m5.large"], ["c5.large"]]


@pytest.mark.parametrize("market", [{"m5.large": 0.05}], indirect=True)
def test_prices_are_requested_again_after_the_refresh_time(market: Account) -> None:
    prices, fleet = SpotPriceCache(), build_fleet("m5.large")
    prices.compute_hourly_cost(market.clients.ec2, fleet, START)
    market.responses = build_market_responses({"m5.large": 0.07})
    assert prices.compute_hourly_cost(market.clients.ec2, fleet, START + PRICE_REFRESH_SECONDS - 1) == pytest.approx(
        0.05
    )
    assert prices.compute_hourly_cost(market.clients.ec2, fleet, START + PRICE_REFRESH_SECONDS) == pytest.approx(0.07)


@pytest.mark.parametrize("market", [{"m5.large": 0.05}], indirect=True)
def test_the_last_price_is_kept_if_ec2_no_longer_reports_one(market: Account) -> None:
    prices, fleet = SpotPriceCache(), build_fleet("m5.large")
    prices.compute_hourly_cost(market.clients.ec2, fleet, START)
    market.responses = build_market_responses({})
    assert prices.compute_hourly_cost(market.clients.ec2, fleet, START + 2 * PRICE_REFRESH_SECONDS) == pytest.approx(
        0.05
    )


@pytest.mark.parametrize("market", [{}], indirect=True)
def test_the_cost_is_none_if_no_price_is_available(market: Account) -> None:
    assert SpotPriceCache().compute_hourly_cost(market.clients.ec2, build_fleet("m9.huge"), START) is None


def test_a_types_price_is_the_mean_of_the_newest_reports_of_all_zones(aws: ExactClients) -> None:
    request = {
        "InstanceTypes": ["m5.large"],
        "ProductDescriptions": ["Linux/UNIX"],
        "StartTime": NOW,
        "MaxResults": 1000,
    }
    older = describe_price("0.9") | {"Timestamp": NOW - timedelta(hours=4)}
    history = [describe_price("0.04"), older, describe_price("0.06", "us-east-1b")]
    aws.expect_call("ec2.describe_spot_price_history", request, SpotPriceHistory=history)
    assert list_spot_prices(aws.clients.ec2, ["m5.large"], NOW.timestamp()) == {"m5.large": pytest.approx(0.05)}
