"""Misspelled names: how many letters make two names similar."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_something.core.text import find_similar_name, measure_distance

KNOWN = ("command", "expected_files", "inputs", "output_location", "shell", "timeout_minutes")
NAMES = st.text("abc", max_size=5)


@pytest.mark.parametrize(
    ("name", "similar"),
    [
        ("comand", "command"),  # a letter is missing
        ("commannd", "command"),  # a letter too many
        ("commend", "command"),  # another letter
        ("commadn", "command"),  # two letters swapped
        ("comadn", "command"),  # two mistakes
        ("expected_file", "expected_files"),
        ("timeout_minute", "timeout_minutes"),
        ("shll", "shell"),
        ("cimmend", "command"),  # two other letters inside
        ("expected_fil", "expected_files"),
        ("comment", None),  # another word, which ends differently
        ("cell", None),  # two letters, in a short name
        ("commodity", None),
        ("input_location", None),
        ("command", None),
    ],
)
def test_a_name_one_or_two_letters_away_is_similar(name: str, similar: str | None) -> None:
    assert find_similar_name(name, KNOWN) == similar


def test_the_singular_and_another_case_of_a_known_name_are_similar() -> None:
    assert find_similar_name("JOB_RETRY", ["JOB_RETRIES"]) == "JOB_RETRIES"
    assert find_similar_name("job_retries_left", ["job_retry_left"]) == "job_retry_left"
    assert find_similar_name("COMMAND", KNOWN) == "command"
    assert find_similar_name("JOB_RESULT", ["JOB_RETRIES"]) is None


def test_the_nearest_name_is_suggested() -> None:
    assert find_similar_name("MAX_CSOT", ["MAX_COST", "MIN_COST"]) == "MAX_COST"
    assert find_similar_name("xplates", ["yplates", "zplates"]) == "yplates"


@given(NAMES, NAMES)
def test_the_distance_is_symmetric_and_is_0_only_between_equal_names(first: str, second: str) -> None:
    distance = measure_distance(first, second)
    assert distance == measure_distance(second, first)
    assert (distance == 0) == (first == second)
    assert abs(len(first) - len(second)) <= distance <= max(len(first), len(second))
