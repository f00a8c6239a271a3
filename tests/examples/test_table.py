"""The table in docs/examples.md is true."""

from __future__ import annotations

import re

import pytest

from tests.examples.written import lines_of_python, lines_written, python_lines
from tests.support.project import ROOT

EXAMPLES = sorted(path.parent.name for path in ROOT.glob("examples/*/config.py"))


def rows() -> dict[str, list[str]]:
    """The cells of each example's row."""
    found = re.findall(r"^\| \[(\w+)\]\(\.\./examples/\1/README\.md\) \|(.*)\|$", _page(), flags=re.M)
    return {name: [cell.strip() for cell in cells.split("|")] for name, cells in found}


def _page() -> str:
    return (ROOT / "docs" / "examples.md").read_text()


def test_every_example_is_in_it() -> None:
    assert sorted(rows()) == EXAMPLES


@pytest.mark.parametrize("name", EXAMPLES)
def test_it_says_how_many_lines_were_written(name: str) -> None:
    told = [int(cell) for cell in rows()[name][2:4]]
    assert told == [lines_written(name), lines_of_python(name)]


@pytest.mark.parametrize("name", EXAMPLES)
def test_no_more_python_was_written_than_for_the_published_worker(name: str) -> None:
    published = rows()[name][4]
    assert published == "–" or lines_of_python(name) < int(published)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_has_what_the_page_says_and_its_scripts_can_be_run(name: str) -> None:
    folder = ROOT / "examples" / name
    for file in ("README.md", "files/exampleJob.json", "worker/Dockerfile"):
        assert (folder / file).is_file()
    for script in folder.glob("*.sh"):
        assert f"`{script.name}" in _page()
        assert script.stat().st_mode & 0o111
    assert len((folder / "README.md").read_text().splitlines()) <= 50


def test_comments_docstrings_blank_lines_and_mere_brackets_are_not_counted() -> None:
    text = '"""A module."""\n\n# why\nX = [\n    1,  # one\n]\n'
    text += '\n\ndef f():\n    """Says.\n\n    More.\n    """\n    return """a\nb"""\n'
    assert python_lines(text) == 5


def test_the_newcomers_example_is_the_shortest() -> None:
    assert min(EXAMPLES, key=lines_written) == "cellcount"
