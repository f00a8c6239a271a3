"""A Sphinx extension that completes pages while they are read, so that their files look right on GitHub, too.

- The contents in the sidebar are the sections and links of `docs/index.md`. Pages that it does not name are added.
- A drawing in `docs/pictures/` becomes a part of the page, so that it follows the page's light or dark colors.
- Where the address of the repository is known, `docs/start-here.md` and `docs/index.md` name it.
- A picture with a width, which is HTML on GitHub, becomes one that Sphinx copies.
- The diagram in `docs/architecture.md`, which GitHub draws, is replaced by a drawing.
- Short code, such as `--dry-run`, is marked, so that browsers do not break it at its hyphens. Long paths break at
  slashes.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from docutils import nodes

DOCS = Path(__file__).resolve().parents[1]
EXAMPLES = DOCS.parent / "examples"
UNLISTED_PAGES_SECTION = "How-to pages"
MAX_WHOLE_CHARACTERS = 24  # fits a column of a table on a phone


def setup(app: Any) -> dict[str, bool]:
    app.add_config_value("repository_address", "", "env")
    app.connect("env-get-outdated", list_outdated_pages)
    app.connect("source-read", complete_page)
    app.connect("doctree-read", mark_short_code)
    app.connect("html-page-context", let_paths_break)
    return {"parallel_read_safe": True}


def list_outdated_pages(app: Any, *_: Any) -> list[str]:
    """Return all pages: those that are completed depend on more than their own file, and a build takes seconds."""
    return sorted(app.env.found_docs)


def complete_page(app: Any, name: str, source: list[str]) -> None:
    """Change the text of the page `name`, which Sphinx is about to parse."""
    text = source[0]
    if app.config.repository_address:
        text = name_repository(text, name, app.config.repository_address)
    if name == app.config.root_doc:
        text += build_contents(text, list_page_names())
    if name == "docs/architecture":
        text = re.sub(
            r"```mermaid\n.*?```", "![The packages and their imports](pictures/packages.svg)", text, flags=re.S
        )
    if name == "docs/examples":
        text += build_toctree(
            "", sorted(f"../examples/{path.parent.name}/README" for path in EXAMPLES.glob("*/README.md"))
        )
    if name == "README":  # nobody needs it on the site, except those who follow a link to it
        text = "---\norphan: true\n---\n" + text
    text = re.sub(
        r'^<img src="([^"]*)"\s+width="(\d+)"\s+alt="([^"]*)">$',
        r"```{image} \1\n:width: \2px\n:alt: \3\n```",
        text,
        flags=re.M,
    )
    source[0] = re.sub(r"^!\[([^\]]*)\]\((?:docs/)?pictures/([\w-]+)\.svg\)$", inline_drawing, text, flags=re.M)


def mark_short_code(app: Any, page: Any) -> None:
    """Give code without long words the class `whole`, and short code also the class `short`, which `site.css` uses."""
    for code in page.findall(nodes.literal):
        if max(map(len, code.astext().split()), default=0) <= MAX_WHOLE_CHARACTERS:
            code["classes"].append("whole")
        if len(code.astext()) <= MAX_WHOLE_CHARACTERS:
            code["classes"].append("short")


def let_paths_break(app: Any, name: str, template: str, context: dict[str, Any], page: Any) -> None:
    """Let browsers break long words of code after a slash, before they break them anywhere."""
    context["body"] = re.sub(
        rf'(?<=<span class="pre">)[^<]{{{MAX_WHOLE_CHARACTERS + 1},}}(?=</span>)',
        lambda word: re.sub(r"/(?=[^/])", "/<wbr>", word[0]), context.get("body", ""),
    )  # fmt: skip


def name_repository(text: str, page: str, address: str) -> str:
    """Add the repository's address to the pages that visitors of the site see first."""
    if page == "docs/start-here":
        commands = f"    git clone {address}\n    cd {Path(address).name}\n"
        sentence = f"Clone [the repository]({address}) and go to its folder:\n\n{commands}"
        return text.replace("Clone the repository and go to its folder.\n", sentence)
    if page == "docs/index":
        links = f"Everything is in [the repository]({address}). [Report a problem]({address}/issues/new/choose) there."
        return text.replace("## Start here\n", f"{links}\n\n## Start here\n", 1)
    return text


def list_page_names() -> list[str]:
    return sorted(path.stem for path in DOCS.glob("*.md") if path.stem != "index")


def build_contents(text: str, pages: list[str]) -> str:
    """Return a hidden table of contents for each section of the index. `pages`: the names of all pages in docs/."""
    sections = [part.partition("\n") for part in re.split(r"^## ", text, flags=re.M)[1:]]
    linked = {title: re.findall(r"\]\(([^)#:]+)\.md\)", body) for title, _, body in sections}
    named = {page for names in linked.values() for page in names}
    linked[UNLISTED_PAGES_SECTION] += [page for page in pages if page not in named]
    return "".join(build_toctree(title, list(dict.fromkeys(names))) for title, names in linked.items())


def build_toctree(caption: str, pages: list[str]) -> str:
    options = [":hidden:", *([f":caption: {caption}"] if caption else [])]
    return "\n\n" + "\n".join(["```{toctree}", *options, "", *pages, "```", ""])


def inline_drawing(match: re.Match[str]) -> str:
    """Return HTML for a link to a drawing. The site's style sheet replaces the drawing's own colors."""
    title, name = match.groups()
    drawing = (DOCS / "pictures" / f"{name}.svg").read_text()
    drawing = re.sub(r"<style>.*?</style>\n?", "", drawing, flags=re.S)
    drawing = drawing.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1).replace("\n\n", "\n")
    return f'```{{raw}} html\n<div class="drawing">\n{drawing}</div>\n```'
