"""The jobs that failed, by cause, with the command that runs them again."""

from __future__ import annotations

from collections.abc import Sequence

from distributed_something.core.text import format_cost
from distributed_something.results.causes import SharedValue
from distributed_something.results.job_counter import FailedJob
from distributed_something.results.report.data import FailureCause, Report
from distributed_something.results.report.sections.amounts import count_noun
from distributed_something.results.report.sections.markup import Html, join_html, make_section, make_tag

MAX_OPEN_CAUSES = 5  # further ones are folded, so that the page stays short, also on paper
MAX_PRINTED_CAUSES = 30  # report.css hides further ones on paper
MAX_LINES, MAX_FOLDED_LINES, MAX_LINE_CHARACTERS = 10, 5, 300  # of an example's log
MAX_NAME_CHARACTERS = 250_000  # of all names together


def draw_failures(report: Report) -> Html:
    """Return the section about failed jobs."""
    causes, verdict = report.failures, report.verdict
    notes = _list_notes(report)
    if not causes:
        title = f"{count_noun(verdict.failed, 'job')} failed" if verdict.failed else "No job failed"
        return make_section("failures", title, make_tag("p", *notes, class_="lead") if notes else "")
    reasons = count_noun(len(causes) + report.failures_left_out, "reason")
    title = f"{count_noun(verdict.failed, 'job')} failed, for {reasons}"
    names = _select_names(causes)
    articles = [_draw_cause(*item, is_folded=number >= MAX_OPEN_CAUSES, is_free=verdict.cost == 0)
                for number, item in enumerate(zip(causes, names, strict=True))]  # fmt: skip
    folded = [_fold_cause(*pair) for pair in zip(causes[MAX_OPEN_CAUSES:], articles[MAX_OPEN_CAUSES:], strict=True)]
    if len(causes) > MAX_PRINTED_CAUSES:
        folded.append(
            make_tag("p", f"Only the first {MAX_PRINTED_CAUSES} reasons are on paper.", class_="note printed")
        )
    if report.failures_left_out:
        more = f"{count_noun(report.failures_left_out, 'more reason')}: see summary.txt."
        folded.append(make_tag("p", more, class_="note"))
    lead = make_tag("p", *notes, class_="lead") if notes else ""
    return make_section("failures", title, lead, *articles[:MAX_OPEN_CAUSES], *folded)


def _list_notes(report: Report) -> list[str]:
    notes = []
    if report.recovered:
        notes.append(f"{count_noun(report.recovered, 'job')} failed at first and succeeded on a later attempt. ")
    if report.verdict.interruptions:
        interrupted = count_noun(report.verdict.interruptions, "machine")
        was, their = ("was", "its") if report.verdict.interruptions == 1 else ("were", "their")
        unless = ", unless they had no attempts left" if report.lost else ""
        notes.append(f"{interrupted} {was} interrupted; {their} jobs returned to the queue{unless}. ")
    if report.lost:
        lost, their = count_noun(report.lost, "job"), "its" if report.lost == 1 else "their"
        notes.append(f"{lost} failed for good because the worker of {their} last attempt was lost.")
    return notes


def _draw_cause(cause: FailureCause, names: tuple[str, ...], *, is_folded: bool, is_free: bool) -> Html:
    """Return the article about a cause. `is_free`: whether the machines cost less than a cent."""
    group = cause.group
    left = make_tag(
        "div",
        make_tag("h3", group.cause, " ", make_tag("small", group.id)),
        make_tag("p", *_list_sentences(cause, is_free=is_free)),
        _draw_command(cause.retry_command) if cause.retry_command else "",
        make_tag("p", make_tag("a", "show in the table", href="#jobs", data_cause=group.id), class_="scripted"),
        _draw_names(names, len(group.jobs)),
    )
    count = make_tag("div", f"{len(group.jobs):,}", class_="count")
    return make_tag(
        "article",
        count,
        left,
        _draw_example(group.example, MAX_FOLDED_LINES if is_folded else MAX_LINES),
        class_="cause",
    )


