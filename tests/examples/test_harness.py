"""Tests of an example whose program is unavailable: they are skipped with a reason, but they fail in CI."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.examples.example import run_script


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "get-program.sh"
    path.write_text("#!/bin/sh\necho looking >&2\necho bwa must be installed by hand >&2\nexit 1\n")
    path.chmod(0o755)
    return path


def test_without_ci_the_test_is_skipped_with_the_scripts_error(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="bwa must be installed by hand"):
        run_script(script)


def test_in_ci_the_test_fails(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="bwa must be installed by hand"):
        run_script(script)
