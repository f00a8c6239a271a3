"""The report's page in a real browser: it makes one request, fits the window, and its table shows the report's data."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distributed_something.results.report.data import Report
from distributed_something.results.report.page import write_page
from tests.support.browser import Visit, open_browser, visit_page
from tests.support.synthetic_report import CRASH, OUT_OF_MEMORY, build_report, replace_texts

HOSTILE = (
    "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'><style>*{display:none}</style>"
    '"\' onclick="window.hacked = 3" \x1b[31mred\x1b[0m \u202egnp.exe\u2066 \x00 \ud800 ${hacked} http://example.com/x'
)
ROWS = "#table tbody tr[data-row]"
WIDTHS = (420, 1280)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as opened:
        yield opened


def save_report(report: Report, folder: Path) -> Path:
    path = folder / "report.html"
    with path.open("w", encoding="utf-8") as file:
        write_page(report, file.write)
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_report(build_report(50), tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_report(build_report(10_000), tmp_path_factory.mktemp("large"))


def check_page(visit: Visit) -> None:
    """Check that the page made one request, reported nothing, and does not overflow sideways."""
    assert len(visit.requests) == 1
    assert visit.messages == []
    content, window = visit.get_widths()
    assert content <= window


def read_names(visit: Visit) -> list[str]:
    return [str(name) for name in visit.page.locator(f"{ROWS} button.name").all_inner_texts()]


def wait_for_text(visit: Visit, selector: str, text: str) -> None:
    # wait_for_function calls eval in the page from its second look on, which the content security policy forbids.
    visit.page.locator(selector).filter(has_text=re.compile(rf"^{re.escape(text)}$")).wait_for()


def click_header(visit: Visit, title: str) -> None:
    visit.page.locator("#table thead button", has_text=title).click()


@pytest.mark.parametrize("width", WIDTHS)
def test_a_small_report_makes_one_request_and_fits_the_window(browser: Any, small: Path, width: int) -> None:
    with visit_page(browser, small, width) as visit:
        check_page(visit)


def build_wide_report() -> Report:
    """Return a report whose table has the longest values that are usual, and whose causes have many jobs."""
    report = build_report(50)
    rows = tuple(
        replace(
            row, seconds=85_000.0 + number if number % 2 else 0.02, started=86_000.0, peak_memory_bytes=999 * 2**20,
            machine=f"i-0{number:016x}", state="skipped" if number % 5 == 4 else row.state, is_program_start=False,
        )
        for number, row in enumerate(report.jobs.rows)
    )  # fmt: skip
    causes = tuple(
        replace(cause, group=replace(cause.group, jobs=cause.group.jobs[:1] * count))
        for cause, count in zip(report.failures, (123_456, 10_000), strict=False)
    )
    return replace(report, jobs=replace(report.jobs, rows=rows), failures=causes)


FIND_CUT = """(selector) => [...document.querySelectorAll(selector)].filter(
    (cell) => cell.offsetWidth && cell.scrollWidth > cell.clientWidth).map((cell) => cell.innerText)"""
FIND_OVERLAPS = """() => [...document.querySelectorAll('.count')].map((count) => {
    const range = document.createRange();
    range.selectNodeContents(count);
    const [one, two] = [range.getBoundingClientRect(), count.nextElementSibling.getBoundingClientRect()];
    return one.right + 8 > two.left && one.bottom > two.top;
}).filter(Boolean)"""


@pytest.mark.parametrize("width", [*WIDTHS, 700])
@pytest.mark.parametrize("has_script", [True, False])
def test_no_cell_is_cut_and_no_count_overlaps(browser: Any, tmp_path: Path, width: int, has_script: bool) -> None:
    path = save_report(build_wide_report(), tmp_path)
    with visit_page(browser, path, width, java_script_enabled=has_script) as visit:
        cells = ":is(th, td:not(.job, .cause-name), .static td)"
        assert visit.page.evaluate(FIND_CUT, f".jobs {cells}") == []
        assert visit.page.evaluate(FIND_OVERLAPS) == []
        check_page(visit)
        visit.page.emulate_media(media="print")
        visit.page.set_viewport_size({"width": 703, "height": 1000})  # of A4 without the margins
        assert visit.page.evaluate(FIND_CUT, ".static :is(th, td)") == []
        assert visit.page.evaluate(FIND_OVERLAPS) == []


def test_the_table_and_its_filters_count_as_the_report_does(browser: Any, small: Path) -> None:
    verdict, rows = build_report(50).verdict, build_report(50).jobs.rows
    with visit_page(browser, small) as visit:
        texts = visit.page.locator(".filter").all_inner_texts()
        retried = sum(1 for row in rows if (row.attempts or 0) > 1)
        assert texts == ["all 50", f"failed {verdict.failed}", f"retried {retried}", "already there 1"]
        visit.page.locator(".filter", has_text="failed").click()
        states = visit.page.locator(f"{ROWS} td.state").all_inner_texts()
        assert states == ["failed"] * verdict.failed
        assert visit.page.locator(".status").inner_text() == f"{verdict.failed} of 50 jobs"


def test_the_table_sorts_in_both_directions(browser: Any, small: Path) -> None:
    names = sorted(row.job for row in build_report(50).jobs.rows)
    with visit_page(browser, small) as visit:
        click_header(visit, "job")
        assert read_names(visit)[:20] == names[:20]
        click_header(visit, "job")
        assert read_names(visit)[:20] == names[::-1][:20]
        assert visit.page.locator("#table th.job").get_attribute("aria-sort") == "descending"
        click_header(visit, "time")
        ends = visit.page.locator(".scroller").evaluate("e => { e.scrollTop = e.scrollHeight; return e.scrollTop; }")
        assert ends > 0
        wait_for_text(visit, "#table tbody tr:nth-last-child(2) .time", "–")


def test_the_search_finds_names_machines_causes_and_groups(browser: Any, small: Path) -> None:
    rows = build_report(50).jobs.rows
    with visit_page(browser, small) as visit:
        for query, expected in (
            (rows[7].job.lower(), {rows[7].job}),
            ("out of memory", {row.job for row in rows if row.cause == OUT_OF_MEMORY}),
            (f"{rows[3].machine} b0", {r.job for r in rows if r.machine == rows[3].machine and "B0" in r.job}),
            ("no such job", set()),
        ):
            visit.page.locator("input").fill(query)
            assert set(read_names(visit)) == expected


def test_a_click_shows_earlier_attempts_the_record_and_the_command(browser: Any, small: Path) -> None:
    row = next(row for row in build_report(50).jobs.rows if row.cause == CRASH)
    with visit_page(browser, small) as visit:
        visit.page.locator("input").fill(row.job)
        visit.page.locator(f"{ROWS} button.name").click()
        text = visit.page.locator(".panel").inner_text()
        assert row.record_key in text
        assert row.output_location in text
        assert f"python run.py runJob files/atlasJob.json --id {row.job}" in text
        assert visit.page.locator(".panel li").count() == len(row.earlier) == 2
        visit.page.locator(f"{ROWS} button.name").click()
        assert visit.page.locator(".panel").count() == 0


def test_addresses_are_correct_if_keys_of_groups_look_like_numbers(browser: Any, tmp_path: Path) -> None:
    report = build_report(50)
    group, address = {"plate": "P001", "1": "WELL7"}, "s3://bucket/P001/WELL7/"
    rows = tuple(replace(row, group=group, output_location=address) for row in report.jobs.rows)
    path = save_report(replace(report, jobs=replace(report.jobs, rows=rows)), tmp_path)
    with visit_page(browser, path) as visit:
        visit.page.locator(f"{ROWS} button.name").first.click()
        assert address in visit.page.locator(".panel").inner_text()
        visit.page.locator("input").fill("well7")
        assert len(read_names(visit)) > 0


def test_earlier_attempts_say_when_their_programs_began(browser: Any, small: Path) -> None:
    row = next(row for row in build_report(50).jobs.rows if row.cause == CRASH)
    with visit_page(browser, small) as visit:
        visit.page.locator("input").fill(row.job)
        visit.page.locator(f"{ROWS} button.name").click()
        assert re.search("its program began .* into the run, on", visit.page.locator(".panel li").first.inner_text())


def test_hidden_characters_are_escaped_as_in_the_static_table(browser: Any, tmp_path: Path) -> None:
    report = build_report(50)
    rows = tuple(replace(row, job=f"{row.job}\U000e0001\u202e\x85") for row in report.jobs.rows)
    path = save_report(replace(report, jobs=replace(report.jobs, rows=rows)), tmp_path)
    with visit_page(browser, path) as visit:
        scripted = visit.page.locator(f"{ROWS} td.job").first.inner_text()
        assert scripted.endswith(r"\U000e0001\u202e\x85")
        assert scripted == visit.page.locator(".static tbody td code").first.text_content()


def test_the_link_of_a_cause_selects_its_jobs(browser: Any, small: Path) -> None:
    expected = {row.job for row in build_report(50).jobs.rows if row.cause == OUT_OF_MEMORY}
    with visit_page(browser, small) as visit:
        visit.page.locator(f"a[data-cause='{OUT_OF_MEMORY}']").click()
        assert set(read_names(visit)) == expected


def test_a_tooltip_names_the_job_of_a_piece(browser: Any, small: Path) -> None:
    with visit_page(browser, small) as visit:
        lanes = visit.page.locator("svg.lanes").first
        lanes.scroll_into_view_if_needed()
        lanes.hover(position={"x": 400, "y": 2})
        text = visit.page.locator(".tip").inner_text()
        assert "BR001170" in text
        assert ", began after " in text


def test_the_copy_button_copies_the_command(browser: Any, small: Path) -> None:
    with visit_page(browser, small, permissions=["clipboard-read", "clipboard-write"]) as visit:
        visit.page.locator("button.copy").first.click()
        wait_for_text(visit, "button.copy >> nth=0", "copied")
        copied = visit.page.evaluate("navigator.clipboard.readText()")
        assert copied == build_report(50).failures[0].retry_command


def test_hostile_names_and_logs_do_nothing(browser: Any, tmp_path: Path) -> None:
    report = replace_texts(build_report(50), lambda text: f"{text}{HOSTILE}")
    path = save_report(report, tmp_path)
    for width in WIDTHS:
        with visit_page(browser, path, width) as visit:
            visit.page.locator(f"{ROWS} button.name").first.click()
            visit.page.locator("svg.lanes").first.hover(position={"x": 200, "y": 2})
            check_page(visit)
            assert visit.page.evaluate("window.hacked") is None
            assert visit.page.locator("img").count() == 0
            text = visit.page.locator("body").inner_text()
            assert "</script>" in text
            assert not {"\x1b", "\u202e", "\u2066", "\x00"} & set(text)


def test_the_page_can_be_read_without_scripts(browser: Any, small: Path) -> None:
    report = build_report(50)
    with visit_page(browser, small, java_script_enabled=False) as visit:
        assert visit.page.locator("table.jobs:visible tbody tr").count() == 20
        assert visit.page.locator(".copy:visible").count() == 0
        text = visit.page.locator("body").inner_text()
        assert report.failures[0].retry_command in text
        assert f"{report.verdict.failed} failed." in text


def test_the_static_table_and_the_scripts_table_agree(browser: Any, small: Path) -> None:
    with visit_page(browser, small) as visit:
        read_cells = "rows => rows.slice(0, 20).map(row => [...row.cells].map(cell => cell.textContent.trim()))"
        scripted = visit.page.locator(ROWS).evaluate_all(read_cells)
        static = visit.page.locator(".static tbody tr").evaluate_all(read_cells)
        assert scripted == static


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_a_large_report_makes_one_request_and_fits_the_window(
    browser: Any, large: Path, width: int, scheme: str
) -> None:
    with visit_page(browser, large, width, color_scheme=scheme) as visit:
        check_page(visit)
        assert visit.page.locator(".status").inner_text() == "10,000 of 10,000 jobs"
        assert visit.page.locator(ROWS).count() < 100


@pytest.mark.long
def test_ten_thousand_jobs_take_at_most_six_pages_of_paper(browser: Any, large: Path) -> None:
    with visit_page(browser, large) as visit:
        assert visit.count_pdf_pages() <= 6


@pytest.mark.long
def test_many_causes_with_long_logs_take_at_most_six_pages_too(browser: Any, tmp_path: Path) -> None:
    report = build_report(10_000)
    cause = report.failures[0]
    group = replace(cause.group, example=replace(cause.group.example, last_lines=("word " * 60,) * 20))
    causes = tuple(replace(cause, group=replace(group, id=f"F{number}")) for number in range(100))
    with visit_page(browser, save_report(replace(report, failures=causes), tmp_path)) as visit:
        check_page(visit)
        assert visit.count_pdf_pages() <= 6


@pytest.mark.long
def test_every_job_of_a_large_report_can_be_reached(browser: Any, large: Path) -> None:
    rows = build_report(10_000).jobs.rows
    with visit_page(browser, large) as visit:
        click_header(visit, "job")
        click_header(visit, "job")
        visit.page.locator(".scroller").evaluate("e => { e.scrollTop = e.scrollHeight; }")
        first = min(row.job for row in rows)
        wait_for_text(visit, "#table tbody tr:nth-last-child(2) .job", first)


@pytest.mark.long
@pytest.mark.parametrize("width", WIDTHS)
def test_a_million_jobs_fit_the_page_as_a_sample(browser: Any, tmp_path: Path, width: int) -> None:
    report = build_report(1_000_000)
    with visit_page(browser, save_report(report, tmp_path), width) as visit:
        check_page(visit)
        failed = visit.page.locator(".filter", has_text="failed").inner_text()
        assert failed == f"failed {report.verdict.failed:,}"
        assert "of 1,000,000" in visit.page.locator(".status").inner_text()
        assert visit.count_pdf_pages() <= 6
