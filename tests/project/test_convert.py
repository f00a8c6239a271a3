"""Projects of older forms, which had a copy of all code: upgrade converts them and keeps what was edited."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from distributed_something.cli.context import ExitCode
from distributed_something.project import convert
from tests.support.offline import run_command

MARKER = "# ---- The machinery, from here on: nothing to edit."
MAKEFILE = f"user = ada\nproject = reads\ntag = 1\nbase = bio/seqtk:1.4\n\n{MARKER}\nbuild:\n\tdocker build .\n"
DOCKERFILE = (
    f"ARG BASE_IMAGE=debian\nFROM ${{BASE_IMAGE}} AS program\nRUN touch /mine\n\n{MARKER}\nFROM debian AS worker\n"
)
WORKER = "import sys\n{line}\n\nsys.exit(serve())\n"
FORMS = {
    "control": (
        "control/jobs.py", "localcloud/cloud.py", "worker/machinery/job.py",
        "from machinery import serve\nfrom machinery.checks import usual_failure",
    ),
    "copied package": (
        "distributed_something/cli/main.py", "distributed_something/worker/job.py", "distributed_something/a.sh",
        "from distributed_something.worker import serve",
    ),
}  # fmt: skip


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def project(tmp_path: Path, form: str) -> Path:
    """Return a project as newProject of an older version created it, with edits in the user's files."""
    *code, import_line = FORMS[form]
    shipped = {
        name: f"# {name}\n" for name in (*code, "run.py", "LICENSE", "docs/commands.md", "files/requirements.txt")
    }
    shipped |= {"Makefile": MAKEFILE, "worker/Dockerfile": DOCKERFILE, "worker/.dockerignore": "*\n"}
    own = {
        "config.py": "APP_NAME = 'Reads'\n", "files/exampleJob.json": "{}", "README.md": "mine",
        "worker/generic-worker.py": WORKER.format(line=import_line), "worker/scripts/mine.sh": "",
        ".gitignore": "local/\n",
    }  # fmt: skip
    folder = tmp_path / "reads"
    for name, text in (shipped | own).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    digests = {
        name: hashlib.sha256((text[text.index(MARKER) :] if MARKER in text else text).encode()).hexdigest()
        for name, text in shipped.items()
    }
    (folder / ".machinery.json").write_text(json.dumps({"files": digests, "config_keys": [], "hooks": {}}))
    return folder


def list_files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_copied_code_becomes_one_wheel_and_the_users_files_stay(project: Path) -> None:
    kept = ("config.py", "files/exampleJob.json", "README.md", "worker/generic-worker.py", "worker/scripts/mine.sh")
    before = {name: (project / name).read_bytes() for name in kept}
    outcome = run_command("--project", str(project), "upgrade")
    assert outcome.code == ExitCode.DONE, outcome.err
    assert list_files(project) == {
        *kept, ".gitignore", "LICENSE", "Makefile", "requirements.txt", "run.py", "worker/Dockerfile",
        "vendor/distributed_something-1.0.0-py3-none-any.whl",
    }  # fmt: skip
    assert {name: (project / name).read_bytes() for name in kept} == before
    assert not any((project / name).exists() for name in ("control", "docs", "localcloud", "distributed_something"))


def test_the_users_part_of_the_dockerfile_stays_with_the_base_image_of_the_makefile(project: Path) -> None:
    run_command("--project", str(project), "upgrade")
    dockerfile = (project / "worker" / "Dockerfile").read_text()
    assert dockerfile == "ARG BASE_IMAGE=bio/seqtk:1.4\nFROM ${BASE_IMAGE} AS program\nRUN touch /mine\n"
    assert "buildImage" in (project / "Makefile").read_text()


def test_the_import_lines_to_edit_are_named(project: Path, form: str) -> None:
    lines = run_command("--project", str(project), "upgrade").out.splitlines()
    edits = [line for line in lines if line.startswith("EDIT")]
    remedy = "import from distributed_something.worker, not machinery"
    expected = [f"EDIT            worker/generic-worker.py, line {line}: {remedy}" for line in (2, 3)]
    readme = "EDIT            README.md, if it still describes the older form"
    assert edits == [*(expected if form == "control" else []), readme]
    assert lines[0].startswith("converted       ")


def test_edited_code_stops_the_conversion_before_anything_changes(project: Path, form: str) -> None:
    path = project / FORMS[form][0]
    path.write_text(path.read_text() + "# mine\n")
    before = {name: (project / name).read_bytes() for name in list_files(project)}
    outcome = run_command("--project", str(project), "upgrade")
    assert outcome.code == ExitCode.INPUT
    assert f"upgrade would delete your edits in: {FORMS[form][0]}; commit them" in outcome.err
    assert {name: (project / name).read_bytes() for name in list_files(project)} == before
    assert run_command("--project", str(project), "upgrade", "--force").code == ExitCode.DONE
    assert not path.exists()


def test_an_edited_shipped_part_of_the_makefile_is_an_edit(project: Path) -> None:
    (project / "Makefile").write_text(MAKEFILE + "mine:\n\techo\n")
    outcome = run_command("--project", str(project), "upgrade")
    assert "upgrade would delete your edits in: Makefile;" in outcome.err


def test_a_target_that_the_user_added_to_the_makefile_is_an_edit(project: Path) -> None:
    (project / "Makefile").write_text(MAKEFILE.replace(MARKER, f"mine:\n\techo\n\n{MARKER}"))
    outcome = run_command("--project", str(project), "upgrade")
    assert (outcome.code, "upgrade would delete your edits in: Makefile;" in outcome.err) == (ExitCode.INPUT, True)


