"""Recognizes the programs in a simple command that execute text, or that print or write it.

A simple command is a list of words as they are written, with quotes, placeholders, and variables.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from distributed_something.worker.job.placeholders import list_placeholders
from distributed_something.worker.job.shell.command_list import skip_prefixes

_SHELLS = frozenset({"sh", "bash", "dash", "ash", "ksh", "mksh", "zsh", "fish", "csh", "tcsh", "rbash", "yash"})
_EXPANSION = re.compile(r"\$(?:\w+|[@*]|\{[^{}]*\}|\(.*\))")
_SHELL_VARIABLE = re.compile(r"\$\{?(?:SHELL|BASH|0)\b")
_OPTION_WITH_VALUE = re.compile(r"[-+]\w*[oOWXI]|--(?:rcfile|init-file)")
# Other programs whose option -c is code, and programs that execute all of their arguments.
_CODE_OPTION_PROGRAMS = frozenset({"flock", "script", "su", "runuser", "sg"})
_CODE_ARGUMENT_PROGRAMS = frozenset({"make", "gmake", "watch", "ssh", "rsh", "parallel", "sem", "at", "hyperfine"})
_CODE_BUILTINS = frozenset({"compgen", "complete", "compopt", "bind", "fc", "enable"})
_OLD_CODE_BUILTINS = frozenset(
    {"eval", "trap", "alias"}
)  # _CODE in executed_text.py finds them when written as they are
# Programs that execute a file or their input, or that make a file executable: wherever they are among the words, and
# only as the name of the program, because the word has other meanings elsewhere.
_RUNNERS = _SHELLS | {"busybox", "toybox", "eval", "parallel", "ssh", "chmod"}
_RUNNERS_BY_NAME = _CODE_ARGUMENT_PROGRAMS | _CODE_BUILTINS | {
    ".", "source", "batch", "crontab", "install", "qsub", "sbatch", "bsub", "script", "su", "runuser",
}  # fmt: skip
# Programs that start the program that is named in their arguments.
_STARTERS = frozenset(
    {"nice", "ionice", "nohup", "timeout", "stdbuf", "sudo", "setsid", "taskset", "chrt", "xargs", "find", "time"}
    | {"env", "exec", "command", "builtin", "xvfb-run", "srun", "mpirun", "flock", "strace", "busybox", "toybox"}
)
# Programs that are given code in another language, which can write files or start a shell.
_WRITERS = frozenset({"sed", "gsed", "awk", "gawk", "mawk", "nawk", "ed", "ex"})
_INTERPRETER = re.compile(r"(?:python|pypy|perl|ruby|node|php|lua|Rscript|julia)[\d.]*")
_INLINE_CODE = re.compile(r"-|-\w*[ecEr]|--(?:eval|print)")
_STARTS_SHELL = re.compile(r"\bsystem\b|[pP]open|subprocess|\bexec\w*\s*[('\"]|spawn|getline|\bqx\b|shell_exec|`")
_FILE_WRITERS = frozenset({"tee", "sponge", "dd", "cp", "install", "split", "csplit"})  # they write what they read
_PRINTERS = frozenset(
    {"echo", "printf", "print", "yes", "jq", "yq", "date", "basename", "dirname", "realpath", "readlink", "expr"}
    | {"seq", "numfmt", "figlet", "m4", "stat", "jot"}
)
# Where a value may get into a variable: an assignment, or one of these commands.
_ASSIGNMENT = re.compile(r"\w\+?=|\$\{\w+:?=")
_ASSIGNING_COMMANDS = frozenset({"for", "select", "set", "read", "mapfile", "readarray", "getopts"})


def unquote(word: str) -> str:
    r"""Return a word without its quotes: `sh` for `s""h` and for `\sh`."""
    return re.sub(r"\\\n|['\"\\]", "", word)


def get_name(words: Sequence[str]) -> str:
    """Return the name of the program that a command starts, without its folder."""
    return _get_base(next(iter(_skip_prefixes(words)), ""))


def find_code_words(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each shell (or similar program) with an option -c, and the word that is its code."""
    name_position, bases = len(words) - len(_skip_prefixes(words)), [_get_base(word) for word in words]
    for position, name in enumerate(bases):
        is_shell = (
            name in _SHELLS
            or _SHELL_VARIABLE.match(name)
            or (re.search(r"[$`]", name) and (position == name_position or not _STARTERS.isdisjoint(bases[:position])))
        )
        if not is_shell and name not in _CODE_OPTION_PROGRAMS:
            continue
        for option_position in _iter_options(words, position + 1, is_shell=bool(is_shell)):
            option = unquote(words[option_position])
            if option.startswith("--command="):
                yield name, option.partition("=")[2]
            elif option == "--command" or re.fullmatch(r"-\w*c\w*", option):
                yield name, words[option_position + 1] if option_position + 1 < len(words) else '"$'
    if get_name(words) in _OLD_CODE_BUILTINS:
        yield from ((get_name(words), word) for word in _skip_prefixes(words)[1:2] if word[:1] in ("'", '"'))


def is_builtin_for_code(words: Sequence[str]) -> bool:
    """Return whether a command evaluates its arguments, unless _CODE in executed_text.py finds it."""
    name = get_name(words)
    is_assembled = "$" in name and not _EXPANSION.fullmatch(name)  # such as ${x}al
    return name in _CODE_BUILTINS or is_assembled or (name in _OLD_CODE_BUILTINS and name not in words)


