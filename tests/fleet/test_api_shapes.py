"""Requests against botocore's model: what is named as wrong, and that nothing else is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import botocore.session
import pytest
from botocore.model import Shape
from botocore.validate import ParamValidator
from hypothesis import given
from hypothesis import strategies as st

from distributed_something.fleet.api_shapes import MAX_CHOICES_SHOWN, RequestFault, find_request_fault

MODEL = botocore.session.get_session().get_service_model("ec2")
SHAPES: dict[str, Any] = {
    name: MODEL.operation_model(name).input_shape for name in ("RequestSpotFleet", "CreateLaunchTemplate")
}


def fault_of(**config: Any) -> RequestFault | None:
    """Of a request for a fleet with this config."""
    right: dict[str, Any] = {"IamFleetRole": "arn:role", "TargetCapacity": 1}
    return find_request_fault({"SpotFleetRequestConfig": right | config}, SHAPES["RequestSpotFleet"])


def test_a_right_request_has_no_fault() -> None:
    specification = {"ImageId": "ami-1", "EbsOptimized": True, "BlockDeviceMappings": [{"Ebs": {"VolumeSize": 30}}]}
    assert fault_of(LaunchSpecifications=[specification], ValidUntil=datetime.now(UTC), SpotPrice="0.1") is None


@pytest.mark.parametrize(
    ("config", "key", "problem", "remedy"),
    [
        ({"Colour": 1}, "Colour", "AWS knows no such key here", "there are: AllocationStrategy, "),
        ({"LaunchSpecifications": [{}, {"Subnet": ""}]}, "LaunchSpecifications[1].Subnet", "AWS knows no such key here",
         "there are: AddressingType, "),
        ({"TargetCapacity": "two"}, "TargetCapacity", "two does not fit", "write a whole number"),
        ({"FulfilledCapacity": "two"}, "FulfilledCapacity", "two does not fit", "write a number"),
        ({"IamFleetRole": None}, "IamFleetRole", "None does not fit", "write a text"),
        ({"LaunchSpecifications": {}}, "LaunchSpecifications", "{} does not fit", "write a list"),
        ({"LaunchSpecifications": ["x" * 99]}, "LaunchSpecifications[0]", f"{'x' * 60} does not fit",
         "write an object"),
        ({"TerminateInstancesWithExpiration": 1}, "TerminateInstancesWithExpiration", "1 does not fit",
         "write true or false"),
        ({"ValidUntil": 6.8e16}, "ValidUntil", "6.8e+16 does not fit", "write a time, as 2026-11-23T10:45:00Z"),
        ({"ValidUntil": "soon"}, "ValidUntil", "soon does not fit", "write a time, as 2026-11-23T10:45:00Z"),
        ({"Type": "instance"}, "Type", "'instance' is none of AWS's", "write one of request, maintain, instant"),
        ({"LoadBalancersConfig": {"ClassicLoadBalancersConfig": {"ClassicLoadBalancers": []}}},
         "LoadBalancersConfig.ClassicLoadBalancersConfig.ClassicLoadBalancers", "'[]' is too short",
         "write at least 1 entries"),
    ],
)  # fmt: skip
def test_a_fault_is_named_with_its_key_and_what_to_write(
    config: dict[str, Any], key: str, problem: str, remedy: str
) -> None:
    found = fault_of(**config)
    assert found is not None
    assert (found.key, found.problem) == (key, problem)
    assert found.remedy.startswith(remedy)


def test_a_missing_key_is_named() -> None:
    request = {"SpotFleetRequestConfig": {"TargetCapacity": 1}}
    assert find_request_fault(request, SHAPES["RequestSpotFleet"]) == RequestFault(
        "IamFleetRole", "this key is missing", "add it"
    )
    assert find_request_fault({}, SHAPES["RequestSpotFleet"]) == RequestFault(
        "SpotFleetRequestConfig", "this key is missing", "add it"
    )


def test_a_wrong_key_is_named_before_a_wrong_value() -> None:
    found = fault_of(Type="instance", Colour=1)
    assert found is not None
    assert found.key == "Colour"


def test_of_several_faults_the_first_is_told_and_no_other_is_mixed_into_it() -> None:
    found = fault_of(TargetCapacity="two", SpotPrice=7, LaunchSpecifications="none")
    assert found == RequestFault("TargetCapacity", "two does not fit", "write a whole number")
    unknown = fault_of(Colour=1, Shade=2)
    assert unknown is not None
    assert (unknown.key, "Shade" in unknown.remedy) == ("Colour", False)


def test_of_many_values_the_first_few_are_listed() -> None:
    found = fault_of(LaunchSpecifications=[{"BlockDeviceMappings": [{"Ebs": {"VolumeType": "fast"}}]}])
    assert found is not None
    assert (found.key, found.remedy.startswith("write one of ")) == (
        "LaunchSpecifications[0].BlockDeviceMappings[0].Ebs.VolumeType", True,
    )  # fmt: skip
    assert found.remedy.count(",") < MAX_CHOICES_SHOWN + 1


def test_a_type_newer_than_this_botocore_is_left_to_ec2() -> None:
    assert fault_of(LaunchSpecifications=[{"InstanceType": "m99.large"}]) is None


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 3), st.floats(-1e6, 1e6), st.text(max_size=3),
    st.sampled_from(["maintain", "gp3", "m5.large", "2026-11-23T10:45:00Z"]),
)  # fmt: skip


def values_of(shape: Shape, depth: int = 5) -> st.SearchStrategy[Any]:
    """Values for a place of this shape, mostly of its form."""
    right = _right_values_of(shape, depth) if depth else st.nothing()
    return st.one_of(right, right, right, scalars, st.just([]), st.just({}))


def _right_values_of(shape: Any, depth: int) -> st.SearchStrategy[Any]:
    if shape.type_name == "list":
        return st.lists(values_of(shape.member, depth - 1), max_size=2)
    if shape.type_name != "structure":
        return scalars
    some = st.lists(st.sampled_from(sorted(shape.members)), max_size=3, unique=True)
    wanted = some.map(lambda names: [*shape.metadata.get("required", ()), *names])
    structures = wanted.flatmap(
        lambda names: st.fixed_dictionaries({name: values_of(shape.members[name], depth - 1) for name in names})
    )
    return st.one_of(structures, structures, structures.map(lambda value: value | {"NoSuchKey": 1}))


@pytest.mark.parametrize("call", SHAPES)
@given(st.data())
def test_what_botocore_refuses_is_refused_and_nothing_else_of_its_form(call: str, data: st.DataObject) -> None:
    request = data.draw(_right_values_of(SHAPES[call], 6))
    found = find_request_fault(request, SHAPES[call])
    report = ParamValidator().validate(request, SHAPES[call])
    if report.has_errors():
        assert found is not None
        first = report.generate_report().partition("\n")[0]
        assert found.key.rpartition(".")[2].rstrip("[0123456789]") in first
    else:
        assert found is None or "is none of AWS's" in found.problem
