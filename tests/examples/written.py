"""How many lines a developer wrote for an example: what a run on AWS needs, without comments and mere brackets.

Not counted: the program that is distributed, tables of jobs, and the scripts that bring a program and data to this
computer or show results on it. Lines of a published worker, to compare with, are counted in the same way.
"""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path

from tests.support.project import ROOT

_NO_CODE = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
    tokenize.ENCODING,
}  # fmt: skip


def lines_written(example: str) -> int:
    folder = ROOT / "examples" / example
    files = [folder / "config.py", *(folder / "files").glob("*Job.json"), *_of_worker(folder, "*")]
    return sum(map(_lines, files))


def lines_of_python(example: str) -> int:
    """Those of the worker, scripts that jobs run among them."""
    return sum(map(_lines, _of_worker(ROOT / "examples" / example, "*.py")))


def _of_worker(folder: Path, match: str) -> list[Path]:
    found = (folder / "worker").rglob(match)
    return [path for path in found if path.is_file() and "__pycache__" not in path.parts]


def _lines(path: Path) -> int:
    text = path.read_text()
    if path.suffix == ".py":
        return python_lines(text)
    written = [line.strip() for line in text.splitlines()]
    comment = ('"_comment', "//") if path.suffix == ".json" else ("#",)
    return sum(1 for line in written if _says_something(line) and not line.startswith(comment))


def python_lines(text: str) -> int:
    """Lines with code on them; a docstring is a comment."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    code = {n for one in tokens if one.type not in _NO_CODE for n in range(one.start[0], one.end[0] + 1)}
    lines = text.splitlines()
    return sum(1 for n in code - _docstrings(ast.parse(text)) if _says_something(lines[n - 1]))


def _says_something(line: str) -> bool:
    return bool(line.strip(" \t()[]{},"))


def _docstrings(tree: ast.Module) -> set[int]:
    homes = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    documented = [node for node in ast.walk(tree) if isinstance(node, homes) and ast.get_docstring(node) is not None]
    texts = [node.body[0] for node in documented]
    return {n for text in texts for n in range(text.lineno, (text.end_lineno or text.lineno) + 1)}
