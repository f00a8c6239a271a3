"""The data of the page's script and the sentences of the page, with unusual groups, machines, and histograms."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from distributed_something.results.report.data import Histogram, PausedMachine, Report, Suggestion
from distributed_something.results.report.sections.amounts import format_list
from distributed_something.results.report.sections.job_data import MAX_PAGE_BYTES
from tests.results.test_report_page import draw_page, read_data, read_page
from tests.support.synthetic_report import build_report

VALUE_CHARACTERS = 100  # as job_rows shortens them


@pytest.fixture(scope="module")
def small() -> Report:
    return build_report(50)


def replace_rows(report: Report, *changes: dict[str, Any]) -> Report:
    """Return the report with these changes in its rows."""
    rows = tuple(replace(row, **change) for row, change in zip(report.jobs.rows, changes, strict=True))
    return replace(report, jobs=replace(report.jobs, rows=rows))


def test_the_page_of_jobs_with_long_group_values_and_machines_of_their_own_is_small_too() -> None:
    report = build_report(10_000)
    rows: list[dict[str, Any]] = [
        {"group": {f"key-{key}": f"{number}-{key}".ljust(VALUE_CHARACTERS, "x") for key in range(8)},
         "machine": f"machine-{number}"}
        for number in range(len(report.jobs.rows))
    ]  # fmt: skip
    page = draw_page(replace_rows(report, *rows))
    assert len(page.encode()) < MAX_PAGE_BYTES
    assert 1_000 < len(read_data(page)["jobs"]["name"]) < 10_000


def test_the_groups_keys_are_in_the_order_that_the_addresses_refer_to(small: Report) -> None:
    group = {"plate": "P001", "1": "WELL7"}
    address = "s3://bucket/P001/WELL7/"
    changes = [{"group": group, "output_location": address} for _ in small.jobs.rows]
    data = read_data(draw_page(replace_rows(small, *changes)))
    jobs, strings = data["jobs"], data["strings"]
    assert [key for key, _ in jobs["groups"]] == ["plate", "1"]
    text = strings[jobs["output"][0]]
    for number, (_, column) in enumerate(jobs["groups"]):
        text = text.replace(chr(2 + number), strings[column[0]])
    assert text == address


def test_the_processors_of_a_slot_are_the_limit_of_those_in_use(small: Report) -> None:
    histogram = Histogram("processors", (0.0, 1.0, 2.0, 3.0, 4.08), (0, 0, 20, 0), (0, 0, 0, 0), 4.0, 2.0)
    text = read_page(replace(small, processors=histogram)).read()
    assert "limit 4" in text
    assert "median 2" in text


@pytest.mark.parametrize(
    ("numbers", "sentence"),
    [
        ({"attempts": 1, "machines": 0}, "1 attempt on unknown machines. "),
        ({"attempts": 3, "machines": 2}, "3 attempts on 2 machines. "),
        (
            {"attempts": 3, "machines": 0, "lost": 1},
            "3 attempts: 1 on a worker that was lost, the others on unknown machines. ",
        ),
    ],
)
def test_a_cause_says_on_how_many_machines_its_attempts_failed(
    small: Report, numbers: dict[str, int], sentence: str
) -> None:
    causes = (replace(small.failures[0], **numbers),)  # type: ignore[arg-type]
    assert sentence in read_page(replace(small, failures=causes)).read()


@pytest.mark.parametrize(
    ("words", "text"),
    [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b, and c")],
)
def test_lists_are_written_for_people(words: list[str], text: str) -> None:
    assert format_list(words) == text


def test_two_paused_machines_are_in_one_sentence(small: Report) -> None:
    paused = (PausedMachine("i-1", 60, "disk is full"), PausedMachine("i-2", 90, ""))
    page = read_page(replace(small, paused=paused)).read()
    assert "i-1 took no jobs for 60 s (disk is full) and i-2 took no jobs for 1.5 min." in page


def test_a_suggestion_without_a_known_amount_names_none(small: Report) -> None:
    suggestion = Suggestion("timeout_minutes = 3", "Few jobs took longer.", "Others may.", saved_seconds=900.0)
    text = read_page(replace(small, suggestions=(suggestion,))).read()
    assert "less, at most" not in text
    assert "15 minsooner, at most" in text
