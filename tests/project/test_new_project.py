"""newProject: it creates a small repository from the template or an example, or nothing if there is an error."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import zipfile
from dataclasses import asdict
from pathlib import Path

import pytest

from distributed_something.cli.context import ExitCode
from distributed_something.cli.main import cli
from distributed_something.core.files import write_file_atomically
from distributed_something.jobs.job_file import load_job_file
from distributed_something.localcloud.base.layout import CloudState, build_layout
from distributed_something.project import new
from distributed_something.project.config_file import load_settings
from distributed_something.project.new import DraftError, ProjectSpec, list_examples, parse_image_option
from distributed_something.project.starter import copy_example
from distributed_something.project.template import SKELETON
from distributed_something.worker import VERSION
from tests.repository.test_makefile import FAKE_DOCKER
from tests.support.offline import run_command
from tests.support.paths import ROOT

EXAMPLES = list_examples()
PROJECT_FILES = {
    ".github/workflows/image.yml", ".gitignore", "LICENSE", "Makefile", "README.md", "config.py", "requirements.txt",
    "run.py", "files/data/one.txt", "files/data/three.txt", "files/data/two.txt", "files/exampleFleet.json",
    "files/exampleJob.json", "files/expected/one.txt", "vendor/distributed_something-1.0.0-py3-none-any.whl",
    "worker/Dockerfile", "worker/generic-worker.py", "worker/requirements-own.txt", "worker/scripts/README.md",
}  # fmt: skip
MAX_FILES = 20  # so that a lab can read all of them


def create_project(folder: Path, *words: str) -> Path:
    """Run newProject, check that it succeeds, and return the folder."""
    outcome = run_command("newProject", str(folder), *words)
    assert (outcome.code, outcome.out) == (0, ""), outcome.err
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return create_project(tmp_path / "My Reads")


def run_project_command(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the project's own run.py."""
    command, env = [sys.executable, "run.py", *words], os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, timeout=60, check=False)


def list_files(folder: Path) -> set[str]:
    paths = (path for path in folder.rglob("*") if path.is_file() and ".git" not in path.relative_to(folder).parts)
    return {path.relative_to(folder).as_posix() for path in paths}


def test_a_new_project_consists_of_a_few_files_and_one_wheel(project: Path) -> None:
    assert list_files(project) == PROJECT_FILES
    assert len(PROJECT_FILES) <= MAX_FILES
    assert [path.name for path in project.parent.iterdir()] == ["My Reads"]


def test_the_wheel_contains_the_package_and_what_it_needs_but_no_tests_and_examples(project: Path) -> None:
    (wheel,) = (project / "vendor").iterdir()
    names = set(zipfile.ZipFile(wheel).namelist())
    package = ROOT / "distributed_something"
    expected = {
        path.relative_to(ROOT).as_posix()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    shipped = "distributed_something/project/template"
    assert expected <= names
    assert {f"{shipped}/{name}" for name in ("config.py", "docs/commands.md", "files/requirements.txt")} <= names
    assert all(name.startswith(("distributed_something/", "distributed_something-")) for name in names)


def test_the_requirements_install_the_wheel(project: Path) -> None:
    lines = (project / "requirements.txt").read_text().splitlines()
    (line,) = (line for line in lines if not line.startswith("#"))
    assert (project / line).is_file()


def test_a_new_project_is_a_git_repository_with_one_commit_and_nothing_uncommitted(project: Path) -> None:
    def run_git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=project, check=True, capture_output=True, text=True).stdout

    assert len(run_git("log", "--oneline").splitlines()) == 1
    assert run_git("status", "--short") == ""
    assert set(run_git("ls-files").splitlines()) == PROJECT_FILES


