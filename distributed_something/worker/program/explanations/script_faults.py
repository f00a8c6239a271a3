r"""Explains why a script that exists cannot be started.

The kernel reports "No such file or directory" for a script whose interpreter does not exist, which looks as if the
script itself were missing. The most common cause is a script with Windows line ends: its first line, `#!/bin/sh\r`,
names an interpreter whose name ends in an invisible character.
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
_ELF, _BYTE_ORDER_MARK = b"\x7fELF", b"\xef\xbb\xbf"
_SEPARATORS = re.compile(r"[\s;&|()<>\"'`]+")


def explain_exit(exit_code: int, commands: Iterable[Sequence[str] | str], folder: Path) -> str | None:
    """Return what is wrong with a script that could not be started; None if the exit code has another meaning."""
    if exit_code not in NOT_STARTED_CODES:
        return None
    return next(filter(None, (explain_script(command, folder, os.environ) for command in commands)), None)


def explain_script(command: Sequence[str] | str, folder: Path, env: Mapping[str, str]) -> str | None:
    """Return what is wrong with a script that the command names, or None if nothing can be found.

    `command`: a program with its arguments, or a command line for a shell. `folder`: where it runs.
    """
    words = _split_words(command) if isinstance(command, str) else command
    return next(filter(None, (_explain_file(path) for path in _iter_files(words, folder, env))), None)


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
            f" convert the file, for example with: sed -i 's/\\r$//' {shlex.quote(path.name)}"
        )
    if name and not os.path.exists(name):
        return f"the first line of {path.name} names the interpreter {name!r}, which does not exist in this image"
    if interpreter != name and not argument.startswith("-") and not shutil.which(interpreter):
        return f"the first line of {path.name} names the interpreter {interpreter!r}, which this image does not have"
    return None


def _read_start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FIRST_LINE_BYTES)
    except OSError:
        return b""
