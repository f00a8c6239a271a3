"""The report of a run as one self-contained HTML file.

The page makes no request. Its content security policy allows only its own style and script, by their hashes, so that
even text that was not escaped could not load or run anything. Everything that matters is static HTML and SVG; the
script (`assets/report.js`) adds search, sorting, and tooltips. We draw with the standard library: drawing libraries are
large, show nothing without scripts, and some add styles that such a policy forbids.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path

from distributed_something.results.report.data import Report
from distributed_something.results.report.sections.distributions import draw_distributions
from distributed_something.results.report.sections.failures import draw_failures
from distributed_something.results.report.sections.job_data import compute_row_budget, encode_data, select_rows
from distributed_something.results.report.sections.job_list import draw_jobs
from distributed_something.results.report.sections.markup import Html, make_tag
from distributed_something.results.report.sections.text_sections import draw_provenance, draw_suggestions
from distributed_something.results.report.sections.timeline import draw_timeline
from distributed_something.results.report.sections.verdict import describe_counts, draw_verdict

_ASSETS = Path(__file__).with_name("assets")
_SECTIONS = (draw_verdict, draw_failures, draw_suggestions, draw_timeline, draw_distributions)


def write_page(report: Report, write: Callable[[str], object]) -> None:
    """Write the page, part by part. The file must be encoded as UTF-8."""
    style, script = _read_asset("report.css"), _read_asset("report.js")
    head = f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{_make_head(report, style, script)}</head>\n<body>\n<main>\n'
    end = f"<script>{script}</script>\n</body>\n</html>\n"
    written = 0
    for part in (head, *(f"{draw_section(report)}\n" for draw_section in _SECTIONS)):
        written += len(part.encode())
        write(part)
    rows = select_rows(report.jobs.rows, compute_row_budget(report, written + len(end.encode())))
    write(f"{draw_jobs(report, rows)}\n{draw_provenance(report)}\n</main>\n")
    write(f'<script type="application/json" id="data">{encode_data(report, rows)}</script>\n')
    write(end)


def build_policy(style: str, script: str) -> str:
    """Return the content security policy: nothing may be loaded, and only this style and this script are used."""
    return (
        f"default-src 'none'; style-src '{_hash_content(style)}'; script-src '{_hash_content(script)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _make_head(report: Report, style: str, script: str) -> str:
    title = f"{report.app}: {describe_counts(report.verdict)} Run {report.run}"
    tags = (
        make_tag("meta", charset="utf-8"),
        make_tag("meta", http_equiv="Content-Security-Policy", content=build_policy(style, script)),
        make_tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        make_tag("meta", name="color-scheme", content="light dark"),
        make_tag("meta", name="referrer", content="no-referrer"),
        make_tag("link", rel="icon", href="data:,"),  # or the browser asks a server for one
        make_tag("title", title),
        make_tag("style", Html(style)),
    )
    return "".join(f"{tag}\n" for tag in tags)


def _read_asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def _hash_content(content: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"
