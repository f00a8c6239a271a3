"""Tests for values in shell commands: a value is never executed, and it arrives byte for byte or is refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distributed_something.worker.job.placeholders import TemplateError
from distributed_something.worker.job.shell.shell_values import fill_shell

VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
SHELLS = [shell for shell in ("/bin/sh", "/bin/dash", "/bin/bash") if shutil.which(shell)]
CODE = ["$(>PWNED)", "`>PWNED`", ";>PWNED;", "\n>PWNED\n", "&>PWNED&", "a[$(>PWNED)]", "${x:=$(>PWNED)}", "<(>PWNED)"]
HOSTILE = st.builds(
    lambda parts: "".join(parts),
    st.lists(st.sampled_from([*CODE, "'", '"', "\\", "}", "{", ")", "(", "]", "#", " ", "\n", "$", "x=", "é", "*"]))
)  # fmt: skip

# Fragments that print one word, followed by a null byte, and what surrounds the value in it.
PRINTING = [
    ("printf '%s\\0' {v}", "", ""), ('printf "%s\\0" "a {v}"', "a ", ""), ("printf '%s\\0' 'b {v} c'", "b ", " c"),
    ('printf "%s\\0" x"{v}"\'{v}\'', None, None), ('printf "%s\\0" "$(printf %s- {v})"', "", "-"),
    ('printf "%s\\0" "${none:-{v}}"', "", ""), ("printf '%s\\0' ${none:-{v}}", "", ""),
    ('printf "%s\\0" "$HOME{v}"', "/h", ""), ("printf '%s\\0' $HOME{v}", "/h", ""),
    ('y={v}; printf "%s\\0" "$y"', "", ""), ('printf "%s\\0" \\\n {v}', "", ""),
    ("{ cat <<END\n{v}\nEND\n} | tr '\\n' '\\n'; printf '\\0'", "", "\n"),
    ("cat <<-'E'\n\tplain $x\n\tE\nprintf '%s\\0' {v}", "plain $x\n", ""),
    ("case {v} in {v}) printf '%s\\0' {v};; *) printf no;; esac", "", ""),
    ("printf '%s\\0' \"$(case x in x) printf %s- {v};; esac)\"", "", "-"),
    ('( printf "%s\\0" {v} )', "", ""), ('f() { printf "%s\\0" {v}; }; f', "", ""),
    ('set -- q; printf "%s\\0" {v}', "", ""), ("printf '%s\\0' $((1+2)){v}", "3", ""),
]  # fmt: skip
# Fragments that print nothing and confuse a reader of shell code that expects quotes and comments to be simple.
CONFUSING = [
    "true;# it's {v}", "true # it's \" {v}\n", ": \\\n# it's\n:", ": \\' \\\"", ": \"it's\" 'say \"x'", ": ${x#\\'}",
    "if true; then :; fi", ": \"$(: ')')\"", ": $(: # it's )\n)", ": `:`", ": $(( 1 + 2 ))", ": a#b'c'",
    ": \"\\\"{v}\"",
    ": <<E\nit's $HOME\nE\n", ": <<'E'\n$( \" '\nE\n", ": ${x:-'}'}", ": \"${x:-a}\"", ": '\\'", ": \"'\"", "x='a\nb'",
]  # fmt: skip
# Fragments in which a shell evaluates what a variable contains, or in which a value cannot be passed.
EVALUATING = [
    ": $(( {v} + 1 ))", "x={v}; : $(( x ))", "n={v}; : $(($n+1))", "let {v}", 'x={v}; let "y=x"', "[[ {v} -eq 1 ]]",
    'x={v}; [[ "$x" -eq 1 ]]', "eval : {v}", 'x={v}; eval ": $x"', "declare -i x={v}", "declare -i x; x={v}",
    "test -v {v}", "[ -v {v} ]", "[[ -v {v} ]]", "printf -v {v} x", "a[{v}]=1", "x={v}; a[$x]=1", "unset {v}",
    "read {v} <<< x", "sh -c 'echo {v}'", 'bash -c "echo {v}"', 'x={v}; sh -c "echo $x"', "trap {v} EXIT",
    "trap 'echo {v}' EXIT", ': "${x:{v}}"', "y=abc; x={v}; : ${y:$x}", ": $[ {v} ]", "(( {v} ))", "x={v}; (( x ))",
    "for ((i={v}; i<1; i++)); do :; done", 'x={v}; : "${!x}"', 'x={v}; : "${x@P}"', "export {v}", "declare {v}",
    "x={v}; declare $x", ": `echo {v}`", ": $'{v}'", "cat <<'E'\n{v}\nE", "a=({v}); : ${a[0]}", "PS4={v}; set -x; :",
    "x={v}; unset $x", "x={v}; printf -v $x 1", "x={v}; read $x <<< 1", "declare -a x={v}", "declare -A m; m[{v}]=1",
    "cat < {v}", "y={v} true", "{v}", ": ~{v}", ": {v}{v}", "{v}=1", ": > {v}.out",
]  # fmt: skip


def run(shell: str, command: str) -> tuple[bytes, bool]:
    """Run the command, and return what it printed and whether a value was executed."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [shell, "-c", command], cwd=folder, capture_output=True, stdin=subprocess.DEVNULL, timeout=20,
            env={"PATH": os.environ["PATH"], "HOME": "/h"},
        )  # fmt: skip
        return done.stdout, (Path(folder) / "PWNED").exists()


