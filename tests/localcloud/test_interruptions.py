"""Spot interruptions of machines."""

from __future__ import annotations

import time

import pytest

from distributed_something.localcloud import LocalCloudError
from distributed_something.localcloud.base.endpoints import METADATA_PATH
from distributed_something.worker.machine.idle_alarm import find_instance_id
from distributed_something.worker.machine.metadata import InstanceMetadata
from distributed_something.worker.machine.spot_notice import SpotWatcher
from tests.support.local_lab import Lab, wait_until


def test_a_machine_gets_its_interruption_notice_from_the_instance_metadata(lab: Lab) -> None:
    lab.create_service(1, STUB="ignore SIGTERM", stop_seconds=60)
    lab.request_fleet(1)
    wait_until(lambda: bool(lab.list_tasks()) and "worker on" in lab.read_task_log(lab.list_tasks()[0]))
    instance_id = lab.list_machines()[0]["ec2InstanceId"]
    metadata = InstanceMetadata({"AWS_EC2_METADATA_SERVICE_ENDPOINT": lab.build_address(METADATA_PATH, instance_id)})
    assert find_instance_id(metadata) == instance_id
    end_times: list[float] = []
    watcher = SpotWatcher(metadata, end_times.append, lambda: None, time.time)
    watcher.tick()
    assert end_times == []
    earliest = time.time() + 60
    lab.cloud.interrupt_machine(instance_id, notice_seconds=60)
    latest = time.time() + 60
    watcher.tick()
    (end_time,) = end_times
    assert earliest - 1 <= end_time <= latest + 1  # the notice gives the time in whole seconds


def test_an_interrupted_machine_is_drained_terminated_and_replaced(lab: Lab) -> None:
    lab.create_service(1, stop_seconds=30)
    fleet_id = lab.request_fleet(1)
    wait_until(lambda: bool(lab.list_tasks()) and "worker on" in lab.read_task_log(lab.list_tasks()[0]))
    (task,) = lab.list_tasks()
    interrupted = lab.cloud.interrupt_machine()
    wait_until(lambda: bool(lab.list_tasks()) and lab.list_machines()[0]["ec2InstanceId"] != interrupted)
    assert "received SIGTERM" in lab.read_task_log(task)
    assert lab.list_fleet_events(fleet_id)[2:] == ["launched", "termination_notified", "terminated", "launched"]


def test_an_interrupted_machine_is_terminated_at_the_end_of_its_notice(lab: Lab) -> None:
    lab.create_service(1, STUB="ignore SIGTERM", stop_seconds=60)
    lab.request_fleet(1)
    wait_until(lambda: bool(lab.list_tasks()) and "worker on" in lab.read_task_log(lab.list_tasks()[0]))
    (task,) = lab.list_tasks()
    interrupted = lab.cloud.interrupt_machine(lab.list_machines()[0]["ec2InstanceId"], notice_seconds=1)
    wait_until(lambda: bool(lab.list_tasks()) and lab.list_tasks()[0]["taskArn"] != task["taskArn"])
    instance = lab.ec2.describe_instances(InstanceIds=[interrupted])["Reservations"][0]["Instances"][0]
    assert instance["State"]["Name"] == "terminated"
    assert instance["StateReason"]["Code"] == "Server.SpotInstanceTermination"


def test_interrupting_a_machine_fails_if_no_such_machine_is_running(lab: Lab) -> None:
    with pytest.raises(LocalCloudError, match="no machine is running"):
        lab.cloud.interrupt_machine()
    with pytest.raises(LocalCloudError, match="no machine i-12 is running"):
        lab.cloud.interrupt_machine("i-12")