def has_code_arguments(words: Sequence[str]) -> bool:
    """Return whether a program executes its arguments as text, or reads commands in them."""
    has_split_option = any(re.match(r"-\w*S|--split-string", unquote(word)) for word in words)
    return bool(_list_names(words) & _CODE_ARGUMENT_PROGRAMS) or ("env" in map(_get_base, words) and has_split_option)


def find_runner(
    words: Sequence[str], text: str, is_fixed: Callable[[str, Sequence[str]], bool] = lambda code, words: False
) -> str | None:
    """Return the word of a command that executes text from a file or its input, or None.

    `text`: what the command is part of. `is_fixed`: whether the code of a shell cannot contain a value.
    """
    name, first = get_name(words), unquote(next(iter(_skip_prefixes(words)), ""))
    if name in ("echo", "printf", "print"):
        return None
    is_generated = "/" in first and not first.startswith(("/", "{scripts_dir}/"))
    if first.startswith(("$", "`")) or is_generated:
        return first
    if is_writer(words) and _STARTS_SHELL.search(" ".join(words)):
        return name
    if names := _list_names(words) & _RUNNERS_BY_NAME:
        return min(names)
    code_words = [code for _, code in find_code_words(words)]
    for position, word in enumerate(words):
        base = _get_base(word.rpartition("=")[2])
        if base not in _RUNNERS and not _SHELL_VARIABLE.match(base):
            continue
        if not _runs_own_script(words[position:], text) and not (
            code_words and all(is_fixed(c, words) for c in code_words)
        ):
            return base
    return None


def is_bare_exec(words: Sequence[str]) -> bool:
    """Return whether a command only redirects the output of those after it, as in `exec > file`."""
    return "exec" in map(unquote, words) and not get_name(words)


def is_writer(words: Sequence[str]) -> bool:
    """Return whether a command contains code in another language, or formats, that can write files."""
    names = _list_names(words)
    is_find = "find" in names and any(re.fullmatch("-f?printf", word) for word in words)
    return is_find or bool(names & _WRITERS) or _has_inline_code(words)


def writes_input(words: Sequence[str]) -> bool:
    """Return whether a command writes what it reads to a file."""
    names, text = _list_names(words), " ".join(words)
    if names & _FILE_WRITERS or ("sort" in names and "-o" in text):
        return True
    return _has_inline_code(words) or (bool(names & _WRITERS) and (">" in text or bool(_STARTS_SHELL.search(text))))


def is_printer(words: Sequence[str]) -> bool:
    """Return whether a command prints its arguments, or text that they describe."""
    return bool(_list_names(words) & _PRINTERS)


def may_hold_value(words: Sequence[str]) -> bool:
    """Return whether a command may put a value into a variable."""
    if get_name(words) in _ASSIGNING_COMMANDS or (get_name(words) == "printf" and "-v" in words):
        return True
    return any(_ASSIGNMENT.search(unquote(word)) for word in words if list_placeholders(word))


def _skip_prefixes(words: Sequence[str]) -> list[str]:
    """Return the words of a command from its name on, as they are written."""
    remaining = skip_prefixes([unquote(word) for word in words])
    return list(words[len(words) - len(remaining) :])


def _list_names(words: Sequence[str]) -> set[str]:
    """Return the names of the program that a command starts, and of those that it may start in turn."""
    name_position = len(words) - len(_skip_prefixes(words))
    bases = [_get_base(word) for word in words]
    if _STARTERS.isdisjoint(bases[: name_position + 1]):
        return set(bases[name_position : name_position + 1])
    return set(bases)


def _iter_options(words: Sequence[str], position: int, *, is_shell: bool) -> Iterator[int]:
    """Yield the positions of the options from `position` on. Those of a shell end at its first other word."""
    while position < len(words):
        option = unquote(words[position])
        if option.startswith(("-", "+")):
            yield position
        elif is_shell and not option.startswith(("$", "{")):
            return
        position += 2 if is_shell and _OPTION_WITH_VALUE.fullmatch(option) else 1


def _has_inline_code(words: Sequence[str]) -> bool:
    """Return whether an interpreter gets its code as an argument or as its input, as in python3 -c 'code'."""
    for position, word in enumerate(words):
        if not _INTERPRETER.fullmatch(_get_base(word)):
            continue
        for option_position in _iter_options(words, position + 1, is_shell=True):
            if _INLINE_CODE.fullmatch(unquote(words[option_position])):
                return True
    return False


def _runs_own_script(words: Sequence[str], text: str) -> bool:
    """Return whether a shell runs a script that the command has not written.

    Scripts in {scripts_dir} are such scripts, and others whose names are not anywhere else in the command.
    """
    if _get_base(words[0]) not in _SHELLS:
        return False
    operand = next((position for position, word in enumerate(words) if position and not word.startswith(("-", "+"))), 0)
    script = unquote(words[operand])
    if not operand or any(re.match(r"-\w*[sic]|[-+]\w*[oO]$|--", word) for word in words[1:operand]):
        return False
    is_image_file = re.fullmatch(r"/(?!dev/|proc/|tmp/|var/tmp/)[\w./+-]+", script) is not None
    return script.startswith("{scripts_dir}/") or (is_image_file and text.count(_get_base(script)) == 1)


def _get_base(word: str) -> str:
    """Return the last part of a path, without quotes."""
    return unquote(word).rpartition("/")[2]
