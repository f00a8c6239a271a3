"""Tests for `docs/architecture.md`, which must agree with the packages and their imports."""

from __future__ import annotations

import re

import pytest

from tests.support.imports import get_package, iter_imports, list_modules
from tests.support.paths import ROOT

TEXT = (ROOT / "docs" / "architecture.md").read_text()
PACKAGE_FOLDER = ROOT / "distributed_something"
PACKAGES = sorted(folder.parent.name for folder in PACKAGE_FOLDER.glob("*/__init__.py"))
PATHS = sorted(set(re.findall(r"`([a-z][\w/-]*\.py)`", TEXT)))


@pytest.mark.parametrize("path", PATHS)
def test_every_module_that_the_page_mentions_exists(path: str) -> None:
    assert (PACKAGE_FOLDER / path).is_file() or (ROOT / path).is_file()


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_has_a_paragraph(package: str) -> None:
    assert f"\n**`{package}`** " in TEXT


def test_the_diagram_shows_every_import_between_packages_and_nothing_else() -> None:
    """A path of several arrows also counts, so that the diagram needs only a few arrows."""
    arrows = set(re.findall(r"^    (\w+) --> (\w+)$", TEXT.split("```mermaid\n")[1].split("```")[0], re.M))
    module_paths = list_modules()
    package_pairs = {
        (get_package(item.importer), get_package(item.module))
        for name, path in module_paths.items()
        for item in iter_imports(name, path, module_paths)
    }
    imports = {(importer, imported) for importer, imported in package_pairs if importer and imported}
    imports = {(importer, imported) for importer, imported in imports if importer != imported}
    assert arrows <= imports, "arrows without an import"
    hidden_imports = {pair for pair in imports if pair[1] not in find_reachable_packages(pair[0], arrows)}
    assert hidden_imports == set(), "imports that no arrows show"


def find_reachable_packages(start: str, arrows: set[tuple[str, str]]) -> set[str]:
    """Return the packages that can be reached from `start` by following arrows."""
    reachable: set[str] = set()
    unvisited = [start]
    while unvisited:
        package = unvisited.pop()
        new_packages = {head for tail, head in arrows if tail == package} - reachable
        reachable |= new_packages
        unvisited += new_packages
    return reachable
