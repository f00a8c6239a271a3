"""Tests for what the code knows about instance types without asking AWS, compared with EC2's own data."""

from __future__ import annotations

from moto.ec2.models.instance_types import INSTANCE_TYPES

from distributed_something.aws.instance_types import find_docker_platform


def test_the_processor_follows_from_the_name_of_every_type() -> None:
    assert len(INSTANCE_TYPES) > 1000
    platforms = {"arm64": "linux/arm64", "x86_64": "linux/amd64", "i386": "linux/amd64"}
    for name, described in INSTANCE_TYPES.items():
        known = {platforms[each] for each in described["ProcessorInfo"]["SupportedArchitectures"] if each in platforms}
        assert find_docker_platform(name) in known or not known, name  # macOS runs no containers


def test_types_with_nvidias_arm_processors_are_recognized() -> None:
    assert find_docker_platform("p6e-gb200.36xlarge") == "linux/arm64"
    assert find_docker_platform("p6-b200.48xlarge") == "linux/amd64"
