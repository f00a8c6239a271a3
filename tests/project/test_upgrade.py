"""upgrade: it replaces shipped files, keeps the developer's files, and reports changes for the developer."""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as run_with
from hypothesis import strategies as st

from distributed_something.cli.context import ExitCode
from distributed_something.core.errors import InputError, UserFacingError
from distributed_something.core.files import write_file_atomically
from distributed_something.project import shipped_files
from distributed_something.project.hook_signatures import format_hook_changes
from distributed_something.project.new import ProjectSpec, make_project, parse_image_option
from distributed_something.project.shipped_files import (
    MACHINERY_MARKER,
    NOTE_FILE_NAME,
    TWO_PART_FILES,
    join_parts,
    read_machinery,
    read_machinery_note,
    split_parts,
)
from distributed_something.project.upgrade import apply_upgrade, check_no_edits, format_upgrade_notes, plan_upgrade
from tests.support.offline import run_command
from tests.support.paths import ROOT

IGNORED = shutil.ignore_patterns(
    ".git", ".venv", "local", "tests", "__pycache__", "examples", ".*_cache", ".hypothesis"
)
EDITED = ("config.py", "files/exampleJob.json", "files/exampleFleet.json", "worker/generic-worker.py", "README.md",
          "worker/requirements-own.txt", "worker/scripts/own.sh", "distributed_something/mine.py",
          "worker/helpers.py")  # fmt: skip

CHANGED, REMOVED, ADDED = (f"distributed_something/{name}.py" for name in ("jobs/job_file", "core/text", "core/new"))
UNCHANGED = "distributed_something/aws/sqs.py"  # the same in the newer template
WORKER = "distributed_something/worker/job/job.py"
RUN_WORKER = "distributed_something/worker/image/run-worker.sh"


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """Return a copy of this template that a test can change."""
    shutil.copytree(ROOT, tmp_path / "template", ignore=IGNORED)
    return tmp_path / "template"


@pytest.fixture
def project(tmp_path: Path, template: Path) -> Path:
    """Return a project created from the template, with edits in each file that belongs to the developer."""
    make_project(template, tmp_path / "mine", ProjectSpec("Mine", parse_image_option("ada/mine:1")))
    for name in EDITED:
        with (tmp_path / "mine" / name).open("a") as file:
            file.write("\n# mine\n")
    for name in TWO_PART_FILES:
        path = tmp_path / "mine" / name
        path.write_text(f"# mine\n{path.read_text()}")
    return tmp_path / "mine"


def change_template(template: Path) -> None:
    """Change, add, and remove files, as in a newer version of the template."""
    append_text(template / CHANGED, "# newer\n")
    append_text(template / WORKER, "# newer\n")
    append_text(template / RUN_WORKER, "# newer\n")
    append_text(template / "files" / "requirements.txt", "# newer\n")
    append_text(template / "config.py", "# newer\n")
    append_text(template / "worker" / "generic-worker.py", "# newer\n")
    (template / ADDED).write_text("# newer\n")
    (template / REMOVED).unlink()
    for name in TWO_PART_FILES:
        path = template / name
        path.write_text(path.read_text().replace(MACHINERY_MARKER, f"# the template's own\n{MACHINERY_MARKER}", 1))
        own, machinery = split_parts(path.read_text(), path)
        path.write_text(join_parts(own, f"{machinery}# newer\n"))


def append_text(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def read_contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run_upgrade(template: Path, project: Path) -> list[str]:
    """Upgrade the project and return the notes for the developer."""
    plan = plan_upgrade(template, project)
    notes = list(format_upgrade_notes(plan, template, project))
    check_no_edits(plan, project)
    apply_upgrade(plan, project)
    return notes


def test_shipped_files_are_replaced_and_the_developers_files_stay_unchanged(template: Path, project: Path) -> None:
    change_template(template)
    before = read_contents(project)
    run_upgrade(template, project)
    assert read_machinery(project).items() >= read_machinery(template).items()
    after = read_contents(project)
    assert {name: after[name] for name in EDITED} == {name: before[name] for name in EDITED}
    for name in TWO_PART_FILES:
        assert split_parts(after[name].decode(), name).own == split_parts(before[name].decode(), name).own
        assert after[name].decode().endswith("# newer\n")
        assert "# the template's own" not in after[name].decode()
    assert REMOVED not in after
    assert after[ADDED] == b"# newer\n"


def test_file_modes_are_those_of_the_template(template: Path, project: Path) -> None:
    change_template(template)
    (template / ADDED).chmod(0o755)
    run_upgrade(template, project)
    executable = [name for name in (RUN_WORKER, ADDED, CHANGED) if (project / name).stat().st_mode & stat.S_IXUSR]
    assert executable == [RUN_WORKER, ADDED]


def test_a_second_upgrade_changes_nothing(template: Path, project: Path) -> None:
    change_template(template)
    run_upgrade(template, project)
    before = read_contents(project)
    plan = plan_upgrade(template, project)
    assert plan.changed == []
    assert run_upgrade(template, project) == []
    assert read_contents(project) == before


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        (CHANGED, lambda path: append_text(path, "# mine\n")),
        (REMOVED, lambda path: append_text(path, "# mine\n")),  # removed in the newer template
        ("worker/Dockerfile", lambda path: append_text(path, "RUN mine\n")),
        (ADDED, lambda path: path.write_text("# mine\n")),  # the newer template adds a file with this name
    ],
)
def test_an_edited_shipped_file_prevents_the_upgrade(
    template: Path, project: Path, name: str, edit: Callable[[Path], None]
) -> None:
    change_template(template)
    edit(project / name)
    before = read_contents(project)
    with pytest.raises(InputError) as caught:
        run_upgrade(template, project)
    assert str(caught.value).startswith(
        f"{project}: upgrade would overwrite your edits in: {name}; move them to files of your own"
    )
    assert read_contents(project) == before


