"""Tags as each service writes them, and whose a thing is by them."""

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
def test_tags_are_the_same_however_a_service_writes_them(given_tags: dict[str, str]) -> None:
    assert parse_tags(build_ec2_tags(given_tags)) == given_tags
    assert parse_tags(build_ecs_tags(given_tags)) == given_tags
    assert parse_tags(given_tags) == given_tags


def test_a_thing_without_tags_has_none() -> None:
    assert parse_tags(None) == parse_tags([]) == parse_tags({}) == {}


def test_a_tag_without_a_value_has_an_empty_one() -> None:
    assert parse_tags([{"Key": "a"}, {"key": "b", "value": None}]) == {"a": "", "b": ""}


@pytest.mark.parametrize("written", [build_ec2_tags, build_ecs_tags, dict])
def test_what_setup_aws_and_fleet_file_made_is_known_by_its_tag(written: Any) -> None:
    assert has_made_by_tag(written({"app": "App"} | MADE_BY_TAG))
    assert not has_made_by_tag(written({"made-by": "somebody"}))
    assert not has_made_by_tag(None)


def test_own_tags_count_beside_those_of_the_file() -> None:
    theirs = [{"ResourceType": "instance", "Tags": [{"Key": "app", "Value": "x"}, {"Key": "grant"}]}]
    assert build_tag_specifications(theirs, ["instance", "volume"], {"app": "App"}) == [
        {"ResourceType": "instance", "Tags": [{"Key": "app", "Value": "App"}, {"Key": "grant", "Value": ""}]},
        {"ResourceType": "volume", "Tags": [{"Key": "app", "Value": "App"}]},
    ]
