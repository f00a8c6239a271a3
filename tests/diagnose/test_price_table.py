"""The table of prices, and the forecast of the next run, which `check` and `startCluster` print."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from moto import mock_aws

from distributed_something.aws.spot_prices import MAX_PRICE_PAGES, SpotMarket, list_price_reports
from distributed_something.core.submission import SubmissionDocument, build_submission, build_submission_time
from distributed_something.core.text import TERMINAL_COLUMNS
from distributed_something.diagnose.check.cost import judge_bid, judge_cost
from distributed_something.diagnose.check.findings import (
    Finding,
    build_findings_json,
    build_ok_finding,
    format_findings,
)
from distributed_something.diagnose.check.lookups import Lookups
from distributed_something.diagnose.check.prices.check_next_run import check_next_run, select_waiting_forecast
from distributed_something.diagnose.check.prices.price_table import build_price_table, format_prices
from distributed_something.results.next_run.document import RunMeasurement, save_measurement
from distributed_something.results.next_run.measured_jobs import MeasuredJobs
from distributed_something.worker import AppKeys
from tests.support.account import emulate_account
from tests.support.fakes import SETTINGS, FakeBucket

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
PRICED = SETTINGS.model_copy(
    update={"CLUSTER_MACHINES": 10, "MACHINE_PRICE": 0.1, "MACHINE_TYPE": ["m5.large"], "MAX_COST": 20.0}
)


def build_markets(types: int = 2, zones: int = 3) -> list[SpotMarket]:
    return [
        SpotMarket(f"m{number}.large", f"us-east-1{letter}", 0.03 + number / 100, 0.02, 0.09, 0.0)
        for number in range(types)
        for letter in "abcdefghij"[:zones]
    ]


def build_findings(markets: list[SpotMarket], **changes: Any) -> list[Finding]:
    settings = PRICED.model_copy(update=changes)
    return [*judge_bid(settings.MACHINE_PRICE, markets), judge_cost(settings, markets)]


def test_the_table_has_types_zones_prices_parts_and_the_ceiling() -> None:
    text = format_prices(build_findings(build_markets()), PRICED, is_local=False)
    assert "m0.large          us-east-1: a, b, c        0.03            0.02–0.09" in text
    assert "m1.large          us-east-1: a, b, c        0.04            0.02–0.09" in text
    for part in ("10 spot machines", "disks", "public addresses", "S3 requests", "log streams", "total"):
        assert f"\n  {part} " in text
    assert "\n  at most, at MACHINE_PRICE 0.10 " in text
    assert "at MAX_COST (20.00 USD for machines), no new jobs start; after MAX_RUN_HOURS" in " ".join(text.split())


def test_six_zones_are_all_named_and_long_prices_stay_apart() -> None:
    text = format_prices(build_findings(build_markets(1, 6)), PRICED, is_local=False)
    assert "us-east-1: a,b,c,d,e,f " in text
    narrow = replace(build_markets(1, 1)[0], now=0.0000123)
    wide = replace(narrow, now=0.0000457, zone="us-east-1b")
    text = format_prices(build_findings([narrow, wide]), PRICED, is_local=False)
    assert " 0.0000123–0.0000457 0.02–0.09" in text


@pytest.mark.parametrize("types", [0, 1, 6, 7, 40])
@pytest.mark.parametrize("zones", [1, 10])
@pytest.mark.parametrize("changes", [{}, {"ON_DEMAND_MACHINES": 4}, {"CLUSTER_MACHINES": 5000, "MACHINE_PRICE": 99.0}])
def test_the_table_fits_into_80_columns(types: int, zones: int, changes: dict[str, Any]) -> None:
    settings = PRICED.model_copy(update=changes)
    findings = build_findings(build_markets(types, zones), **changes)
    text = format_prices(findings, settings, is_local=False)
    assert max(map(len, text.splitlines())) <= TERMINAL_COLUMNS
    assert ("more type" in text) is (types > 6)


def test_on_demand_machines_have_a_row_without_a_price() -> None:
    changes = {"ON_DEMAND_MACHINES": 10}
    text = format_prices(build_findings([], **changes), PRICED.model_copy(update=changes), is_local=False)
    assert "10 on-demand machines" in text
    assert "not looked up" in text
    assert "at MACHINE_PRICE" not in text


def test_the_findings_in_the_table_are_not_printed_twice_but_they_count_and_json_has_them() -> None:
    findings = build_findings(build_markets(7))
    assert format_findings(findings, has_table=True).strip() == "nothing is wrong, 0 warnings, 8 ok"
    assert "m0.large" in format_findings(findings)
    assert build_findings_json(findings).count('"topic": "bid"') == 7


def test_without_a_cost_there_is_no_table_and_locally_nothing_costs_money() -> None:
    assert build_price_table([], PRICED) is None
    assert format_prices([], PRICED, is_local=False) == ""
    assert "nothing costs money" in format_prices(build_findings(build_markets()), PRICED, is_local=True)


def check_measured_run(bucket: FakeBucket, **changes: Any) -> list[Finding]:
    history = [{"InstanceType": "m5.large", "AvailabilityZone": "us-east-1a", "SpotPrice": "0.04", "Timestamp": NOW}]
    responses = {
        "s3.HeadBucket": {},
        "s3.GetObject": lambda parameters: bucket.get_object(**parameters),
        "s3.PutObject": lambda parameters: bucket.put_object(**parameters),
        "ec2.DescribeSpotPriceHistory": {"SpotPriceHistory": history},
    }
    with emulate_account(responses) as account:
        measured = MeasuredJobs(30, 18_000.0, (600.0,) * 30, (600.0,) * 30)
        measurement = RunMeasurement("20261123T104500Z", "job.json", 1000, canary=30, machine_types=("m5.large",),
                                     measured=measured)  # fmt: skip
        save_measurement(account.clients.s3, PRICED.AWS_BUCKET, PRICED.APP_NAME, measurement, None)
        return list(check_next_run(Lookups(PRICED.model_copy(update=changes), account.clients, NOW)))


def test_the_forecast_is_for_the_machines_of_the_config_at_the_current_price() -> None:
    slots = PRICED.TASKS_PER_MACHINE * PRICED.DOCKER_CORES
    (finding,) = check_measured_run(FakeBucket())
    assert finding.details["forecast"]["usd"]["value"] == pytest.approx(1000 * 600 / slots / 3600 * 0.04, rel=0.05)
    (faster,) = check_measured_run(FakeBucket(), CLUSTER_MACHINES=50)
    assert faster.details["forecast"]["seconds"]["value"] < finding.details["forecast"]["seconds"]["value"] / 4
    text = format_prices([*build_findings(build_markets()), finding], PRICED, is_local=False)
    assert "next run: 1,000 jobs of job.json on 10 machines, from 30 measured jobs" in text


def test_before_the_start_the_forecast_is_shown_only_if_it_is_about_the_waiting_jobs() -> None:
    details = {"job_file": "files/j.json", "jobs": 96, "digest": "d"}
    findings = [build_ok_finding("next run", "96 jobs", details=details), build_ok_finding("cost", "0.10")]

    def select(*waiting: dict[str, Any]) -> list[str]:
        with mock_aws():
            clients = SimpleNamespace(**{
                name: boto3.client(name, "us-east-1", aws_access_key_id="test", aws_secret_access_key="test")
                for name in ("s3", "sqs")
            })  # fmt: skip
            clients.s3.create_bucket(Bucket=PRICED.AWS_BUCKET)
            clients.sqs.create_queue(QueueName=PRICED.SQS_QUEUE_NAME)
            now = time.time()
            for number, changes in enumerate(waiting):
                at = build_submission_time(now + number)
                document = SubmissionDocument(
                    PRICED.APP_NAME, PRICED.SQS_QUEUE_NAME, at, "j.json", "d", 96, 96, at, path="files/j.json"
                )
                key, body = AppKeys(PRICED.APP_NAME).submission(at), build_submission(replace(document, **changes))
                clients.s3.put_object(Bucket=PRICED.AWS_BUCKET, Key=key, Body=body)
            found = select_waiting_forecast(findings, clients, PRICED, now + 10)  # type: ignore[arg-type]
        return [finding.topic if finding in findings else finding.message for finding in found]

    assert select({}) == ["next run", "cost"]
    assert select({"already_there": 95}) == [
        "cost",
        "95 of 96 jobs of files/j.json have results and will be skipped; to run them again, type submitJob with "
        "--replace --again",
    ]
    assert select({"count": 5}, {"replace": True, "replaced": True}) == ["next run", "cost"]
    others = ({"path": "files/bad.json"}, {"digest": "edited"}, {"planned": 12, "count": 12, "canary_of": 96})
    for waiting in ((), ({}, {}), *((other,) for other in others), ({}, others[0])):
        assert select(*waiting) == ["cost"], waiting


def test_a_cost_limit_below_the_forecast_and_other_machine_types_are_warnings() -> None:
    _, cost = check_measured_run(FakeBucket(), MAX_COST=0.01)
    assert "MAX_COST 0.01 is below p5" in cost.message
    _, types = check_measured_run(FakeBucket(), MACHINE_TYPE=["c5.large"])
    assert "measured on m5.large, which is not in MACHINE_TYPE" in types.message


def test_prices_are_read_from_a_limited_number_of_pages() -> None:
    requests = []

    def respond(parameters: dict[str, Any]) -> dict[str, Any]:
        requests.append(parameters)
        entry = {"InstanceType": "m5.large", "AvailabilityZone": "us-east-1a", "SpotPrice": "0.04", "Timestamp": NOW}
        return {"SpotPriceHistory": [entry], "NextToken": f"token-{len(requests)}"}

    with emulate_account({"ec2.DescribeSpotPriceHistory": respond}) as account:
        assert len(list_price_reports(account.clients.ec2, ["m5.large"], [], NOW)) == MAX_PRICE_PAGES
    assert len(requests) == MAX_PRICE_PAGES
