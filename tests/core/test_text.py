"""Formatting of text for a terminal."""

from __future__ import annotations

import pytest

from distributed_something.core.text import measure_columns, shorten_text


@pytest.mark.parametrize(("text", "columns", "shown"), [
    ("abc", 3, "abc"), ("abcd", 3, "ab…"), ("ab cd", 4, "ab…"), ("画像", 4, "画像"), ("画像", 3, "画…"),
    ("画像", 2, "…"), ("e\u0301e\u0301", 2, "e\u0301e\u0301"), ("", 0, ""),
])  # fmt: skip
def test_a_text_is_shortened_to_the_columns_that_it_takes(text: str, columns: int, shown: str) -> None:
    assert shorten_text(text, columns) == shown
    assert measure_columns(shown) <= columns
