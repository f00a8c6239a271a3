"""newProject: it creates a complete repository from the template or an example, or nothing if there is an error."""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from distributed_something.cli.context import ExitCode
from distributed_something.cli.main import cli
from distributed_something.core.config_settings import load_settings
from distributed_something.core.files import write_file_atomically
from distributed_something.jobs.job_file import load_job_file
from distributed_something.project import new
from distributed_something.project.dockerfile import find_base_image, parse_stages
from distributed_something.project.new import DraftError, ProjectSpec, list_examples, make_project, parse_image_option
from distributed_something.project.shipped_files import read_machinery, read_machinery_note, split_parts
from distributed_something.project.starter import has_shell_syntax
from tests.repository.test_makefile import FAKE_DOCKER
from tests.support.offline import run_command
from tests.support.paths import ROOT

EXAMPLES = list_examples(ROOT)
PROJECT_FILES = (
    "run.py", "config.py", "distributed_something", "docs", "Makefile", "LICENSE", "README.md", ".gitignore",
    "worker/Dockerfile", "worker/.dockerignore", "worker/generic-worker.py", "worker/scripts",
    "files/exampleJob.json", "files/exampleFleet.json", "files/requirements.txt",
)  # fmt: skip
TEMPLATE_FILES = (
    "tests", "examples", "pyproject.toml", "CONTRIBUTING.md", "CHANGELOG.md", ".ci", "local", ".git", ".venv",
)  # fmt: skip


def create_project(folder: Path, *words: str) -> Path:
    """Run newProject, check that it succeeds, and return the folder."""
    outcome = run_command("newProject", str(folder), *words)
    assert (outcome.code, outcome.out) == (0, ""), outcome.err
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return create_project(tmp_path / "My Reads")


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """Return a copy of this template that a test can change."""
    ignored = shutil.ignore_patterns(
        ".git", ".venv", "local", "tests", "__pycache__", ".*_cache", ".hypothesis", "data"
    )
    shutil.copytree(ROOT, tmp_path / "template", ignore=ignored)
    return tmp_path / "template"


def run_project_command(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the project's own run.py."""
    command = [sys.executable, "run.py", *words]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=60, check=False)


def test_a_new_project_has_the_files_of_the_template_but_not_those_for_its_development(project: Path) -> None:
    assert [name for name in PROJECT_FILES if not (project / name).exists()] == []
    assert [name for name in TEMPLATE_FILES if (project / name).exists()] == []
    assert not list(project.rglob("__pycache__"))
    assert [path.name for path in project.parent.iterdir()] == ["My Reads"]


def test_shipped_files_are_copied_with_their_modes_and_recorded(project: Path) -> None:
    assert read_machinery(project) == read_machinery(ROOT)
    assert (project / "distributed_something" / "worker" / "image" / "run-worker.sh").stat().st_mode & stat.S_IXUSR
    note = read_machinery_note(project)
    assert note is not None
    assert note.files == {name: file.digest for name, file in read_machinery(project).items()}
    assert set(note.hooks) >= {"make_job", "prepare", "failure"}
    assert "AWS_BUCKET" in note.config_keys


def test_all_names_are_derived_from_the_folder(project: Path) -> None:
    loaded = load_settings(project / "config.py")
    assert (loaded.APP_NAME, loaded.DOCKERHUB_TAG) == ("My-Reads", "user/my-reads:latest")
    assert loaded.SQS_QUEUE_NAME == "My-ReadsQueue"
    assert "My-Reads" in (project / "README.md").read_text().splitlines()[0]


def test_names_from_options_are_used_in_all_files(tmp_path: Path) -> None:
    project = create_project(
        tmp_path / "reads", "--app-name", "Reads", "--image", "ada/seqtk:1.4", "--base", "bio/seqtk:1.4"
    )
    (tmp_path / "docker").write_text(FAKE_DOCKER)
    (tmp_path / "docker").chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "NOTES": str(tmp_path / "notes")}
    command = ["make", f"PYTHON={sys.executable}", "push"]
    completed = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stderr
    build, push = (tmp_path / "notes").read_text().splitlines()
    assert build.startswith("build --build-arg BASE_IMAGE=bio/seqtk:1.4 ")
    assert " --tag ada/seqtk:1.4 " in build
    assert push == "push ada/seqtk:1.4"
    assert find_base_image((project / "worker" / "Dockerfile").read_text()) == "bio/seqtk:1.4"


def test_the_projects_run_py_accepts_its_job_file(project: Path) -> None:
    completed = run_project_command(project, "--local", "submitJob", "files/exampleJob.json", "--dry-run")
    assert completed.returncode == 0, completed.stderr
    assert completed.stdout.startswith("3 jobs; the first message:")


