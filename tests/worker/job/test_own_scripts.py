"""Tests for `{scripts_dir}` in a job file: the developer's scripts folder, in the image and in the local cloud."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from distributed_something.localcloud.base.layout import build_layout
from distributed_something.localcloud.play.runners import ProcessRunner, WorkOrder
from tests.support.paths import ROOT
from tests.support.project import wait_until

PRINT_SCRIPTS_FOLDER = """
from pathlib import Path
from distributed_something.worker import Folders, JobDefaults, job_from_message
message = {"group": "g", "command": "{scripts_dir}"}
print(job_from_message(message, Folders(Path("/job")), JobDefaults("bucket", "App")).command[0])
"""


def read_scripts_folder(project: Path, template: Path) -> str:
    """Return the scripts folder that this project's worker prints."""
    layout = build_layout(project)
    layout.make_folders()
    worker = ProcessRunner(layout, template / "worker").start_task(WorkOrder("task", "image", {}))
    wait_until(lambda: worker.poll_exit_code() is not None)
    return (layout.task_logs / "task.log").read_text().strip()


@pytest.mark.parametrize("has_worker", [True, False])
@pytest.mark.parametrize("has_scripts", [True, False])
def test_a_project_uses_its_own_scripts_or_the_templates_scripts_if_it_has_none(
    has_worker: bool, has_scripts: bool, tmp_path: Path
) -> None:
    project, template = tmp_path / "project", tmp_path / "template"
    for folder, has_file in ((template, True), (project, has_worker)):
        (folder / "worker").mkdir(parents=True)
        if has_file:
            (folder / "worker" / "generic-worker.py").write_text(PRINT_SCRIPTS_FOLDER)
    for folder in (template, project)[: 1 + has_scripts]:
        (folder / "worker" / "scripts").mkdir()
    expected = (project if has_scripts else template) / "worker" / "scripts"
    assert read_scripts_folder(project, template) == str(expected)


def test_the_scripts_folder_is_next_to_generic_worker_py(tmp_path: Path) -> None:
    worker = tmp_path / "generic-worker.py"
    worker.write_text(PRINT_SCRIPTS_FOLDER)
    env = {"PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, str(worker)], env=env, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == str(tmp_path / "scripts")