@pytest.mark.parametrize("interrupted_step", ["write_requirements", "_copy_new_files", "_delete_empty_folders"])
def test_the_same_command_completes_an_interrupted_conversion(
    project: Path, interrupted_step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(convert, interrupted_step, fail)
        outcome = run_command("--project", str(project), "upgrade")
        assert (outcome.code, "run the same command again" in outcome.err) == (ExitCode.CLOUD, True)
    assert run_command("--project", str(project), "upgrade").code == ExitCode.DONE
    dockerfile = (project / "worker" / "Dockerfile").read_text()
    assert dockerfile == "ARG BASE_IMAGE=bio/seqtk:1.4\nFROM ${BASE_IMAGE} AS program\nRUN touch /mine\n"
    assert not any((project / name).exists() for name in ("control", "docs", "localcloud", ".machinery.json"))


def test_a_project_is_converted_by_its_relative_path(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.parent)
    outcome = run_command("--project", project.name, "upgrade")
    assert outcome.code == ExitCode.DONE, outcome.err
    assert (project / "vendor" / "distributed_something-1.0.0-py3-none-any.whl").is_file()


def test_files_that_the_user_added_to_the_older_folders_stay(project: Path, form: str) -> None:
    path = project / Path(FORMS[form][0]).parent / "mine.py"
    path.write_text("mine")
    run_command("--project", str(project), "upgrade")
    assert path.read_text() == "mine"


def test_the_requirements_of_the_program_are_kept_under_another_name(project: Path) -> None:
    (project / "requirements.txt").write_text("Pillow\n")
    run_command("--project", str(project), "upgrade")
    assert (project / "program-requirements.txt").read_text() == "Pillow\n"
    assert "./vendor/distributed_something-" in (project / "requirements.txt").read_text()


def test_files_of_the_users_may_be_in_any_encoding(project: Path) -> None:
    requirements, ignored = "# -*- coding: latin-1 -*-\n# für Bilder\nPillow\n", "été/\r\n*.pyc\r\n"
    (project / "requirements.txt").write_bytes(requirements.encode("latin-1"))
    (project / ".gitignore").write_bytes(ignored.encode("latin-1"))
    outcome = run_command("--project", str(project), "upgrade")
    assert (outcome.code, outcome.err) == (ExitCode.DONE, "")
    assert (project / "program-requirements.txt").read_bytes() == requirements.encode("latin-1")
    lines = (project / ".gitignore").read_bytes().splitlines()
    assert lines[:2] == ignored.encode("latin-1").splitlines()
    assert (lines.count(b"*.pyc"), b".venv" in lines) == (1, True)


def test_a_gitignore_without_a_newline_at_its_end_keeps_its_last_line(project: Path) -> None:
    (project / ".gitignore").write_text("local/\nmine")
    run_command("--project", str(project), "upgrade")
    assert "mine" in (project / ".gitignore").read_text().splitlines()


@pytest.mark.parametrize("name", ["Makefile", "worker/Dockerfile"])
def test_a_file_that_must_be_understood_is_checked_before_anything_changes(project: Path, name: str) -> None:
    """Even if the record of shipped files does not name it."""
    record = json.loads((project / ".machinery.json").read_text())
    del record["files"][name]
    (project / ".machinery.json").write_text(json.dumps(record))
    (project / name).write_bytes((project / name).read_bytes() + "# für mich\n".encode("latin-1"))
    before = {name: (project / name).read_bytes() for name in list_files(project)}
    outcome = run_command("--project", str(project), "upgrade")
    assert outcome.code == ExitCode.INPUT
    assert f"{name}: byte " in outcome.err
    assert "this is not UTF-8 text; save the file as UTF-8" in outcome.err
    assert {name: (project / name).read_bytes() for name in list_files(project)} == before


def test_requirements_that_were_kept_before_are_not_overwritten(project: Path) -> None:
    (project / "requirements.txt").write_text("Pillow\n")
    (project / "program-requirements.txt").write_text("numpy\n")
    before = {name: (project / name).read_bytes() for name in list_files(project)}
    outcome = run_command("--project", str(project), "upgrade")
    problem = "requirements.txt must be renamed to program-requirements.txt, which exists already"
    assert (outcome.code, problem in outcome.err) == (ExitCode.INPUT, True)
    assert {name: (project / name).read_bytes() for name in list_files(project)} == before


def test_a_dry_run_lists_the_files_to_delete_and_changes_nothing(project: Path, form: str) -> None:
    before = list_files(project)
    outcome = run_command("--project", str(project), "upgrade", "--dry-run")
    assert f"delete          {FORMS[form][0]}" in outcome.out.splitlines()
    assert list_files(project) == before


def test_a_converted_project_is_upgraded_like_a_new_one(project: Path) -> None:
    run_command("--project", str(project), "upgrade")
    assert (
        run_command("--project", str(project), "upgrade").out == "the project already has this version of the package\n"
    )


@pytest.mark.parametrize("content", ["[]", "{}", "{"])
def test_an_invalid_record_of_shipped_files_is_reported(project: Path, content: str) -> None:
    (project / ".machinery.json").write_text(content)
    outcome = run_command("--project", str(project), "upgrade")
    assert (outcome.code, ".machinery.json: " in outcome.err) == (ExitCode.INPUT, True)


def test_a_record_that_names_files_outside_the_project_deletes_none_of_them(project: Path) -> None:
    outside = project.parent / "outside.txt"
    outside.write_text("mine")
    record = json.loads((project / ".machinery.json").read_text())
    record["files"]["../outside.txt"] = hashlib.sha256(b"mine").hexdigest()
    (project / ".machinery.json").write_text(json.dumps(record))
    assert run_command("--project", str(project), "upgrade").code == ExitCode.DONE
    assert outside.exists()