def test_a_project_inside_another_repository_gets_no_repository_of_its_own(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    assert not (create_project(tmp_path / "mine") / ".git").exists()


def test_without_git_a_project_is_created_without_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    project = create_project(tmp_path / "mine")
    assert list_files(project) == PROJECT_FILES
    assert not (project / ".git").exists()


def test_all_names_are_derived_from_the_folder(project: Path) -> None:
    loaded = load_settings(project / "config.py")
    assert (loaded.APP_NAME, loaded.DOCKERHUB_TAG) == ("My-Reads", "user/my-reads:latest")
    assert loaded.SQS_QUEUE_NAME == "My-ReadsQueue"
    assert "My-Reads" in (project / "README.md").read_text().splitlines()[0]


def test_the_readme_begins_with_the_command_of_a_job(tmp_path: Path) -> None:
    program = "count `date` {input_dir}/{file} > {output_dir}/{file}"
    readme = (create_project(tmp_path / "reads", "--program", program) / "README.md").read_text()
    assert f"\n    {program}\n" in readme.partition("\n## ")[0]


def test_the_readme_separates_the_commands_for_other_files_from_those_of_a_run(project: Path) -> None:
    after_files = (project / "README.md").read_text().partition(" makeJobs ")[2].partition("python run.py")[0]
    assert "\n\nThen run the jobs:\n\n" in after_files


def test_the_next_command_can_be_typed_for_a_folder_with_a_space(tmp_path: Path) -> None:
    outcome = run_command("newProject", str(tmp_path / "my reads"))
    assert outcome.code == ExitCode.DONE
    assert f"next: cd '{tmp_path}/my reads', then read README.md" in outcome.err


def test_names_from_options_are_used_in_all_files(tmp_path: Path) -> None:
    project = create_project(
        tmp_path / "reads", "--app-name", "Reads", "--image", "ada/seqtk:1.4", "--base", "bio/seqtk:1.4"
    )
    loaded = load_settings(project / "config.py")
    assert (loaded.APP_NAME, loaded.DOCKERHUB_TAG) == ("Reads", "ada/seqtk:1.4")
    assert "\nFROM bio/seqtk:1.4\n" in (project / "worker" / "Dockerfile").read_text()


@pytest.mark.long
def test_make_build_builds_the_program_and_then_adds_the_worker(tmp_path: Path) -> None:
    project = create_project(tmp_path / "reads", "--image", "ada/seqtk:1.4", "--base", "bio/seqtk:1.4")
    (tmp_path / "docker").write_text(FAKE_DOCKER)
    (tmp_path / "docker").chmod(0o755)
    for path in (project / ".venv" / "bin" / "python", project / ".venv" / ".installed"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} "$@"\n')
        path.chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "NOTES": str(tmp_path / "notes")}
    completed = subprocess.run(["make", "push"], cwd=project, env=env, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stderr
    program, worker, push = (tmp_path / "notes").read_text().splitlines()
    assert program == f"build --platform linux/amd64 --tag ada/seqtk:1.4-program {project}/worker"
    assert worker.startswith(
        "build --platform linux/amd64 --build-arg BASE_IMAGE=ada/seqtk:1.4-program --build-arg MOUNT_S3=False "
    )
    assert f" --tag ada/seqtk:1.4 --label distributed-something.version={VERSION} " in worker
    assert push == "push ada/seqtk:1.4"


def test_make_test_stops_the_local_cloud_also_if_an_earlier_one_has_crashed(project: Path) -> None:
    python, notes = project / ".venv" / "bin" / "python", project.parent / "notes"
    python.parent.mkdir(parents=True)
    real = f'PYTHONPATH={ROOT} exec {sys.executable} "$@"'
    python.write_text(
        f'#!/bin/sh\n[ "$1" != -c ] || {real}\necho "$@" >> "{notes}"\nmkdir -p local/runJob/a/job/output\n'
    )
    python.chmod(0o755)
    layout = build_layout(project)
    layout.root.mkdir(parents=True)
    address = "http://127.0.0.1:9"  # nothing answers there
    layout.state.write_text(json.dumps(asdict(CloudState(1, "token", address, address, layout.key))))
    shutil.rmtree(project / "files" / "expected")
    command = ["make", "--old-file=venv", "test"]
    completed = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stderr
    assert notes.read_text().splitlines() == [
        "run.py --local runJob files/exampleJob.json --index 1 --upload", "run.py --local stop",
    ]  # fmt: skip


def test_make_test_says_when_it_compared_nothing_and_how_to_keep_the_results(project: Path) -> None:
    python = project / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    work = "mkdir -p local/runJob/a-1/job/output; echo apple > local/runJob/a-1/job/output/one.txt"
    python.write_text(f'#!/bin/sh\ncase "$*" in *runJob*) {work} ;; esac\n')
    python.chmod(0o755)
    shutil.rmtree(project / "files" / "expected")

    def run_test() -> tuple[int, str]:
        command = ["make", "--old-file=venv", "test"]
        completed = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
        return completed.returncode, completed.stderr

    code, shown = run_test()
    assert (code, "make test: passed\n" in shown) == (0, False)
    assert "make test: passed, but no results were compared" in shown
    (copy,) = re.findall(r"^ +(cp .*)$", shown, flags=re.M)
    subprocess.run(["sh", "-c", copy], cwd=project, check=True)
    assert (project / "files" / "expected" / "one.txt").read_text() == "apple\n"
    assert run_test() == (0, "make test: passed\n")
    (project / "files" / "expected" / "one.txt").write_text("pear\n")
    assert run_test()[0] != 0


@pytest.mark.parametrize(("target", "options"), [("build", ""), ("push", " --push")])
def test_make_can_add_the_worker_to_another_image_as_check_and_the_docs_say(
    project: Path, target: str, options: str
) -> None:
    (project / ".venv").mkdir()
    command = ["make", "-n", target, "base=lab/program:1"]
    completed = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True)
    assert f"run.py buildImage{options} --base lab/program:1\n" in completed.stdout
    completed = subprocess.run(command[:-1], cwd=project, capture_output=True, text=True, check=True)
    assert "--base" not in completed.stdout


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
    ("program", "advice"),
    [
        ("wc -l {input_dir}/{file}", 'add > {output_dir}/{file} to the command, and "shell": true to the Job file'),
        ("sort {input_dir}/{file} | uniq", "add > {output_dir}/{file} to the command"),
        ("sort {input_dir}/{file} > sorted.txt", "write to a file in {output_dir}"),
        ("awk '{{output_dir}}' {input_dir}/{file}", "add > {output_dir}/{file}"),
        ("sort -o {output_dir}/{file} {input_dir}/{file}", ""),
    ],
)
def test_a_command_without_an_output_folder_is_noted_with_what_to_write(
    tmp_path: Path, program: str, advice: str
) -> None:
    outcome = run_command("newProject", str(tmp_path / "a"), "--program", program)
    shown = " ".join(outcome.err.split())
    assert outcome.code == 0, shown
    assert ("{output_dir}" in shown) is bool(advice)
    assert advice in shown
    assert ('"shell"' in shown) is ('"shell"' in advice or "awk" in program)


