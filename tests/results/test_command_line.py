"""Commands as a user types them: those that are too long for a terminal are broken so that they can be copied."""

from __future__ import annotations

import shlex

import pytest

from distributed_something.core.text import TERMINAL_COLUMNS
from distributed_something.results.advice import Advice, AdviceCause, Recipe, format_advice
from distributed_something.results.command_line import CommandLine, format_next_command

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
