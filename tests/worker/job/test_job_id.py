"""Tests for job ids: they are readable, always the same for the same message, and allowed in keys and names."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_something.worker.job.job_id import job_id

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(ANYTHING)
def test_a_job_id_is_allowed_in_keys_folder_names_and_log_stream_names_for_any_group(group: Any) -> None:
    identity = job_id({"group": group})
    assert set(identity) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert 10 < len(identity) <= 91
    assert identity[0] not in "-_"


@given(st.dictionaries(st.text(), ANYTHING))
def test_a_job_id_stays_the_same_after_the_message_is_sent(message: dict[str, Any]) -> None:
    received = json.loads(json.dumps(dict(reversed(list(message.items())))))
    assert job_id({"group": "g"} | received) == job_id({"group": "g"} | message)


@given(ANYTHING, ANYTHING)
def test_different_messages_have_different_job_ids(first: Any, second: Any) -> None:
    is_equal = json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    assert (job_id({"group": first}) == job_id({"group": second})) == is_equal


@pytest.mark.parametrize(
    ("group", "readable"),
    [
        ({"plate": "P1", "well": "A01"}, "P1-A01-"),
        ("Metadata_Plate=P1,Metadata_Well=A01", "P1-A01-"),
        ({"site": 7, "all": True}, "7-true-"),
        ({"path": "a/b c.tif"}, "a-b-c-tif-"),
        ({}, "job-"),
    ],
)
def test_a_job_id_begins_with_the_values_of_its_group(group: Any, readable: str) -> None:
    assert job_id({"group": group}).startswith(readable)
