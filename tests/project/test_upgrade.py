"""upgrade: it replaces the wheel of a project and reports what changed, and touches nothing else."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from distributed_something.cli.context import ExitCode
from distributed_something.core.errors import InputError, UserFacingError
from distributed_something.project import upgrade
from distributed_something.project.hook_signatures import format_hook_changes, parse_hooks, parse_settings_keys
from tests.support.offline import run_command

SETTINGS = "distributed_something/core/config_settings.py"
WORKER = "distributed_something/project/template/worker/generic-worker.py"
OLD_WHEEL = "distributed_something-0.9.0-py3-none-any.whl"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a project of an older version: without OWNER, with another key and another hook."""
    folder = tmp_path / "mine"
    assert run_command("newProject", str(folder), "--image", "ada/mine:1").code == 0
    (wheel,) = (folder / "vendor").iterdir()
    with zipfile.ZipFile(wheel) as current, zipfile.ZipFile(folder / "vendor" / OLD_WHEEL, "w") as older:
        for name in current.namelist():
            text = current.read(name)
            if name == SETTINGS:
                text = text.replace(b"    OWNER: ", b"    GRACE_PERIOD: int = 0\n    own_owner: ")
            if name == WORKER:
                text = text.replace(b"def prepare(job: Job, folders: Folders)", b"def prepare(job: Job)")
            older.writestr(name, text)
    requirements = folder / "requirements.txt"
    requirements.write_text(requirements.read_text().replace(wheel.name, OLD_WHEEL) + "pandas\n")
    wheel.unlink()
    (folder / "config.py").write_text((folder / "config.py").read_text() + "GRACE_PERIOD = 3\n")
    return folder


