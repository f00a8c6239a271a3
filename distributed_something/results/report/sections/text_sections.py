"""The sections that are only text: what would make the next run cheaper or faster, and where the numbers come from."""

from __future__ import annotations

from distributed_something.results.report.data import Report, Suggestion
from distributed_something.results.report.sections.amounts import format_money, format_span
from distributed_something.results.report.sections.markup import Html, join_html, make_section, make_tag


def draw_suggestions(report: Report) -> Html:
    """Return the section about savings. Its heading is the largest one."""
    title = _describe_largest(report.suggestions)
    if not report.suggestions:
        lead = "Only changes that would save at least 2 % and 0.10 USD, or 5 minutes, are listed. None is known."
        if report.verdict.ended is None:
            lead = "Nothing is suggested before the run has ended."
        return make_section("suggestions", title, make_tag("p", lead, class_="lead"))
    lead = "Estimates from this run alone; other data may need more. The savings do not add up."
    items = [_draw_suggestion(suggestion) for suggestion in report.suggestions]
    return make_section("suggestions", title, make_tag("p", lead, class_="lead"), *items)


def _describe_largest(suggestions: tuple[Suggestion, ...]) -> str:
    cost = max((suggestion.saved_cost or 0.0 for suggestion in suggestions), default=0.0)
    seconds = max((suggestion.saved_seconds or 0.0 for suggestion in suggestions), default=0.0)
    if cost > 0:
        return f"The next run could cost up to {format_money(cost)} USD less"
    if seconds > 0:
        return f"The next run could end up to {format_span(seconds)} sooner"
    return "What would make the next run cheaper or faster"


def _draw_suggestion(suggestion: Suggestion) -> Html:
    savings = list[Html]()
    if suggestion.saved_cost is not None:
        savings.append(_draw_saving(f"{format_money(suggestion.saved_cost)} USD", "less, at most"))
    if suggestion.saved_seconds is not None:
        savings.append(_draw_saving(format_span(suggestion.saved_seconds), "sooner, at most"))
    text = make_tag(
        "div",
        make_tag("h3", make_tag("code", suggestion.setting)),
        make_tag("p", suggestion.evidence, " ", make_tag("span", suggestion.caveat, class_="muted")),
    )
    return make_tag("article", make_tag("div", *savings, class_="saving"), text, class_="suggestion")


def _draw_saving(amount: str, meaning: str) -> Html:
    return join_html(make_tag("b", amount), make_tag("small", meaning))


def draw_provenance(report: Report) -> Html:
    """Return the section with the run's facts, what the cost leaves out, and the config."""
    provenance = report.provenance
    rows = [(name, [value]) for name, value in provenance.facts]
    if provenance.left_out:
        rows.append(("not in the cost", [" ".join(provenance.left_out)]))
    items = [part for name, value in rows for part in (make_tag("dt", name), make_tag("dd", *value))]
    config = "\n".join(f"{name} = {value}" for name, value in provenance.config)
    details = make_tag("details", make_tag("summary", "the run's config"), make_tag("pre", config, tabindex=0))
    return make_section("provenance", "Where this comes from", make_tag("dl", *items), details if config else "")
