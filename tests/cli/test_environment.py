"""run.py finds its Python environment, or prints one line that explains how to create one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import click
import pytest

from tests.support.offline import write_project
from tests.support.paths import ROOT

BASE_PYTHON = os.path.realpath(sys.executable)  # the Python interpreter outside any virtual environment
SITE_PACKAGES = Path(click.__file__).parents[1]
MAKE_VENV = "run make venv"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a copy of the files that run.py needs, without a virtual environment."""
    folder = tmp_path / "clone"
    shutil.copytree(ROOT / "distributed_something", folder / "distributed_something")
    shutil.copy(ROOT / "run.py", folder)
    shutil.copytree(ROOT / "worker", folder / "worker")
    return folder


def run(*command: object, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    clean = {"PATH": os.defpath} | dict(env or {})
    words = [str(word) for word in command]
    return subprocess.run(words, env=clean, capture_output=True, text=True, timeout=60, check=False)


def write_venv_python(clone: Path, script: str, mode: int = 0o755) -> None:
    """Write `script` to `.venv/bin/python` in the clone."""
    path = clone / ".venv" / "bin" / "python"
    path.parent.mkdir(parents=True)
    path.write_text(script)
    path.chmod(mode)


def link_packages_without(folder: Path, *missing: str) -> Path:
    """Return a folder for PYTHONPATH that contains all installed packages except `missing`."""
    folder.mkdir()
    for path in SITE_PACKAGES.iterdir():
        if path.name not in missing and path.suffix != ".pth":
            (folder / path.name).symlink_to(path)
    return folder


def assert_one_line(done: subprocess.CompletedProcess[str], line: str) -> None:
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"{line}\n")


# The Python environment that run.py uses


def test_outside_an_environment_the_command_runs_in_the_projects_environment(clone: Path) -> None:
    write_venv_python(clone, "#!/bin/sh\nprintf '%s\\n' \"$@\"\nexit 7\n")
    done = run(BASE_PYTHON, clone / "run.py", "submitJob", "a b", "")
    assert (done.returncode, done.stdout.splitlines()) == (7, [str(clone / "run.py"), "submitJob", "a b", ""])


def test_an_active_environment_takes_precedence_over_the_projects_environment(clone: Path, tmp_path: Path) -> None:
    write_venv_python(clone, "#!/bin/sh\necho another\n")
    subprocess.run([BASE_PYTHON, "-m", "venv", "--without-pip", tmp_path / "mine"], check=True)
    done = run(tmp_path / "mine" / "bin" / "python", clone / "run.py", "--help")
    leave = "leave this virtual environment with deactivate, then"
    assert_one_line(done, f"run.py: click is not installed: {leave} {MAKE_VENV}")


@pytest.mark.parametrize(("script", "mode"), [("#!/bin/sh\necho no\n", 0o644), ("\x7fELF of another computer", 0o755)])
def test_an_environment_whose_python_does_not_start_is_ignored(clone: Path, script: str, mode: int) -> None:
    write_venv_python(clone, script, mode)
    done = run(BASE_PYTHON, "-S", clone / "run.py", "--help", env={"PYTHONPATH": str(SITE_PACKAGES)})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: run.py ")


def test_a_broken_environment_is_tried_only_once(clone: Path) -> None:
    write_venv_python(clone, f'#!/bin/sh\nexec "{BASE_PYTHON}" -S "$@"\n')
    assert_one_line(run(BASE_PYTHON, "-S", clone / "run.py"), f"run.py: click is not installed: {MAKE_VENV}")


def test_an_environment_without_the_packages_is_reported(clone: Path) -> None:
    subprocess.run([BASE_PYTHON, "-m", "venv", "--without-pip", clone / ".venv"], check=True)
    assert_one_line(run(BASE_PYTHON, clone / "run.py", "setup"), f"run.py: click is not installed: {MAKE_VENV}")


# Missing packages


