"""`docs/architecture.md` describes the packages as they are."""

from __future__ import annotations

import re

import pytest

from tests.support.imports import imports_of, modules, package_of
from tests.support.paths import ROOT

TEXT = (ROOT / "docs" / "architecture.md").read_text()
PACKAGE = ROOT / "distributed_something"
PACKAGES = sorted(folder.parent.name for folder in PACKAGE.glob("*/__init__.py"))
PATHS = sorted(set(re.findall(r"`([a-z][\w/-]*\.py)`", TEXT)))


@pytest.mark.parametrize("path", PATHS)
def test_every_module_that_it_names_is_there(path: str) -> None:
    assert (PACKAGE / path).is_file() or (ROOT / path).is_file()


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_has_a_paragraph(package: str) -> None:
    assert f"\n**`{package}`** " in TEXT


def test_the_diagram_has_an_arrow_or_a_way_along_arrows_for_every_import_and_no_other() -> None:
    arrows = set(re.findall(r"^    (\w+) --> (\w+)$", TEXT.split("```mermaid\n")[1].split("```")[0], re.M))
    known = modules()
    imports = {
        (package_of(one.importer), package_of(one.module))
        for name, path in known.items()
        for one in imports_of(name, path, known)
    }
    real = {(importer, imported) for importer, imported in imports if importer and imported and importer != imported}
    assert arrows <= real, "arrows that no import stands for"
    assert {pair for pair in real if pair[1] not in reach(pair[0], arrows)} == set(), "imports without a way"


def reach(start: str, arrows: set[tuple[str, str]]) -> set[str]:
    """The packages that arrows lead to from `start`."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        here = waiting.pop()
        new = {end for begin, end in arrows if begin == here} - found
        found |= new
        waiting += new
    return found
