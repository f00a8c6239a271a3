"""The most telling line of a log."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_something.worker.program.explanations.telling_line import (
    MAX_LOG_BYTES,
    MAX_TELLING_CHARACTERS,
    add_telling_line,
    find_telling_line,
    read_telling_line,
)

JAVA = """\
Exception in thread "main" java.lang.RuntimeException: cannot read the plate
\tat org.example.Main.main(Main.java:12)
Caused by: java.io.IOException: disk
\tat org.example.Disk.read(Disk.java:5)
\t... 1 more
Caused by: java.lang.NullPointerException: no header
\tat org.example.Header.parse(Header.java:99)
\t... 2 more
"""


def run_python(code: str) -> str:
    """Return what Python prints when it runs the code."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


@pytest.mark.parametrize(("code", "line"), [
    ("raise ValueError('no nuclei')", "ValueError: no nuclei"),
    ("raise KeyError", "KeyError"),
    ("raise ValueError('first\\nsecond')", "ValueError: first"),
    ("error = ValueError('with notes'); error.add_note('a note'); raise error", "ValueError: with notes"),
    ("try:\n  {}['x']\nexcept KeyError as error:\n  raise ValueError('chained') from error", "ValueError: chained"),
    ("try:\n  {}['x']\nfinally:\n  raise ValueError('during another')", "ValueError: during another"),
    ("def f(): f()\nf()", "RecursionError: maximum recursion depth exceeded"),
    ("raise ExceptionGroup('two', [ValueError('a'), ValueError('b')])", "ExceptionGroup: two (2 sub-exceptions)"),
    ("try:\n  raise ValueError('b')\nexcept ValueError as error:\n  raise ExceptionGroup('two', [error])",
     "ValueError: b"),
    ("import atexit; atexit.register(print, 'bye', file=__import__('sys').stderr); raise OSError('x')", "OSError: x"),
    ("import logging\ntry:\n  1 / 0\nexcept Exception:\n  logging.exception('failed')",
     "ZeroDivisionError: division by zero"),
])  # fmt: skip
def test_the_exception_of_a_python_traceback(code: str, line: str) -> None:
    assert find_telling_line(f"start\n{run_python(code)}") == line


@pytest.mark.parametrize(("log", "line"), [
    (JAVA, "Caused by: java.lang.NullPointerException: no header"),
    (JAVA.partition("Caused by")[0] + "shutting down\n",
     'Exception in thread "main" java.lang.RuntimeException: cannot read the plate'),
    ("java.lang.IllegalStateException: closed\n\tat a.B.c(B.java:1)\n\tat a.B.d(B.java:2)\n",
     "java.lang.IllegalStateException: closed"),
    ("Error: Cannot find module 'x'\n    at Function.resolve (node:internal:933:15)\n\nNode.js v18.1.0\n",
     "Error: Cannot find module 'x'"),
    ("Error in read.csv(path) : no lines available\nCalls: read.csv\nExecution halted\n",
     "Error in read.csv(path) : no lines available"),
    ("Error in library(EBImage) : \n  there is no package called 'EBImage'\nExecution halted\n",
     "Error in library(EBImage) : there is no package called 'EBImage'"),
    ("Error in `f()`:\n! no wells\nBacktrace:\n 1. f()\nExecution halted\n", "Error in `f()`: ! no wells"),
    ("Error: object 'x' not found\nExecution halted\n", "Error: object 'x' not found"),
    ("Error: retrying\nno such well\n", "no such well"),
    ("Unknown option: '--tile_widht'\nUsage: <main class> [-h=<height>]\n  -w   width\n",
     "Unknown option: '--tile_widht'"),
    ("Invalid value for option '-r': 'x' is not an int\nUsage: main\n  -w\n",
     "Invalid value for option '-r': 'x' is not an int"),
    ("Unknown option: '--tile_widht'\nPossible solutions: --tile_width\n", "Unknown option: '--tile_widht'"),
    ("samtools 1.17\nUsage: samtools <command>\nno such file\n", "no such file"),
    ("one\ntwo\n\n  \n", "two"),
    ("  0%\r 50%\r100%\r", "100%"),
    ("\x1b[31mred\x1b[0m \x1b]0;title\x07text\x00\u202e\n", "red text"),
    ("2026-11-23 10:45:00 ERROR Traceback (most recent call last):\n"
     '2026-11-23 10:45:00 ERROR   File "x.py", line 1, in <module>\n'
     "2026-11-23 10:45:00 ERROR     f()\n2026-11-23 10:45:00 ERROR ValueError: prefixed\nbye\n",
     "ValueError: prefixed"),
    ("Traceback (most recent call last):\n  File \"x.py\", line 1, in <module>\n", 'File "x.py", line 1, in <module>'),
    ("", None),
    ("\n \x1b[0m\n", None),
])  # fmt: skip
def test_the_telling_line_of_other_logs(log: str, line: str | None) -> None:
    assert find_telling_line(log) == line


def test_the_latest_error_counts() -> None:
    python = run_python("raise ValueError('x')")
    assert find_telling_line(JAVA + python) == "ValueError: x"
    assert find_telling_line(python + JAVA) == "Caused by: java.lang.NullPointerException: no header"


def test_a_long_line_is_shortened() -> None:
    assert find_telling_line("x" * 1000) == "x" * MAX_TELLING_CHARACTERS


@given(st.text(st.sampled_from("aE :\n\r\t\x1b[0m") | st.characters()))
def test_any_text_gives_one_printable_line_or_none_if_it_is_blank(text: str) -> None:
    line = find_telling_line(text)
    assert line is None or (line.isprintable() and line.strip() == line and 0 < len(line) <= MAX_TELLING_CHARACTERS)


def test_only_the_end_of_a_large_log_is_read(tmp_path: Path) -> None:
    log = tmp_path / "log"
    traceback = run_python("raise ValueError('x')").encode()
    log.write_bytes(traceback + b"\xff" * 10 + b"line\n" * (MAX_LOG_BYTES // 5))
    assert read_telling_line(log) == "line"
    log.write_bytes(traceback + b"line\n" * (MAX_LOG_BYTES // 10))
    assert read_telling_line(log) == "ValueError: x"
    log.write_bytes(b"")
    assert read_telling_line(log) is None


def test_the_last_lines_contain_the_telling_line() -> None:
    lines = [f"line {number}" for number in range(25)]
    assert add_telling_line(lines, "line 3", 20) == ["line 3", *lines[6:]]
    assert add_telling_line(lines, "line 7", 20) == lines[5:]
    assert add_telling_line(lines[:3], "far above", 20) == ["far above", *lines[:3]], "three very long lines"
    assert add_telling_line(lines, None, 20) == lines[5:]
    joined = ["Error in f() : ", "  no wells", "Execution halted"]
    assert add_telling_line(joined, "Error in f() : no wells", 20) == joined
    assert add_telling_line(["\x1b[31mred\x1b[0m"], "red", 20) == ["\x1b[31mred\x1b[0m"]
