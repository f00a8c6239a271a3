"""Formatting of text for a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_something.core.text import (
    format_one_line,
    format_row,
    format_wrapped_row,
    measure_columns,
    shorten_text,
    wrap_text,
)


@pytest.mark.parametrize(("text", "columns", "shown"), [
    ("abc", 3, "abc"), ("abcd", 3, "ab…"), ("ab cd", 4, "ab…"), ("画像", 4, "画像"), ("画像", 3, "画…"),
    ("画像", 2, "…"), ("e\u0301e\u0301", 2, "e\u0301e\u0301"), ("", 0, ""),
])  # fmt: skip
def test_a_text_is_shortened_to_the_columns_that_it_takes(text: str, columns: int, shown: str) -> None:
    assert shorten_text(text, columns) == shown
    assert measure_columns(shown) <= columns


@given(st.text(), st.integers(4, 40), st.integers(1, 4))
def test_wrapped_text_fits_and_loses_nothing_unless_it_is_too_long(text: str, columns: int, most: int) -> None:
    lines = wrap_text(text, columns, most)
    assert len(lines) <= most
    assert all(measure_columns(line) <= columns for line in lines)
    if not lines[-1].endswith("…"):
        assert "".join(lines).replace(" ", "") == format_one_line(text).replace(" ", "")


def test_lines_end_at_spaces_or_within_long_words() -> None:
    assert wrap_text("one two three four", 9, 3) == ["one two", "three", "four"]
    assert wrap_text("a s3://bucket/long/keys", 11, 3) == ["a s3://buck", "et/long/key", "s"]
    assert wrap_text("one two three four", 8, 2) == ["one two", "three f…"]


def test_a_row_is_wrapped_beside_its_label_or_below_it_if_an_address_needs_the_space() -> None:
    assert format_wrapped_row("kept", "short") == format_row("kept", "short")
    long = format_wrapped_row("kept", "log group /cells/of/the/lab/2026/plates (its entries expire after 60 days)")
    address = format_wrapped_row("all jobs", f"s3://bucket/{'x' * 50}/jobs.tsv")
    assert long.splitlines()[1] == f"{'':16}after 60 days)"
    assert address.splitlines() == ["all jobs", f"  s3://bucket/{'x' * 50}/jobs.tsv"]
    word = "w" * 300
    assert format_wrapped_row("all jobs", word).splitlines() == ["all jobs", f"  {word}"], "it can be copied"
    assert max(map(len, (*long.splitlines(), *address.splitlines()))) <= 80