@pytest.mark.parametrize("options", [["-I", "-S"], ["-S"]])
def test_without_any_packages_one_line_explains_how_to_install_them(clone: Path, options: list[str]) -> None:
    done = run(BASE_PYTHON, *options, clone / "run.py", "--help")
    assert_one_line(done, f"run.py: click is not installed: {MAKE_VENV}")


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("boto3", ["setup"]),
        ("botocore", ["check"]),
        ("pydantic", ["makeJobs", "--plates", "P1"]),
        ("pydantic", ["--local", "monitor", "files/monitor.json"]),
        ("rich", ["submitJob", "files/job.json"]),
    ],
)
def test_a_missing_package_that_only_some_commands_need_is_reported(
    clone: Path, tmp_path: Path, missing: str, words: list[str]
) -> None:
    project = write_project(tmp_path / "project")
    words = [str(project / word) if word.startswith("files/") else word for word in words]
    env = {"PYTHONPATH": str(link_packages_without(tmp_path / "packages", missing))}
    done = run(BASE_PYTHON, "-S", clone / "run.py", "--project", project, *words, env=env)
    assert_one_line(done, f"run.py: {missing} is not installed: {MAKE_VENV}")
    debugged = run(BASE_PYTHON, "-S", clone / "run.py", "--debug", "--project", project, *words, env=env)
    assert f"ModuleNotFoundError: No module named '{missing}" in debugged.stderr


def test_a_package_with_an_incompatible_version_is_reported(clone: Path, tmp_path: Path) -> None:
    packages = link_packages_without(tmp_path / "packages", "click")
    (packages / "click.py").write_text("")
    (clone / "distributed_something" / "cli" / "context.py").write_text("from click import nothing_like_that\n")
    done = run(BASE_PYTHON, "-S", clone / "run.py", env={"PYTHONPATH": str(packages)})
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("run.py: cannot import name 'nothing_like_that' from 'click'")
    assert done.stderr.endswith(f": {MAKE_VENV}\n")


def test_a_missing_module_of_our_own_is_not_blamed_on_the_environment(clone: Path) -> None:
    (clone / "distributed_something" / "cli" / "context.py").unlink()
    done = run(sys.executable, clone / "run.py", "--help")
    assert_one_line(done, "run.py: No module named 'distributed_something.cli.context'")


@pytest.mark.parametrize("words", [["--help"], ["submitJob", "--help"], ["makeJobs", "--help"], []])
def test_help_does_not_import_slow_packages(words: list[str]) -> None:
    script = """
import atexit, runpy, sys
atexit.register(lambda: print(*sorted({name.partition(".")[0] for name in sys.modules})))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    done = run(sys.executable, "-c", script, ROOT / "run.py", *words)
    assert "Usage: run.py" in done.stdout + done.stderr
    imported = set(done.stdout.splitlines()[-1].split())
    assert {"click", "distributed_something"} <= imported
    assert imported & {"boto3", "botocore", "pydantic", "rich"} == set()


@pytest.mark.parametrize(
    ("profile", "variables", "signs_with_crt"),
    [
        ("[default]\nregion = us-east-1\n", {}, "False"),
        (None, {}, "False"),
        ("[profile me]\nlogin_session = arn:aws:sts::123456789012:assumed-role/Admin/me\n", {}, "True"),
        (None, {"BOTO_DISABLE_CRT": "false"}, "True"),  # the user's own choice
    ],
)
def test_boto3_signs_without_awscrt_unless_its_credentials_need_awscrt(
    tmp_path: Path, profile: str | None, variables: dict[str, str], signs_with_crt: str
) -> None:
    pytest.importorskip("awscrt")
    config = tmp_path / "config"
    if profile is not None:
        config.write_text(profile)
    script = """
import sys
from distributed_something.cli.main import main
main(["--config", sys.argv[1], "setup"])
assert "botocore" in sys.modules
from botocore.compat import HAS_CRT
print(HAS_CRT)
"""
    env = {"PYTHONPATH": str(ROOT), "AWS_CONFIG_FILE": str(config), **variables}
    done = run(sys.executable, "-c", script, tmp_path / "config.py", env=env)
    assert done.stdout == f"{signs_with_crt}\n", done.stderr


def test_an_interruption_while_the_package_loads_is_reported_in_one_line(clone: Path) -> None:
    (clone / "distributed_something" / "cli" / "context.py").write_text("raise KeyboardInterrupt\n")
    done = run(sys.executable, clone / "run.py", "setup")
    line = "run.py: interrupted; to continue, run the same command again\n"
    assert (done.returncode, done.stdout, done.stderr) == (130, "", line)
