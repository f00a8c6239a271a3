"""Spot prices: what is asked of EC2, and what a week of reports comes to."""

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
from tests.support.account import Account, account
from tests.support.fakes import START, Exact, exact

NOW = datetime(2026, 11, 23, 10, 45, tzinfo=UTC)
hours = st.floats(min_value=0, max_value=24 * 9)
amounts = st.floats(min_value=0.0001, max_value=50)


@pytest.fixture
def aws() -> Iterator[Exact]:
    with exact() as made:
        yield made


def report(price: float, hours_ago: float, zone: str = "us-east-1a", kind: str = "m5.large") -> PriceReport:
    return PriceReport(kind, zone, price, NOW - timedelta(hours=hours_ago))


def asked(**more: object) -> dict[str, object]:
    week = {
        "StartTime": NOW - PRICE_HISTORY_PERIOD,
        "EndTime": NOW,
        "ProductDescriptions": ["Linux/UNIX"],
        "MaxResults": 1000,
    }
    return {"InstanceTypes": ["c5.large", "m5.large"], **week, **more}


def told(price: str, zone: str = "us-east-1a") -> dict[str, object]:
    at = NOW - timedelta(hours=3)
    return {"InstanceType": "m5.large", "AvailabilityZone": zone, "SpotPrice": price, "Timestamp": at}


def test_the_week_is_asked_for_the_zones_of_the_subnets_page_by_page(aws: Exact) -> None:
    zones = [{"Name": "availability-zone", "Values": ["us-east-1a", "us-east-1b"]}]
    wanted = asked(Filters=zones)
    aws.answer("ec2.describe_spot_price_history", wanted, SpotPriceHistory=[told("0.0412")], NextToken="more")
    aws.answer(
        "ec2.describe_spot_price_history", wanted | {"NextToken": "more"}, SpotPriceHistory=[told("0.05", "us-east-1b")]
    )
    found = list_price_reports(aws.clients.ec2, ["m5.large", "c5.large", "m5.large"], ["us-east-1b", "us-east-1a"], NOW)
    assert found == [report(0.0412, 3), report(0.05, 3, "us-east-1b")]


def test_without_subnets_the_whole_region_is_asked_for(aws: Exact) -> None:
    aws.answer("ec2.describe_spot_price_history", asked(), SpotPriceHistory=[])
    assert list_price_reports(aws.clients.ec2, ["m5.large", "c5.large"], [], NOW) == []


def test_a_hundred_types_are_asked_for_in_one_call(aws: Exact) -> None:
    for _ in range(2):
        aws.answer("ec2.describe_spot_price_history", None, SpotPriceHistory=[])
    list_price_reports(aws.clients.ec2, [f"m{n}.large" for n in range(101)], [], NOW)


def test_a_price_holds_until_the_next_report() -> None:
    reports = [report(0.05, 24), report(0.03, 24 * 8), report(0.04, 84)]  # 24 h at 0.05, 60 h at 0.04, 84 h at 0.03
    (market,) = build_spot_markets(reports, 0.045, NOW)
    assert (market.now, market.least, market.most) == (0.05, 0.03, 0.05)
    assert market.above == pytest.approx(24 / 168)


def test_a_report_from_before_the_week_counts_only_for_the_week() -> None:
    (market,) = build_spot_markets([report(0.09, 24 * 30), report(0.01, 84)], 0.05, NOW)
    assert market.above == pytest.approx(0.5)


def test_each_type_and_zone_is_a_market_of_its_own_and_the_cheapest_comes_first() -> None:
    reports = [report(0.05, 1), report(0.02, 1, "us-east-1b"), report(0.03, 1, kind="c5.large")]
    found = build_spot_markets(reports, 1.0, NOW)
    assert [(one.machine_type, one.zone) for one in found] == [
        ("m5.large", "us-east-1b"), ("c5.large", "us-east-1a"), ("m5.large", "us-east-1a"),
    ]  # fmt: skip


def test_a_report_of_this_very_moment_is_a_price_too() -> None:
    (market,) = build_spot_markets([report(0.05, 0)], 0.01, NOW)
    assert (market.now, market.above) == (0.05, 1.0)


@given(st.lists(st.tuples(amounts, hours), min_size=1, max_size=20), amounts)
def test_a_market_is_within_its_reports(given_reports: list[tuple[float, float]], bid: float) -> None:
    (market,) = build_spot_markets([report(price, ago) for price, ago in given_reports], bid, NOW)
    assert market.least <= market.now <= market.most
    assert 0 <= market.above <= 1 + 1e-9
    assert (market.above > 0) <= (market.most > bid)