@pytest.mark.parametrize(
    "program",
    [
        "count --color=#fff {input_dir}/{file} | sort > {output_dir}/{file}",
        "$HOME/count {input_dir}/{file} {output_dir}/{file}",
        "`which count` {input_dir}/{file} {output_dir}/{file}",
    ],
)
def test_the_job_file_of_a_command_that_needs_a_shell_has_one(tmp_path: Path, program: str) -> None:
    project = create_project(tmp_path / "mine", "--program", program)
    job = json.loads((project / "files" / "exampleJob.json").read_text())
    assert (job["command"], job.get("shell")) == (program, True)


def test_a_quoted_operator_inside_a_word_gives_a_job_file_without_a_shell(tmp_path: Path) -> None:
    program = "awk -F'|' -f {scripts_dir}/a.awk {input_dir}/{file} {output_dir}/{file}"
    project = create_project(tmp_path / "mine", "--program", program)
    assert "shell" not in json.loads((project / "files" / "exampleJob.json").read_text())


def test_the_readme_names_only_pages_that_exist(project: Path) -> None:
    pages = re.findall(r"`\.venv/(docs/[\w-]+\.md)`", (project / "README.md").read_text())
    assert len(pages) == 3
    assert [page for page in pages if not (ROOT / page).is_file()] == []


