r"""Explains why a script that exists cannot be started, or why a shell does not understand it.

The kernel reports "No such file or directory" for a script whose interpreter does not exist, which looks as if the
script itself were missing. The most common cause is a script with Windows line ends: its first line, `#!/bin/sh\r`,
names an interpreter whose name ends in an invisible character. A shell that is given such a script takes the invisible
character for a part of the last word of each line.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

NOT_STARTED_CODES = frozenset({126, 127})  # what shells and `env` exit with if a program cannot be started
MAX_FIRST_LINE_BYTES = 256  # of a script; the kernel reads as much, see execve(2)
MAX_WORDS = 1000  # of a command that are searched for scripts
MAX_SCRIPT_BYTES = 1024 * 1024  # of a script that are searched for Windows line ends
_SHELLS = frozenset({"sh", "bash", "dash", "ash", "ksh", "mksh", "zsh", "busybox", ".", "source"})  # and what sources
_SHELL_ENDINGS = (".sh", ".bash", ".ksh", ".zsh")
_SHELL_LINE = re.compile(rb"#!.*\b(ba|da|a|k|mk|z)?sh\b")
_ELF, _BYTE_ORDER_MARK = b"\x7fELF", b"\xef\xbb\xbf"
_SEPARATORS = re.compile(r"[\s;&|()<>\"'`]+")


def explain_exit(exit_code: int, commands: Iterable[Sequence[str] | str], folder: Path) -> str | None:
    """Return what is wrong with a script that could not be started, or with one that failed in a shell; None if the
    exit code has another meaning."""
    listed = list(commands)
    if exit_code in NOT_STARTED_CODES:
        explanation = next(filter(None, (explain_script(command, folder, os.environ) for command in listed)), None)
        if explanation is not None:
            return explanation
    return next(filter(None, (explain_line_ends(command, folder, os.environ) for command in listed)), None)


def explain_script(command: Sequence[str] | str, folder: Path, env: Mapping[str, str]) -> str | None:
    """Return what is wrong with a script that the command names, or None if nothing can be found.

    `command`: a program with its arguments, or a command line for a shell. `folder`: where it runs.
    """
    words = _split_words(command) if isinstance(command, str) else command
    return next(filter(None, (_explain_file(path) for path in _iter_files(words, folder, env))), None)


def explain_line_ends(command: Sequence[str] | str, folder: Path, env: Mapping[str, str]) -> str | None:
    """Return that a script which the command gives to a shell has Windows line ends; None if there is none."""
    texts = [command] if isinstance(command, str) else command
    words = [part for text in texts for part in (_split_words(text) if text == command or " " in text else [text])]
    is_after_shell = False
    for word in words[:MAX_WORDS]:
        path = next(iter(_iter_files([word], folder, env)), None)
        if (is_shell := os.path.basename(word) in _SHELLS) or path is None:
            is_after_shell = is_shell or is_after_shell
            continue
        is_script = is_after_shell or word.endswith(_SHELL_ENDINGS) or _SHELL_LINE.match(_read_start(path))
        if is_script and b"\r\n" in _read_start(path, MAX_SCRIPT_BYTES):
            problem = f"{path.name} has Windows line ends, which a shell takes for parts of its words"
            return f"{problem}; {_advise_conversion(path)}"
        is_after_shell = False
    return None


def explain_program(word: str, folder: Path, env: Mapping[str, str]) -> str | None:
    """Return why the program `word` cannot be started although it exists, or None if that is not known."""
    path = next(iter(_iter_files([word], folder, env)), None)
    if path is None:
        return None
    reason = _explain_file(path)
    if reason is None and _read_start(path).startswith(_ELF) and os.access(path, os.X_OK):
        reason = (
            f"{path.name} exists, but the loader or processor that it was built for does not exist in this image;"
            " install a version of it for this image"
        )
    return reason


def _split_words(command: str) -> list[str]:
    try:
        words = shlex.split(command, comments=True)
    except ValueError:
        words = []
    return [*words, *_SEPARATORS.split(command)]


def _iter_files(words: Iterable[str], folder: Path, env: Mapping[str, str]) -> Iterable[Path]:
    """Yield the files that the words name, found as the kernel or a shell finds programs, or below `folder`."""
    for word in list(words)[:MAX_WORDS]:
        try:
            found = None if "/" in word else shutil.which(word, path=env.get("PATH", os.defpath))
            path = Path(found) if found else folder / word
            if path.is_file():
                yield path
        except (OSError, ValueError):  # not the name of a file
            continue


def _explain_file(path: Path) -> str | None:
    """Return what is wrong with the first line of a script, or None if it is not a script or nothing is wrong."""
    start = _read_start(path)
    if start.startswith(_BYTE_ORDER_MARK + b"#!"):
        return f"{path.name} begins with an invisible byte order mark; save it as UTF-8 without one"
    if not start.startswith(b"#!"):
        return None
    line = start[2:].split(b"\n")[0].decode("utf-8", "replace")
    name, _, argument = line.strip(" \t\r").partition(" ")
    interpreter = argument.split()[-1] if name.endswith("/env") and argument.split() else name
    if line.endswith("\r"):
        return (
            f"{path.name} has Windows line ends, so the system looks for the interpreter {interpreter + chr(13)!r};"
            f" {_advise_conversion(path)}"
        )
    if name and not os.path.exists(name):
        return f"the first line of {path.name} names the interpreter {name!r}, which does not exist in this image"
    if interpreter != name and not argument.startswith("-") and not shutil.which(interpreter):
        return f"the first line of {path.name} names the interpreter {interpreter!r}, which this image does not have"
    return None


def _advise_conversion(path: Path) -> str:
    return f"convert the file, for example with: sed -i 's/\\r$//' {shlex.quote(path.name)}"


def _read_start(path: Path, size: int = MAX_FIRST_LINE_BYTES) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError:
        return b""
