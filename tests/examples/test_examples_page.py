"""The table of examples in docs/examples.md is correct."""

from __future__ import annotations

import re

import pytest

from tests.examples.line_counts import count_code_lines, count_python_lines, count_written_lines
from tests.support.project import ROOT

EXAMPLES = sorted(path.parent.name for path in ROOT.glob("examples/*/config.py"))


def read_rows() -> dict[str, list[str]]:
    """Return the cells of each example's row in the table."""
    matches = re.findall(r"^\| \[(\w+)\]\(\.\./examples/\1/README\.md\) \|(.*)\|$", _read_page(), flags=re.M)
    return {name: [cell.strip() for cell in cells.split("|")] for name, cells in matches}


def _read_page() -> str:
    return (ROOT / "docs" / "examples.md").read_text()


def test_the_table_contains_every_example() -> None:
    assert sorted(read_rows()) == EXAMPLES


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_table_contains_the_line_counts(name: str) -> None:
    numbers = [int(cell) for cell in read_rows()[name][2:4]]
    assert numbers == [count_written_lines(name), count_python_lines(name)]


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_has_fewer_python_lines_than_the_published_worker(name: str) -> None:
    published = read_rows()[name][4]
    if name == "cellprofiler":  # it also checks tables and pipelines, and says what became of the keys for plugins
        return
    assert published == "–" or count_python_lines(name) < int(published)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_has_the_required_files_and_executable_scripts(name: str) -> None:
    folder = ROOT / "examples" / name
    for file in ("README.md", "files/exampleJob.json", "worker/Dockerfile"):
        assert (folder / file).is_file()
    for script in folder.glob("*.sh"):
        assert f"`{script.name}" in _read_page()
        assert script.stat().st_mode & 0o111
    joined = (folder / "README.md").read_text().replace("\\\n", "")  # a broken command is one line
    assert len(joined.splitlines()) <= 50


def test_comments_docstrings_blank_lines_and_lines_with_only_brackets_are_not_counted() -> None:
    text = '"""A module."""\n\n# why\nX = [\n    1,  # one\n]\n'
    text += '\n\ndef f():\n    """Says.\n\n    More.\n    """\n    return """a\nb"""\n'
    assert count_code_lines(text) == 5


def test_the_example_for_new_users_is_the_shortest() -> None:
    assert min(EXAMPLES, key=count_written_lines) == "cellcount"
