"""Tests for values that a shell command hands to something else that executes text: they are plain, or are refused."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distributed_something.worker.job.job import BadMessage, Folders
from distributed_something.worker.job.message.job_template import job_from_message
from distributed_something.worker.job.placeholders import TemplateError, ValueTexts
from distributed_something.worker.job.shell.shell_values import fill_shell, parse_words
from distributed_something.worker.job.worker_settings import JobDefaults

SHELLS = [shell for shell in ("/bin/sh", "/bin/dash", "/bin/bash") if shutil.which(shell)]
CODE = ["$(>PWNED)x", "`>PWNED`", "a;>PWNED;", "a\n>PWNED\n", "a'$(>PWNED)'", '"$(>PWNED)"', "$(shell touch PWNED)"]
ORDINARY = ["A01", "my file (1).tif", "it's", 'say "x"', "$HOME", "a;b", "*", "", "é x", "x=1", "back\\", "`", "$(x)"]

# Commands that print shell code with a value in it. Each can stand wherever a command can.
PRINTING = [
    'echo "echo {v}"', "echo echo {v}", "printf 'echo %s\\n' {v}", 'printf "#!/bin/sh\\necho sample={v}\\n"',
    "/bin/echo 'echo {v}'", "command echo echo {v}", 'echo "NAME={v}"', "x={v}; echo \"echo $x\"",
    "y=1 env echo echo {v}",
    "cat <<END\necho {v}\nEND\n", "cat <<-E\n\techo {v}\n\tE\n", "cat <<< \"echo {v}\"", "set -- {v}; echo \"echo $1\"",
    "f() { echo \"echo $1\"; }; f {v}", "for x in {v}; do echo \"echo $x\"; done", "echo \"echo $(printf %s {v})\"",
    "echo {v} | { read -r x; echo \"echo $x\"; }", "echo echo {v} | cat", "ec''ho echo {v}", "sed \"s/x/echo {v}/\" x",
    "awk -v n={v} 'BEGIN { print \"echo \" n }'", "if true; then echo echo {v}; fi", "(echo echo {v})",
    "case a in a) echo echo {v};; esac", "sh -c 'echo \"echo $1\"' sh {v}", "echo x {v} | xargs printf 'echo %s'",
    "python3 -c 'import sys; print(\"echo\", sys.argv[1])' {v}", "yes echo {v} | head -n 1",
]  # fmt: skip
# What the code is handed to. % stands for the command that prints it, in a group.
EXECUTING = [
    "% | sh", "% | bash -s", "% | bash", "% |\n sh -x", "% | cat | sh -s a", "% > run.sh; sh run.sh", "% > s && . ./s",
    "% > run.sh; sh < run.sh", "% > run.sh; bash -eu run.sh", "% >> run.sh; bash ./run.sh", "% | tee r; source ./r",
    "% > run.sh; chmod +x run.sh; ./run.sh", "% > r; chmod 755 r; PATH=.:$PATH; r", "sh -c \"$(%)\"", "eval \"$(%)\"",
    "source <(%)", "bash <(%)", ". /dev/stdin <<< \"$(%)\"", "sh <<< \"$(%)\"", "S=sh; % | $S", "% | $SHELL",
    "% | ${SHELL:-sh}", "% | s''h", "% | \\sh", "% | \"sh\"", "% > $HOME/r; sh $HOME/r", "% | env sh",
    "% | timeout 9 sh",
    "% | while read -r line; do sh -c \"$line\"; done", "% | while read -r l; do echo \"$l\" >> r; done; sh r",
    "% | xargs -I@ sh -ec 'echo @'", "% > m; make -f m", "% | sed 's/^/x: ;/' > m; make -f m", "exec 3> r; % >&3; sh r",
    "exec > r; %; sh r", "% > r; BASH_ENV=./r bash -c :", "x=$(%); sh -c \"$x\"", "x=$(%); echo \"$x\" | sh",
    "% 2>&1 | sh", "% | (cat; echo true) | sh", "if %; then :; fi > r; sh r", "g() { %; }; g > r; sh r",
    "% | sh -c 'sh'", "% | bash -c 'bash -s'", "{ %; } | { sh; }", "sh <<E\n$(%)\nE\n", "% > r; find r -exec sh {} \\;",
    "% > r; flock l sh r", "% | if true; then sh; fi", "% | sudo -n sh", "% | busybox sh", "% > r; (cd . && sh r)",
]  # fmt: skip
# Other ways to hand a value to something that executes text.
OTHERS = [
    "sh <<E\necho {v}\nE", "bash -euxo pipefail <<E\necho \"{v}\"\nE", "cat <<E | bash\necho {v}\nE",
    "cat > params.sh <<END\nSAMPLE={v}\nEND\n. ./params.sh", ". /dev/stdin <<EOF\necho {v}\nEOF",
    "bash /dev/stdin <<E\necho {v}\nE", "sh <<< {v}", "source /dev/stdin <<< {v}", "bash -s x <<E\n{v}\nE",
    's""h -c "echo {v}"', "ev\"\"al {v}", 'S=sh; $S -c "echo {v}"', '$SHELL -c "echo {v}"', '"sh" -c "echo {v}"',
    "a=ev; ${a}al {v}", "E=eval; $E {v}", '${SHELL:-sh} -ec "echo {v}"', "$(which sh) -c \"echo {v}\"",
    "bash -O extglob -c \"echo {v}\"", "bash -o pipefail -c 'echo {v}'", "bash --norc -c 'echo {v}'",
    "flock l -c \"echo {v}\"", "flock l sh -c \"echo {v}\"", "script -qc \"echo {v}\" /dev/null",
    "script -q --command \"echo {v}\" /dev/null", "env -S \"sh -c 'echo {v}'\"", "timeout 9 sh -c 'echo {v}'",
    "echo {v} | xargs -I% sh -ec 'echo %'", "echo {v} | xargs sh -c", "find . -maxdepth 0 -exec sh -c 'echo {v}' \\;",
    "touch {v}; find . -type f -exec sh -c 'echo {}' \\;", "ENV={v} sh -i", "BASH_ENV={v} bash -c :",
    "ENV=\"{v}\" dash -i",
    "env BASH_ENV={v} bash -c :", "export BASH_ENV={v}; bash -c :", "env 'BASH_ENV={v}' bash -c :",
    "x={v}; BASH_ENV=$x bash -c :", "export PS4={v}; bash -xc :", "PROMPT_COMMAND={v} bash -i", "compgen -W {v}",
    "compgen -W \"a {v}\" a", "complete -C {v} x; compgen -C {v}", "compgen -C {v} a", "x={v}; compgen -W \"$x\"",
    "printf 'x:\\n\\t@echo {v}\\n' > m; make -f m", "printf 'x: ; @echo $(N)' > m; make -f m N={v}",
    "printf 'x: ; @echo $(N)' > m; nice -n 5 make -f m N={v}", "sh -c 'eval \"$1\"' sh {v}",
    "trap 'echo {v} | sh' EXIT",
    "sh -c 'echo \"$1\" | sh' sh {v}", "bash -c 'bash -c \"echo $1\"' sh {v}", "sh -c 'sh -c \"echo $1\"' sh {v}",
    "cp x r; sed -i 's/^/{v}/' r; sh r", "PAGER={v} git help git", "MAKEFLAGS={v} make -f /dev/null",
    "watch -n 1 -g echo {v}", "B=bash; timeout 2 $B -c \"echo {v}\"", "printf -v c 'echo %s' {v}; bash <<< \"$c\"",
    "echo \"echo {v}\" | cp /dev/stdin r; sh r", "echo \"echo {v}\" | sort -o r; sh r", "1>r echo \"echo {v}\"; sh r",
    "echo \"echo {v}\" | python3 -c 'import sys; open(\"r\", \"w\").write(sys.stdin.read())'; sh r",
    "python3 -c 'import sys; open(\"r\", \"w\").write(\"echo \" + sys.argv[1])' {v}; sh r",
    "python3 - {v} > r <<'E'\nimport sys; print(\"echo\", sys.argv[1])\nE\nsh r", "stat -c \"echo {v}\" x | sh",
    "python3 -c 'import sys, os; os.system(\"echo \" + sys.argv[1])' {v}", "{ echo \"echo {v}\" >&2; } 2> r; sh r",
    "awk -v v={v} 'BEGIN { system(\"echo \" v) }'", "find x -printf \"echo {v}\\n\" | sh",
    "perl -e 'system(\"echo {v}\")'",
    "find x -fprintf r \"echo {v}\\n\"; sh r", "echo \"echo {v}\" > r; x=`sh r`", "echo \"echo {v}\" > r; `which sh` r",
    "echo \"echo {v}\" > r; perl -e 'system \"sh r\"'", "echo \"echo {v}\" > r; awk 'BEGIN { system(\"sh r\") }'",
    "bash --rcfile <(echo {v}) -i",
]  # fmt: skip


def fill_words(words: list[str], values: dict[str, str]) -> list[str]:
    return parse_words(words)(ValueTexts(values))


def run(shell: str, command: str) -> bool:
    """Run the command, and return whether a value was executed."""
    with TemporaryDirectory() as folder:
        (Path(folder) / "x").write_text("x\n")
        env = {"PATH": os.environ["PATH"], "HOME": folder, "SHELL": "/bin/sh", "TERM": "dumb"}
        subprocess.run(
            ["timeout", "-k", "1", "5", shell, "-c", command], cwd=folder, capture_output=True,
            stdin=subprocess.DEVNULL, env=env,
        )  # fmt: skip
        return (Path(folder) / "PWNED").exists()


def fill(template: str, value: str) -> str | None:
    """Return the filled command, or None if it is refused."""
    try:
        return fill_shell(template, {"v": value})
    except TemplateError:
        return None


def combine(printing: str, executing: str) -> str:
    return executing.replace("%", "{ " + printing + "\n}")


@pytest.mark.parametrize("executing", [*EXECUTING])
@pytest.mark.parametrize("printing", PRINTING)
def test_a_value_in_text_that_is_printed_and_executed_is_refused(printing: str, executing: str) -> None:
    for value in CODE:
        assert fill(combine(printing, executing), value) is None
    assert fill(combine(printing, executing), "plate-1/A01.tif") is not None


@pytest.mark.parametrize("template", OTHERS)
def test_a_value_that_something_else_may_execute_is_refused(template: str) -> None:
    for value in CODE:
        assert fill(template, value) is None
    assert fill(template, "plate-1/A01.tif") is not None


@pytest.mark.parametrize("shell", SHELLS)
@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from(CODE), min_size=1, max_size=2).map("".join),
    st.builds(combine, st.sampled_from(PRINTING), st.sampled_from(EXECUTING)) | st.sampled_from(OTHERS),
    st.sampled_from(["", "set -e\n", "true # it's {v}\n", ": <<'E'\n$( \" '\nE\n", "x=1 && ", "! "]),
)
def test_a_value_is_never_executed_by_what_a_command_hands_it_to(
    shell: str, value: str, template: str, before: str
) -> None:
    command = fill(before + template, value)
    assert command is None or not run(shell, command), command


# Commands that a value cannot harm, so that every value is accepted.
INNOCENT = [
    "bash run.sh {v} > {output_dir}/log.txt", "python x.py --name {v} | tee {output_dir}/log", "echo {v} | tr a b > x",
    "echo {v} > {output_dir}/name.txt", "echo 'working on {v}'; bash run.sh {v} > {output_dir}/log.txt 2>&1",
    "cat > settings.ini <<E\nname = {v}\nE\nprog settings.ini", "prog <<< {v}", "python3 run.py <<E\n{v}\nE\n",
    "bash run.sh --name={v} 2> err.txt | tee log", "sh run.sh {v} && python x.py {v} > y",
    "echo {v} >&2; sh run.sh {v}",
    "name=$(basename {v} .tif); bash run.sh \"$name\" > log.txt", "n=$(echo {v} | cut -d_ -f1); sh run.sh \"$n\" > log",
    "cat > run.sh <<'E'\necho \"$1\"\nE\nbash run.sh {v}", "sh -c 'echo \"$1\" > \"$2\"' sh {v} {output_dir}/x",
    "bash -c 'source /env && exec \"$@\"' sh {v} > log", "echo {v} | xargs prog",
    "ls {input_dir}/{v} > x; bash run.sh x",
    "cat {input_dir}/{v} | gzip -c > x; bash run.sh x", "head -n 5 {v} > x; sh run.sh x",
    "source env.sh; prog {v} > log",
    ". /opt/conda/bin/activate && python x.py {v} | tee log", "$PYTHON x.py {v} > log", "./prog {v} | tee log",
    "chmod +x prog; ./prog {v} > log", "mytool install x; echo {v} > name.txt", "cp {v} . && echo {v} > at.txt",
    "echo \"make it so, {v}\" > x.txt", "gzip -c {v} > x.gz", "cut -c 1-5 {v} > x", "bgzip -c {v} | tee x > y",
    "echo {v} > {output_dir}/name; bash {scripts_dir}/run.sh {v}", "echo {v} >> log.txt; bash /app/run.sh {v}",
    "bash {scripts_dir}/run.sh <<< {v}", "if [ -e {v} ]; then bash run.sh {v}; else echo no {v}; fi",
    "for i in 1 2; do sh run.sh {v} $i >> log; done", "prog < {v} > log",
    "bash run.sh {v} || { echo 'failed: {v}' >&2; exit 1; }", "echo \"$(date) start\" | tee log; bash run.sh {v}",
    "printf 'n: %s\\n' {v} > p.yml; nextflow run x.nf -params-file p.yml", "THREADS=4 bash run.sh {v} | tee log",
    "cat > c.txt <<E\nout={output_dir}\nE\nbash run.sh {v}", "nice -n 5 bash run.sh {v} > log", "env X={v} prog > log",
    "make -C src; prog {v}", "flock lock prog {v}", "bash run.sh -c {v}", "find . -name {v} > list; sh run.sh list",
    "n=$(echo {v} | sed 's/_R1.*//'); bash run.sh \"$n\" > log", "echo {v} | prog; bash run.sh {v}",
    "n=$(printf %s {v} | awk -F_ '{print $1}'); bash run.sh \"$n\" | tee log", "{ bash run.sh {v}; } > log 2>&1",
    "python3 -c 'print(1)' > x; bash run.sh {v}", "sed 's/a/b/' x > y; bash run.sh {v}",
    "python -u x.py --n {v} -c 5 > x; bash run.sh x", "perl x.pl -e {v} > x; sh run.sh x",
    "awk '/exec/' x; echo {v} > y",
    "n=`date`; bash run.sh {v} > x",
    "(cd x && bash run.sh {v}) > log", "prog {v} | sort | uniq > x; sh run.sh x",
    "ENVIRONMENT={v} prog; MY_ENV={v} prog",
    "echo 'sh {v}' | gzip > x.gz", "f() { prog \"$1\"; }; f {v} > log",
]  # fmt: skip


@pytest.mark.parametrize("template", INNOCENT)
def test_a_command_that_executes_no_text_with_a_value_accepts_all_values(template: str) -> None:
    folders = {"output_dir": "/jobs/one/output", "input_dir": "/jobs/one/input", "scripts_dir": "/worker/scripts"}
    for value in ORDINARY:
        fill_shell(template, folders | {"v": value})


@pytest.mark.parametrize("shell", SHELLS)
def test_an_accepted_command_executes_no_value(shell: str) -> None:
    for template in INNOCENT:
        folders = {"output_dir": ".", "input_dir": ".", "scripts_dir": "."}
        commands = [fill_shell(template, folders | {"v": value}) for value in CODE[:2]]
        assert not run(shell, "\n".join(f"({command}\n)" for command in commands)), template


def test_the_message_says_what_executes_the_value_and_what_to_write() -> None:
    with pytest.raises(TemplateError) as caught:
        fill_shell('echo "echo {v}" > run.sh; sh run.sh', {"v": "a b"})
    assert str(caught.value) == (
        "{v} becomes text that `sh` may execute, where only letters, digits, and ./,:+@%_- are safe, but its value is "
        "'a b'; pass it as an argument: bash {scripts_dir}/run.sh {v}"
    )


@pytest.mark.parametrize(
    "words",
    [
        ["bash", "-c", "run {v} | tee log"], ["sh", "-ec", "echo '{v}'"], ["env", "X=1", "bash", "-lc", "run {v}"],
        ["timeout", "5", "sh", "-c", "run {v}"], ["flock", "lock", "-c", "run {v}"], ["make", "NAME={v}"],
        ["BASH_ENV={v}", "bash"], ["env", "BASH_ENV={v}", "bash", "run.sh"], ["ssh", "host", "run", "{v}"],
        ["sh", "-c", 'eval "$1"', "sh", "{v}"], ["bash", "-c", 'echo "$1" | sh', "sh", "{v}"], ["sh", "-c", "{v}"],
    ],
)  # fmt: skip
def test_a_shell_that_a_command_without_shell_starts_gets_only_plain_values(words: list[str]) -> None:
    assert fill_words(words, {"v": "A-1.tif"}) == [word.replace("{v}", "A-1.tif") for word in words]
    for value in CODE:
        with pytest.raises(TemplateError, match="may execute"):
            fill_words(words, {"v": value})


@pytest.mark.parametrize(
    "words",
    [
        ["bash", "run.sh", "{v}"], ["sh", "-c", 'run "$1" > log', "sh", "{v}"], ["prog", "-c", "{v}"],
        ["echo", "sh", "{v}"],
        ["python", "run.py", "--mode", "parallel", "{v}"], ["prog", "--eval", "{v}", ">", "x"], ["gzip", "-c", "{v}"],
        ["bash", "run.sh", "-c", "{v}"], ["sh", "-c", 'run "$1" > {output_dir}/x', "sh", "{v}"],
        ["flock", "lock", "prog", "{v}"], ["{v}"], ["prog", "'{v}'", "{{v}}", "$(x)"],
    ],
)  # fmt: skip
def test_a_command_that_starts_no_shell_with_a_value_accepts_all_values(words: list[str]) -> None:
    for value in [*ORDINARY, *CODE]:
        fill_words(words, {"v": value, "output_dir": "/jobs/one/output"})


def test_the_folders_of_a_job_may_contain_spaces() -> None:
    folder = {"output_dir": "/home/me/My Project/local/output"}
    assert fill_words(["sh", "-c", 'run > "{output_dir}/x"'], folder)[2] == 'run > "/home/me/My Project/local/output/x"'
    with pytest.raises(TemplateError, match="may execute"):
        fill_words(["sh", "-c", 'run > "{output_dir}/x"'], {"output_dir": "$(x)"})


def test_a_message_with_such_a_value_is_bad() -> None:
    for command in ({"command": "bash -c 'run {v}'"}, {"command": [["true"], ["sh", "-c", "run {v}"]]}):
        with pytest.raises(BadMessage, match="may execute"):
            job_from_message(
                {"group": "g", "v": "$(id)", **command}, Folders(Path("/job")), JobDefaults("bucket", "App")
            )


@pytest.mark.parametrize("value", ["08", "010", "-01"])
def test_a_number_with_zeros_in_front_is_refused_in_arithmetic_unless_it_is_decimal(value: str) -> None:
    with pytest.raises(TemplateError, match="only whole numbers are safe"):
        fill_shell("echo $(( {v} + 1 ))", {"v": value})
    assert fill_shell("echo $(( 10#{v} + 1 ))", {"v": value.lstrip("-")})
