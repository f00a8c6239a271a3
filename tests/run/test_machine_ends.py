"""The monitor completes the documents of machines: how they ended, and their prices."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

from distributed_something.aws.ec2_fleet import FleetState
from distributed_something.aws.spot_prices import PriceReport, compute_mean_price, select_reports
from distributed_something.observe.documents.journals import RunTotals
from distributed_something.observe.documents.machine_documents import parse_machine_document
from distributed_something.observe.snapshot import RunSnapshot
from distributed_something.run.monitor.history import RunHistory
from distributed_something.run.monitor.machine_ends import record_last_machines, record_machine_ends
from distributed_something.worker import RunKeys
from tests.support.fakes import ANY, MONITOR_FILE, START, ExactClients, expect_exact_calls

LAUNCHED = datetime.fromtimestamp(START, UTC)
WRITTEN = {
    "machine": "i-0000000a", "type": "m5.large", "zone": "us-east-1a", "spot": True,
    "launched": "2026-11-23T10:45:00.000Z", "slots": 4, "ended": None, "end_reason": None, "price": None,
}  # fmt: skip


def build_snapshot(*machines: str, at: float = START + 3600) -> RunSnapshot:
    fleet = FleetState("active", 2, machines, ("m5.large",) * len(machines))
    return RunSnapshot(at, None, RunTotals(), None, fleet, None)


def describe_instance(name: str, **more: Any) -> dict[str, Any]:
    return {
        "InstanceId": name, "State": {"Name": "terminated", "Code": 48}, "InstanceType": "m5.large",
        "LaunchTime": LAUNCHED, "Placement": {"AvailabilityZone": "us-east-1a"}, "InstanceLifecycle": "spot",
        "StateReason": {"Code": "Server.SpotInstanceTermination",
                        "Message": "Server.SpotInstanceTermination: Spot instance termination"}, **more,
    }  # fmt: skip


def expect_documents(aws: ExactClients, *instances: dict[str, Any], content: dict[str, Any] | None) -> None:
    aws.expect_call("ec2.describe_instances", Reservations=[{"Instances": list(instances)}])
    price = {"InstanceType": "m5.large", "AvailabilityZone": "us-east-1a", "ProductDescription": "Linux/UNIX"}
    aws.expect_call("ec2.describe_spot_price_history", SpotPriceHistory=[
        price | {"SpotPrice": "0.04", "Timestamp": LAUNCHED - timedelta(hours=5)},
        price | {"SpotPrice": "0.08", "Timestamp": LAUNCHED + timedelta(minutes=45)},
    ])  # fmt: skip
    if content is None:
        aws.expect_error("s3.get_object", "NoSuchKey")
    else:
        aws.expect_call("s3.get_object", Body=BytesIO(json.dumps(content).encode()))


def capture_document(aws: ExactClients) -> list[dict[str, Any]]:
    """Expect that a document is written, and return the list that it is added to."""
    written: list[dict[str, Any]] = []
    s3 = aws.clients.s3
    handler = lambda params, **_: written.append(json.loads(params["Body"]))  # noqa: E731
    s3.meta.events.register("before-parameter-build.s3.PutObject", handler)
    aws.expect_call("s3.put_object", {"Bucket": "app-bucket", "Key": MONITOR_FILE.keys.machine("i-0000000a"),
                                      "Body": ANY, "ContentType": "application/json"})  # fmt: skip
    return written


def test_a_machine_that_left_the_fleet_gets_its_end_and_the_mean_price() -> None:
    history = RunHistory(fleet=("i-0000000a", "i-0000000b"))
    with expect_exact_calls() as aws:
        expect_documents(aws, describe_instance("i-0000000a"), content=WRITTEN)
        written = capture_document(aws)
        updated = record_machine_ends(aws.clients, MONITOR_FILE, history, build_snapshot("i-0000000b"))
    assert updated.fleet == ("i-0000000b",)
    (document,) = written
    assert document == WRITTEN | {
        "ended": "2026-11-23T11:45:00.000Z", "end_code": "Server.SpotInstanceTermination",
        "end_reason": "Server.SpotInstanceTermination: Spot instance termination", "price": document["price"],
    }  # fmt: skip
    assert round(document["price"], 9) == round(0.75 * 0.04 + 0.25 * 0.08, 9)


def test_a_machine_that_never_started_a_container_gets_a_document_and_ec2s_time_of_its_end() -> None:
    instance = describe_instance(
        "i-0000000a", StateTransitionReason="User initiated (2026-11-23 11:00:00 GMT)",
        StateReason={"Code": "Client.UserInitiatedShutdown", "Message": "User initiated shutdown"},
    )  # fmt: skip
    with expect_exact_calls() as aws:
        aws.expect_call("s3.list_objects_v2")
        expect_documents(aws, instance, content=None)
        written = capture_document(aws)
        record_last_machines(aws.clients, MONITOR_FILE, RunHistory(fleet=("i-0000000a",)), START + 7200)
    document = parse_machine_document("i-0000000a", written[0])
    assert (document.type, document.zone, document.is_spot) == ("m5.large", "us-east-1a", True)
    assert (document.launched, document.ended, document.slots) == (START, START + 900, None)
    assert document.price == 0.04


def test_an_end_that_nobody_saw_has_no_time_unless_ec2_knows_it() -> None:
    key = MONITOR_FILE.keys.machine("i-0000000a")
    with expect_exact_calls() as aws:
        aws.expect_call("s3.list_objects_v2", Contents=[{"Key": key}])
        aws.expect_call("s3.get_object", Body=BytesIO(json.dumps(WRITTEN).encode()))
        expect_documents(aws, describe_instance("i-0000000a"), content=WRITTEN)
        written = capture_document(aws)
        record_last_machines(aws.clients, MONITOR_FILE, RunHistory(), START + 72_000)
    assert (written[0]["ended"], written[0]["end_code"]) == (None, "Server.SpotInstanceTermination")


def test_a_machine_that_ec2_has_forgotten_is_left_as_it_is() -> None:
    history = RunHistory(fleet=("i-0000000a",))
    with expect_exact_calls() as aws:
        aws.expect_call("ec2.describe_instances", Reservations=[])
        assert record_machine_ends(aws.clients, MONITOR_FILE, history, build_snapshot()).fleet == ()


def test_nothing_is_requested_while_no_machine_leaves_the_fleet() -> None:
    history = RunHistory(fleet=("i-0000000a",))
    with expect_exact_calls() as aws:
        assert record_machine_ends(aws.clients, MONITOR_FILE, history, build_snapshot("i-0000000a")) == history
        assert aws.calls == []


def test_a_refusal_ends_nothing_and_the_next_tick_tries_again() -> None:
    history = RunHistory(fleet=("i-0000000a",))
    with expect_exact_calls() as aws:
        aws.expect_error("ec2.describe_instances", "UnauthorizedOperation")
        assert record_machine_ends(aws.clients, MONITOR_FILE, history, build_snapshot()) == history


def test_a_machine_that_left_the_fleet_but_runs_is_looked_at_again() -> None:
    history = RunHistory(fleet=("i-0000000a",))
    running = describe_instance("i-0000000a", State={"Name": "running", "Code": 16})
    with expect_exact_calls() as aws:
        aws.expect_call("ec2.describe_instances", Reservations=[{"Instances": [running]}])
        assert record_machine_ends(aws.clients, MONITOR_FILE, history, build_snapshot()) == history


def test_a_mean_price_is_weighted_by_time() -> None:
    reports = [PriceReport("m5.large", "a", price, LAUNCHED + timedelta(hours=hours)) for price, hours in
               ((9.0, -20), (0.1, -3), (0.3, 1), (0.5, 3))]  # fmt: skip
    used = select_reports(reports, START)
    assert [report.price for report in used] == [0.1, 0.3, 0.5]
    mean = compute_mean_price(used, START, START + 4 * 3600)
    assert mean is not None
    assert round(mean, 9) == round((0.1 + 2 * 0.3 + 0.5) / 4, 9)
    assert compute_mean_price(used, START, START) == 0.1
    assert compute_mean_price((), START, START + 1) is None


def test_keys_of_health_documents_are_not_keys_of_machines() -> None:
    keys = RunKeys("App", "20261123T104500Z")
    assert keys.find_machine(keys.machine("i-0123456789abcdef0")) == "i-0123456789abcdef0"
    assert keys.find_machine(f"{keys.machines}i-0123456789abcdef0-0123456789ab.json") is None
    assert keys.find_machine("runs/Other/20261123T104500Z/machines/i-0123456789abcdef0.json") is None
