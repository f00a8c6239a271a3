"""upgrade: a newer machinery comes in whole, what is the developer's stays, and what is new is said."""

from __future__ import annotations

import json
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
from tests.support.offline import type_command
from tests.support.paths import ROOT

IGNORED = shutil.ignore_patterns(
    ".git", ".venv", "local", "tests", "__pycache__", "examples", ".*_cache", ".hypothesis"
)
EDITED = ("config.py", "files/exampleJob.json", "files/exampleFleet.json", "worker/generic-worker.py", "README.md",
          "worker/requirements-own.txt", "worker/scripts/own.sh", "distributed_something/mine.py",
          "worker/helpers.py")  # fmt: skip

CHANGED, REMOVED, ADDED = (f"distributed_something/{name}.py" for name in ("jobs/job_file", "core/text", "core/new"))
OTHER = "distributed_something/aws/sqs.py"  # which the newer one leaves alone
WORKER = "distributed_something/worker/job/job.py"
RUN_WORKER = "distributed_something/worker/image/run-worker.sh"


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """A copy of this template, to make a newer one of."""
    shutil.copytree(ROOT, tmp_path / "template", ignore=IGNORED)
    return tmp_path / "template"


@pytest.fixture
def project(tmp_path: Path, template: Path) -> Path:
    """An implementation made of it, with edits in every place that is the developer's."""
    make_project(template, tmp_path / "mine", ProjectSpec("Mine", parse_image_option("ada/mine:1")))
    for name in EDITED:
        with (tmp_path / "mine" / name).open("a") as file:
            file.write("\n# mine\n")
    for name in TWO_PART_FILES:
        path = tmp_path / "mine" / name
        path.write_text(f"# mine\n{path.read_text()}")
    return tmp_path / "mine"


def newer(template: Path) -> None:
    """The template a year later."""
    append(template / CHANGED, "# newer\n")
    append(template / WORKER, "# newer\n")
    append(template / RUN_WORKER, "# newer\n")
    append(template / "files" / "requirements.txt", "# newer\n")
    append(template / "config.py", "# newer\n")
    append(template / "worker" / "generic-worker.py", "# newer\n")
    (template / ADDED).write_text("# newer\n")
    (template / REMOVED).unlink()
    for name in TWO_PART_FILES:
        path = template / name
        path.write_text(path.read_text().replace(MACHINERY_MARKER, f"# the template's own\n{MACHINERY_MARKER}", 1))
        own, below = split_parts(path.read_text(), path)
        path.write_text(join_parts(own, f"{below}# newer\n"))


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def upgraded(template: Path, project: Path) -> list[str]:
    """What is said after it."""
    planned = plan_upgrade(template, project)
    said = list(format_upgrade_notes(planned, template, project))
    check_no_edits(planned, project)
    apply_upgrade(planned, project)
    return said


def test_the_machinery_is_the_newer_one_and_every_edited_file_is_as_it_was(template: Path, project: Path) -> None:
    newer(template)
    before = contents(project)
    upgraded(template, project)
    assert read_machinery(project).items() >= read_machinery(template).items()
    after = contents(project)
    assert {name: after[name] for name in EDITED} == {name: before[name] for name in EDITED}
    for name in TWO_PART_FILES:
        assert split_parts(after[name].decode(), name).own == split_parts(before[name].decode(), name).own
        assert after[name].decode().endswith("# newer\n")
        assert "# the template's own" not in after[name].decode()
    assert REMOVED not in after
    assert after[ADDED] == b"# newer\n"


def test_rights_of_files_are_kept(template: Path, project: Path) -> None:
    newer(template)
    (template / ADDED).chmod(0o755)
    upgraded(template, project)
    executable = [name for name in (RUN_WORKER, ADDED, CHANGED) if (project / name).stat().st_mode & stat.S_IXUSR]
    assert executable == [RUN_WORKER, ADDED]


