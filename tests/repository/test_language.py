"""Tests that certain phrases, which used to make our text hard to read, do not return.

The list is short on purpose: it contains only the phrases that confused readers most, each with a better wording.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.paths import ROOT

BETTER_WORDING_BY_PHRASE = {
    r"(?<!there )\b(is|are|was|were) no (?!longer\b|more than\b|less than\b|later than\b)\w+": "is not a …",
    r"\blest\b": "so that … not",
    r"\bmend(s|ed|ing)?\b": "fix, correct",
    r"\b(is|are|was|were) told\b": "the command prints, the worker reads, the user sees",
    r"\bwhat (it|they) lacks?\b": "what is missing",
    r"\bof which\b": "a second sentence",
    r"\bwithout a word\b": "without a message",
    r"\banew\b": "again",
    r"\boutlived\b": "survived, retried",
    r"\bpatiently\b": "with retries",
    r"\bas it is to be\b": "in its final state",
    r"\bwhat is there\b": "what exists",
    r"\bin vain\b": "wasted",
    r"\bfor want of\b": "because of too little …",
    r"\bgiv(es?|ing|en) back\b": "return",
    r"\btak(es?|ing|en) over\b": "adopt",
    r"\bclean-up\b": "cleanup (noun), clean up (verb)",
    r"\bset-up\b": "setup (noun), set up (verb)",
    r"\bcloud in this computer\b": "the local cloud",
    r"[«»]": "straight quotes or backticks",
}
PHRASES = [(re.compile(phrase, re.IGNORECASE), better) for phrase, better in BETTER_WORDING_BY_PHRASE.items()]
SUFFIXES = {".py", ".md", ".sh", ".toml", ".in", ".json", ""}  # "": Makefile, Dockerfile, scripts
OTHERS_TEXT = {"LICENSE", Path(__file__).name}


def list_own_files() -> list[Path]:
    """Return our own text files: the files under version control except licenses and data."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.split("\0")  # fmt: skip
    paths = (ROOT / name for name in names if name)
    return [path for path in paths if path.suffix in SUFFIXES and path.name not in OTHERS_TEXT and path.is_file()]


def find_old_phrases(text: str) -> list[str]:
    """Return the problems in `text`, with line numbers. Underscores count as spaces, so that names are checked too."""
    return [
        f"line {number}: {match[0]!r}: better: {better}"
        for number, line in enumerate(text.splitlines(), 1)
        for phrase, better in PHRASES
        if (match := phrase.search(line.replace("_", " ")))
    ]


@pytest.mark.parametrize(
    "sentence",
    ["'x' is no number", "what_is_told_is_true", "lest it fail", "it starts anew", "mend the file", "give «x»"],
)
def test_a_phrase_on_the_list_is_found(sentence: str) -> None:
    assert find_old_phrases(sentence)


@pytest.mark.parametrize("sentence", ["there is no queue", "it is no longer needed", "it is not a number"])
def test_plain_english_is_accepted(sentence: str) -> None:
    assert find_old_phrases(sentence) == []


def test_code_and_docs_contain_no_phrase_on_the_list() -> None:
    assert [
        f"{path.relative_to(ROOT)}: {problem}"
        for path in list_own_files()
        for problem in find_old_phrases(path.read_text())
    ] == []
