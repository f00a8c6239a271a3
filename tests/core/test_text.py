"""Formatting of text for a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_something.core.text import (
    MAX_SHOWN_CHARACTERS,
    format_json,
    format_one_line,
    format_row,
    format_wrapped_lines,
    format_wrapped_row,
    measure_columns,
    shorten_start,
    shorten_text,
    wrap_text,
    wrap_wide_lines,
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
    error = "in thread main java.io.FileNotFoundException: x.tif"
    assert wrap_text(error, 36, 3) == ["in thread main", "java.io.FileNotFoundException: x.tif"]
    assert wrap_text("a s3://bucket/long/keys", 11, 3) == ["a s3://buck", "et/long/key", "s"]
    assert wrap_text("one two three four", 8, 2) == ["one two", "three f…"]


def test_a_row_is_wrapped_beside_its_label_or_below_it_if_an_address_needs_the_space() -> None:
    assert format_wrapped_row("kept", "short") == format_row("kept", "short")
    long = format_wrapped_row("kept", "log group /cells/of/the/lab/2026/plates (its entries expire after 60 days)")
    address = format_wrapped_row("all jobs", f"s3://bucket/{'x' * 50}/jobs.tsv")
    assert long.splitlines()[1] == f"{'':16}after 60 days)"
    assert address.splitlines() == ["all jobs", f"  s3://bucket/{'x' * 50}/jobs.tsv"]
    word = "w" * 300
    assert format_wrapped_row("all jobs", word).splitlines() == ["all jobs", word], "it can be copied"
    assert max(map(len, (*long.splitlines(), *address.splitlines()))) <= 80


def test_words_are_wrapped_by_the_columns_that_they_take() -> None:
    lines = format_wrapped_lines("画像画像 " * 40, "label           ", " " * 16, 80)
    assert max(map(measure_columns, lines)) == 78
    assert "".join(line[16:] for line in lines).replace(" ", "") == "画像画像" * 40


@pytest.mark.parametrize(("columns", "indent"), [(60, 16), (70, 10), (80, 0), (200, 0)])
def test_an_address_that_does_not_fit_is_alone_on_a_line_that_is_indented_less(columns: int, indent: int) -> None:
    address = f"s3://{'x' * (columns - 5)}"
    lines = format_wrapped_lines(f"Its log: {address} Correct it.", f"{'what to do':<16}", " " * 16, 80)
    assert lines == ["what to do      Its log:", f"{' ' * indent}{address}", f"{'':16}Correct it."]


def test_wide_lines_are_wrapped_below_their_text_and_commands_are_not_changed() -> None:
    row = f"{'machines':<16}{'word ' * 20}"
    command = f"  python run.py --project {'p' * 70} \\"
    text = wrap_wide_lines(f"short\n{row}\n{command}\n  {'word ' * 20}\nrun.py: {'word ' * 20}")
    assert text.splitlines()[0] == "short"
    assert command in text.splitlines()
    assert [line for line in text.splitlines() if line != command and len(line) > 80] == []
    assert [line.count("word") for line in text.splitlines()[1:3]] == [13, 7]
    assert text.splitlines()[2].startswith(f"{'':16}word")


def test_a_number_and_its_unit_are_on_one_line() -> None:
    text = "the whole file costs about 0.12 USD (p5 0.10 USD, p95 1,250.00 USD), and takes 3 h 20 min on 4 machines"
    units = ["0.12 USD", "(p5 0.10 USD,", "1,250.00 USD),", "3 h 20 min", "4 machines"]
    for columns in range(16, 80):
        for lines in (
            format_wrapped_lines(text, "", "", columns),
            wrap_text(text, columns, 99),
            wrap_wide_lines(text, columns).split("\n"),
        ):
            assert " ".join(lines) == text
            assert all(any(unit.removeprefix("(p5 ") in line for line in lines) for unit in units), lines
            assert all(len(line) <= columns for line in lines)


def test_numbers_in_a_row_and_addresses_after_a_number_are_separate_words() -> None:
    assert wrap_text("1 2 3 4 5 6", 5, 9) == ["1 2 3", "4 5 6"]
    address = f"s3://bucket/{'x' * 60}"
    assert format_wrapped_lines(f"the results are 12 {address}", "", "  ", 80) == ["the results are 12", f"  {address}"]


def test_a_long_path_is_shortened_to_its_end() -> None:
    assert shorten_start("files/exampleJob.json") == "files/exampleJob.json"
    path = f"files/{'plates/' * 20}job.json"
    shown = shorten_start(path)
    assert (measure_columns(shown), shown[0]) == (60, "…")
    assert path.endswith(shown[1:])
    assert measure_columns(shorten_start(f"files/{'画像' * 40}.json")) <= 60


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        ("it", "'it'"),
        (5, "5"),
        (1.5, "1.5"),
        ([None, {"a": "ä"}], '[null, {"a": "ä"}]'),
    ],
)
def test_a_value_of_a_json_file_is_shown_as_the_file_says_it(value: object, text: str) -> None:
    assert format_json(value) == text


def test_a_value_of_a_json_file_that_cannot_be_shown_is_named() -> None:
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]
    assert format_json(deep) == format_json([10**5000]) == "this list"
    assert format_json(10**5000) == "this int"
    assert len(format_json(["x" * 999])) == MAX_SHOWN_CHARACTERS