def read_contents(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_only_the_wheel_and_the_line_that_names_it_are_replaced(project: Path) -> None:
    before = read_contents(project)
    outcome = run_command("--project", str(project), "upgrade")
    assert outcome.code == ExitCode.DONE, outcome.err
    after = read_contents(project)
    assert [name for name in after if name.startswith("vendor/")] == [
        "vendor/distributed_something-1.0.0-py3-none-any.whl"
    ]
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert {name for name in changed if not name.startswith("vendor/")} == {"requirements.txt"}
    text = before["requirements.txt"].decode().replace("-0.9.0-", "-1.0.0-")
    assert after["requirements.txt"].decode() == text
    assert text.endswith("\npandas\n")


def test_changed_config_keys_and_hooks_are_reported(project: Path) -> None:
    lines = run_command("--project", str(project), "upgrade").out.splitlines()
    assert lines[0].endswith(f"vendor/{OLD_WHEEL} with distributed_something-1.0.0-py3-none-any.whl")
    assert any(line.startswith("config          new: OWNER = ''") for line in lines)
    removed = "removed: GRACE_PERIOD; in your config, it is now one of your own constants for the program"
    assert f"config          {removed}" in lines
    assert "hook            prepare(job) is now prepare(job, folders)" in lines
    assert lines[-1] == "next: make venv, then make push, so that machines run the new worker"


def test_a_dry_run_reports_the_same_and_changes_nothing(project: Path) -> None:
    before = read_contents(project)
    planned = run_command("--project", str(project), "upgrade", "--dry-run").out.splitlines()
    assert read_contents(project) == before
    assert run_command("--project", str(project), "upgrade").out.splitlines()[:-1] == planned


def test_a_second_upgrade_does_nothing(project: Path) -> None:
    run_command("--project", str(project), "upgrade")
    before = read_contents(project)
    outcome = run_command("--project", str(project), "upgrade")
    assert outcome.out == "the project already has this version of the package\n"
    assert read_contents(project) == before


def test_an_interrupted_upgrade_leaves_a_valid_project_and_is_completed_by_the_same_command(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file, names = upgrade.write_file_atomically, []

    def fail_at_requirements(path: Path, content: bytes) -> None:
        names.append(path.name)
        if path.name == "requirements.txt":
            raise OSError(28, "No space left on device")
        write_file(path, content)

    monkeypatch.setattr(upgrade, "write_file_atomically", fail_at_requirements)
    with pytest.raises(UserFacingError, match="run the same command again"):
        upgrade.upgrade_project(project)
    monkeypatch.undo()
    assert (project / "vendor" / OLD_WHEEL).is_file()
    assert OLD_WHEEL in (project / "requirements.txt").read_text()
    upgrade.upgrade_project(project)
    assert [path.name for path in (project / "vendor").iterdir()] == [names[0]]


def test_for_a_package_from_elsewhere_the_line_to_change_is_named(project: Path) -> None:
    (project / "requirements.txt").write_text("distributed-something==0.9.0\n")
    outcome = run_command("--project", str(project), "upgrade")
    assert outcome.code == ExitCode.INPUT
    assert "requirements.txt: no line names a wheel in vendor/; change the version in the line" in outcome.err


@pytest.mark.parametrize("content", [b"not a zip", b""])
def test_a_broken_wheel_is_reported(project: Path, content: bytes) -> None:
    (project / "vendor" / OLD_WHEEL).write_bytes(content)
    outcome = run_command("--project", str(project), "upgrade")
    assert outcome.code == ExitCode.INPUT
    assert f"{OLD_WHEEL}: this is not a wheel of distributed-something" in outcome.err


def damage_wheel(path: Path, part: str) -> None:
    """Write the wheel again, with a part of its first file that contradicts the rest."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in (SETTINGS, WORKER)}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in content.items():
            archive.writestr(name, text)
        directory = archive.start_dir  # of the entries that describe the files: https://en.wikipedia.org/wiki/ZIP
        data = len(SETTINGS) + 30
    offset, value = {"encryption": (directory + 8, 1), "method": (directory + 10, 99), "data": (data, 0xFF)}[part]
    damaged = bytearray(path.read_bytes())
    damaged[offset] = value
    path.write_bytes(damaged)


@pytest.mark.parametrize("part", ["data", "method", "encryption"])
def test_a_damaged_wheel_is_reported_in_one_line_and_nothing_changes(project: Path, part: str) -> None:
    damage_wheel(project / "vendor" / OLD_WHEEL, part)
    before = read_contents(project)
    outcome = run_command("--project", str(project), "upgrade")
    problem = "this is not a wheel of distributed-something, or it is damaged"
    remedy = "restore it from the project's history, or delete it"
    assert outcome.err == f"run.py: {project / 'vendor' / OLD_WHEEL}: {problem}; {remedy}\n"
    assert outcome.code == ExitCode.INPUT
    assert read_contents(project) == before


def test_a_wheel_of_this_version_with_a_damaged_file_is_not_accepted_and_replaced_once_it_is_deleted(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "mine"
    assert run_command("newProject", str(folder), "--image", "ada/mine:1").code == 0
    (wheel,) = (folder / "vendor").iterdir()
    intact = wheel.read_bytes()
    with zipfile.ZipFile(wheel) as archive:
        place = archive.getinfo("distributed_something/cli/main.py").header_offset + 200
    wheel.write_bytes(intact[:place] + bytes([intact[place] ^ 0xFF]) + intact[place + 1 :])
    outcome = run_command("--project", str(folder), "upgrade")
    assert (outcome.code, "or it is damaged" in outcome.err) == (ExitCode.INPUT, True)
    wheel.unlink()
    assert run_command("--project", str(folder), "upgrade").code == ExitCode.DONE
    with zipfile.ZipFile(wheel) as archive:
        assert archive.testzip() is None


@pytest.mark.parametrize("words", [(), ("--dry-run",)])
def test_a_missing_wheel_is_replaced_and_the_unknown_changes_are_mentioned(
    project: Path, words: tuple[str, ...]
) -> None:
    (project / "vendor" / OLD_WHEEL).unlink()
    outcome = run_command("--project", str(project), "upgrade", *words)
    assert outcome.code == ExitCode.DONE
    assert len(list((project / "vendor").iterdir())) == (0 if words else 1)
    unknown = f"changes of config keys and hooks, because vendor/{OLD_WHEEL} does not exist"
    assert outcome.out.splitlines()[1] == f"unknown         {unknown}"


HASH = f"--hash=sha256:{'a' * 64}"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("./{wheel}", "./{wheel}"),
        ("{wheel} ; python_version > '3'", "./{wheel} ; python_version > '3'"),
        ("./{wheel} " + HASH, "./{wheel} {hash}"),
        ("./{wheel} " + HASH.replace("=sha", " sha"), "./{wheel} {hash}"),
        # as pip-compile --generate-hashes writes it
        ("./{wheel} \\\n    " + HASH + "\n    # via -r requirements.in",
         "./{wheel} \\\n    {hash}\n    # via -r requirements.in"),
        ("./{wheel} \\\n    " + HASH + " \\\n    " + HASH.replace("sha256", "sha512"), "./{wheel} \\\n    {hash}"),
        ("./{wheel} \\\r\n    " + HASH, "./{wheel} \\\r\n    {hash}"),
    ],
)  # fmt: skip
def test_the_hash_of_the_wheel_is_replaced_and_those_of_others_stay(project: Path, line: str, expected: str) -> None:
    requirements, others = project / "requirements.txt", f"pandas==2 \\\n    {HASH}\n"
    requirements.write_bytes(f"{others}{line.format(wheel=f'vendor/{OLD_WHEEL}')}\n{others}".encode())
    assert run_command("--project", str(project), "upgrade").code == ExitCode.DONE
    (wheel,) = (project / "vendor").iterdir()
    digest = f"--hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"
    text = f"{others}{expected.format(wheel=f'vendor/{wheel.name}', hash=digest)}\n{others}"
    assert requirements.read_bytes().decode() == text


def test_pip_accepts_the_new_hash(project: Path) -> None:
    (project / "requirements.txt").write_text(f"./vendor/{OLD_WHEEL} \\\n    {HASH}\n")
    assert run_command("--project", str(project), "upgrade").code == ExitCode.DONE
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--no-index", "--require-hashes"]
    command += ["--ignore-installed", "-r", "requirements.txt"]
    completed = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=120, check=False)
    assert completed.returncode == 0, completed.stderr
    assert "Would install distributed-something-1.0.0" in completed.stdout


@pytest.mark.parametrize("source", ["x = (", "-" * 100_000 + "1", "a = '\\0'"])
def test_code_that_python_cannot_parse_is_an_error_of_the_wheel(source: str) -> None:
    with pytest.raises(InputError, match="w: this is not valid Python"):
        parse_hooks(source.replace("\\0", "\0"), Path("w"))


def test_changes_of_hooks_are_described() -> None:
    before = parse_hooks("def a(x):\n    'A.'\ndef b(): pass\ndef gone(): pass\ndef _private(): pass\n", Path("w"))
    after = parse_hooks("def a(x: int, *, y=1):\n    'A.'\ndef b():\n    'B.'\ndef new(): pass\n", Path("w"))
    assert list(format_hook_changes(before, after)) == [
        "a(x) is now a(x, *, y=1)", "b() has a new description", "new() is new", "gone() was removed",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "line", ["OWNER = 'me'", "OWNER: str = 'me'", "OWNER, _HELPER = 'me', 1", "if 1: OWNER = 'me'"]
)
def test_a_new_key_that_the_config_already_sets_is_marked(project: Path, line: str) -> None:
    config = project / "config.py"
    text = "".join(row for row in config.read_text().splitlines(keepends=True) if not row.startswith("OWNER"))
    config.write_text(f"{text}\n{line}\n")
    lines = run_command("--project", str(project), "upgrade", "--dry-run").out.splitlines()
    (new,) = [row for row in lines if row.startswith("config          new: OWNER")]
    assert new.endswith("; your config already sets it, check its value")


@pytest.mark.parametrize("line", ["OWNER: str", "print(OWNER)", "def set_owner():\n    OWNER = 'me'", "_OWNER = 1"])
def test_a_new_key_that_the_config_does_not_set_is_not_marked(project: Path, line: str) -> None:
    config = project / "config.py"
    text = "".join(row for row in config.read_text().splitlines(keepends=True) if not row.startswith("OWNER"))
    config.write_text(f"{text}\n{line}\n")
    lines = run_command("--project", str(project), "upgrade", "--dry-run").out.splitlines()
    (new,) = [row for row in lines if row.startswith("config          new: OWNER")]
    assert "already sets" not in new


def test_config_keys_are_the_upper_case_fields_of_the_settings() -> None:
    source = "class Other:\n    X: int\nclass Settings(Base):\n    APP_NAME: str\n    MEMORY: int = 3\n    own: dict\n"
    assert parse_settings_keys(source, Path("settings")) == ["APP_NAME", "MEMORY"]
