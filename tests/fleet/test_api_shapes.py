"""Checks of requests against botocore's model: in a request's structure, they reject only what botocore rejects."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import botocore.session
import pytest
from botocore.model import Shape
from botocore.validate import ParamValidator
from hypothesis import given
from hypothesis import strategies as st

from distributed_something.fleet.api_shapes import MAX_CHOICES_SHOWN, RequestFault, find_request_faults

MODEL = botocore.session.get_session().get_service_model("ec2")
SHAPES: dict[str, Any] = {
    name: MODEL.operation_model(name).input_shape for name in ("RequestSpotFleet", "CreateLaunchTemplate")
}


def find_config_faults(**config: Any) -> list[RequestFault]:
    """Return the faults in a fleet request with this SpotFleetRequestConfig."""
    required: dict[str, Any] = {"IamFleetRole": "arn:role", "TargetCapacity": 1}
    return find_request_faults({"SpotFleetRequestConfig": required | config}, SHAPES["RequestSpotFleet"])


def test_a_valid_request_has_no_faults() -> None:
    specification = {"ImageId": "ami-1", "EbsOptimized": True, "BlockDeviceMappings": [{"Ebs": {"VolumeSize": 30}}]}
    faults = find_config_faults(LaunchSpecifications=[specification], ValidUntil=datetime.now(UTC), SpotPrice="0.1")
    assert faults == []


@pytest.mark.parametrize(
    ("config", "key", "problem", "remedy"),
    [
        ({"Color": 1}, "Color", "AWS does not recognize this key", "use one of AllocationStrategy, "),
        ({"LaunchSpecifications": [{}, {"Subnet": ""}]}, "LaunchSpecifications[1].Subnet",
         "AWS does not recognize this key", "write SubnetId"),
        ({"TargetCapacity": "two"}, "TargetCapacity", "'two' is not a whole number", "write a whole number, such as 4"),
        ({"FulfilledCapacity": "two"}, "FulfilledCapacity", "'two' is not a number", "write a number, such as 1.5"),
        ({"IamFleetRole": None}, "IamFleetRole", "null is not a string", "write it in quotes"),
        ({"LaunchSpecifications": {}}, "LaunchSpecifications", "{} is not a list", "write a list: [ … ]"),
        ({"LaunchSpecifications": ["x" * 99]}, "LaunchSpecifications[0]", f"'{'x' * 58}… is not an object",
         "write an object: { … }"),
        ({"TerminateInstancesWithExpiration": 1}, "TerminateInstancesWithExpiration", "1 is not true or false",
         "write true or false, without quotes"),
        ({"ValidUntil": 6.8e16}, "ValidUntil", "6.8e+16 is not a time", "write a time, such as 2026-11-23T10:45:00Z"),
        ({"ValidUntil": "soon"}, "ValidUntil", "'soon' is not a time", "write a time, such as 2026-11-23T10:45:00Z"),
        ({"Type": "instance"}, "Type", "AWS does not accept 'instance'", "write one of request, maintain, instant"),
        ({"LoadBalancersConfig": {"ClassicLoadBalancersConfig": {"ClassicLoadBalancers": []}}},
         "LoadBalancersConfig.ClassicLoadBalancersConfig.ClassicLoadBalancers", "[] is too short",
         "list at least 1"),
    ],
)  # fmt: skip
def test_a_fault_contains_the_key_problem_and_remedy(
    config: dict[str, Any], key: str, problem: str, remedy: str
) -> None:
    (fault,) = find_config_faults(**config)
    assert (fault.key, fault.problem) == (key, problem)
    assert fault.remedy.startswith(remedy)


def test_a_missing_key_is_reported() -> None:
    request = {"SpotFleetRequestConfig": {"TargetCapacity": 1}}
    assert find_request_faults(request, SHAPES["RequestSpotFleet"]) == [
        RequestFault("IamFleetRole", "this key is missing", "add it")
    ]
    assert find_request_faults({}, SHAPES["RequestSpotFleet"]) == [
        RequestFault("SpotFleetRequestConfig", "this key is missing", "add it")
    ]


def test_all_faults_are_reported_with_invalid_keys_and_types_before_invalid_values() -> None:
    faults = find_config_faults(
        Type="instance", Color=1, Shade=2, TargetCapacity="two", LaunchSpecifications=[{"ImageId": 7}, {"Subnet": ""}]
    )
    assert [fault.key for fault in faults] == [
        "Color", "Shade", "TargetCapacity", "LaunchSpecifications[0].ImageId", "LaunchSpecifications[1].Subnet", "Type",
    ]  # fmt: skip


def test_a_long_list_of_accepted_values_is_shortened() -> None:
    (fault,) = find_config_faults(LaunchSpecifications=[{"BlockDeviceMappings": [{"Ebs": {"VolumeType": "fast"}}]}])
    assert (fault.key, fault.remedy.startswith("write one of ")) == (
        "LaunchSpecifications[0].BlockDeviceMappings[0].Ebs.VolumeType", True,
    )  # fmt: skip
    assert fault.remedy.count(",") < MAX_CHOICES_SHOWN + 1


def test_machine_types_that_botocore_does_not_list_are_left_to_ec2() -> None:
    assert find_config_faults(LaunchSpecifications=[{"InstanceType": "m99.large"}]) == []


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 3), st.floats(-1e6, 1e6), st.text(max_size=3),
    st.sampled_from(["maintain", "gp3", "m5.large", "2026-11-23T10:45:00Z"]),
)  # fmt: skip


def draw_values(shape: Shape, depth: int = 5) -> st.SearchStrategy[Any]:
    """Return a strategy for values of this shape. Most of the values have the correct type."""
    correct = _draw_correct_values(shape, depth) if depth else st.nothing()
    return st.one_of(correct, correct, correct, scalars, st.just([]), st.just({}))


def _draw_correct_values(shape: Any, depth: int) -> st.SearchStrategy[Any]:
    if shape.type_name == "list":
        return st.lists(draw_values(shape.member, depth - 1), max_size=2)
    if shape.type_name != "structure":
        return scalars
    optional = st.lists(st.sampled_from(sorted(shape.members)), max_size=3, unique=True)
    all_names = optional.map(lambda names: [*shape.metadata.get("required", ()), *names])
    structures = all_names.flatmap(
        lambda names: st.fixed_dictionaries({name: draw_values(shape.members[name], depth - 1) for name in names})
    )
    return st.one_of(structures, structures, structures.map(lambda value: value | {"NoSuchKey": 1}))


@pytest.mark.parametrize("call", SHAPES)
@given(st.data())
def test_the_structure_of_a_request_is_rejected_if_and_only_if_botocore_rejects_it(
    call: str, data: st.DataObject
) -> None:
    request = data.draw(_draw_correct_values(SHAPES[call], 6))
    report = ParamValidator().validate(request, SHAPES[call])
    faults = find_request_faults(request, SHAPES[call])
    form_faults = [fault for fault in faults if not fault.problem.startswith("AWS does not accept")]
    assert bool(form_faults) == report.has_errors()
    if form_faults:
        lines = report.generate_report().splitlines()
        assert len(form_faults) <= len(lines)  # a value in botocore's report may contain line breaks
        assert form_faults[0].key.rpartition(".")[2].rstrip("[0123456789]") in lines[0]