def test_a_second_upgrade_has_nothing_to_do(template: Path, project: Path) -> None:
    newer(template)
    upgraded(template, project)
    before = contents(project)
    planned = plan_upgrade(template, project)
    assert planned.changed == []
    assert upgraded(template, project) == []
    assert contents(project) == before


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        (CHANGED, lambda path: append(path, "# mine\n")),
        (REMOVED, lambda path: append(path, "# mine\n")),  # gone in the newer one
        ("worker/Dockerfile", lambda path: append(path, "RUN mine\n")),
        (ADDED, lambda path: path.write_text("# mine\n")),  # a name that the newer one takes
    ],
)
def test_an_edit_of_the_machinery_stops_it_before_anything_is_done(
    template: Path, project: Path, name: str, edit: Callable[[Path], None]
) -> None:
    newer(template)
    edit(project / name)
    before = contents(project)
    with pytest.raises(InputError) as caught:
        upgraded(template, project)
    assert str(caught.value).startswith(
        f"{project}: the machinery was edited here, and that would be lost: {name}; move it to files of your own"
    )
    assert contents(project) == before


def test_an_edit_that_the_newer_machinery_does_not_touch_stays_without_a_word(template: Path, project: Path) -> None:
    append(template / CHANGED, "# newer\n")
    append(project / OTHER, "# mine\n")
    append(template / OTHER, "# mine\n")  # or which it brings itself
    upgraded(template, project)
    assert (project / OTHER).read_text().endswith("# mine\n")


@run_with(derandomize=True, deadline=None, max_examples=12, database=None)
@given(stops=st.lists(st.integers(0, 12), min_size=1, max_size=3))
def test_interrupted_anywhere_and_again_the_same_command_completes_it(
    tmp_path_factory: pytest.TempPathFactory, stops: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("interrupted")
    shutil.copytree(ROOT, folder / "template", ignore=IGNORED)
    make_project(folder / "template", folder / "mine", ProjectSpec("Mine", parse_image_option("ada/mine:1")))
    newer(folder / "template")
    for stop in stops:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shipped_files, "write_file_atomically", failing_after(stop, write_file_atomically))
            planned = plan_upgrade(folder / "template", folder / "mine")
            check_no_edits(planned, folder / "mine")
            if planned.changed and stop < len(planned.added) + len(planned.replaced):
                with pytest.raises(UserFacingError, match="type the same command again to complete it"):
                    apply_upgrade(planned, folder / "mine")
    upgraded(folder / "template", folder / "mine")
    assert read_machinery(folder / "mine") == read_machinery(folder / "template")
    assert plan_upgrade(folder / "template", folder / "mine").changed == []


def failing_after(count: int, put: Callable[..., None]) -> Callable[..., None]:
    left = iter(range(count))

    def limited(path: Path, content: bytes, *, executable: bool = False) -> None:
        if next(left, None) is None:
            raise OSError(28, "No space left on device")
        put(path, content, executable=executable)

    return limited


def test_without_a_note_nothing_is_overwritten_unless_it_is_forced(template: Path, project: Path) -> None:
    newer(template)
    (project / NOTE_FILE_NAME).unlink()
    with pytest.raises(InputError, match=rf"nothing notes which machinery it has.*{CHANGED}.*then add --force"):
        upgraded(template, project)
    apply_upgrade(plan_upgrade(template, project), project)
    assert read_machinery_note(project) is not None
    assert plan_upgrade(template, project).changed == []


def test_a_note_that_was_broken_is_named(template: Path, project: Path) -> None:
    (project / NOTE_FILE_NAME).write_text(json.dumps({"files": 3}))
    with pytest.raises(InputError, match=r"\.machinery\.json: this is not what newProject or upgrade wrote"):
        plan_upgrade(template, project)


def test_a_makefile_that_was_deleted_stays_so(template: Path, project: Path) -> None:
    newer(template)
    (project / "Makefile").unlink()
    upgraded(template, project)
    assert not (project / "Makefile").exists()


# What is said


def test_a_key_of_the_config_that_is_new_or_gone_is_said(template: Path, project: Path) -> None:
    note = json.loads((project / NOTE_FILE_NAME).read_text())
    note["config_keys"] = [key for key in note["config_keys"] if key not in ("MAX_COST", "OWNER")] + [
        "OLD_KEY",
        "OTHER",
    ]
    (project / NOTE_FILE_NAME).write_text(json.dumps(note))
    config = project / "config.py"
    config.write_text(config.read_text().replace("OWNER = ", "MY_OWNER = ") + "OTHER = 3\n")
    said = upgraded(template, project)
    assert any(
        line.startswith("config          new: MAX_COST = 0  # USD") and "has it already" in line for line in said
    )
    assert any(line.startswith("config          new: OWNER = ''  #") and "already" not in line for line in said)
    assert "config          gone: OLD_KEY" in said
    assert "config          gone: OTHER; in your config it is now a constant of your own, for the program" in said