def test_jobs_run_the_program_from_the_option_and_use_a_shell_only_if_needed(tmp_path: Path) -> None:
    program = "seqtk seq -A {input_dir}/{file} > {output_dir}/{file}.fa"
    project = create_project(tmp_path / "a", "--program", program)
    shared = load_job_file(project / "files" / "exampleJob.json", lambda bucket, prefix: []).shared
    assert (shared["command"], shared["shell"]) == (program, True)
    project = create_project(tmp_path / "b", "--program", "copy '{input_dir}/{file}' '>' \"a|b\" {output_dir}")
    assert "shell" not in load_job_file(project / "files" / "exampleJob.json", lambda bucket, prefix: []).shared


@pytest.mark.parametrize(
    ("command", "needs_shell"),
    [("a | b", True), ("a>b", True), ("a 2>&1", True), ("a;b", True), ("a && b", True), ("a '|' b", False),
     ("a -x b", False), ("a '{b}>c'", False), ('awk "{print $1 > 2}" x', False)],
)  # fmt: skip
def test_only_operators_outside_quotes_need_a_shell(command: str, needs_shell: bool) -> None:
    assert has_shell_syntax(command) is needs_shell


def test_all_links_in_the_projects_pages_lead_to_files(project: Path) -> None:
    for page in [project / "README.md", *(project / "docs").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_all_commands_in_the_readme_are_valid(project: Path) -> None:
    lines = re.findall(r"^ {4}python run\.py (.*)$", (project / "README.md").read_text(), flags=re.M)
    assert len(lines) >= 6
    for line in lines:
        words = shlex.split(line)
        name = next(word for word in words if word in cli.commands)
        cli.commands[name].make_context(name, words[words.index(name) + 1 :], resilient_parsing=False)
    assert "files/My-ReadsSpotFleetRequestId.json" in " ".join(lines)


# Projects from examples


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_project_is_created_from_each_example(tmp_path: Path, example: str) -> None:
    project = create_project(tmp_path / "mine", "--from", example, "--image", "ada/mine:2")
    source = ROOT / "examples" / example
    loaded = load_settings(project / "config.py")
    assert (loaded.APP_NAME, loaded.DOCKERHUB_TAG) == ("mine", "ada/mine:2")
    own, machinery = split_parts((project / "worker" / "Dockerfile").read_text(), "")
    assert parse_stages(own)[-1].name == "program"
    assert machinery == split_parts((ROOT / "worker" / "Dockerfile").read_text(), "").machinery
    assert read_machinery(project) == read_machinery(ROOT)
    for name in ("files/exampleJob.json", "worker/generic-worker.py"):
        shipped = source / name if (source / name).exists() else ROOT / name
        assert (project / name).read_bytes() == shipped.read_bytes()
    makefile = (project / "Makefile").read_text()
    assert "project = mine\ntag = 2\n" in makefile
    assert f"base = {find_base_image(own)}\n" in makefile
    assert example in (project / "README.md").read_text()


def test_the_data_and_program_of_cellcount_are_copied(tmp_path: Path) -> None:
    project = create_project(tmp_path / "cells", "--from", "cellcount")
    assert len(list((project / "images").glob("*.png"))) == 96
    assert (project / "program" / "count_cells.py").exists()
    assert (project / "show-results.sh").stat().st_mode & stat.S_IXUSR
    assert "pip install -r requirements.txt" in (project / "README.md").read_text()
    job_file = load_job_file(project / "files" / "exampleJob.json", lambda bucket, prefix: [])
    assert len(list(job_file.iter_checked_messages())) == 96


def test_the_scripts_of_an_example_find_the_scripts_that_they_call(tmp_path: Path) -> None:
    project = create_project(tmp_path / "deep" / "reads", "--from", "biocontainer")
    scripts = sorted(project.glob("*.sh"))
    assert {"get-data.sh", "get-program.sh", "from-debian.sh"} <= {path.name for path in scripts}
    for script in scripts:
        assert script.stat().st_mode & stat.S_IXUSR
        called = re.findall(r'"\$here/([^"$]+)"', script.read_text())
        assert [name for name in called if name != "data" and not (project / name).is_file()] == []
    readme = (project / "README.md").read_text()
    assert './get-data.sh\n    export PATH="$(./get-program.sh):$PATH"\n' in readme


def test_fetched_data_and_local_results_of_an_example_are_not_copied(tmp_path: Path, template: Path) -> None:
    (tmp_path / "fetched").mkdir()
    (template / "examples" / "helloworld" / "data").symlink_to(tmp_path / "fetched")
    (template / "examples" / "helloworld" / "local").mkdir()
    project = tmp_path / "mine"
    make_project(template, project, ProjectSpec("Mine", parse_image_option("ada/mine:1"), example="helloworld"))
    assert not (project / "data").is_symlink()
    assert not (project / "local").exists()


# Errors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--app-name", "a.b"], "--app-name: 'a.b' is not a valid name for AWS resources; write at most 64 letters"),
        (["--app-name", "a" * 65], "is not a valid name for AWS resources"),
        (["--image", "seqtk"], "--image: 'seqtk' is not an image name; write user/project:tag"),
        (["--base", "a b"], "--base: 'a b' is not an image name"),
        (["--program", "a 'b"], '--program: "a \'b" is not a command'),
        (["--program", " "], "--program: it is empty"),
        (["--program", "count {well}"], "files/exampleJob.json: command: nothing fills the placeholder {well}"),
        (["--from", "nothing"], "--from: there is no example 'nothing'; use one of these: "),
        (["--from", "cellcount", "--program", "x"], "an example has its own program"),
    ],
)
def test_invalid_options_give_one_line_of_error_and_create_nothing(
    tmp_path: Path, words: list[str], message: str
) -> None:
    outcome = run_command("newProject", str(tmp_path / "deep" / "mine"), *words)
    assert outcome.code == ExitCode.INPUT
    assert message in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert str(tmp_path) not in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_an_error_in_a_file_of_the_project_names_the_file_and_the_key(tmp_path: Path) -> None:
    spec = ProjectSpec("Mine", parse_image_option("ada/mine:1"), program="count {well}")
    with pytest.raises(DraftError) as caught:
        make_project(ROOT, tmp_path / "mine", spec)
    error = caught.value
    assert (error.file, error.key) == (Path("files/exampleJob.json"), "command")
    assert error.problem == "nothing fills the placeholder {well} in groups[1]"
    assert error.remedy == "use one of its keys (file), or add this key"
    assert str(error) == (
        "newProject: files/exampleJob.json: command: nothing fills the placeholder {well} in groups[1];"
        " use one of its keys (file), or add this key; nothing was created"
    )


