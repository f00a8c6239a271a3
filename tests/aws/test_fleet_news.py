"""If a fleet cannot start machines, users see the cause in plain words, and the run continues."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from distributed_something.aws.ec2_fleet import (
    MAX_HISTORY_PAGES,
    FleetState,
    format_fleet_problem,
    list_fleet_problems,
    observe_fleet_problems,
)
from distributed_something.core.aws_errors import AWSEvent
from distributed_something.core.clock import Clock
from distributed_something.observe.documents.journals import RunTotals
from distributed_something.observe.queue import QueueCounts
from distributed_something.observe.service import ServiceState
from distributed_something.observe.snapshot import RunSnapshot
from distributed_something.run.monitor.history import RunHistory, update_history
from distributed_something.run.monitor.policy import Pace, choose_actions
from distributed_something.run.run_status import RunView
from distributed_something.run.screen.view import StatusView
from distributed_something.run.screen.watcher import RunWatcher
from distributed_something.run.start import watch_machine_arrivals
from tests.support.fakes import (
    MONITOR_FILE,
    SETTINGS,
    START,
    ExactClients,
    FakeBucket,
    FakeOutput,
    FakeTime,
    expect_exact_calls,
)

FLEET_ID = MONITOR_FILE.MONITOR_FLEET_ID
NO_CAPACITY = "AWS has no free machines of these types in these zones at the moment"
SHORTAGE = ("allLaunchSpecsTemporarilyBlacklisted", "us-east-1a, m5.large: InsufficientInstanceCapacity")
LOW_BID = ("launchSpecUnusable", "m5.large, ami-1, Linux/UNIX, us-east-1a: Spot bid price is less than market price")


@pytest.fixture
def aws() -> Iterator[ExactClients]:
    with expect_exact_calls() as emulated:
        yield emulated


def add_fleet_history(
    aws: ExactClients, *, errors: tuple[Any, ...] = (), information: tuple[Any, ...] = (), since: float = START
) -> None:
    """Expect one request per kind of event, and answer it with these events, each given as (subtype, description)."""
    for kind, events in (("error", errors), ("information", information)):
        request = {"SpotFleetRequestId": FLEET_ID, "StartTime": datetime.fromtimestamp(since, UTC), "EventType": kind,
                   "MaxResults": 1000}  # fmt: skip
        records = [
            {"EventType": kind, "Timestamp": datetime.fromtimestamp(START, UTC),
             "EventInformation": {"EventSubType": sub_type, "EventDescription": description}}
            for sub_type, description in events
        ]  # fmt: skip
        aws.expect_call("ec2.describe_spot_fleet_request_history", request, HistoryRecords=records)


def format_problems(aws: ExactClients, now: float = START) -> list[str]:
    """Return one line for each of the fleet's problems."""
    return [format_fleet_problem(problem) for problem in observe_fleet_problems(aws.clients.ec2, FLEET_ID, START, now)]


def test_each_cause_is_one_line_with_its_remedy_and_ec2s_message(aws: ExactClients) -> None:
    add_fleet_history(aws, errors=(SHORTAGE, SHORTAGE), information=(LOW_BID, ("fleetIdle", "nothing to do")))
    shortage, low_bid = format_problems(aws)
    assert low_bid.startswith("MACHINE_PRICE is below the current spot price — ")
    assert shortage == (
        f"{NO_CAPACITY} — wait: the fleet keeps trying; more types in MACHINE_TYPE and more subnets improve the chances"
        " (allLaunchSpecsTemporarilyBlacklisted: us-east-1a, m5.large: InsufficientInstanceCapacity)"
    )


def test_an_unknown_error_is_shown_with_ec2s_message(aws: ExactClients) -> None:
    add_fleet_history(aws, errors=(("newKind", "its description"),))
    assert format_problems(aws) == ["newKind: its description"]


def test_only_the_last_six_hours_of_a_long_run_are_requested(aws: ExactClients) -> None:
    add_fleet_history(aws, since=START + 18 * 3600)
    assert format_problems(aws, START + 24 * 3600) == []