def test_a_hook_that_changed_is_said_whatever_the_developer_made_of_it(template: Path, project: Path) -> None:
    worker = template / "worker" / "generic-worker.py"
    text = worker.read_text().replace(
        "def prepare(job: Job, folders: Folders)", "def prepare(job: Job, folders: Folders, *, n: int = 1)"
    )
    text = text.replace("the reason why the job failed, or None", "the reason why this job failed, or None")
    worker.write_text(
        text.replace(
            'if __name__ == "__main__"', 'def after(job: Job) -> None:\n    pass\n\n\nif __name__ == "__main__"'
        )
    )
    shutil.copy(project / "worker" / "generic-worker.py", project / "mine.py")
    said = upgraded(template, project)
    where = ": see worker/generic-worker.py of the template"
    assert [line for line in said if line.startswith("hook")] == [
        f"hook            prepare(job, folders) is now prepare(job, folders, *, n=1){where}",
        f"hook            failure(job, folders, result) is described anew{where}",
        f"hook            after(job) is new{where}",
    ]  # fmt: skip
    assert (project / "mine.py").read_bytes() == (project / "worker" / "generic-worker.py").read_bytes()


def test_what_is_to_be_done_after_it_is_said(template: Path, project: Path) -> None:
    append(template / CHANGED, "# newer\n")
    assert upgraded(template, project) == []
    append(template / WORKER, "# newer\n")
    assert upgraded(template, project) == ["next: make build push, so that machines get the new worker"]
    newer(template)
    assert upgraded(template, project) == [
        "next: make venv, since run.py needs other packages",
        "next: make build push, so that machines get the new worker",
    ]


def test_a_hook_is_described_by_names_and_defaults_and_its_words_alone() -> None:
    before = {"f": {"signature": "f(a, b=1)", "docstring": "x"}, "g": {"signature": "g()", "docstring": "x"}}
    assert list(format_hook_changes(before, before)) == []
    assert list(format_hook_changes(before, {"f": before["f"]})) == ["g() is gone"]


# As it is typed


def test_the_newer_templates_own_run_py_does_it(template: Path, project: Path) -> None:
    newer(template)
    (template / REMOVED).write_text((ROOT / REMOVED).read_text())
    command = [sys.executable, str(template / "run.py"), "--project", str(project), "upgrade"]
    dry = subprocess.run([*command, "--dry-run"], capture_output=True, text=True, timeout=60, check=False)
    assert dry.returncode == 0, dry.stderr
    assert "replace         worker/Dockerfile\n" in dry.stdout
    assert f"add             {ADDED}\n" in dry.stdout
    assert plan_upgrade(template, project).changed
    append(project / OTHER, "# mine\n")
    append(template / OTHER, "# newer\n")
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == ExitCode.INPUT
    assert f"{OTHER}; move it to files of your own (docs/your-own.md), or add --force" in refused.stderr
    done = subprocess.run([*command, "--force"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 added, 0 removed" in done.stderr
    assert "next: make build push" in done.stdout
    assert plan_upgrade(template, project).changed == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "a newer machinery comes from a newer template; type it in the newer template"),
        (["--project", str(ROOT / "examples" / "cellcount")], "it has no run.py and distributed_something/ of its own"),
    ],
)
def test_what_is_no_implementation_is_named(words: list[str], said: str) -> None:
    outcome = type_command(*words, "upgrade")
    assert (outcome.code, said in outcome.err) == (ExitCode.INPUT, True)


def test_an_implementation_upgrades_nobody(template: Path, project: Path) -> None:
    with pytest.raises(InputError, match="a newer machinery comes from a newer template"):
        plan_upgrade(project, template)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (MACHINERY_MARKER, "# ----", "it has no line that begins with"),
        (" AS program", "", "the part above the marker line has no stage `program`"),
    ],
)
def test_a_dockerfile_that_lost_what_the_machinery_rests_on_is_named(
    template: Path, project: Path, old: str, new: str, said: str
) -> None:
    path = project / "worker" / "Dockerfile"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(InputError, match=rf"worker/Dockerfile: .*{said}"):
        plan_upgrade(template, project)