@pytest.mark.parametrize("shell", SHELLS)
@settings(max_examples=60, deadline=None)
@given(VALUES | HOSTILE, st.lists(st.sampled_from(CONFUSING), max_size=3), st.sampled_from(PRINTING))
def test_a_value_arrives_byte_for_byte_or_is_refused(
    shell: str, value: str, before: list[str], fragment: tuple[str, str | None, str | None]
) -> None:
    template, head, tail = fragment
    try:
        command = fill_shell("\n".join([*before, template]), {"v": value})
    except TemplateError:
        return
    printed, was_executed = run(shell, command)
    expected = f"x{value}{value}" if head is None else f"{head}{value}{tail}"
    assert not was_executed
    assert printed == expected.encode() + b"\0"


@pytest.mark.parametrize("fragment", PRINTING)
@pytest.mark.parametrize(
    "value", ["A01", "a b", "it's", 'say "x"', "$HOME", "a;b", "*", "", "é", "x=1", "if", "back\\"]
)
def test_ordinary_commands_are_not_refused(fragment: tuple[str, str | None, str | None], value: str) -> None:
    if value == "$HOME" and "((" in fragment[0]:
        return  # arithmetic could evaluate it
    fill_shell(fragment[0], {"v": value})


@pytest.mark.parametrize("shell", SHELLS)
@settings(max_examples=150, deadline=None)
@given(HOSTILE | st.sampled_from(CODE), st.sampled_from(EVALUATING), st.lists(st.sampled_from(CONFUSING), max_size=2))
def test_a_value_is_never_executed(shell: str, value: str, template: str, before: list[str]) -> None:
    try:
        command = fill_shell("\n".join([*before, template]), {"v": value})
    except TemplateError:
        return
    assert not run(shell, command)[1], command


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("template", EVALUATING)
def test_code_is_not_executed_even_where_a_shell_evaluates_variables(shell: str, template: str) -> None:
    for value in CODE:
        try:
            command = fill_shell(template, {"v": value})
        except TemplateError:
            continue
        assert not run(shell, command)[1], command


@pytest.mark.parametrize("template", ["echo $(( {v} + 1 ))", "let x={v}+1; echo $x", "[[ {v} -eq 5 ]] && echo 6"])
def test_whole_numbers_are_allowed_in_arithmetic(template: str) -> None:
    assert run("/bin/bash", fill_shell(template, {"v": 5}))[0] == b"6\n"
    for value in ("PATH", "x=1", "1.5", "", "1 + 1", "a[0]"):
        with pytest.raises(TemplateError, match=r"\{v\} is used in arithmetic"):
            fill_shell(template, {"v": value})


def test_eval_and_nested_shells_get_only_plain_values() -> None:
    for template in ('eval "echo {v}"', "sh -c 'echo {v}'", "bash -lc 'echo {v}'", 'x={v}; eval "echo $x"'):
        assert run("/bin/sh", fill_shell(template, {"v": "plate-1/A01.tif"}))[0] == b"plate-1/A01.tif\n"
        with pytest.raises(TemplateError, match="where only letters, digits, and"):
            fill_shell(template, {"v": "a b"})


@pytest.mark.parametrize(
    "template",
    [
        'eval "$(conda shell.bash hook)" && run {v}', "bash -c 'source /env && exec \"$@\"' sh {v}",
        "trap 'rm -rf \"$TMP\"' EXIT; run {v}", "i=0; i=$((i+1)); run {v}", "prog --eval {v}", "qiime tools export {v}",
        "while read line; do echo $line; done < {v}", "export NAME={v}", "read n < {v}", "run.sh -c {v}",
    ],
)  # fmt: skip
def test_code_that_contains_no_value_does_not_restrict_values(template: str) -> None:
    fill_shell(template, {"v": "my file (1).tif"})


@pytest.mark.parametrize(
    ("command", "token"),
    [
        ("cat <<'END'\n{v}\nEND", "in a here-document with quotes"),
        ("echo `basename {v}`", "after `"),
        ("echo $'{v}'", r"after \$'"),
        ("echo ${x#{v}}", r"in \$\{…\}"),
    ],
)
def test_a_placeholder_that_cannot_be_quoted_for_a_shell_is_rejected(command: str, token: str) -> None:
    with pytest.raises(TemplateError, match=rf"\{{v\}} is used {token}.*, where values cannot be quoted"):
        fill_shell(command, {"v": "x"})


def test_a_harmless_value_is_inserted_unchanged() -> None:
    command = fill_shell("printf \"I like {v}\" '{v}' {w}", {"v": "cookie dough", "w": "a.txt"})
    assert command == "printf \"I like cookie dough\" 'cookie dough' a.txt"


def test_a_value_is_assigned_to_a_variable_in_front_of_the_command() -> None:
    assert fill_shell("echo {v} '{v}'", {"v": "it's"}) == (
        """DS_VALUE_1='it'"'"'s'; echo "${DS_VALUE_1}" ''"${DS_VALUE_1}"''"""
    )


def test_shell_variables_are_not_placeholders() -> None:
    assert fill_shell('echo ${HOME} "${v}" ${x:-{v}}', {"v": "x"}) == 'echo ${HOME} "${v}" ${x:-x}'


def test_a_value_is_neither_a_keyword_nor_a_file_descriptor_nor_an_assignment() -> None:
    values = {"n": 2, "k": "if", "a": "x=1"}
    assert fill_shell("echo {n}>f", values).endswith('echo "${DS_VALUE_1}">f')
    assert fill_shell("{k} {a}", values).endswith('"${DS_VALUE_1}" "${DS_VALUE_2}"')
