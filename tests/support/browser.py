"""A real browser for tests of pages: Debian's Chromium, controlled by Playwright."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.missing import skip_or_fail

ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-quic",
)  # fmt: skip
INSTALL_COMMAND = "apt-get install chromium"


@contextmanager
def open_browser() -> Iterator[Any]:
    """Yield a browser of Playwright. Without one, skip the test; with CI=true, fail it."""
    executable = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        skip_or_fail("the package playwright is not installed; run make test, which installs it")
    if executable is None:
        skip_or_fail(f"Chromium is not installed; on Debian, install it: {INSTALL_COMMAND}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visit:
    """An open page, with the addresses that it requested and what it reported to the console."""

    page: Any
    requests: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def get_widths(self) -> tuple[int, int]:
        """Return the width of the page's content and of its window, in pixels."""
        content, window = self.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        return content, window

    def count_pdf_pages(self) -> int:
        """Return how many pages of A4 the page has on paper."""
        return len(re.findall(rb"/Type\s*/Page\b(?!s)", self.page.pdf(format="A4")))


@contextmanager
def visit_page(browser: Any, path: Path, width: int = 1280, **options: Any) -> Iterator[Visit]:
    """Open the page in a window of `width` pixels. `options`: of Playwright's context, such as color_scheme."""
    context = browser.new_context(viewport={"width": width, "height": 900}, **options)
    page = context.new_page()
    visit = Visit(page)
    page.on("request", lambda request: visit.requests.append(request.url))
    page.on("console", lambda message: visit.messages.append(message.text))
    page.on("pageerror", lambda error: visit.messages.append(str(error)))
    page.goto(path.as_uri())
    try:
        yield visit
    finally:
        context.close()
