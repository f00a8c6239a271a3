"""The page's first section: how the run ended, and what its money was spent on."""

from __future__ import annotations

from collections.abc import Sequence

from distributed_something.results.report.data import USES, PausedMachine, Report, Verdict
from distributed_something.results.report.sections.amounts import (
    MIN_JOBS_FOR_PRICE,
    UNKNOWN,
    count_noun,
    format_interval,
    format_list,
    format_money,
    format_share,
    format_span,
    format_time,
)
from distributed_something.results.report.sections.markup import Html, join_html, make_tag

MAX_PAUSED_MACHINES, MAX_REASON_CHARACTERS = 3, 160
USE_NAMES = {
    "work": ("work", "programs of jobs that are done"),
    "failed": ("failed", "attempts that failed"),
    "interrupted": ("interrupted", "attempts that were cut off"),
    "waiting": ("waiting for S3", "slot free, inputs not there yet"),
    "startup": ("start-up", "launch to first program"),
    "idle": ("idle", "paid for, nothing to do"),
}


def draw_verdict(report: Report) -> Html:
    """Return the page's header: names, the verdict, the totals, and the bar of dollars by use."""
    verdict = report.verdict
    return make_tag(
        "header",
        _draw_names(report),
        _draw_headline(verdict),
        make_tag("p", _join_facts(_list_facts(verdict)), class_="facts"),
        *([make_tag("p", _describe_unread(verdict.unread), class_="warning")] if verdict.unread else []),
        _draw_uses(report),
        *([make_tag("p", _describe_pauses(report.paused), class_="note")] if report.paused else []),
        id="verdict",
    )


def describe_counts(verdict: Verdict) -> str:
    """Return how many of the jobs are done and were already there, as a sentence."""
    there = f"{verdict.already_there:,} {'was' if verdict.already_there == 1 else 'were'} already there"
    if verdict.submitted is None:
        text = f"{count_noun(verdict.done, 'job')} {'is' if verdict.done == 1 else 'are'} done"
    elif verdict.done == verdict.submitted > 0:
        return "The job is done." if verdict.done == 1 else f"All {verdict.done:,} jobs are done."
    elif verdict.already_there == verdict.submitted > 0:
        return "All results were already there." if verdict.submitted > 1 else "The results were already there."
    else:
        is_or_are = "is" if verdict.done == 1 else "are"
        text = f"{verdict.done:,} of {count_noun(verdict.submitted, 'job')} {is_or_are} done"
    return f"{text}, {there}." if verdict.already_there else f"{text}."


def describe_left(verdict: Verdict) -> str:
    """Return what is with the jobs that have not ended, as a sentence; "" if there are none."""
    if not verdict.left:
        return ""
    if verdict.ended is not None:
        return f"{verdict.left:,} {'has' if verdict.left == 1 else 'have'} not ended."
    waiting = max(0, verdict.left - verdict.running)
    parts = [f"{verdict.running:,} {'is' if verdict.running == 1 else 'are'} running"] if verdict.running else []
    parts += [f"{waiting:,} {'is' if waiting == 1 else 'are'} waiting"] if waiting else []
    return f"{format_list(parts)}."


def _draw_names(report: Report) -> Html:
    verdict = report.verdict
    end = verdict.ended if verdict.ended is not None else report.made
    names = join_html(make_tag("b", report.app), f" · run {report.run} · {report.region}")
    state = "" if verdict.ended is not None else "during the run, "
    return make_tag(
        "p",
        make_tag("span", names, f" · {format_interval(verdict.started, end)}"),
        make_tag("span", f"report made {state}{format_time(report.made)}"),
        class_="names",
    )


def _draw_headline(verdict: Verdict) -> Html:
    parts: list[object] = [describe_counts(verdict)]
    if verdict.failed:
        parts += [" ", make_tag("span", f"{verdict.failed:,} failed.", class_="bad")]
    if left := describe_left(verdict):
        parts += [" ", make_tag("span", left, class_="left")]
    return make_tag("h1", *parts)


def _list_facts(verdict: Verdict) -> list[object]:
    facts: list[object] = [make_tag("b", format_span(verdict.elapsed_seconds))]
    if verdict.cost is None:
        facts.append("cost unknown")
    elif not verdict.cost:  # it is rounded to cents
        facts.append("under 0.01 USD")
    else:
        about = "about " if verdict.is_cost_estimated else ""
        facts.append(join_html(about, make_tag("b", f"{format_money(verdict.cost)} USD")))
        if verdict.done >= MIN_JOBS_FOR_PRICE:
            facts.append(f"{format_money(1000 * verdict.cost / verdict.done)} USD for 1,000 jobs")
    machines = count_noun(verdict.machines, "machine")
    facts.append(f"{machines}, {verdict.interruptions:,} interrupted" if verdict.interruptions else machines)
    if verdict.seconds_to_99_percent is not None:
        facts.append(f"99 % of the jobs had ended after {format_span(verdict.seconds_to_99_percent)}")
    return facts