def _fold_cause(cause: FailureCause, article: Html) -> Html:
    summary = make_tag("summary", make_tag("b", f"{len(cause.group.jobs):,}", class_="bad"), f" {cause.group.cause}")
    return make_tag("details", summary, article, class_="folded")


def _list_sentences(cause: FailureCause, *, is_free: bool) -> list[object]:
    sentences: list[object] = [_describe_shared(value) for value in cause.group.shared[:2]]
    cost = "What they cost is unknown." if cause.cost is None else f"They cost {format_cost(cause.cost)} USD."
    cost = "" if is_free else cost
    return [*sentences, _describe_attempts(cause), cost]


def _describe_attempts(cause: FailureCause) -> str:
    attempts = count_noun(cause.attempts, "attempt")
    machines = count_noun(cause.machines, "machine") if cause.machines else "unknown machines"
    if not cause.lost:
        return f"{attempts} on {machines}. "
    lost = "a worker that was lost" if cause.lost == 1 else "workers that were lost"
    if cause.lost >= cause.attempts:
        return f"{attempts} on {lost}. "
    return f"{attempts}: {cause.lost:,} on {lost}, the others on {machines}. "


def _describe_shared(shared: SharedValue) -> Html:
    are_all = shared.jobs == shared.total
    have = f"All {shared.total:,}" if are_all else f"{shared.jobs:,} of {shared.total:,}"
    return join_html(f"{have} have ", make_tag("b", f"{shared.key} = {shared.value}"), ". ")


def _draw_command(command: str) -> Html:
    button = make_tag("button", "copy", type="button", class_="copy scripted")
    label = make_tag("p", "To run them again:", class_="muted")
    return make_tag("div", label, button, make_tag("pre", *_join_words(command), tabindex=0), class_="command")


def _join_words(command: str) -> Sequence[object]:
    """Return the command with an element for each word, because a line must not end inside an option."""
    words = [make_tag("span", word, class_="word") for word in command.split(" ")]
    return [part for word in words for part in (" ", word)][1:]


def _draw_example(example: FailedJob, most_lines: int) -> Html:
    attempt = f", attempt {example.attempts}" if example.attempts else ""
    lines = [line[:MAX_LINE_CHARACTERS] for line in example.last_lines[-most_lines:]]
    title = "the last lines of " if lines else "an example: "
    parts: list[object] = [
        make_tag("p", title, make_tag("code", example.job), f"{attempt}: {example.reason[:MAX_LINE_CHARACTERS]}")
    ]
    if lines:
        parts.append(make_tag("pre", *_mark_telling_line(lines, example.telling_line), tabindex=0))
    if example.log:
        parts.append(make_tag("p", "log: ", make_tag("code", example.log)))
    return make_tag("div", *parts, class_="example")


def _mark_telling_line(lines: list[str], telling_line: str) -> list[object]:
    """Return the lines. The last one that contains the telling line is marked."""
    telling = telling_line.strip()[:MAX_LINE_CHARACTERS]
    found = max((number for number, line in enumerate(lines) if telling and telling in line), default=-1)
    return [
        part
        for number, line in enumerate(lines)
        for part in (make_tag("mark", line) if number == found else line, "\n" if number + 1 < len(lines) else "")
    ]


def _select_names(causes: tuple[FailureCause, ...]) -> list[tuple[str, ...]]:
    """Return the names to list for each cause: at most MAX_NAME_CHARACTERS in all, shared equally by the causes."""
    limit = MAX_NAME_CHARACTERS // max(1, len(causes))
    selected = list[tuple[str, ...]]()
    for cause in causes:
        length, names = 0, list[str]()
        for name in cause.jobs:
            length += len(name) + 1
            if length > limit:
                break
            names.append(name)
        selected.append(tuple(names))
    return selected


def _draw_names(names: tuple[str, ...], total: int) -> Html:
    if not names:
        return make_tag("p", "jobs.tsv lists their names.", class_="note")
    more = f"\nand {total - len(names):,} more, which jobs.tsv lists" if total > len(names) else ""
    title = "its name" if total == 1 else "their names"
    return make_tag("details", make_tag("summary", title), make_tag("pre", "\n".join(names), more, tabindex=0))
