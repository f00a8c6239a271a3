"""The report's page without a browser: what it says, that it escapes everything, how large it is, and its policy."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_something.results.report.data import USES, Report, UseAmounts, Verdict
from distributed_something.results.report.page import write_page
from distributed_something.results.report.sections.amounts import (
    format_bytes,
    format_mark,
    format_span,
    list_linear_marks,
    list_time_marks,
)
from distributed_something.results.report.sections.job_data import select_rows
from distributed_something.results.report.sections.markup import Html, clean_text, make_tag
from distributed_something.results.report.sections.verdict import describe_counts, describe_left
from tests.support.synthetic_report import build_report, replace_texts

HOSTILE = (
    "</script><script>x()</script><img src=http://example.com/x>\"' onload='x() "
    "\x1b[31m \u202e \x00 \ud800 &lt; style=x"
)


class PageReader(HTMLParser):
    """Reads a page: its elements with their attributes, the text in each kind of element, and unbalanced tags."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[tuple[str, ...], str]] = []
        self.open: list[str] = []
        self.unbalanced: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "input"):
            is_stretched = "preserveaspectratio" in dict(attrs)
            self.open.append(f"{tag}.stretched" if is_stretched else tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop().split(".")[0] != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append((tuple(self.open), data))

    def find(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag == name]

    def read(self, *names: str) -> str:
        """Return the text inside the innermost of these elements; without names, all text that people see."""
        if not names:
            return "".join(text for path, text in self.texts if not {"script", "style", "title"} & set(path))
        return "".join(text for path, text in self.texts if path[-1:] == names)


def draw_page(report: Report) -> str:
    parts: list[str] = []
    write_page(report, parts.append)
    return "".join(parts)


def read_page(report: Report) -> PageReader:
    reader = PageReader()
    reader.feed(draw_page(report))
    reader.close()
    assert not reader.unbalanced
    assert not reader.open
    return reader


def read_data(page: str) -> Any:
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert match
    return json.loads(match[1])


@pytest.fixture(scope="module")
def small() -> Report:
    return build_report(50)


@pytest.fixture(scope="module")
def large() -> Report:
    return build_report(10_000)


@pytest.mark.parametrize(("jobs", "limit"), [(50, 200_000), (10_000, 2_000_000), (1_000_000, 5_000_000)])
def test_the_page_is_small(jobs: int, limit: int) -> None:
    assert len(draw_page(build_report(jobs)).encode()) < limit


def test_the_page_of_many_jobs_with_long_names_and_many_failures_is_small_too(large: Report) -> None:
    def lengthen(text: str) -> str:
        return f"{text}-{'x' * 200}" if text.startswith(("BR", "s3://cell-atlas/results")) else text

    report = replace_texts(large, lengthen)
    reasons = tuple(
        replace(row, reason=f"{number} {'y' * 300}", state="failed") for number, row in enumerate(report.jobs.rows)
    )
    page = draw_page(replace(report, jobs=replace(report.jobs, rows=reasons)))
    assert len(page.encode()) < 2_000_000
    listed = len(read_data(page)["jobs"]["name"])
    assert 0 < listed < 10_000
    assert f"{listed:,} of 10,000 jobs" in page


def build_report_with_many_causes(report: Report) -> Report:
    """Return the report with as many and as long causes and lanes as a report may have."""
    cause = report.failures[0]
    example = replace(cause.group.example, last_lines=("z" * 400,) * 20, reason="r" * 300)
    group = replace(cause.group, jobs=cause.group.jobs * 10, example=example)
    causes = tuple(
        replace(cause, group=replace(group, id=f"F{number}"), jobs=tuple(f"{number}-{job}" for job in cause.jobs))
        for number in range(100)
    )
    assert report.timeline is not None
    lanes = tuple(replace(lane, pieces=lane.pieces * 2) for lane in report.timeline.lanes)
    return replace(report, failures=causes, timeline=replace(report.timeline, lanes=lanes))


def test_the_page_with_as_many_causes_and_programs_as_possible_is_small_too(large: Report) -> None:
    report = replace_texts(build_report_with_many_causes(large), lambda text: f"{text} ü\u202e")
    assert len(draw_page(report).encode()) < 2_000_000


def test_numbers_that_are_not_finite_are_unknown(small: Report) -> None:
    rows = tuple(replace(row, seconds=float("nan"), started=float("inf")) for row in small.jobs.rows)
    page = draw_page(replace(small, jobs=replace(small.jobs, rows=rows)))
    assert set(read_data(page)["jobs"]["seconds"]) == {None}


def test_the_header_has_the_counts_and_the_uses_add_up_to_the_cost(large: Report) -> None:
    verdict, reader = large.verdict, read_page(large)
    assert reader.read("h1").startswith(
        f"{verdict.done:,} of 10,000 jobs are done, {verdict.already_there} were already there."
    )
    assert f"{verdict.failed} failed." in reader.read()
    shown = re.findall(r'<b data-use="(\w+)">([\d.,]+)</b>', draw_page(large))
    assert [use for use, _ in shown] == list(USES)
    cents = sum(round(100 * float(amount.replace(",", ""))) for _, amount in shown)
    assert f"about {cents / 100:,.2f} USD" in reader.read()


def test_the_data_of_the_script_is_that_of_the_report(large: Report) -> None:
    data = read_data(draw_page(large))
    jobs, strings, groups = data["jobs"], data["strings"], data["jobs"]["groups"]

    def fill(text: str, number: int) -> str:
        marks = {"\x01": jobs["name"][number]}
        marks.update({chr(2 + i): strings[column[number]] for i, (_, column) in enumerate(groups)})
        return "".join(marks.get(character, character) for character in text)

    for number, row in enumerate(large.jobs.rows):
        assert jobs["name"][number] == row.job
        assert strings[jobs["state"][number]] == row.state.replace("skipped", "already there")
        assert strings[jobs["cause"][number]] == row.cause
        assert fill(strings[jobs["output"][number]], number) == row.output_location
        assert fill(strings[jobs["record"][number]], number) == row.record_key
        assert len(data["earlier"].get(str(number), ())) == len(row.earlier)
    assert large.timeline is not None
    pieces = sum(len(lane[5]) // 4 for line in data["lines"] for lane in line)
    assert pieces == sum(len(lane.pieces) for lane in large.timeline.lanes)


def test_the_policy_allows_only_the_pages_own_style_and_script(small: Report) -> None:
    page, reader = draw_page(small), read_page(small)
    (policy,) = (meta["content"] for meta in reader.find("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    style, script = (
        re.search(r"<style>(.*?)</style>", page, re.DOTALL),
        re.search(r"<script>(.*)</script>", page, re.DOTALL),
    )
    for kind, match in (("style", style), ("script", script)):
        assert match
        digest = base64.b64encode(hashlib.sha256(match[1].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_nothing_in_the_page_loads_anything_or_has_inline_code(small: Report) -> None:
    for tag, attributes in read_page(small).elements:
        assert tag not in ("img", "iframe", "object", "embed", "base", "form", "use", "image")
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name not in ("style", "src", "srcset", "action")
            assert name != "href" or str(value).startswith("#") or value == "data:,"
    assert "url(" not in draw_page(small)
    assert "@import" not in draw_page(small)


def test_hostile_text_anywhere_in_the_report_stays_text(small: Report) -> None:
    reader = read_page(replace_texts(small, lambda text: f"{text}{HOSTILE}"))
    names = sorted({tag for tag, _ in reader.elements})
    assert names == sorted({tag for tag, _ in read_page(small).elements})
    assert len(reader.find("script")) == 2
    assert not [attributes for _, attributes in reader.elements if {"onload", "style", "src"} & set(attributes)]
    assert HOSTILE[:40] in reader.read()
    assert not {"\x1b", "\u202e", "\x00", "\ud800"} & set(reader.read())


@given(st.text())
def test_any_text_is_escaped_and_can_be_encoded(text: str) -> None:
    element = make_tag("p", text, title=text)
    element.encode()
    reader = PageReader()
    reader.feed(element)
    reader.close()
    assert [tag for tag, _ in reader.elements] == ["p"]
    assert reader.read("p") == clean_text(text)
    assert make_tag("p", Html("<b>")) == "<p><b></p>"


def test_text_is_never_inside_stretched_drawings(large: Report) -> None:
    for path, text in read_page(large).texts:
        assert not ("svg.stretched" in path and text.strip() and path[-1] != "title"), text


def list_unknown(report: Report) -> Iterator[Report]:
    verdict = replace(
        report.verdict, submitted=None, cost=None, uses=None, ended=None, seconds_to_99_percent=None, unread=3, left=5
    )
    rows = tuple(
        replace(row, attempts=None, started=None, seconds=None, exit_code=None, peak_memory_bytes=None, machine="")
        for row in report.jobs.rows
    )
    yield replace(
        report, verdict=verdict, timeline=None, program_seconds=None, peak_memory=None, processors=None,
        type_costs=(), suggestions=(), jobs=replace(report.jobs, rows=rows),
    )  # fmt: skip
    yield replace(report, verdict=verdict, failures=(), jobs=replace(report.jobs, rows=(), total=0))


def test_what_is_unknown_says_so(small: Report) -> None:
    full, empty = (read_page(report) for report in list_unknown(small))
    text = full.read()
    assert "cost unknown" in text
    assert "What the machines were used for: unknown." in text
    assert "3 records could not be read, so the numbers may be too low." in text
    assert "When programs ran is unknown." in text
    assert "None" not in text.replace("None is known", "")
    assert full.read("td").count("unknown") >= 20 * 4
    assert "No job has ended yet." in empty.read()


@pytest.mark.parametrize(
    ("changes", "counts", "left"),
    [
        ({"submitted": 50, "done": 50}, "All 50 jobs are done.", ""),
        ({"submitted": 1, "done": 1}, "The job is done.", ""),
        ({"submitted": 9, "already_there": 9}, "All results were already there.", ""),
        ({"submitted": 9, "done": 1, "already_there": 1}, "1 of 9 jobs is done, 1 was already there.", ""),
        ({"submitted": None, "done": 7}, "7 jobs are done.", ""),
        (
            {"submitted": 9, "done": 2, "left": 7, "running": 3},
            "2 of 9 jobs are done.",
            "3 are running and 4 are waiting.",
        ),
        ({"submitted": 9, "done": 8, "left": 1, "ended": 9.0}, "8 of 9 jobs are done.", "1 has not ended."),
    ],
)
def test_the_verdict_is_a_sentence(changes: dict[str, Any], counts: str, left: str) -> None:
    verdict = Verdict("running", 0, 0, 0, 0, 0, 0, 0.0, None, 0.0, None, False, None, 0, 0, None)
    verdict = replace(verdict, **changes)
    assert (describe_counts(verdict), describe_left(verdict)) == (counts, left)


def test_a_difference_between_types_is_claimed_only_with_enough_jobs(large: Report) -> None:
    costs = tuple(replace(cost, jobs=19) for cost in large.type_costs)
    assert "more on" in read_page(large).read("h3")
    assert "more on" not in read_page(replace(large, type_costs=costs)).read("h3")


def test_a_difference_between_spot_and_on_demand_machines_says_so(large: Report) -> None:
    first, *_, last = sorted(large.type_costs, key=lambda cost: cost.cost_per_1000)
    costs = (replace(first, is_spot=True), replace(last, is_spot=False, jobs=last.jobs))
    assert f"{last.type} in {last.zone} (on-demand) than on {first.type} in {first.zone} (spot)" in read_page(
        replace(large, type_costs=costs)
    ).read("h3")


def test_a_cause_names_no_cost_if_the_machines_cost_less_than_a_cent(small: Report) -> None:
    assert "They cost" in read_page(small).read()
    assert "They cost" not in read_page(replace(small, verdict=replace(small.verdict, cost=0.0))).read()


def test_a_histogram_without_a_job_that_is_done_has_no_highest_bar(small: Report) -> None:
    assert small.program_seconds is not None
    empty = replace(small.program_seconds, counts=(0,) * len(small.program_seconds.counts))
    text = read_page(replace(small, program_seconds=empty)).read()
    assert "No program of a job that is done." in text
    assert "of 0." not in text


def test_less_than_a_cent_is_not_written_as_zero(small: Report) -> None:
    costs = tuple(replace(cost, cost_per_1000=4.5e-7) for cost in small.type_costs)
    report = replace(small, verdict=replace(small.verdict, cost=0.0, uses=UseAmounts()), type_costs=costs)
    text = read_page(report).read()
    assert "under 0.01 USD" in text
    assert "for 1,000 jobs" not in text
    assert "under 0.0001" in text


def test_a_job_whose_results_were_already_there_has_no_program_time(small: Report) -> None:
    rows = tuple(replace(row, seconds=0.3) for row in small.jobs.rows if row.state == "skipped")
    page = draw_page(replace(small, jobs=replace(small.jobs, rows=rows)))
    assert set(read_data(page)["jobs"]["seconds"]) == {None}
    assert "0.3 s" not in page


def test_many_causes_are_folded_and_all_names_are_listed(small: Report) -> None:
    cause = small.failures[0]
    causes = tuple(replace(cause, group=replace(cause.group, id=f"F{number}")) for number in range(9))
    reader = read_page(replace(small, failures=causes, failures_left_out=2))
    assert sum(attributes.get("class") == "folded" for attributes in reader.find("details")) == 4
    assert "6 jobs failed, for 11 reasons" in reader.read("h2")
    assert "2 more reasons: see summary.txt." in reader.read()
    for name in cause.jobs:
        assert reader.read("pre").count(name) >= 9


def test_failed_and_retried_jobs_are_listed_before_others(large: Report) -> None:
    rows = [replace(row, record_key=f"{'k' * 400}{number}") for number, row in enumerate(large.jobs.rows)]
    listed = select_rows(rows, 1_000_000)
    assert len(listed) < len(rows)
    assert {row.job for row in rows if row.state == "failed" or row.earlier} <= {row.job for row in listed}
    names = {row.job for row in listed}
    assert [row.job for row in listed] == [row.job for row in rows if row.job in names]


def test_the_sentence_about_the_table_is_counted_from_its_rows(large: Report) -> None:
    failed = sum(row.state == "failed" for row in large.jobs.rows)
    recovered = sum(row.state == "done" and (row.attempts or 0) > 1 for row in large.jobs.rows)
    others = 10_000 - failed - recovered
    sample = replace(large.jobs, total=1_000_000, is_sample=True, retried=recovered + 500, recovered=recovered)
    verdict = replace(large.verdict, failed=failed + 4_000)
    report = replace(large, jobs=sample, verdict=verdict)
    assert (
        f"The table has 10,000 of 1,000,000 jobs: {failed} of the {failed + 4_000:,} that failed, all {recovered:,}"
        f" that were done on a later attempt, and {others:,} others: the slowest and an even sample. "
    ) in read_page(report).read()
    totals = {"all": 1_000_000, "failed": failed + 4_000, "retried": recovered + 500,
              "already there": verdict.already_there}  # fmt: skip
    assert read_data(draw_page(report))["totals"] == totals
    rows = tuple(replace(row, record_key=f"{'k' * 400}{number}") for number, row in enumerate(large.jobs.rows))
    text = read_page(replace(large, jobs=replace(large.jobs, rows=rows))).read()
    assert f"jobs: all {failed} that failed, all {recovered:,} that were done on a later attempt, and " in text
    assert " others, slow ones first. " in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "unknown"), (0, "0 s"), (0.0342, "0.034 s"), (0.44, "0.4 s"), (42, "42 s"),
     (89.4, "89 s"), (89.5, "1.5 min"), (216, "3.6 min"),
     (600, "10 min"), (5399, "1 h 30 min"), (19440, "5 h 24 min"), (7200, "2 h"), (183600, "2 d 3 h")],
)  # fmt: skip
def test_durations_are_written_for_people(seconds: float | None, text: str) -> None:
    assert format_span(seconds) == text


def test_sizes_and_marks_of_axes_are_round() -> None:
    assert [format_bytes(size) for size in (None, 0, 900, 1536, 2**30 * 1.44)] == [
        "unknown", "0 B", "900 B", "1.5 KiB", "1.4 GiB",
    ]  # fmt: skip
    assert [format_mark(mark) for mark in list_time_marks(19_440)] == ["0", "1 h", "2 h", "3 h", "4 h", "5 h"]
    assert [format_mark(mark) for mark in (30.0, 60.0, 7200.0)] == ["30 s", "1 min", "2 h"]
    assert [format_mark(mark, 30.0) for mark in list_time_marks(100)] == ["0", "30 s", "60 s", "90 s"]
    assert [format_mark(mark, 1800.0) for mark in list_time_marks(7000)] == ["0", "30 min", "60 min", "90 min"]
    assert list_linear_marks(0, 3.5 * 2**30, base=2) == [0, 2**30, 2 * 2**30, 3 * 2**30]
    assert list_linear_marks(0, 1) == [0, 0.25, 0.5, 0.75, 1]
    assert len(list_time_marks(1e9)) <= 7
