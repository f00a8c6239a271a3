"""The job folder is removed after the job, whatever the program wrote there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from distributed_something.worker.attempt import work_folder
from distributed_something.worker.attempt.work_folder import build_job_folders, make_job_folder, remove_job_folder
from distributed_something.worker.job.job import Folders
from tests.support.paths import ROOT

NOBODY = 65534


def create_job_folder(work_dir: Path) -> Folders:
    folders = build_job_folders(work_dir)
    make_job_folder(folders)
    return folders


def test_each_attempt_has_its_own_empty_folder(tmp_path: Path) -> None:
    first, second = create_job_folder(tmp_path), create_job_folder(tmp_path)
    assert first.root != second.root
    assert list(first.root.iterdir()) == []


def test_files_folders_links_and_pipes_are_removed_but_link_targets_are_kept(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "a").touch()
    folders = create_job_folder(tmp_path)
    folders.output_dir.mkdir()
    (folders.output_dir / "a\nb").touch()
    (folders.output_dir / "l").symlink_to(target)
    os.mkfifo(folders.root / "p")
    folders.log.touch()
    remove_job_folder(folders)
    assert list(tmp_path.iterdir()) == [target]
    assert list(target.iterdir()) == [target / "a"]


def test_a_link_that_replaced_the_job_folder_is_removed_but_its_target_is_kept(tmp_path: Path) -> None:
    folders, target = create_job_folder(tmp_path), tmp_path / "target"
    folders.root.rename(target)
    (target / "a").touch()
    folders.root.symlink_to(target)
    remove_job_folder(folders)
    assert list(tmp_path.iterdir()) == [target]
    assert list(target.iterdir()) == [target / "a"]


def test_a_thousand_nested_folders_are_removed(tmp_path: Path) -> None:
    folders = create_job_folder(tmp_path)
    # The folders are nested deeper than the longest path that the kernel accepts.
    code = "import os\nfor _ in range(1100):\n os.mkdir('deep'); os.chdir('deep')"
    subprocess.run([sys.executable, "-c", code], cwd=folders.root, check=True)
    remove_job_folder(folders)
    assert list(tmp_path.iterdir()) == []


def test_nested_folders_with_long_names_of_multibyte_characters_are_removed(tmp_path: Path) -> None:
    folders = create_job_folder(tmp_path)
    code = "import os\nfor _ in range(40):\n os.mkdir('漢' * 85); os.chdir('漢' * 85); open('f', 'w').close()"
    subprocess.run([sys.executable, "-c", code], cwd=folders.root, check=True)
    remove_job_folder(folders)
    assert list(tmp_path.iterdir()) == []


def test_write_protected_folders_are_removed_even_if_the_user_is_not_root() -> None:
    code = (
        "import os, tempfile\n"
        "from pathlib import Path\n"
        "from distributed_something.worker.attempt import work_folder\n"
        f"if os.getuid() == 0: os.setuid({NOBODY})\n"
        "with tempfile.TemporaryDirectory() as work_dir:\n"
        "    folders = work_folder.build_job_folders(Path(work_dir))\n"
        "    work_folder.make_job_folder(folders)\n"
        "    inner = folders.root / 'a' / 'b'\n"
        "    inner.mkdir(parents=True)\n"
        "    (inner / 'f').touch()\n"
        "    for path in (inner / 'f', inner, inner.parent, folders.root): path.chmod(0)\n"
        "    work_folder.remove_job_folder(folders)\n"
        "    print(os.listdir(work_dir))\n"
    )
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert process.stdout == "[]\n"


def test_a_folder_that_cannot_be_removed_is_logged_and_no_error_is_raised(
    tmp_path: Path, worker_log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: str) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(work_folder.os, "rmdir", fail)
    remove_job_folder(create_job_folder(tmp_path))
    assert "a job's file or folder cannot be removed: no" in worker_log.text


def test_an_attempt_that_never_began_has_nothing_to_remove(
    tmp_path: Path, worker_log: pytest.LogCaptureFixture
) -> None:
    remove_job_folder(build_job_folders(tmp_path))
    assert worker_log.text == ""
