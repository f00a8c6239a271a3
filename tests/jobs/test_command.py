"""The `command` of a Job file, and whether it needs a shell."""

from __future__ import annotations

from pathlib import Path

import pytest

from distributed_something.core.errors import InputError
from distributed_something.jobs.command import check_command, has_shell_syntax


@pytest.mark.parametrize(
    "command",
    [
        "a | b", "a>b", "a 2>&1", "a;b", "a && b", "( a )", "a --color=#fff {file} | b", "a '#' | b", "a 'b' > 'c'",
        "$HOME/a {file}", "a -t $THREADS {file}", "a -t ${{THREADS}}", "a ${THREADS:-4}", "a $(date)", "a `date`",
        "a -F'|' {file} > b",
    ],
)  # fmt: skip
def test_operators_and_variables_outside_quotes_need_a_shell(command: str) -> None:
    assert has_shell_syntax(command)


@pytest.mark.parametrize(
    "command",
    [
        "a -x b", "a '|' b", "a '{b}>c'", 'awk "{print $1 > 2}" x', "awk -F'|' '{print $NF}' {file}", "a -e'b>c' x",
        'a "b `c` $HOME"', "a \\| b", "a \\$HOME", "a $1", "a ${file}", "a --color=#fff {file}", "a 'b\"' \"c|'\"",
    ],
)  # fmt: skip
def test_what_is_quoted_needs_no_shell(command: str) -> None:
    assert not has_shell_syntax(command)


@pytest.mark.parametrize(
    ("command", "word"),
    [
        ("a && b", "&&"), ("a || b", "||"), ("a {file} | b", "|"), ("a < {file}", "<"), ("a > {output_dir}/b", ">"),
        ("a >> b", ">>"), ("a 2> b", "2>"), ("a 2>&1", "2>&1"), ("a &> b", "&>"), ("a 2>/dev/null", "2>/dev/null"),
        ("a 'b' > 'c'", ">"),
    ],
)  # fmt: skip
def test_a_word_that_would_become_an_argument_without_a_shell_is_refused(command: str, word: str) -> None:
    with pytest.raises(InputError) as caught:
        check_command(Path("job.json"), {"command": command})
    error = caught.value
    assert (error.key, error.problem) == ("command", f"only a shell understands {word}")
    assert error.remedy == f"""add "shell": true, or write '{word}' in quotes if it is an argument"""
    check_command(Path("job.json"), {"command": command, "shell": True})


@pytest.mark.parametrize(
    "command",
    [
        "expr 1 '>' 2", 'a "&&" b', "a \\| b", "find {input_dir} -name x -exec a {{}} ;", "a --where x>5", "a <5",
        "a >=5", "a &amp;", "a --color=#fff", ["a", "|", "b"], [["a", ">"], ["b"]], None,
    ],
)  # fmt: skip
def test_what_may_be_an_argument_is_accepted(command: object) -> None:
    check_command(Path("job.json"), {"command": command})
