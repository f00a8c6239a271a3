"""A program that cannot be had is no silent pass: the test skips and says why, and where CI promised it, fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.examples.example import ask


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "get-program.sh"
    path.write_text("#!/bin/sh\necho looking >&2\necho bwa must be installed by hand >&2\nexit 1\n")
    path.chmod(0o755)
    return path


def test_here_the_test_skips_with_the_scripts_own_reason(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="bwa must be installed by hand"):
        ask(script)


def test_in_ci_it_fails(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="bwa must be installed by hand"):
        ask(script)