def test_an_edit_in_a_file_that_does_not_change_is_kept(template: Path, project: Path) -> None:
    append_text(template / CHANGED, "# newer\n")
    append_text(project / UNCHANGED, "# mine\n")
    append_text(template / UNCHANGED, "# mine\n")  # the newer template contains the same edit
    run_upgrade(template, project)
    assert (project / UNCHANGED).read_text().endswith("# mine\n")


@run_with(derandomize=True, deadline=None, max_examples=12, database=None)
@given(stops=st.lists(st.integers(0, 12), min_size=1, max_size=3))
def test_the_same_command_completes_an_upgrade_that_was_interrupted_anywhere(
    tmp_path_factory: pytest.TempPathFactory, stops: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("interrupted")
    shutil.copytree(ROOT, folder / "template", ignore=IGNORED)
    make_project(folder / "template", folder / "mine", ProjectSpec("Mine", parse_image_option("ada/mine:1")))
    change_template(folder / "template")
    for stop in stops:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shipped_files, "write_file_atomically", fail_after(stop, write_file_atomically))
            plan = plan_upgrade(folder / "template", folder / "mine")
            check_no_edits(plan, folder / "mine")
            if plan.changed and stop < len(plan.added) + len(plan.replaced):
                with pytest.raises(UserFacingError, match="type the same command again to complete the upgrade"):
                    apply_upgrade(plan, folder / "mine")
    run_upgrade(folder / "template", folder / "mine")
    assert read_machinery(folder / "mine") == read_machinery(folder / "template")
    assert plan_upgrade(folder / "template", folder / "mine").changed == []


def fail_after(count: int, write_file: Callable[..., None]) -> Callable[..., None]:
    calls = iter(range(count))

    def write_until_full(path: Path, content: bytes, *, executable: bool = False) -> None:
        if next(calls, None) is None:
            raise OSError(28, "No space left on device")
        write_file(path, content, executable=executable)

    return write_until_full


def test_without_a_record_of_shipped_files_nothing_is_overwritten_unless_forced(template: Path, project: Path) -> None:
    change_template(template)
    (project / NOTE_FILE_NAME).unlink()
    with pytest.raises(
        InputError, match=rf"\.machinery\.json is missing, and these files differ.*{CHANGED}.*then add --force"
    ):
        run_upgrade(template, project)
    apply_upgrade(plan_upgrade(template, project), project)
    assert read_machinery_note(project) is not None
    assert plan_upgrade(template, project).changed == []


def test_an_invalid_record_of_shipped_files_is_rejected(template: Path, project: Path) -> None:
    (project / NOTE_FILE_NAME).write_text(json.dumps({"files": 3}))
    with pytest.raises(
        InputError, match=r"\.machinery\.json: this file was changed after newProject or upgrade wrote it"
    ):
        plan_upgrade(template, project)


def test_a_deleted_makefile_is_not_created_again(template: Path, project: Path) -> None:
    change_template(template)
    (project / "Makefile").unlink()
    run_upgrade(template, project)
    assert not (project / "Makefile").exists()


# Notes for the developer


def test_new_and_removed_config_keys_are_reported(template: Path, project: Path) -> None:
    note = json.loads((project / NOTE_FILE_NAME).read_text())
    note["config_keys"] = [key for key in note["config_keys"] if key not in ("MAX_COST", "OWNER")] + [
        "OLD_KEY",
        "OTHER",
    ]
    (project / NOTE_FILE_NAME).write_text(json.dumps(note))
    config = project / "config.py"
    config.write_text(config.read_text().replace("OWNER = ", "MY_OWNER = ") + "OTHER = 3\n")
    notes = run_upgrade(template, project)
    assert any(
        line.startswith("config          new: MAX_COST = 0  # USD") and "your config already sets it" in line
        for line in notes
    )
    assert any(line.startswith("config          new: OWNER = ''  #") and "already" not in line for line in notes)
    assert "config          removed: OLD_KEY" in notes
    assert (
        "config          removed: OTHER; in your config, it is now one of your own constants for the program" in notes
    )


