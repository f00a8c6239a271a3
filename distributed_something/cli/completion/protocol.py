"""What the shells' scripts and run.py say to each other while the user types.

A script sets three environment variables: RUN_PY_WORDS has the typed words from run.py on, one per line, as the shell
quotes them; RUN_PY_WORD_INDEX is the number of the word to complete, from 0; and _RUN_PY_COMPLETE is `words_complete`,
from which click knows that it should complete. The answer has one line per word: its type (`plain`, or `file` or `dir`
if the shell should complete a path), the word, and a description, separated by tabs.
"""

from __future__ import annotations

import os
from pathlib import Path

from click.shell_completion import CompletionItem, ShellComplete, add_completion_class, split_arg_string

SHELLS = ("bash", "zsh", "fish")
WORDS_VARIABLE, INDEX_VARIABLE = "RUN_PY_WORDS", "RUN_PY_WORD_INDEX"


def read_script(shell: str) -> str:
    """Return the script for one of SHELLS."""
    return (Path(__file__).parent / f"run-py.{shell}").read_text(encoding="utf-8")


class WordsComplete(ShellComplete):
    """Completes the words in the environment. It is the same for all shells."""

    name = "words"

    def get_completion_args(self) -> tuple[list[str], str]:
        words = os.environ[WORDS_VARIABLE].split("\n")
        index = int(os.environ[INDEX_VARIABLE])
        current = _unquote(words[index]) if index < len(words) else ""
        # bash makes three words of --name=value.
        return [_unquote(word) for word in words[1:index] if word != "="], "" if current == "=" else current

    def complete(self) -> str:
        arguments, current = self.get_completion_args()
        name, separator, _ = current.partition("=")  # in zsh and fish, the word to complete is --name=value
        prefix = name + separator if separator and name.startswith("--") else ""
        return "\n".join(_format_item(item, prefix) for item in self.get_completions(arguments, current))

    def format_completion(self, item: CompletionItem) -> str:
        return _format_item(item, "")


def _unquote(word: str) -> str:
    return " ".join(split_arg_string(word))


def _format_item(item: CompletionItem, prefix: str) -> str:
    return "\t".join([item.type, prefix + item.value, " ".join((item.help or "").split())])


add_completion_class(WordsComplete)
