"""Machines that are taken away as EC2 takes spot machines."""

from __future__ import annotations

import time

import pytest

from distributed_something.localcloud import LocalCloudError
from distributed_something.localcloud.base.endpoints import METADATA_PATH
from distributed_something.worker.machine.idle_alarm import find_instance_id
from distributed_something.worker.machine.metadata import InstanceMetadata
from distributed_something.worker.machine.spot_notice import SpotWatcher
from tests.support.local_lab import Lab, eventually


def test_a_machine_hears_of_its_interruption_as_on_ec2(lab: Lab) -> None:
    lab.serve(1, STUB="deaf", stop_seconds=60)
    lab.fleet(1)
    eventually(lambda: bool(lab.tasks()) and "worker on" in lab.log_of(lab.tasks()[0]))
    name = lab.machines()[0]["ec2InstanceId"]
    metadata = InstanceMetadata({"AWS_EC2_METADATA_SERVICE_ENDPOINT": lab.address(METADATA_PATH, name)})
    assert find_instance_id(metadata) == name
    heard: list[float] = []
    watcher = SpotWatcher(metadata, heard.append, lambda: None, time.time)
    watcher.tick()
    assert heard == []
    earliest = time.time() + 60
    lab.cloud.interrupt(name, notice_seconds=60)
    latest = time.time() + 60
    watcher.tick()
    (ends_at,) = heard
    assert earliest - 1 <= ends_at <= latest + 1  # told to the second


def test_an_interrupted_machine_is_drained_taken_away_and_replaced(lab: Lab) -> None:
    lab.serve(1, stop_seconds=30)
    fleet_id = lab.fleet(1)
    eventually(lambda: bool(lab.tasks()) and "worker on" in lab.log_of(lab.tasks()[0]))
    (task,) = lab.tasks()
    taken = lab.cloud.interrupt()
    eventually(lambda: bool(lab.tasks()) and lab.machines()[0]["ec2InstanceId"] != taken)
    assert "asked to stop" in lab.log_of(task)
    assert lab.history(fleet_id)[2:] == ["launched", "termination_notified", "terminated", "launched"]


def test_an_interruption_waits_no_longer_than_its_notice(lab: Lab) -> None:
    lab.serve(1, STUB="deaf", stop_seconds=60)
    lab.fleet(1)
    eventually(lambda: bool(lab.tasks()) and "worker on" in lab.log_of(lab.tasks()[0]))
    (task,) = lab.tasks()
    taken = lab.cloud.interrupt(lab.machines()[0]["ec2InstanceId"], notice_seconds=1)
    eventually(lambda: bool(lab.tasks()) and lab.tasks()[0]["taskArn"] != task["taskArn"])
    state = lab.ec2.describe_instances(InstanceIds=[taken])["Reservations"][0]["Instances"][0]
    assert state["State"]["Name"] == "terminated"
    assert state["StateReason"]["Code"] == "Server.SpotInstanceTermination"


def test_without_a_machine_none_can_be_interrupted(lab: Lab) -> None:
    with pytest.raises(LocalCloudError, match="no machine is running"):
        lab.cloud.interrupt()
    with pytest.raises(LocalCloudError, match="no machine i-12 is running"):
        lab.cloud.interrupt("i-12")
