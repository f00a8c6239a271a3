"""Commands as a user types them: those that are too long for a terminal are broken so that they can be copied."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from distributed_something.core.text import TERMINAL_COLUMNS
from distributed_something.results.advice import Advice, Recipe, list_next_commands
from distributed_something.results.command_line import (
    FLEET_FILE_WORD,
    CommandLine,
    build_run_line,
    describe_command_line,
    format_next_command,
)
from distributed_something.results.status.advice_causes import AdviceCause
from distributed_something.results.status.advice_text import format_advice
from tests.support.fakes import MONITOR_FILE

LONG = CommandLine(
    options=("--local", "--project", "examples/a-project-with-a-long-name"),
    monitor_file="files/APlateOfManyWellsSpotFleetRequestId.json",
    fleet_file="files/aFleetWithALongName.json", job_file="files/aJobFileWithALongName.json",
)  # fmt: skip


def read_commands(text: str) -> list[list[str]]:
    """Return the words of the commands in a text, as a shell reads them."""
    joined = text.replace("\\\n", " ")
    lines = (line.removeprefix("next:").strip() for line in joined.splitlines())
    return [shlex.split(line) for line in lines if line.startswith("python run.py")]


def test_a_long_command_is_broken_and_a_shell_reads_it_as_one() -> None:
    command = LONG.format_command("monitor", LONG.monitor_file)
    text = format_next_command(command)
    assert max(map(len, text.splitlines())) <= TERMINAL_COLUMNS
    assert read_commands(text) == [shlex.split(command)]
    assert format_next_command("python run.py monitor a.json") == "next: python run.py monitor a.json"


@pytest.mark.parametrize("recipe", [Recipe.RETRY, Recipe.RESUBMIT, Recipe.SUBMIT, Recipe.REBUILD])
def test_the_commands_of_advice_fit_a_terminal(recipe: Recipe) -> None:
    text = format_advice(Advice(AdviceCause.PROGRAM, recipe, 1, None, has_failed=True, has_waiting=False), LONG)
    assert max(map(len, text.splitlines())) <= TERMINAL_COLUMNS
    assert read_commands(text)[-1][-2:] == ["monitor", LONG.monitor_file]


@pytest.mark.parametrize(("containers", "pushed"), [(True, True), (True, False), (False, False)])
def test_a_run_says_whether_its_workers_run_in_containers_wherever_its_commands_are_read(
    containers: bool, pushed: bool
) -> None:
    """The local cloud may have been stopped since, or may have been started again without --containers."""
    options = () if pushed else ("--local", "--containers") if containers else ("--local",)
    typed = replace(LONG, options=options, has_image=containers, is_pushed=pushed)
    file = replace(MONITOR_FILE, **describe_command_line(typed, Path("files/fleet.json")))
    here = replace(typed, has_image=not containers, fleet_file=FLEET_FILE_WORD)
    build = ["python run.py buildImage --push" if pushed else "python run.py buildImage"] if containers else []
    advice = Advice(AdviceCause.CRASH, Recipe.REBUILD, 1, None, has_failed=True, has_waiting=False)
    for line in (here.select_run(file), build_run_line(file)):
        commands = list_next_commands(advice, line)
        assert [command for command in commands if "buildImage" in command] == build
        assert commands[-2].endswith(" startCluster files/fleet.json")


def test_the_file_of_an_older_version_does_not_say_where_its_workers_run() -> None:
    for line in (LONG, replace(LONG, has_image=False)):
        assert line.select_run(MONITOR_FILE) == line
