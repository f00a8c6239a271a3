"""A developer's own scripts are where a job file finds them on this computer, as they are in the image."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from distributed_something.localcloud.base.layout import build_layout
from distributed_something.localcloud.play.runners import ProcessRunner, WorkOrder
from tests.support.paths import ROOT
from tests.support.project import wait_for

ASK = """
from pathlib import Path
from distributed_something.worker import Folders, JobDefaults, job_from_message
message = {"group": "g", "command": "{scripts_dir}"}
print(job_from_message(message, Folders(Path("/job")), JobDefaults("bucket", "App")).command[0])
"""


def ran(project: Path, template: Path) -> str:
    """What a worker of this project says of its scripts."""
    layout = build_layout(project)
    layout.make_folders()
    worker = ProcessRunner(layout, template).start_task(WorkOrder("task", "image", {}))
    wait_for(lambda: worker.exit_code() is not None)
    return (layout.task_logs / "task.log").read_text().strip()


@pytest.mark.parametrize("has_worker", [True, False])
@pytest.mark.parametrize("has_scripts", [True, False])
def test_a_projects_scripts_are_its_own_or_else_the_templates(
    has_worker: bool, has_scripts: bool, tmp_path: Path
) -> None:
    project, template = tmp_path / "project", tmp_path / "template"
    template.mkdir()
    (template / "distributed_something").symlink_to(ROOT / "distributed_something")
    for folder, there in ((template, True), (project, has_worker)):
        (folder / "worker").mkdir(parents=True)
        if there:
            (folder / "worker" / "generic-worker.py").write_text(ASK)
    for folder in (template, project)[: 1 + has_scripts]:
        (folder / "worker" / "scripts").mkdir()
    assert ran(project, template) == str((project if has_scripts else template) / "worker" / "scripts")


def test_a_folder_of_scripts_lies_beside_the_worker(tmp_path: Path) -> None:
    worker = tmp_path / "generic-worker.py"
    worker.write_text(ASK)
    env = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, str(worker)], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path / "scripts")