def test_the_makefile_fits_on_a_screen() -> None:
    assert len((SKELETON / "Makefile").read_text().splitlines()) <= 55


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
    dockerfile = (source / "worker" / "Dockerfile").read_bytes()
    assert (project / "worker" / "Dockerfile").read_bytes() == dockerfile
    assert len(list((project / "vendor").iterdir())) == 1
    for name in ("files/exampleJob.json", "worker/generic-worker.py"):
        shipped = source / name if (source / name).exists() else ROOT / name
        assert (project / name).read_bytes() == shipped.read_bytes()
    assert example in (project / "README.md").read_text()


def test_the_data_and_program_of_cellcount_are_copied(tmp_path: Path) -> None:
    project = create_project(tmp_path / "cells", "--from", "cellcount")
    assert len(list((project / "images").glob("*.png"))) == 96
    assert (project / "program" / "count_cells.py").exists()
    assert (project / "show-results.sh").stat().st_mode & stat.S_IXUSR
    assert "pip install -r program-requirements.txt" in (project / "README.md").read_text()
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


def test_fetched_data_and_local_results_of_an_example_are_not_copied(
    tmp_path: Path,
) -> None:
    example = tmp_path / "clone" / "examples" / "helloworld"
    shutil.copytree(ROOT / "examples" / "helloworld", example, ignore=shutil.ignore_patterns("local", "data"))
    (tmp_path / "fetched").mkdir()
    (example / "data").symlink_to(tmp_path / "fetched")
    (example / "local").mkdir()
    (tmp_path / "project").mkdir()
    copy_example(example, tmp_path / "project")
    assert not (tmp_path / "project" / "data").is_symlink()
    assert not (tmp_path / "project" / "local").exists()


# Errors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--app-name", "a.b"], "--app-name: 'a.b' is not a valid name for AWS resources; write at most 64 letters"),
        (["--app-name", "a" * 65], "is not a valid name for AWS resources"),
        (["--image", "seqtk"], "--image: 'seqtk' is not an image name; write user/project:tag"),
        (["--base", "a b"], "--base: 'a b' is not an image name"),
        (["--program", "a 'b"], '--program: "a \'b" is not a command'),
        (
            ["--program", "a \\"],
            "is not a command (No escaped character); close the quote, or remove the backslash at its end",
        ),
        (["--program", " "], "--program: it is empty"),
        (
            ["--program", "awk '{print}' {input_dir}/{file}"],
            "run.py: --program: {print} is not a placeholder; write {file}, {input_dir}, {output_dir}, {scripts_dir}, "
            "{job}, {group}, or {{print}} for braces that the program needs",
        ),
        (["--program", "count {inputdir}"], "--program: {inputdir} is not a placeholder; write {input_dir}, or {{inp"),
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


def test_all_wrong_placeholders_of_the_program_are_named_at_once(tmp_path: Path) -> None:
    outcome = run_command("newProject", str(tmp_path / "mine"), "--program", "a {inputdir}/{fil} {output_dir}/{file}")
    lines = outcome.err.splitlines()
    assert [line.split(" is not")[0] for line in lines] == ["run.py: --program: {fil}", "run.py: --program: {inputdir}"]
    assert list(tmp_path.iterdir()) == []


def test_doubled_braces_of_the_program_are_not_placeholders(tmp_path: Path) -> None:
    program = "awk '{{print}}' {input_dir}/{file} > {output_dir}/{job}"
    project = create_project(tmp_path / "mine", "--program", program)
    assert json.loads((project / "files" / "exampleJob.json").read_text())["command"] == program


def test_an_error_in_a_file_of_the_project_names_the_file_and_the_key(tmp_path: Path) -> None:
    spec = ProjectSpec("Mine", parse_image_option("ada/mine:1"), program="count {well}")
    with pytest.raises(DraftError) as caught:
        new.create_project(tmp_path / "mine", spec)
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
    (tmp_path / "loop").symlink_to("loop")
    for name in ("mine", "file", "loop"):
        outcome = run_command("newProject", str(tmp_path / name))
        assert (outcome.code, "already exists and is not an empty folder" in outcome.err) == (ExitCode.INPUT, True)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "loop", "mine", "notes.txt"]


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


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_file, calls = write_file_atomically, iter(range(3))

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
