"""`docs/architecture.md` describes the packages as they are."""

from __future__ import annotations

import re

import pytest

from tests.support.paths import ROOT

TEXT = (ROOT / "docs" / "architecture.md").read_text()
PACKAGE = ROOT / "distributed_something"
PACKAGES = sorted(folder.parent.name for folder in PACKAGE.glob("*/__init__.py"))
PATHS = sorted(set(re.findall(r"`([a-z][\w/-]*\.py)`", TEXT)))


@pytest.mark.parametrize("path", PATHS)
def test_every_module_that_it_names_is_there(path: str) -> None:
    assert (PACKAGE / path).is_file() or (ROOT / path).is_file()


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_has_a_paragraph_and_a_place_in_the_diagram(package: str) -> None:
    assert f"\n**`{package}`** " in TEXT
    diagram = TEXT.split("```mermaid\n")[1].split("```")[0]
    assert re.search(rf"\b{package}\b", diagram)
