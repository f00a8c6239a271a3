"""newProject: a whole repository that runs at once, from the template or an example; or nothing at all."""

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
from tests.repository.test_makefile import NOTING
from tests.support.offline import type_command
from tests.support.paths import ROOT

EXAMPLES = list_examples(ROOT)
ITS = (
    "run.py", "config.py", "distributed_something", "docs", "Makefile", "LICENSE", "README.md", ".gitignore",
    "worker/Dockerfile", "worker/.dockerignore", "worker/generic-worker.py", "worker/scripts",
    "files/exampleJob.json", "files/exampleFleet.json", "files/requirements.txt",
)  # fmt: skip
NOT_ITS = ("tests", "examples", "pyproject.toml", "CONTRIBUTING.md", "CHANGELOG.md", ".ci", "local", ".git", ".venv")


def new_project(folder: Path, *words: str) -> Path:
    """`run.py newProject FOLDER WORDS`, which works."""
    outcome = type_command("newProject", str(folder), *words)
    assert (outcome.code, outcome.out) == (0, ""), outcome.err
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return new_project(tmp_path / "My Reads")


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """A copy of this template, to be changed."""
    ignored = shutil.ignore_patterns(
        ".git", ".venv", "local", "tests", "__pycache__", ".*_cache", ".hypothesis", "data"
    )
    shutil.copytree(ROOT, tmp_path / "template", ignore=ignored)
    return tmp_path / "template"


