"""Tests for quoting values in shell commands: the shell always treats a value as plain text."""

from __future__ import annotations

import shlex
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distributed_something.worker.job.placeholders import TemplateError
from distributed_something.worker.job.shell_values import fill_shell

VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(VALUES)
def test_a_value_stays_one_word_wherever_its_placeholder_is(value: str) -> None:
    command = fill_shell('prog {v} "a {v}" \'b {v}\' \\"{v}', {"v": value})
    assert shlex.split(command) == ["prog", value, f"a {value}", f"b {value}", f'"{value}']


@settings(max_examples=15, deadline=None)
@given(VALUES)
def test_a_real_shell_prints_the_value_unchanged(value: str) -> None:
    script = '# {v}\'s\nx=-\nprintf \'%s\\0\' {v} "{v}" \'{v}\' "$(echo -)" "$x{v}" $x{v}'
    command = fill_shell(script, {"v": value})
    printed = subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=True).stdout
    assert printed == b"".join(text.encode() + b"\0" for text in (value, value, value, "-", f"-{value}", f"-{value}"))


@pytest.mark.parametrize(
    ("command", "token"),
    [
        ("cat <<END\n{v}\nEND", "<<"),
        ("echo `basename {v}`", "`"),
        ('echo "$(basename {v})"', r"\$\("),
        ("echo $'{v}'", r"\$'"),
    ],
)
def test_a_placeholder_that_cannot_be_quoted_for_a_shell_is_rejected(command: str, token: str) -> None:
    with pytest.raises(TemplateError, match=rf"\{{v\}} is used after {token}, where values cannot be quoted"):
        fill_shell(command, {"v": "x"})


def test_a_plain_value_inside_quotes_is_inserted_unchanged() -> None:
    command = fill_shell("printf \"I like {v}\" '{v}' {v}", {"v": "cookie dough"})
    assert command == "printf \"I like cookie dough\" 'cookie dough' 'cookie dough'"


def test_shell_variables_are_not_placeholders() -> None:
    assert fill_shell('echo ${HOME} "${v}" ${x:-{v}}', {"v": "x"}) == 'echo ${HOME} "${v}" ${x:-x}'
