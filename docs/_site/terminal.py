"""A terminal of 80 × 24 characters in which a command runs, so that its screens can be kept."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path

WIDTH, HEIGHT = 80, 24
QUIET_SECONDS = 0.1  # a screen is complete if nothing more is printed for this time
LONGEST_SILENCE_SECONDS = 300
_PIECE = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|\x1b.|([\r\n\b])|([^\x1b\r\n\b]+)", re.S)


class Terminal:
    """The lines that a command has printed. rich rewrites the last ones.

    A line consists of pairs: a character and its SGR codes. Long lines, such as addresses, are not broken.
    """

    def __init__(self) -> None:
        self.lines: list[list[tuple[str, str]]] = [[]]
        self.row = self.column = 0
        self.style = ""
        self.exit_code: int | None = None  # of the command, after its end

    def feed(self, text: str) -> None:
        """Apply printed text: characters, line ends, and the escape sequences that rich uses."""
        for match in _PIECE.finditer(text):
            numbers, letter, control, plain = match.groups()
            if plain:
                self._write(plain)
            elif control == "\n":
                self._move_to(self.row + 1)
            elif control == "\r":
                self.column = 0
            elif control == "\b":
                self.column = max(0, self.column - 1)
            elif letter == "A":
                self._move_to(max(0, self.row - int(numbers or 1)))
            elif letter == "K":
                self.lines[self.row] = [] if numbers == "2" else self.lines[self.row][: self.column]
            elif letter == "J":
                self.lines[self.row + 1 :] = []
            elif letter == "m":
                self.style = "" if numbers in ("", "0") else f"{self.style};{numbers}".strip(";")

    def _write(self, text: str) -> None:
        for character in text:
            line = self.lines[self.row]
            line += [(" ", "")] * (self.column - len(line))
            line[self.column : self.column + 1] = [(character, self.style)]
            self.column += 1

    def _move_to(self, row: int) -> None:
        self.row = row
        self.lines += [[] for _ in range(row + 1 - len(self.lines))]

    def read_text(self) -> list[str]:
        """Return everything that was printed, as lines without trailing blanks."""
        return ["".join(character for character, _ in line).rstrip() for line in self.lines]

    def copy_screen(self) -> list[list[tuple[str, str]]]:
        """Return the lines that are visible at the moment, without blank ones at the end."""
        lines = [list(line) for line in self.lines]
        while lines and not any(character.strip() for character, _ in lines[-1]):
            lines.pop()
        return lines[-HEIGHT:]


def run_in_terminal(command: str, folder: Path, env: dict[str, str]) -> Iterator[Terminal]:
    """Run a command line in a shell. Yield the terminal after each change, and after the end of the command."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
    process = subprocess.Popen(
        ["bash", "-c", command], cwd=folder, env=env, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    terminal, pending = Terminal(), b""
    try:
        while select.select([master], [], [], LONGEST_SILENCE_SECONDS)[0]:
            try:
                chunk = os.read(master, 65536)
            except OSError:  # Linux reports the end of the output like this
                break
            if not chunk:
                break
            pending += chunk
            if not select.select([master], [], [], QUIET_SECONDS)[0]:
                terminal.feed(pending.decode(errors="replace"))
                pending = b""
                yield terminal
        terminal.feed(pending.decode(errors="replace"))
        # Closing the terminal earlier would send SIGHUP to a process that is about to end.
        terminal.exit_code = process.wait(LONGEST_SILENCE_SECONDS)
        yield terminal
    finally:
        os.close(master)
