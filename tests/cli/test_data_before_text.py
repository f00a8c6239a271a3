"""Decisions do not depend on text for people: they stay the same if every formatting function returns "?"."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import distributed_something
from distributed_something.cli.context import ExitCode
from tests.cli.test_bad_input import MISTAKES, Mistake, put_files
from tests.support.offline import block_requests, run_command, write_project

PACKAGES = ("cli", "core", "jobs", "project")


@pytest.fixture(scope="module", autouse=True)
def _replace_formatters() -> Iterator[None]:
    with block_requests(), pytest.MonkeyPatch.context() as patch:
        # All modules are imported before the first one changes, so that none keeps a replaced function as its own.
        for module_info in pkgutil.walk_packages(distributed_something.__path__, "distributed_something."):
            if ".localcloud" not in module_info.name and not module_info.name.endswith("__main__"):
                importlib.import_module(module_info.name)
        for module in [importlib.import_module(name) for name in _list_module_names()]:
            for name in [name for name in vars(module) if name.startswith("format_")]:
                patch.setattr(module, name, lambda *_, **__: "?")
        yield


def _list_module_names() -> list[str]:
    root = Path(str(distributed_something.__path__[0]))
    return [
        f"distributed_something.{package}.{module_info.name}"
        for package in PACKAGES
        for module_info in pkgutil.iter_modules([str(root / package)])
        if module_info.name != "__main__"
    ]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_mistake_is_detected_regardless_of_its_message(
    mistake: Mistake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write_project(tmp_path))
    put_files(tmp_path, mistake)
    assert run_command("--project", str(tmp_path), *mistake.arguments).code == ExitCode.INPUT


def test_valid_input_is_accepted_regardless_of_the_messages(tmp_path: Path) -> None:
    project = str(write_project(tmp_path / "p"))
    job_file = str(tmp_path / "p" / "files" / "job.json")
    assert '"group": {"well": "A01"}' in run_command("--project", project, "submitJob", job_file, "--dry-run").out
    assert run_command("makeJobs", "--wells", "96", "--exclude", "A01", "-o", str(tmp_path / "made.json")).code == 0
    assert run_command("newProject", str(tmp_path / "new"), "--image", "ada/x:1").code == 0
