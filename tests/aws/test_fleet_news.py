"""What a fleet reports when it cannot start machines is told as it comes, in words, and ends nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from distributed_something.aws.ec2_fleet import MAX_HISTORY_PAGES, FleetState, observe_fleet_problems
from distributed_something.cli.console import Console
from distributed_something.core.aws_errors import AWSEvent, format_fleet_problem, list_fleet_problems
from distributed_something.core.clock import Clock
from distributed_something.observe.queue import QueueCounts
from distributed_something.observe.service import ServiceState
from distributed_something.observe.snapshot import RunSnapshot
from distributed_something.run.monitor.history import RunHistory, update_history
from distributed_something.run.monitor.policy import Pace, choose_actions
from distributed_something.run.monitor.view import MonitorView
from distributed_something.run.start import watch_machine_arrivals
from tests.support.fakes import MONITOR_FILE, SETTINGS, START, Exact, FakeTime, exact

FLEET_ID = MONITOR_FILE.MONITOR_FLEET_ID
NOWHERE = "AWS has no free machines of these types in these zones now"
SHORTAGE = ("allLaunchSpecsTemporarilyBlacklisted", "us-east-1a, m5.large: InsufficientInstanceCapacity")
LOW_BID = ("launchSpecUnusable", "m5.large, ami-1, Linux/UNIX, us-east-1a: Spot bid price is less than market price")


@pytest.fixture
def aws() -> Iterator[Exact]:
    with exact() as made:
        yield made


def reported(
    aws: Exact, *, errors: tuple[Any, ...] = (), information: tuple[Any, ...] = (), since: float = START
) -> None:
    """EC2's history has these (sub type, description), asked for by their kind: launches would fill it."""
    for kind, events in (("error", errors), ("information", information)):
        wanted = {"SpotFleetRequestId": FLEET_ID, "StartTime": datetime.fromtimestamp(since, UTC), "EventType": kind,
                  "MaxResults": 1000}  # fmt: skip
        found = [
            {"EventType": kind, "Timestamp": datetime.fromtimestamp(START, UTC),
             "EventInformation": {"EventSubType": sub_type, "EventDescription": said}}
            for sub_type, said in events
        ]  # fmt: skip
        aws.answer("ec2.describe_spot_fleet_request_history", wanted, HistoryRecords=found)


def news(aws: Exact, now: float = START) -> list[str]:
    """The lines that tell of the fleet's problems, one for each cause."""
    return [format_fleet_problem(one) for one in observe_fleet_problems(aws.clients.ec2, FLEET_ID, START, now)]


def test_each_cause_is_one_line_with_its_remedy_and_ec2s_words(aws: Exact) -> None:
    reported(aws, errors=(SHORTAGE, SHORTAGE), information=(LOW_BID, ("fleetIdle", "nothing to do")))
    shortage, low_bid = news(aws)
    assert low_bid.startswith("MACHINE_PRICE is below the market's price — ")
    assert shortage == (
        f"{NOWHERE} — wait, the fleet goes on trying; more types in MACHINE_TYPE and more subnets give more chances"
        " (allLaunchSpecsTemporarilyBlacklisted: us-east-1a, m5.large: InsufficientInstanceCapacity)"
    )


def test_an_error_that_nobody_knows_is_told_in_ec2s_words(aws: Exact) -> None:
    reported(aws, errors=(("newKind", "as told"),))
    assert news(aws) == ["newKind: as told"]


def test_of_a_long_run_the_last_six_hours_are_asked_for(aws: Exact) -> None:
    reported(aws, since=START + 18 * 3600)
    assert news(aws, START + 24 * 3600) == []


