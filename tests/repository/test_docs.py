"""Tests for the docs: everything they mention exists, and they describe all commands, options, and keys."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner

from distributed_something.cli.group import COMMAND_GROUPS
from distributed_something.cli.main import cli
from distributed_something.core.config_settings import Settings
from distributed_something.core.errors import CloudError
from distributed_something.jobs.job_keys import KnownJobKeys
from distributed_something.observe.resources import ResourceKind
from distributed_something.project.config_file import load_settings
from distributed_something.results.causes import group_failures
from distributed_something.results.job_counter import FailedJob, JobCounts
from distributed_something.results.outcome import RunOutcome
from distributed_something.results.summary import format_run_outcome
from distributed_something.run.cleanup.report import (
    CleanupReport,
    FailedRemoval,
    KeepReason,
    KeptResource,
    format_cleanup_report,
)
from distributed_something.worker import Folders, JobDefaults, Result, job_from_message
from distributed_something.worker.job.checks import find_failure
from tests.support.fakes import MONITOR_FILE
from tests.support.paths import ROOT
from tests.support.project import join_commands

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES += sorted((ROOT / "examples").glob("*/README.md"))


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_command_has_help_in_80_columns_and_a_section_in_the_docs(name: str) -> None:
    result = CliRunner().invoke(cli, [name, "--help"], terminal_width=80)
    assert result.exit_code == 0
    assert cli.commands[name].help
    assert max(map(len, result.output.splitlines())) <= 80
    assert f"## {name}" in (ROOT / "docs" / "commands.md").read_text()


def test_help_lists_every_command_under_a_heading_and_does_not_shorten_lines() -> None:
    result = CliRunner().invoke(cli, ["--help"], terminal_width=80)
    assert sorted(name for names in COMMAND_GROUPS.values() for name in names) == sorted(cli.commands)
    assert not [line for line in result.output.splitlines()[1:] if line.endswith("...")]


def test_every_option_is_in_the_docs() -> None:
    text = (ROOT / "docs" / "commands.md").read_text()
    names = {name for command in cli.commands.values() for parameter in command.params for name in parameter.opts}
    assert {name for name in names if name.startswith("--") and name not in text} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_points_to_a_file_that_exists(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_run_py_accepts_every_command_line_in_the_docs(page: Path) -> None:
    text = join_commands(page.read_text())
    for line in re.findall(r"^ {4,}(?:next: |\w+=\S+ )?python run\.py (.*)$", text, flags=re.M):
        if "[OPTIONS]" in line:  # in options.md, which options and arguments there are
            continue
        line = line.partition(" > ~/")[0]  # what a shell does with the output
        words = [word for word in shlex.split(line, comments=True) if word not in ("COMMAND", "…", "[options]")]
        commands = [word for word in words if word in cli.commands]
        context = cli.make_context("run.py", words or ["--local"], resilient_parsing=True)
        assert context is not None
        for name in commands:
            cli.commands[name].make_context(name, words[words.index(name) + 1 :], resilient_parsing=False)
        assert commands or not words


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_run_py_accepts_every_example_in_the_help(name: str) -> None:
    examples = cli.commands[name].examples
    assert examples
    for example in examples:
        words = shlex.split(example)
        assert name in words
        cli.make_context("run.py", list(words), resilient_parsing=True)
        cli.commands[name].make_context(name, words[words.index(name) + 1 :], resilient_parsing=False)


def list_make_jobs_examples() -> list[str]:
    """Return the command lines of makeJobs in its help and its section of the docs, except those that need a bucket."""
    section = (ROOT / "docs" / "commands.md").read_text().partition("## makeJobs\n")[2].partition("\n## ")[0]
    section = re.sub(r" \\\n +", " ", section)  # commands that are broken into lines
    in_docs = re.findall(r"^ {4}python run\.py (.*)$", section, flags=re.M)
    return [line for line in (*cli.commands["makeJobs"].examples, *in_docs) if "--objects" not in line]


@pytest.fixture
def repository_copy(tmp_path: Path) -> Path:
    """Return a folder with a copy of the files in version control."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_the_examples_of_makejobs_work_in_a_copy_of_the_repository(repository_copy: Path) -> None:
    lines = list_make_jobs_examples()
    assert len(lines) >= 6
    for line in lines:
        words = [sys.executable, "run.py", *shlex.split(line)]
        completed = subprocess.run(words, cwd=repository_copy, capture_output=True, text=True)
        assert completed.returncode == 0, f"{line}: {completed.stderr}"


