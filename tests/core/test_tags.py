"""Tags in each service's format, and how they identify a resource's owner."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_something.core.tags import (
    MADE_BY_TAG,
    build_ec2_tags,
    build_ecs_tags,
    build_tag_specifications,
    has_made_by_tag,
    parse_tags,
)

tags = st.dictionaries(st.text(min_size=1, max_size=5), st.text(max_size=5))


@given(tags)
def test_tags_are_the_same_in_all_services_formats(given_tags: dict[str, str]) -> None:
    assert parse_tags(build_ec2_tags(given_tags)) == given_tags
    assert parse_tags(build_ecs_tags(given_tags)) == given_tags
    assert parse_tags(given_tags) == given_tags


def test_a_resource_without_tags_has_no_tags() -> None:
    assert parse_tags(None) == parse_tags([]) == parse_tags({}) == {}


def test_a_tag_without_a_value_has_an_empty_value() -> None:
    assert parse_tags([{"Key": "a"}, {"key": "b", "value": None}]) == {"a": "", "b": ""}


@pytest.mark.parametrize("to_service_format", [build_ec2_tags, build_ecs_tags, dict])
def test_resources_that_setup_aws_and_fleet_file_created_are_recognized_by_their_tag(to_service_format: Any) -> None:
    assert has_made_by_tag(to_service_format({"app": "App"} | MADE_BY_TAG))
    assert not has_made_by_tag(to_service_format({"made-by": "somebody"}))
    assert not has_made_by_tag(None)


def test_our_tags_replace_the_fleet_files_tags_with_the_same_keys_and_keep_the_others() -> None:
    specifications = [{"ResourceType": "instance", "Tags": [{"Key": "app", "Value": "x"}, {"Key": "grant"}]}]
    assert build_tag_specifications(specifications, ["instance", "volume"], {"app": "App"}) == [
        {"ResourceType": "instance", "Tags": [{"Key": "app", "Value": "App"}, {"Key": "grant", "Value": ""}]},
        {"ResourceType": "volume", "Tags": [{"Key": "app", "Value": "App"}]},
    ]