def _join_facts(facts: list[object]) -> Html:
    return join_html(*(join_html(make_tag("span", fact), " ") for fact in facts))


def _describe_unread(unread: int) -> str:
    return f"{count_noun(unread, 'record')} could not be read, so the numbers may be too low."


def _describe_pauses(paused: Sequence[PausedMachine]) -> str:
    """Return why slots were idle although jobs may have waited: which machines took no jobs, for how long, and why."""
    shown = [
        f"{machine.machine} took no jobs for {format_span(machine.seconds)}"
        + (f" ({machine.reason[:MAX_REASON_CHARACTERS]})" if machine.reason else "")
        for machine in paused[:MAX_PAUSED_MACHINES]
    ]
    more = len(paused) - len(shown)
    others = [f"{count_noun(more, 'other machine')} did so for a time as well"] if more else []
    return f"Part of the idle time may be pauses: {format_list([*shown, *others])}."


def _draw_uses(report: Report) -> Html:
    """Return the bar of dollars by use, and its legend with the six amounts.

    If there is no money to divide, the bar and the legend show the slots' time.
    """
    verdict, timeline = report.verdict, report.timeline
    now = (
        " Programs that run now count as work; those of the last minute may be missing."
        if verdict.ended is None
        else ""
    )
    amounts = {use: float(getattr(verdict.uses, use)) for use in USES} if verdict.uses is not None else {}
    if sum(amounts.values()) > 0:
        note = "In USD; the six amounts add up to the cost of the machines."
        if verdict.is_cost_estimated:
            note += " The cost is an estimate, because some prices or times of machines had to be assumed."
        texts = {use: format_money(amount) for use, amount in amounts.items()}
        return _draw_amounts(verdict, amounts, texts, "Dollars", note + now)
    amounts = {use: sum(timeline.slots.get(use, ())) for use in USES} if timeline is not None else {}
    total = sum(amounts.values())
    if total <= 0:
        return make_tag("p", f"What the machines were used for: {UNKNOWN}.", class_="note")
    texts = {use: format_share(amount / total) for use, amount in amounts.items()}
    reason = "the cost of the machines is unknown" if verdict.cost is None else "the machines cost less than 0.01 USD"
    return _draw_amounts(verdict, amounts, texts, "Time", f"Shares of the slots' time, because {reason}.{now}")


def _draw_amounts(verdict: Verdict, amounts: dict[str, float], texts: dict[str, str], title: str, note: str) -> Html:
    meanings = {use: meaning for use, (_, meaning) in USE_NAMES.items()}
    if verdict.ended is None:
        meanings["work"] = "programs of jobs that are done, or run now"
    total = sum(amounts.values())
    items = [_draw_use(use, text, meanings[use], amounts[use] / total) for use, text in texts.items()]
    bar = _draw_bar(amounts, texts, title)
    return join_html(bar, make_tag("ul", *items, class_="uses"), make_tag("p", note, class_="note"))


def _draw_bar(amounts: dict[str, float], texts: dict[str, str], title: str) -> Html:
    rectangles, start, total = list[Html](), 0.0, sum(amounts.values())
    for use, amount in amounts.items():
        width = 100 * amount / total
        if amount > 0:
            tip = make_tag("title", f"{USE_NAMES[use][0]}: {texts[use]}{' USD' if title == 'Dollars' else ''}")
            x, wide = f"{start:.3f}%", f"{width:.3f}%"
            rectangles.append(make_tag("rect", tip, class_=f"u-{use}", x=x, width=wide, height="100%"))
        start += width
    label = f"{title} by use: " + ", ".join(f"{USE_NAMES[use][0]} {text}" for use, text in texts.items())
    return make_tag("svg", *rectangles, class_="money", role="img", aria_label=label)


def _draw_use(use: str, text: str, meaning: str, share: float) -> Html:
    """Return a use in the legend. `text`: its amount; `share`: of all, from 0 to 1."""
    small = format_share(share)
    return make_tag(
        "li",
        make_tag("i", class_=f"key k-{use}"),
        make_tag("b", text, data_use=use),
        make_tag("small", f" {small}" if small != text else ""),
        make_tag("span", USE_NAMES[use][0], class_="use"),
        make_tag("span", meaning, class_="meaning"),
    )