def test_existing_files_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("mine", "file"):
        outcome = run_command("newProject", str(tmp_path / name))
        assert (outcome.code, "already exists and is not an empty folder" in outcome.err) == (ExitCode.INPUT, True)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "mine", "notes.txt"]


def test_a_project_can_be_created_in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    create_project(Path("."))
    assert load_settings(Path("config.py")).APP_NAME == "mine"
    assert os.path.samefile(".", tmp_path / "mine")


def test_a_project_inside_the_template_is_rejected() -> None:
    outcome = run_command("newProject", str(ROOT / "examples" / "mine"))
    assert outcome.code == ExitCode.INPUT
    assert "this folder is inside the template; name a folder outside, such as ../mine" in outcome.err


def test_new_project_is_rejected_inside_a_project(project: Path, tmp_path: Path) -> None:
    completed = run_project_command(project, "newProject", str(tmp_path / "second"))
    assert completed.returncode == ExitCode.INPUT
    assert "this is a project, not the template; type newProject in the template" in completed.stderr
    assert not (tmp_path / "second").exists()


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_file, calls = write_file_atomically, iter(range(20))

    def write_until_full(path: Path, content: bytes, *, executable: bool = False) -> None:
        if next(calls, None) is None:
            raise OSError(28, "No space left on device")
        write_file(path, content, executable=executable)

    monkeypatch.setattr(new, "write_file_atomically", write_until_full)
    outcome = run_command("newProject", str(tmp_path / "mine"))
    assert (outcome.code, "No space left on device — nothing was created" in outcome.err) == (ExitCode.CLOUD, True)
    assert list(tmp_path.iterdir()) == []


# Questions at a terminal


class TerminalInput(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_at_a_terminal_missing_options_are_asked_for_until_they_are_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", TerminalInput("Reads\nseqtk\nada/seqtk:1\n\n"))
    outcome = run_command("newProject", str(tmp_path / "mine"), "--program", "sort {file}")
    assert outcome.code == 0, outcome.err
    loaded = load_settings(tmp_path / "mine" / "config.py")
    assert (loaded.APP_NAME, loaded.DOCKERHUB_TAG) == ("Reads", "ada/seqtk:1")
    assert "is not an image name" in outcome.err
    assert "sort {file}" in (tmp_path / "mine" / "files" / "exampleJob.json").read_text()


def test_a_placeholder_image_name_is_rejected_before_aws_is_called(project: Path) -> None:
    config = project / "config.py"
    text = config.read_text().replace("your-bucket-name", "lab").replace("your-key-file.pem", "lab")
    config.write_text(text)
    completed = run_project_command(project, "setup")
    assert completed.returncode == ExitCode.INPUT
    assert "DOCKERHUB_TAG: 'user/my-reads:latest' is a placeholder" in completed.stderr


def test_a_project_contains_no_paths_of_this_computer_and_can_be_moved(project: Path) -> None:
    for path in project.rglob("*"):
        if path.is_file():
            assert str(ROOT).encode() not in path.read_bytes(), path
    shutil.move(project, project.with_name("moved"))
    completed = run_project_command(project.with_name("moved"), "--help")
    assert completed.returncode == 0