def test_what_comes_after_a_full_page_is_told_too(aws: Exact) -> None:
    """EC2 begins with the oldest: a fleet of many types that finds no machine fills a page within hours."""
    call, wanted = "ec2.describe_spot_fleet_request_history", {"SpotFleetRequestId": FLEET_ID, "EventType": "error",
               "StartTime": datetime.fromtimestamp(START, UTC), "MaxResults": 1000}  # fmt: skip
    aws.answer(call, wanted, HistoryRecords=[], NextToken="more")  # a page may be empty
    late = {"EventType": "error", "Timestamp": datetime.fromtimestamp(START, UTC),
            "EventInformation": {"EventSubType": "spotInstanceCountLimitExceeded"}}  # fmt: skip
    aws.answer(call, wanted | {"NextToken": "more"}, HistoryRecords=[late])
    aws.answer(call, wanted | {"EventType": "information"}, HistoryRecords=[])
    (line,) = news(aws)
    assert line.startswith("the account's quota of spot machines (virtual CPUs) is used up — ")


def test_a_history_without_end_is_read_in_a_fixed_number_of_calls(aws: Exact) -> None:
    for _ in range(2 * MAX_HISTORY_PAGES):
        aws.answer("ec2.describe_spot_fleet_request_history", HistoryRecords=[], NextToken="more")
    assert news(aws) == []


def test_a_history_that_cannot_be_had_ends_nothing(aws: Exact) -> None:
    aws.refuse("ec2.describe_spot_fleet_request_history", "UnauthorizedOperation")
    assert news(aws) == []


def test_start_cluster_tells_of_a_shortage_once_and_leaves_the_fleet_with_its_machines(aws: Exact) -> None:
    said: list[str] = []
    time = FakeTime()
    for number in range(3):
        config = {"IamFleetRole": "role", "TargetCapacity": 3}
        found = {"SpotFleetRequestId": FLEET_ID, "SpotFleetRequestState": "active", "SpotFleetRequestConfig": config}
        aws.answer(
            "ec2.describe_spot_fleet_requests", {"SpotFleetRequestIds": [FLEET_ID]}, SpotFleetRequestConfigs=[found]
        )
        aws.answer("ec2.describe_spot_fleet_instances", None, ActiveInstances=[{"InstanceId": "i-1"}])
        reported(aws, errors=((SHORTAGE[0], f"{SHORTAGE[1]} {number}"),))
    watch_machine_arrivals(
        SETTINGS,
        aws.clients,
        MONITOR_FILE,
        Clock(time.now, time.sleep),
        wait_minutes=1,
        pause=30,
        say=said.append,
    )
    first, told, last = said
    assert first == "machines        1 of 3"
    assert told.startswith(f"fleet           {NOWHERE} — wait, the fleet goes on trying")
    assert last == "not all machines have started; more may start while monitor runs"
    assert not [call for call in aws.calls if "Cancel" in call]


def short_of_machines(*machines: str, said: str = SHORTAGE[1]) -> RunSnapshot:
    state, problems = FleetState("active", 3, machines), list_fleet_problems([AWSEvent(START, SHORTAGE[0], said)])
    return RunSnapshot(START, QueueCounts(9, 0), 0, 9, state, ServiceState(6, 0, 0), problems=problems)


@pytest.mark.parametrize("machines", [(), ("i-1",)])
def test_a_shortage_changes_nothing_that_the_monitor_does(machines: tuple[str, ...]) -> None:
    look = short_of_machines(*machines)
    file = replace(MONITOR_FILE, MONITOR_JOBS_PER_TASK=1)
    assert choose_actions(look, update_history(RunHistory(), look, 75), file, cheapest=False, pace=Pace()) == []


def test_monitor_tells_of_a_shortage_once_as_it_comes(capsys: pytest.CaptureFixture[str]) -> None:
    with MonitorView(MONITOR_FILE, Console()) as view:
        for zone in ("us-east-1a", "us-east-1b"):
            view.show(short_of_machines(said=f"{zone}: InsufficientInstanceCapacity"), RunHistory())
    (told,) = [line for line in capsys.readouterr().err.splitlines() if NOWHERE in line]
    assert told.startswith(f"fleet           {NOWHERE} — wait")
    assert told.endswith("us-east-1a: InsufficientInstanceCapacity)")