def typed(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`python run.py WORDS` in the project, with its own code."""
    command = [sys.executable, "run.py", *words]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=60, check=False)


def test_a_new_project_has_the_shape_of_the_root_and_nothing_that_is_only_the_templates(project: Path) -> None:
    assert [name for name in ITS if not (project / name).exists()] == []
    assert [name for name in NOT_ITS if (project / name).exists()] == []
    assert not list(project.rglob("__pycache__"))
    assert [path.name for path in project.parent.iterdir()] == ["My Reads"]


def test_its_machinery_is_the_templates_rights_and_all_and_is_noted(project: Path) -> None:
    assert read_machinery(project) == read_machinery(ROOT)
    assert (project / "distributed_something" / "worker" / "image" / "run-worker.sh").stat().st_mode & stat.S_IXUSR
    note = read_machinery_note(project)
    assert note is not None
    assert note.files == {name: one.digest for name, one in read_machinery(project).items()}
    assert set(note.hooks) >= {"make_job", "prepare", "failure"}
    assert "AWS_BUCKET" in note.config_keys


def test_its_names_come_from_the_folder_and_agree(project: Path) -> None:
    loaded = load_settings(project / "config.py")
    assert (loaded.APP_NAME, loaded.DOCKERHUB_TAG) == ("My-Reads", "user/my-reads:latest")
    assert loaded.SQS_QUEUE_NAME == "My-ReadsQueue"
    assert "My-Reads" in (project / "README.md").read_text().splitlines()[0]


def test_the_names_that_are_given_agree_everywhere(tmp_path: Path) -> None:
    made = new_project(tmp_path / "reads", "--app-name", "Reads", "--image", "ada/seqtk:1.4", "--base", "bio/seqtk:1.4")
    (tmp_path / "docker").write_text(NOTING)
    (tmp_path / "docker").chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "NOTES": str(tmp_path / "notes")}
    command = ["make", f"PYTHON={sys.executable}", "push"]
    done = subprocess.run(command, cwd=made, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    build, push = (tmp_path / "notes").read_text().splitlines()
    assert build.startswith("build --build-arg BASE_IMAGE=bio/seqtk:1.4 ")
    assert " --tag ada/seqtk:1.4 " in build
    assert push == "push ada/seqtk:1.4"
    assert find_base_image((made / "worker" / "Dockerfile").read_text()) == "bio/seqtk:1.4"


def test_its_own_run_py_takes_its_own_job_file(project: Path) -> None:
    done = typed(project, "--local", "submitJob", "files/exampleJob.json", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("3 jobs; the first message:")


def test_the_program_that_is_given_is_what_a_job_runs_with_a_shell_where_it_needs_one(tmp_path: Path) -> None:
    program = "seqtk seq -A {input_dir}/{file} > {output_dir}/{file}.fa"
    made = new_project(tmp_path / "a", "--program", program)
    shared = load_job_file(made / "files" / "exampleJob.json", lambda bucket, prefix: []).shared
    assert (shared["command"], shared["shell"]) == (program, True)
    made = new_project(tmp_path / "b", "--program", "copy '{input_dir}/{file}' '>' \"a|b\" {output_dir}")
    assert "shell" not in load_job_file(made / "files" / "exampleJob.json", lambda bucket, prefix: []).shared


@pytest.mark.parametrize(
    ("command", "needs"),
    [("a | b", True), ("a>b", True), ("a 2>&1", True), ("a;b", True), ("a && b", True), ("a '|' b", False),
     ("a -x b", False), ("a '{b}>c'", False), ('awk "{print $1 > 2}" x', False)],
)  # fmt: skip
def test_only_what_stands_outside_of_quotes_needs_a_shell(command: str, needs: bool) -> None:
    assert has_shell_syntax(command) is needs


def test_every_link_of_its_pages_leads_to_a_file(project: Path) -> None:
    for page in [project / "README.md", *(project / "docs").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_every_command_line_of_its_readme_is_one_that_run_py_takes(project: Path) -> None:
    lines = re.findall(r"^ {4}python run\.py (.*)$", (project / "README.md").read_text(), flags=re.M)
    assert len(lines) >= 6
    for line in lines:
        words = shlex.split(line)
        name = next(word for word in words if word in cli.commands)
        cli.commands[name].make_context(name, words[words.index(name) + 1 :], resilient_parsing=False)
    assert "files/My-ReadsSpotFleetRequestId.json" in " ".join(lines)


# From an example


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_becomes_a_project_of_its_own(tmp_path: Path, example: str) -> None:
    made, source = (
        new_project(tmp_path / "mine", "--from", example, "--image", "ada/mine:2"),
        ROOT / "examples" / example,
    )
    loaded = load_settings(made / "config.py")
    assert (loaded.APP_NAME, loaded.DOCKERHUB_TAG) == ("mine", "ada/mine:2")
    own, below = split_parts((made / "worker" / "Dockerfile").read_text(), "")
    assert parse_stages(own)[-1].name == "program"
    assert below == split_parts((ROOT / "worker" / "Dockerfile").read_text(), "").machinery
    assert read_machinery(made) == read_machinery(ROOT)
    for name in ("files/exampleJob.json", "worker/generic-worker.py"):
        shipped = source / name if (source / name).exists() else ROOT / name
        assert (made / name).read_bytes() == shipped.read_bytes()
    makefile = (made / "Makefile").read_text()
    assert "project = mine\ntag = 2\n" in makefile
    assert f"base = {find_base_image(own)}\n" in makefile
    assert example in (made / "README.md").read_text()


def test_the_cell_counts_data_and_program_come_along(tmp_path: Path) -> None:
    made = new_project(tmp_path / "cells", "--from", "cellcount")
    assert len(list((made / "images").glob("*.png"))) == 96
    assert (made / "program" / "count_cells.py").exists()
    assert (made / "show-results.sh").stat().st_mode & stat.S_IXUSR
    assert "pip install -r requirements.txt" in (made / "README.md").read_text()
    assert (
        len(list(load_job_file(made / "files" / "exampleJob.json", lambda bucket, prefix: []).iter_checked_messages()))
        == 96
    )


def test_an_examples_scripts_find_beside_them_what_they_call(tmp_path: Path) -> None:
    made = new_project(tmp_path / "deep" / "reads", "--from", "biocontainer")
    scripts = sorted(made.glob("*.sh"))
    assert {"get-data.sh", "get-program.sh", "from-debian.sh"} <= {path.name for path in scripts}
    for script in scripts:
        assert script.stat().st_mode & stat.S_IXUSR
        called = re.findall(r'"\$here/([^"$]+)"', script.read_text())
        assert [name for name in called if name != "data" and not (made / name).is_file()] == []
    readme = (made / "README.md").read_text()
    assert './get-data.sh\n    export PATH="$(./get-program.sh):$PATH"\n' in readme


def test_what_was_fetched_for_an_example_does_not_come_along(tmp_path: Path, template: Path) -> None:
    (tmp_path / "fetched").mkdir()
    (template / "examples" / "helloworld" / "data").symlink_to(tmp_path / "fetched")
    (template / "examples" / "helloworld" / "local").mkdir()
    made = tmp_path / "mine"
    make_project(template, made, ProjectSpec("Mine", parse_image_option("ada/mine:1"), example="helloworld"))
    assert not (made / "data").is_symlink()
    assert not (made / "local").exists()


# Or nothing


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--app-name", "a.b"], "--app-name: 'a.b' cannot name things in AWS; write at most 64 letters"),
        (["--app-name", "a" * 65], "cannot name things in AWS"),
        (["--image", "seqtk"], "--image: 'seqtk' is no image's name; write user/project:tag"),
        (["--base", "a b"], "--base: 'a b' is no image's name"),
        (["--program", "a 'b"], '--program: "a \'b" is no command'),
        (["--program", " "], "--program: it is empty"),
        (["--program", "count {well}"], "files/exampleJob.json: command: nothing fills the placeholder {well}"),
        (["--from", "nothing"], "--from: there is no example 'nothing'; there are: "),
        (["--from", "cellcount", "--program", "x"], "an example has its own program"),
    ],
)
def test_what_is_wrong_is_told_in_one_line_and_nothing_is_made(tmp_path: Path, words: list[str], said: str) -> None:
    outcome = type_command("newProject", str(tmp_path / "deep" / "mine"), *words)
    assert outcome.code == ExitCode.INPUT
    assert said in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert str(tmp_path) not in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_what_is_wrong_in_a_file_that_it_would_have_keeps_its_place(tmp_path: Path) -> None:
    wanted = ProjectSpec("Mine", parse_image_option("ada/mine:1"), program="count {well}")
    with pytest.raises(DraftError) as caught:
        make_project(ROOT, tmp_path / "mine", wanted)
    error = caught.value
    assert (error.file, error.key) == (Path("files/exampleJob.json"), "command")
    assert error.problem == "nothing fills the placeholder {well} in groups[1]"
    assert error.remedy == "use one of its keys (file), or add this key"
    assert str(error) == (
        "newProject: files/exampleJob.json: command: nothing fills the placeholder {well} in groups[1];"
        " use one of its keys (file), or add this key; nothing was made"
    )


def test_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("mine", "file"):
        outcome = type_command("newProject", str(tmp_path / name))
        assert (outcome.code, "there is something already" in outcome.err) == (ExitCode.INPUT, True)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "mine", "notes.txt"]


def test_an_empty_folder_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    new_project(Path("."))
    assert load_settings(Path("config.py")).APP_NAME == "mine"
    assert os.path.samefile(".", tmp_path / "mine")


def test_a_project_in_the_templates_own_folder_is_refused() -> None:
    outcome = type_command("newProject", str(ROOT / "examples" / "mine"))
    assert outcome.code == ExitCode.INPUT
    assert "it would lie in the template's own folder; give one outside, such as ../mine" in outcome.err


def test_a_project_of_a_project_is_refused(project: Path, tmp_path: Path) -> None:
    done = typed(project, "newProject", str(tmp_path / "second"))
    assert done.returncode == ExitCode.INPUT
    assert "this is an implementation itself; type newProject in the template" in done.stderr
    assert not (tmp_path / "second").exists()


def test_a_disk_that_refuses_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put, calls = write_file_atomically, iter(range(20))

    def full(path: Path, content: bytes, *, executable: bool = False) -> None:
        if next(calls, None) is None:
            raise OSError(28, "No space left on device")
        put(path, content, executable=executable)

    monkeypatch.setattr(new, "write_file_atomically", full)
    outcome = type_command("newProject", str(tmp_path / "mine"))
    assert (outcome.code, "No space left on device — nothing was made" in outcome.err) == (ExitCode.CLOUD, True)
    assert list(tmp_path.iterdir()) == []


# Asked


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_at_a_terminal_it_asks_for_what_was_not_given_and_again_for_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("Reads\nseqtk\nada/seqtk:1\n\n"))
    outcome = type_command("newProject", str(tmp_path / "mine"), "--program", "sort {file}")
    assert outcome.code == 0, outcome.err
    loaded = load_settings(tmp_path / "mine" / "config.py")
    assert (loaded.APP_NAME, loaded.DOCKERHUB_TAG) == ("Reads", "ada/seqtk:1")
    assert "is no image's name" in outcome.err
    assert "sort {file}" in (tmp_path / "mine" / "files" / "exampleJob.json").read_text()


def test_a_placeholder_of_an_image_is_asked_for_before_aws_is_called(project: Path) -> None:
    config = project / "config.py"
    text = config.read_text().replace("your-bucket-name", "lab").replace("your-key-file.pem", "lab")
    config.write_text(text)
    done = typed(project, "setup")
    assert done.returncode == ExitCode.INPUT
    assert "DOCKERHUB_TAG: 'user/my-reads:latest' is a placeholder" in done.stderr


def test_nothing_of_this_computer_stands_in_a_new_project(project: Path) -> None:
    for path in project.rglob("*"):
        if path.is_file():
            assert str(ROOT).encode() not in path.read_bytes(), path
    shutil.move(project, project.with_name("moved"))
    done = typed(project.with_name("moved"), "--help")
    assert done.returncode == 0
