"""Spot fleets keep their target, end with their machines, and tell both in their history."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from distributed_something.localcloud.client.fill_in import EmulatedAccount
from tests.support.local_lab import Lab, eventually


def test_a_machine_that_ends_is_replaced_and_the_history_tells_it(lab: Lab) -> None:
    lab.serve(1)
    fleet_id = lab.fleet(2)
    eventually(lambda: len(lab.machines()) == 2)
    ended = lab.machines()[0]["ec2InstanceId"]
    lab.ec2.terminate_instances(InstanceIds=[ended])
    eventually(lambda: len(lab.machines()) == 2 and ended not in [one["ec2InstanceId"] for one in lab.machines()])
    assert lab.history(fleet_id) == ["submitted", "active", "launched", "launched", "terminated", "launched"]


def test_a_lowered_target_ends_machines_only_where_the_policy_says_so(lab: Lab) -> None:
    lab.serve(0)
    fleet_id = lab.fleet(3)
    eventually(lambda: len(lab.machines()) == 3)
    modify = lab.ec2.modify_spot_fleet_request
    modify(SpotFleetRequestId=fleet_id, TargetCapacity=2, ExcessCapacityTerminationPolicy="NoTermination")
    eventually(lambda: lab.fleet_state(fleet_id)["ActivityStatus"] == "pending_termination")
    assert len(lab.machines()) == 3
    modify(SpotFleetRequestId=fleet_id, TargetCapacity=1, ExcessCapacityTerminationPolicy="Default")
    eventually(lambda: len(lab.machines()) == 1)


def test_a_machine_that_ends_after_its_fleets_target_was_lowered_is_not_replaced(lab: Lab) -> None:
    lab.serve(0)
    fleet_id = lab.fleet(3)
    eventually(lambda: len(lab.machines()) == 3)
    lab.ec2.modify_spot_fleet_request(
        SpotFleetRequestId=fleet_id, TargetCapacity=1, ExcessCapacityTerminationPolicy="noTermination"
    )
    ended, *others = sorted(one["ec2InstanceId"] for one in lab.machines())
    lab.ec2.terminate_instances(InstanceIds=[ended])
    eventually(lambda: "terminated" in lab.history(fleet_id))
    assert sorted(one["ec2InstanceId"] for one in lab.machines()) == others
    lab.ec2.modify_spot_fleet_request(SpotFleetRequestId=fleet_id, TargetCapacity=4)
    eventually(lambda: len(lab.machines()) == 4)


def test_a_fleet_that_maintains_no_capacity_cannot_be_modified(lab: Lab) -> None:
    fleet_id = lab.fleet(1, Type="request")
    with pytest.raises(ClientError, match="FleetNotInModifiableState"):
        lab.ec2.modify_spot_fleet_request(SpotFleetRequestId=fleet_id, TargetCapacity=2)


def test_a_cancelled_fleet_ends_its_machines_and_their_tasks(lab: Lab) -> None:
    lab.serve(2)
    fleet_id = lab.fleet(1)
    eventually(lambda: len(lab.workers()) == 4)
    lab.ec2.cancel_spot_fleet_requests(SpotFleetRequestIds=[fleet_id], TerminateInstances=True)
    eventually(lambda: not lab.workers() and not lab.machines())
    assert lab.fleet_state(fleet_id)["SpotFleetRequestState"] == "cancelled"
    assert "terminated" in lab.tasks("STOPPED")[0]["stoppedReason"]
    assert "No Container Instances were found in your cluster" in lab.said()


def test_a_fleet_can_be_cancelled_again_and_an_unknown_one_is_refused(lab: Lab) -> None:
    fleet_id = lab.fleet(0)
    for known in (True, True, False):
        ids = [fleet_id if known else "sfr-12345678-1234-1234-1234-123456789012"]
        answer = lab.ec2.cancel_spot_fleet_requests(SpotFleetRequestIds=ids, TerminateInstances=True)
        assert len(answer["SuccessfulFleetRequests"]) == known
        assert len(answer["UnsuccessfulFleetRequests"]) == (not known)


def test_a_fleet_whose_time_is_over_ends_with_its_machines(lab: Lab) -> None:
    lab.serve(0)
    soon, later = (datetime.now(UTC) + timedelta(seconds=seconds) for seconds in (2, 600))
    ends, stays = (lab.fleet(1, ValidUntil=at, TerminateInstancesWithExpiration=True) for at in (soon, later))
    eventually(lambda: lab.fleet_state(ends)["SpotFleetRequestState"] == "cancelled")
    eventually(lambda: len(lab.machines()) == 1)
    assert lab.ec2.describe_spot_fleet_instances(SpotFleetRequestId=ends)["ActiveInstances"] == []
    assert lab.fleet_state(stays)["SpotFleetRequestState"] == "active"


def test_machines_of_a_launch_template_join_and_the_fleet_is_shown_as_it_was_asked_for(lab: Lab) -> None:
    lab.serve(1)
    account, tag = EmulatedAccount(lab.cloud.build_client), {"Key": "app", "Value": "Plum"}
    data: Any = {
        "ImageId": account.own_image,
        "UserData": base64.b64encode(lab.script().encode()).decode(),
        "NetworkInterfaces": [{"DeviceIndex": 0, "Groups": [account.own_security_group]}],
        "TagSpecifications": [{"ResourceType": kind, "Tags": [tag]} for kind in ("instance", "volume")],
    }
    lab.ec2.create_launch_template(LaunchTemplateName=lab.cluster, LaunchTemplateData=data)
    second = data | {"KeyName": account.adapt_key_pair("local")}
    lab.ec2.create_launch_template_version(LaunchTemplateName=lab.cluster, LaunchTemplateData=second)
    subnet = account.own_subnet
    types = ("m5.large", "m5a.large"), ("m6i.large",)
    configs = [
        {
            "LaunchTemplateSpecification": {"LaunchTemplateName": lab.cluster, "Version": version},
            "Overrides": [{"InstanceType": one, "SubnetId": subnet} for one in some],
        }
        for version, some in zip("12", types, strict=True)
    ]
    config: Any = {
        "IamFleetRole": account.adapt_fleet_role("a role"), "TargetCapacity": 3, "OnDemandTargetCapacity": 1,
        "LaunchTemplateConfigs": configs, "AllocationStrategy": "diversified",
    }  # fmt: skip
    lab.fleets.append(lab.ec2.request_spot_fleet(SpotFleetRequestConfig=config)["SpotFleetRequestId"])
    eventually(lambda: len(lab.machines()) == 3 and len(lab.tasks()) == 1)
    shown = lab.fleet_state(lab.fleets[-1])["SpotFleetRequestConfig"]
    assert (shown["LaunchTemplateConfigs"], shown["OnDemandTargetCapacity"]) == (configs, 1)
    ids = [one["ec2InstanceId"] for one in lab.machines()]
    found = [one for group in lab.ec2.describe_instances(InstanceIds=ids)["Reservations"] for one in group["Instances"]]
    of_which_version = {(one["InstanceType"], one.get("KeyName", "")) for one in found}
    assert of_which_version == {("m5.large", ""), ("m5a.large", ""), ("m6i.large", "local")}
    assert all(tag in one["Tags"] and one["SubnetId"] == subnet for one in found)
    volumes = lab.ec2.describe_volumes(Filters=[{"Name": "attachment.instance-id", "Values": ids}])["Volumes"]
    assert len(volumes) == 3
    assert all(tag in one["Tags"] for one in volumes)
