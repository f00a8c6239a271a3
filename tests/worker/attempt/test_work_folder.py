"""A job's own folder goes after it, whatever its program made there."""

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


def made(work_dir: Path) -> Folders:
    folders = build_job_folders(work_dir)
    make_job_folder(folders)
    return folders


def test_each_attempt_has_an_empty_folder_of_its_own(tmp_path: Path) -> None:
    one, other = made(tmp_path), made(tmp_path)
    assert one.root != other.root
    assert list(one.root.iterdir()) == []


def test_files_folders_links_and_pipes_are_removed_and_what_a_link_points_to_is_not(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "a").touch()
    folders = made(tmp_path)
    folders.output_dir.mkdir()
    (folders.output_dir / "a\nb").touch()
    (folders.output_dir / "l").symlink_to(kept)
    os.mkfifo(folders.root / "p")
    folders.log.touch()
    remove_job_folder(folders)
    assert list(tmp_path.iterdir()) == [kept]
    assert list(kept.iterdir()) == [kept / "a"]


def test_a_folder_that_its_program_made_a_link_of_is_removed_and_what_it_points_to_is_not(tmp_path: Path) -> None:
    folders, kept = made(tmp_path), tmp_path / "kept"
    folders.root.rename(kept)
    (kept / "a").touch()
    folders.root.symlink_to(kept)
    remove_job_folder(folders)
    assert list(tmp_path.iterdir()) == [kept]
    assert list(kept.iterdir()) == [kept / "a"]


def test_a_thousand_folders_in_each_other_are_removed(tmp_path: Path) -> None:
    folders = made(tmp_path)
    make = "import os\nfor _ in range(1100):\n os.mkdir('deep'); os.chdir('deep')"  # longer than a path may be
    subprocess.run([sys.executable, "-c", make], cwd=folders.root, check=True)
    remove_job_folder(folders)
    assert list(tmp_path.iterdir()) == []


def test_folders_with_long_names_of_any_letters_are_removed(tmp_path: Path) -> None:
    folders = made(tmp_path)
    make = "import os\nfor _ in range(40):\n os.mkdir('漢' * 85); os.chdir('漢' * 85); open('f', 'w').close()"
    subprocess.run([sys.executable, "-c", make], cwd=folders.root, check=True)
    remove_job_folder(folders)
    assert list(tmp_path.iterdir()) == []


def test_a_user_other_than_root_removes_what_its_programs_locked() -> None:
    code = (
        "import os, tempfile\n"
        "from pathlib import Path\n"
        "from distributed_something.worker.attempt import work_folder\n"
        f"if os.getuid() == 0: os.setuid({NOBODY})\n"
        "with tempfile.TemporaryDirectory() as place:\n"
        "    folders = work_folder.build_job_folders(Path(place))\n"
        "    work_folder.make_job_folder(folders)\n"
        "    inner = folders.root / 'a' / 'b'\n"
        "    inner.mkdir(parents=True)\n"
        "    (inner / 'f').touch()\n"
        "    for path in (inner / 'f', inner, inner.parent, folders.root): path.chmod(0)\n"
        "    work_folder.remove_job_folder(folders)\n"
        "    print(os.listdir(place))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_what_cannot_be_removed_is_told_and_nothing_is_raised(
    tmp_path: Path, worker_log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: str) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(work_folder.os, "rmdir", refuse)
    remove_job_folder(made(tmp_path))
    assert "what a job made cannot be removed: no" in worker_log.text


def test_of_an_attempt_that_was_never_begun_there_is_nothing_to_remove(
    tmp_path: Path, worker_log: pytest.LogCaptureFixture
) -> None:
    remove_job_folder(build_job_folders(tmp_path))
    assert worker_log.text == ""
