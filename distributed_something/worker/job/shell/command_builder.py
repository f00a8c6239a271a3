"""Builds a job's command from its message, which contains words, lists of words, or one string for a shell.

The command is parsed once for all jobs of a Job file.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from distributed_something.worker.job.placeholders import TemplateError, ValueTexts, split_command
from distributed_something.worker.job.shell.shell_values import fill_shell, parse_words

Command = list[str] | str  # words, or one string for a shell
CommandBuilder = Callable[[ValueTexts], Command | list[list[str]]]


def parse_command(shared: Mapping[str, Any]) -> CommandBuilder:
    """Return a function that builds the command in the message's key `command`.

    Both functions raise TemplateError if the command is missing or invalid, or if a placeholder cannot be filled.
    """
    command = shared.get("command")
    if isinstance(command, list) and any(isinstance(part, list) for part in command):
        builders = [_parse_words(part if isinstance(part, list) else None) for part in command]
        return lambda texts: [build(texts) for build in builders]
    if shared.get("shell") is True:
        if not isinstance(command, str) or not command.strip():
            raise TemplateError(f"`shell` is set, but `command` is {reprlib.repr(command)}, not a non-empty string")
        return lambda texts: fill_shell(command, texts)
    return _parse_words(command)


def _parse_words(command: object) -> Callable[[ValueTexts], list[str]]:
    parts: Iterable[object] = (
        split_command(command) if isinstance(command, str) else command if isinstance(command, list) else ()
    )
    fill_words = parse_words([part if isinstance(part, str) else json.dumps(part) for part in parts])

    def build_words(texts: ValueTexts) -> list[str]:
        filled = fill_words(texts)
        if not filled or not filled[0]:
            raise TemplateError("`command` is missing from the message or empty")
        return filled

    return build_words