def test_changed_hooks_are_reported_even_if_the_developer_edited_them(template: Path, project: Path) -> None:
    worker = template / "worker" / "generic-worker.py"
    text = worker.read_text().replace(
        "def prepare(job: Job, folders: Folders)", "def prepare(job: Job, folders: Folders, *, n: int = 1)"
    )
    text = re.sub(r'(def failure\(.*\n    """)', r"\1Now different. ", text)
    worker.write_text(
        text.replace(
            'if __name__ == "__main__"', 'def after(job: Job) -> None:\n    pass\n\n\nif __name__ == "__main__"'
        )
    )
    shutil.copy(project / "worker" / "generic-worker.py", project / "mine.py")
    notes = run_upgrade(template, project)
    hint = ": see worker/generic-worker.py in the template"
    assert [line for line in notes if line.startswith("hook")] == [
        f"hook            prepare(job, folders) is now prepare(job, folders, *, n=1){hint}",
        f"hook            failure(job, folders, result) has a new description{hint}",
        f"hook            after(job) is new{hint}",
    ]  # fmt: skip
    assert (project / "mine.py").read_bytes() == (project / "worker" / "generic-worker.py").read_bytes()


def test_the_next_steps_are_reported(template: Path, project: Path) -> None:
    append_text(template / CHANGED, "# newer\n")
    assert run_upgrade(template, project) == []
    append_text(template / WORKER, "# newer\n")
    assert run_upgrade(template, project) == ["next: make build push, so that machines run the new worker"]
    change_template(template)
    assert run_upgrade(template, project) == [
        "next: make venv, to install the packages that run.py now needs",
        "next: make build push, so that machines run the new worker",
    ]


def test_only_removed_hooks_are_reported_if_nothing_else_changed() -> None:
    before = {"f": {"signature": "f(a, b=1)", "docstring": "x"}, "g": {"signature": "g()", "docstring": "x"}}
    assert list(format_hook_changes(before, before)) == []
    assert list(format_hook_changes(before, {"f": before["f"]})) == ["g() was removed"]


# The command line


def test_the_run_py_of_the_newer_template_upgrades_a_project(template: Path, project: Path) -> None:
    change_template(template)
    (template / REMOVED).write_text((ROOT / REMOVED).read_text())
    command = [sys.executable, str(template / "run.py"), "--project", str(project), "upgrade"]
    dry_run = subprocess.run([*command, "--dry-run"], capture_output=True, text=True, timeout=60, check=False)
    assert dry_run.returncode == 0, dry_run.stderr
    assert "replace         worker/Dockerfile\n" in dry_run.stdout
    assert f"add             {ADDED}\n" in dry_run.stdout
    assert plan_upgrade(template, project).changed
    append_text(project / UNCHANGED, "# mine\n")
    append_text(template / UNCHANGED, "# newer\n")
    rejected = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert rejected.returncode == ExitCode.INPUT
    assert f"{UNCHANGED}; move them to files of your own (docs/your-own.md), or add --force" in rejected.stderr
    completed = subprocess.run([*command, "--force"], capture_output=True, text=True, timeout=60, check=False)
    assert completed.returncode == 0, completed.stderr
    assert "1 added, 0 removed" in completed.stderr
    assert "next: make build push" in completed.stdout
    assert plan_upgrade(template, project).changed == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "a project is upgraded from the template, not from a project; type this in a newer clone"),
        (
            ["--project", str(ROOT / "examples" / "cellcount")],
            "run.py or distributed_something/ is missing in this folder",
        ),
    ],
)
def test_a_folder_that_is_not_a_project_is_rejected(words: list[str], message: str) -> None:
    outcome = run_command(*words, "upgrade")
    assert (outcome.code, message in outcome.err) == (ExitCode.INPUT, True)


def test_a_project_cannot_upgrade_another(template: Path, project: Path) -> None:
    with pytest.raises(InputError, match="a project is upgraded from the template, not from a project"):
        plan_upgrade(project, template)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (MACHINERY_MARKER, "# ----", "there is no line that begins with"),
        (" AS program", "", "the part above the marker line has no stage `program`"),
    ],
)
def test_a_dockerfile_without_a_marker_line_or_the_stage_program_is_rejected(
    template: Path, project: Path, old: str, new: str, problem: str
) -> None:
    path = project / "worker" / "Dockerfile"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(InputError, match=rf"worker/Dockerfile: .*{problem}"):
        plan_upgrade(template, project)
