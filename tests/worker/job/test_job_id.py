"""Tests for job ids: they are readable, always the same for the same message, and allowed in keys and names."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_something.worker.job.job_id import LIMIT_KEYS, job_id, remove_hash

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def test_a_job_id_without_its_hash_is_its_readable_part() -> None:
    assert remove_hash(job_id({"group": {"plate": "P1", "well": "0123456789"}})) == "P1-0123456789"
    assert remove_hash("a-name-without-a-hash") == "a-name-without-a-hash"


@given(ANYTHING)
def test_a_job_id_is_allowed_in_keys_folder_names_and_log_stream_names_for_any_group(group: Any) -> None:
    identity = job_id({"group": group})
    assert all(character.isalnum() or character in ".=_-" for character in identity)
    assert 10 < len(identity.encode()) <= 171
    assert identity[0] not in "-."
    assert unicodedata.is_normalized("NFC", identity)


@given(st.dictionaries(st.text(), ANYTHING))
def test_a_job_id_stays_the_same_after_the_message_is_sent(message: dict[str, Any]) -> None:
    received = json.loads(json.dumps(dict(reversed(list(message.items())))))
    assert job_id({"group": "g"} | received) == job_id({"group": "g"} | message)


@given(st.dictionaries(st.sampled_from(sorted(LIMIT_KEYS)), ANYTHING))
def test_limits_do_not_change_a_job_id(limits: dict[str, Any]) -> None:
    assert job_id({"group": "g", "command": "c"} | limits) == job_id({"group": "g", "command": "c"})


@pytest.mark.parametrize("key", ["command", "inputs", "output_location", "output_bucket", "shell", "my_own"])
def test_every_other_shared_key_changes_a_job_id(key: str) -> None:
    assert job_id({"group": "g", key: "a"}) != job_id({"group": "g", key: "b"})


@given(ANYTHING, ANYTHING)
def test_different_messages_have_different_job_ids(first: Any, second: Any) -> None:
    is_equal = json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    assert (job_id({"group": first}) == job_id({"group": second})) == is_equal


@pytest.mark.parametrize(
    ("group", "readable"),
    [
        ({"plate": "P1", "well": "A01"}, "P1-A01-"),
        ("Metadata_Plate=P1,Metadata_Well=A01", "P1-A01-"),
        ({"site": 7, "all": True}, "true-7-"),
        ({"path": "a/b c.tif"}, "a-b-c.tif-"),
        ({"Metadata": "Metadata_Plate=P1,Metadata_Well=A01"}, "P1-A01-"),
        ({"Metadata": {"Plate": "P1", "Wells": ["A01", "A02"]}}, "P1-A01-A02-"),
        ("r=0.1", "r=0.1-"),
        ({"model": "r=0.1,s=2"}, "r=0.1-s=2-"),
        ({"file": "größe.fastq"}, "größe.fastq-"),
        ({"file": "gro\u0308ße.fastq"}, "größe.fastq-"),
        ({"sample": "試料 1"}, "試料-1-"),
        ({"path": "../.hidden"}, "hidden-"),
        ({"options": "-x"}, "x-"),
        ({}, "job-"),
    ],
)
def test_a_job_id_begins_with_the_values_of_its_group(group: Any, readable: str) -> None:
    assert job_id({"group": group}).startswith(readable)


def test_a_long_job_id_is_cut_between_two_characters() -> None:
    assert job_id({"group": "ß" * 100}).partition("-")[0] == "ß" * 80
    assert job_id({"group": "a" + "ß" * 100}).partition("-")[0] == "a" + "ß" * 79


def test_a_group_in_metadata_or_plate_is_the_same_job_with_or_without_that_key() -> None:
    pairs = "Metadata_Plate=P1"
    assert job_id({"group": {"Metadata": pairs}}) == job_id({"group": pairs})
    assert job_id({"group": {"Metadata": {"Plate": "P1"}}}) == job_id({"group": {"Plate": "P1"}})
    assert job_id({"group": {"plate": "P1"}}) == job_id({"group": "P1"})
