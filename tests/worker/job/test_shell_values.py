"""A value in a command that a shell reads stays one piece of text, wherever its placeholder stands."""

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
def test_a_value_stays_one_word_for_a_shell_wherever_its_placeholder_stands(value: str) -> None:
    command = fill_shell('prog {v} "a {v}" \'b {v}\' \\"{v}', {"v": value})
    assert shlex.split(command) == ["prog", value, f"a {value}", f"b {value}", f'"{value}']


@settings(max_examples=15, deadline=None)
@given(VALUES)
def test_a_real_shell_agrees(value: str) -> None:
    script = '# {v}\'s\nx=-\nprintf \'%s\\0\' {v} "{v}" \'{v}\' "$(echo -)" "$x{v}" $x{v}'
    command = fill_shell(script, {"v": value})
    printed = subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=True).stdout
    assert printed == b"".join(text.encode() + b"\0" for text in (value, value, value, "-", f"-{value}", f"-{value}"))


@pytest.mark.parametrize(
    "command", ["cat <<END\n{v}\nEND", "echo `basename {v}`", 'echo "$(basename {v})"', "echo $'{v}'"]
)
def test_a_placeholder_that_cannot_be_quoted_for_a_shell_is_refused(command: str) -> None:
    with pytest.raises(TemplateError, match=r"\{v\} stands behind"):
        fill_shell(command, {"v": "x"})


def test_a_plain_value_stands_in_quotes_as_a_person_would_write_it() -> None:
    command = fill_shell("printf \"I like {v}\" '{v}' {v}", {"v": "cookie dough"})
    assert command == "printf \"I like cookie dough\" 'cookie dough' 'cookie dough'"


def test_a_shells_own_variables_stay_the_shells() -> None:
    assert fill_shell('echo ${HOME} "${v}" ${x:-{v}}', {"v": "x"}) == 'echo ${HOME} "${v}" ${x:-x}'
