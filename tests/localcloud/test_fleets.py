"""Spot fleets: target capacity, cancellation, expiration, and history."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from distributed_something.localcloud.client.fill_in import EmulatedAccount
from tests.support.local_lab import Lab, wait_until


def test_a_terminated_machine_is_replaced_and_both_events_are_in_the_history(lab: Lab) -> None:
    lab.create_service(1)
    fleet_id = lab.request_fleet(2)
    wait_until(lambda: len(lab.list_machines()) == 2)
    ended = lab.list_machines()[0]["ec2InstanceId"]
    lab.ec2.terminate_instances(InstanceIds=[ended])
    wait_until(lambda: len(lab.list_instance_ids()) == 2 and ended not in lab.list_instance_ids())
    assert lab.list_fleet_events(fleet_id) == ["submitted", "active", "launched", "launched", "terminated", "launched"]


def test_lowering_the_target_terminates_machines_only_if_the_policy_says_so(lab: Lab) -> None:
    lab.create_service(0)
    fleet_id = lab.request_fleet(3)
    wait_until(lambda: len(lab.list_machines()) == 3)
    modify = lab.ec2.modify_spot_fleet_request
    modify(SpotFleetRequestId=fleet_id, TargetCapacity=2, ExcessCapacityTerminationPolicy="NoTermination")
    wait_until(lambda: lab.describe_fleet(fleet_id)["ActivityStatus"] == "pending_termination")
    assert len(lab.list_machines()) == 3
    modify(SpotFleetRequestId=fleet_id, TargetCapacity=1, ExcessCapacityTerminationPolicy="Default")
    wait_until(lambda: len(lab.list_machines()) == 1)


def test_a_terminated_machine_is_not_replaced_if_its_fleet_exceeds_a_lowered_target(lab: Lab) -> None:
    lab.create_service(0)
    fleet_id = lab.request_fleet(3)
    wait_until(lambda: len(lab.list_machines()) == 3)
    lab.ec2.modify_spot_fleet_request(
        SpotFleetRequestId=fleet_id, TargetCapacity=1, ExcessCapacityTerminationPolicy="noTermination"
    )
    ended, *others = sorted(lab.list_instance_ids())
    lab.ec2.terminate_instances(InstanceIds=[ended])
    wait_until(lambda: "terminated" in lab.list_fleet_events(fleet_id))
    assert sorted(lab.list_instance_ids()) == others
    lab.ec2.modify_spot_fleet_request(SpotFleetRequestId=fleet_id, TargetCapacity=4)
    wait_until(lambda: len(lab.list_machines()) == 4)


def test_a_fleet_that_does_not_maintain_its_capacity_cannot_be_modified(lab: Lab) -> None:
    fleet_id = lab.request_fleet(1, Type="request")
    with pytest.raises(ClientError, match="FleetNotInModifiableState"):
        lab.ec2.modify_spot_fleet_request(SpotFleetRequestId=fleet_id, TargetCapacity=2)


def test_canceling_a_fleet_terminates_its_machines_and_stops_their_tasks(lab: Lab) -> None:
    lab.create_service(2)
    fleet_id = lab.request_fleet(1)
    wait_until(lambda: len(lab.list_workers()) == 4)
    lab.ec2.cancel_spot_fleet_requests(SpotFleetRequestIds=[fleet_id], TerminateInstances=True)
    wait_until(lambda: not lab.list_workers() and not lab.list_machines())
    assert lab.describe_fleet(fleet_id)["SpotFleetRequestState"] == "cancelled"
    assert "terminated" in lab.list_tasks("STOPPED")[0]["stoppedReason"]
    assert "No Container Instances were found in your cluster" in lab.read_service_events()


def test_a_fleet_can_be_canceled_twice_but_an_unknown_fleet_cannot_be_canceled(lab: Lab) -> None:
    fleet_id = lab.request_fleet(0)
    for exists in (True, True, False):
        ids = [fleet_id if exists else "sfr-12345678-1234-1234-1234-123456789012"]
        response = lab.ec2.cancel_spot_fleet_requests(SpotFleetRequestIds=ids, TerminateInstances=True)
        assert len(response["SuccessfulFleetRequests"]) == exists
        assert len(response["UnsuccessfulFleetRequests"]) == (not exists)


def test_an_expired_fleet_is_canceled_and_its_machines_are_terminated(lab: Lab) -> None:
    lab.create_service(0)
    soon, later = (datetime.now(UTC) + timedelta(seconds=seconds) for seconds in (2, 600))
    expiring, lasting = (
        lab.request_fleet(1, ValidUntil=expiration, TerminateInstancesWithExpiration=True)
        for expiration in (soon, later)
    )
    wait_until(lambda: lab.describe_fleet(expiring)["SpotFleetRequestState"] == "cancelled")
    wait_until(lambda: len(lab.list_machines()) == 1)
    assert lab.ec2.describe_spot_fleet_instances(SpotFleetRequestId=expiring)["ActiveInstances"] == []
    assert lab.describe_fleet(lasting)["SpotFleetRequestState"] == "active"


def test_machines_from_a_launch_template_join_and_the_fleet_description_matches_the_request(lab: Lab) -> None:
    lab.create_service(1)
    account, tag = EmulatedAccount(lab.cloud.build_client), {"Key": "app", "Value": "Plum"}
    data: Any = {
        "ImageId": account.own_image,
        "UserData": base64.b64encode(lab.build_user_data().encode()).decode(),
        "NetworkInterfaces": [{"DeviceIndex": 0, "Groups": [account.own_security_group]}],
        "TagSpecifications": [{"ResourceType": kind, "Tags": [tag]} for kind in ("instance", "volume")],
    }
    lab.ec2.create_launch_template(LaunchTemplateName=lab.cluster, LaunchTemplateData=data)
    second_version = data | {"KeyName": account.adapt_key_pair("local")}
    lab.ec2.create_launch_template_version(LaunchTemplateName=lab.cluster, LaunchTemplateData=second_version)
    subnet = account.own_subnet
    types = ("m5.large", "m5a.large"), ("m6i.large",)
    configs = [
        {
            "LaunchTemplateSpecification": {"LaunchTemplateName": lab.cluster, "Version": version},
            "Overrides": [{"InstanceType": instance_type, "SubnetId": subnet} for instance_type in version_types],
        }
        for version, version_types in zip("12", types, strict=True)
    ]
    config: Any = {
        "IamFleetRole": account.adapt_fleet_role("a role"), "TargetCapacity": 3, "OnDemandTargetCapacity": 1,
        "LaunchTemplateConfigs": configs, "AllocationStrategy": "diversified",
    }  # fmt: skip
    lab.fleets.append(lab.ec2.request_spot_fleet(SpotFleetRequestConfig=config)["SpotFleetRequestId"])
    wait_until(lambda: len(lab.list_machines()) == 3 and len(lab.list_tasks()) == 1)
    described = lab.describe_fleet(lab.fleets[-1])["SpotFleetRequestConfig"]
    assert (described["LaunchTemplateConfigs"], described["OnDemandTargetCapacity"]) == (configs, 1)
    ids = lab.list_instance_ids()
    reservations = lab.ec2.describe_instances(InstanceIds=ids)["Reservations"]
    instances = [instance for reservation in reservations for instance in reservation["Instances"]]
    types_and_keys = {(instance["InstanceType"], instance.get("KeyName", "")) for instance in instances}
    assert types_and_keys == {("m5.large", ""), ("m5a.large", ""), ("m6i.large", "local")}
    assert all(tag in instance["Tags"] and instance["SubnetId"] == subnet for instance in instances)
    volumes = lab.ec2.describe_volumes(Filters=[{"Name": "attachment.instance-id", "Values": ids}])["Volumes"]
    assert len(volumes) == 3
    assert all(tag in volume["Tags"] for volume in volumes)