def test_the_shipped_config_contains_every_key_and_no_other() -> None:
    settings = load_settings(ROOT / "config.py")
    keys = set(re.findall(r"^([A-Z0-9_]+) =", (ROOT / "config.py").read_text(), flags=re.M))
    assert keys == {name for name in Settings.model_fields if name.isupper()}
    assert settings.own == {}


def test_the_docs_list_the_required_config_keys() -> None:
    text = (ROOT / "docs" / "files.md").read_text()
    listed = text.partition("the others have defaults:\n")[2].partition("\n\nEvery")[0]
    required = [name for name, field in Settings.model_fields.items() if field.is_required()]
    assert re.findall(r"`(\w+)`", listed) == required


def test_the_docs_explain_every_key_of_a_job_file() -> None:
    text = (ROOT / "docs" / "files.md").read_text()
    assert {key for key in KnownJobKeys.model_fields if f"`{key}`" not in text} == set()


def test_the_job_file_in_the_docs_is_valid() -> None:
    text = (ROOT / "docs" / "files.md").read_text()
    blocks = re.findall(r"(?:^ {4}.*\n)+", text, flags=re.M)
    content = json.loads(next(block for block in blocks if '"groups"' in block))
    KnownJobKeys(**content)


@pytest.mark.parametrize(
    ("done", "reason"), [("Complete", None), ("Failure", "done contains 'Failure', not 'Complete'")]
)
def test_the_complete_hook_in_the_docs_accepts_any_exit_code_if_the_files_are_right(
    tmp_path: Path, done: str, reason: str | None
) -> None:
    blocks = re.findall(r"(?:^(?: {4}.*)?\n)+", (ROOT / "docs" / "your-own.md").read_text(), flags=re.M)
    (tmp_path / "hook.py").write_text(textwrap.dedent(next(block for block in blocks if "def failure" in block)))
    failure = runpy.run_path(str(tmp_path / "hook.py"))["failure"]
    folders, result = Folders(tmp_path), Result(139, 1.0, 0, 0.0)
    job = job_from_message(
        {"group": "g", "command": "work", "expected_files": 1}, folders, JobDefaults("bucket", "App")
    )
    folders.output_dir.mkdir()
    (folders.output_dir / "a.csv").touch()
    (folders.output_dir / "done").write_text(done)
    assert find_failure(failure(job, folders, result), result) == reason


def test_the_summary_lists_failed_jobs_and_resources_that_were_not_removed() -> None:
    failed = FailedJob(
        "A1-0123456789", 0.0, "exit code 3", "program", 3, 3, ("no such picture",), "s3://b/log.txt", "no such picture"
    )
    kept = KeptResource(ResourceKind.LOG_GROUP, "L", KeepReason.RETENTION, 60)
    error = CloudError("no", action="removing the queue Q", code="AccessDenied")
    report = CleanupReport(kept=[kept], failed=[FailedRemoval(ResourceKind.QUEUE, "queue Q", error)])
    outcome = RunOutcome(6, JobCounts(5, 0, 1), 0, [failed], 2, groups=tuple(group_failures([failed])))
    text = format_run_outcome(outcome, MONITOR_FILE, 4000, None)
    assert "jobs done       5" in text
    assert re.search(r"^F[0-9a-f]{6}  exit code 3: no such picture +1$", text, re.MULTILINE)
    assert "         for example A1-0123456789 (after 3 attempts)\n         | no such picture\n" in text
    assert format_cleanup_report(report).splitlines() == [
        "kept            log group L (its entries expire after 60 days)",
        "NOT REMOVED     queue Q: while removing the queue Q: AccessDenied: no",
    ]
    assert "time            67 min" in text