# What machines cost now


def market_of(priced: dict[str, float]) -> dict[str, Any]:
    """The answers of an account in which EC2 knows the prices of these types, and answers at most 100 types a call."""

    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        names = asked["InstanceTypes"]
        assert len(names) <= 100
        return {
            "SpotPriceHistory": [told(str(priced[name])) | {"InstanceType": name} for name in names if name in priced]
        }

    return {"ec2.DescribeSpotPriceHistory": answer}


@pytest.fixture
def market(request: pytest.FixtureRequest) -> Iterator[Account]:
    with account(market_of(request.param)) as made:
        yield made


def fleet_of(*types: str) -> FleetState:
    return FleetState("active", len(types), tuple(f"i-{number}" for number in range(len(types))), types)


MANY = [f"m{number}.large" for number in range(120)]


@pytest.mark.parametrize("market", [dict.fromkeys(MANY, 0.05)], indirect=True)
def test_each_of_more_types_than_a_call_takes_costs_its_own_price(market: Account) -> None:
    prices = SpotPriceCache(otherwise=0.10)
    assert prices.hourly(market.clients.ec2, fleet_of(*MANY), START) == pytest.approx(6.00)
    assert len(market.calls) == 2


@pytest.mark.parametrize("market", [{"m5.large": 0.05}], indirect=True)
def test_a_type_without_a_price_costs_the_bid_and_is_not_asked_for_at_every_look(market: Account) -> None:
    prices, fleet = SpotPriceCache(otherwise=0.10), fleet_of("m5.large", "m9.huge")
    for look in range(20):
        assert prices.hourly(market.clients.ec2, fleet, START + 30 * look) == pytest.approx(0.15)
    assert len(market.calls) == 1


@pytest.mark.parametrize("market", [{"m5.large": 0.05, "c5.large": 0.04}], indirect=True)
def test_a_type_that_joins_the_fleet_is_asked_for_alone(market: Account) -> None:
    prices = SpotPriceCache()
    prices.hourly(market.clients.ec2, fleet_of("m5.large"), START)
    assert prices.hourly(market.clients.ec2, fleet_of("m5.large", "c5.large"), START + 1) == pytest.approx(0.09)
    assert [asked["InstanceTypes"] for _, asked in market.asked] == [["m5.large"], ["c5.large"]]


@pytest.mark.parametrize("market", [{"m5.large": 0.05}], indirect=True)
def test_prices_are_asked_for_again_after_a_while(market: Account) -> None:
    prices, fleet = SpotPriceCache(), fleet_of("m5.large")
    prices.hourly(market.clients.ec2, fleet, START)
    market.answers = market_of({"m5.large": 0.07})
    assert prices.hourly(market.clients.ec2, fleet, START + PRICE_REFRESH_SECONDS - 1) == pytest.approx(0.05)
    assert prices.hourly(market.clients.ec2, fleet, START + PRICE_REFRESH_SECONDS) == pytest.approx(0.07)


@pytest.mark.parametrize("market", [{"m5.large": 0.05}], indirect=True)
def test_a_price_that_ec2_no_longer_tells_is_the_last_that_it_told(market: Account) -> None:
    prices, fleet = SpotPriceCache(), fleet_of("m5.large")
    prices.hourly(market.clients.ec2, fleet, START)
    market.answers = market_of({})
    assert prices.hourly(market.clients.ec2, fleet, START + 2 * PRICE_REFRESH_SECONDS) == pytest.approx(0.05)


@pytest.mark.parametrize("market", [{}], indirect=True)
def test_without_any_price_nothing_is_said_of_the_cost(market: Account) -> None:
    assert SpotPriceCache().hourly(market.clients.ec2, fleet_of("m9.huge"), START) is None


def test_the_price_of_a_type_is_the_mean_of_its_zones_newest_reports(aws: Exact) -> None:
    wanted = {
        "InstanceTypes": ["m5.large"],
        "ProductDescriptions": ["Linux/UNIX"],
        "StartTime": NOW,
        "MaxResults": 1000,
    }
    older = told("0.9") | {"Timestamp": NOW - timedelta(hours=4)}
    found = [told("0.04"), older, told("0.06", "us-east-1b")]
    aws.answer("ec2.describe_spot_price_history", wanted, SpotPriceHistory=found)
    assert list_spot_prices(aws.clients.ec2, ["m5.large"], NOW.timestamp()) == {"m5.large": pytest.approx(0.05)}