def test_events_on_all_pages_are_read(aws: ExactClients) -> None:
    """EC2 lists the oldest events first. If a fleet of many types has a shortage, a page is full within hours."""
    call = "ec2.describe_spot_fleet_request_history"
    request = {"SpotFleetRequestId": FLEET_ID, "EventType": "error", "StartTime": datetime.fromtimestamp(START, UTC),
               "MaxResults": 1000}  # fmt: skip
    aws.expect_call(call, request, HistoryRecords=[], NextToken="more")  # a page may be empty
    record = {"EventType": "error", "Timestamp": datetime.fromtimestamp(START, UTC),
              "EventInformation": {"EventSubType": "spotInstanceCountLimitExceeded"}}  # fmt: skip
    aws.expect_call(call, request | {"NextToken": "more"}, HistoryRecords=[record])
    aws.expect_call(call, request | {"EventType": "information"}, HistoryRecords=[])
    (line,) = format_problems(aws)
    assert line.startswith("the account's quota for spot machines (virtual CPUs) is used up — ")


def test_an_endless_history_is_read_only_up_to_the_page_limit(aws: ExactClients) -> None:
    for _ in range(2 * MAX_HISTORY_PAGES):
        aws.expect_call("ec2.describe_spot_fleet_request_history", HistoryRecords=[], NextToken="more")
    assert format_problems(aws) == []


def test_a_history_that_cannot_be_read_does_not_cause_an_error(aws: ExactClients) -> None:
    aws.expect_error("ec2.describe_spot_fleet_request_history", "UnauthorizedOperation")
    assert format_problems(aws) == []


def test_start_cluster_reports_a_shortage_once_and_does_not_cancel_the_fleet(aws: ExactClients) -> None:
    messages: list[str] = []
    time = FakeTime()
    for number in range(3):
        config = {"IamFleetRole": "role", "TargetCapacity": 3}
        fleet = {"SpotFleetRequestId": FLEET_ID, "SpotFleetRequestState": "active", "SpotFleetRequestConfig": config}
        aws.expect_call(
            "ec2.describe_spot_fleet_requests", {"SpotFleetRequestIds": [FLEET_ID]}, SpotFleetRequestConfigs=[fleet]
        )
        aws.expect_call("ec2.describe_spot_fleet_instances", None, ActiveInstances=[{"InstanceId": "i-1"}])
        add_fleet_history(aws, errors=((SHORTAGE[0], f"{SHORTAGE[1]} {number}"),))
    watch_machine_arrivals(
        aws.clients,
        SETTINGS,
        MONITOR_FILE,
        Clock(time.now, time.sleep),
        wait_minutes=1,
        pause=30,
        print_progress=messages.append,
    )
    first, problem, last = messages
    assert first == "machines        1 of 3"
    assert " ".join(problem.split()).startswith(f"fleet {NO_CAPACITY} — wait: the fleet keeps trying")
    assert last == "not all machines have started; more may start while monitor runs"
    assert not [call for call in aws.calls if "Cancel" in call]


def build_snapshot(*machines: str, message: str = SHORTAGE[1]) -> RunSnapshot:
    """Return a snapshot of a run whose fleet has these machines and cannot start more."""
    state, problems = FleetState("active", 3, machines), list_fleet_problems([AWSEvent(START, SHORTAGE[0], message)])
    return RunSnapshot(START, QueueCounts(9, 0), RunTotals(), 9, state, ServiceState(6, 0, 0), problems=problems)


@pytest.mark.parametrize("machines", [(), ("i-1",)])
def test_the_monitor_takes_no_action_because_of_a_shortage(machines: tuple[str, ...]) -> None:
    snapshot = build_snapshot(*machines)
    file = replace(MONITOR_FILE, MONITOR_JOBS_PER_TASK=1)
    assert choose_actions(snapshot, update_history(RunHistory(), snapshot, 75), file, cheapest=False, pace=Pace()) == []


def test_the_monitor_reports_a_shortage_only_once() -> None:
    output = FakeOutput()
    clients: Any = SimpleNamespace(s3=FakeBucket())
    with StatusView(output, "", lambda status: []) as screen:
        watcher = RunWatcher(screen, RunView.open(clients, MONITOR_FILE))
        for zone in ("us-east-1a", "us-east-1b"):
            watcher.show_snapshot(build_snapshot(message=f"{zone}: InsufficientInstanceCapacity"), RunHistory())
    (line,) = [line for line in output.progress if NO_CAPACITY in line]
    assert line.startswith(f"fleet           {NO_CAPACITY} — wait")
    assert line.endswith("us-east-1a: InsufficientInstanceCapacity)")
