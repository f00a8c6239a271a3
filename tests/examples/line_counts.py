"""Counts the lines that a developer had to write for an example so that it can run on AWS.

Comments, docstrings, and lines that contain only brackets are not counted. The program itself, tables of jobs, and
scripts that fetch a program or data or show results are not counted either. The published workers were counted in the
same way.
"""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path

from tests.support.project import ROOT

_IGNORED_TOKENS = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
    tokenize.ENCODING,
}  # fmt: skip


def count_written_lines(example: str) -> int:
    folder = ROOT / "examples" / example
    files = [folder / "config.py", *(folder / "files").glob("*Job.json"), *_list_worker_files(folder, "*")]
    return sum(map(_count_file_lines, files))


def count_python_lines(example: str) -> int:
    """Return the number of Python lines in the example's worker folder, including scripts that jobs run."""
    return sum(map(_count_file_lines, _list_worker_files(ROOT / "examples" / example, "*.py")))


def _list_worker_files(folder: Path, match: str) -> list[Path]:
    paths = (folder / "worker").rglob(match)
    return [path for path in paths if path.is_file() and "__pycache__" not in path.parts]


def _count_file_lines(path: Path) -> int:
    text = path.read_text()
    if path.suffix == ".py":
        return count_code_lines(text)
    lines = [line.strip() for line in text.splitlines()]
    comment_starts = ('"_comment', "//") if path.suffix == ".json" else ("#",)
    return sum(1 for line in lines if _has_content(line) and not line.startswith(comment_starts))


def count_code_lines(text: str) -> int:
    """Return the number of lines that contain code, without docstrings."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    code_tokens = [token for token in tokens if token.type not in _IGNORED_TOKENS]
    numbers = {number for token in code_tokens for number in range(token.start[0], token.end[0] + 1)}
    lines = text.splitlines()
    return sum(1 for number in numbers - _list_docstring_lines(ast.parse(text)) if _has_content(lines[number - 1]))


def _has_content(line: str) -> bool:
    return bool(line.strip(" \t()[]{},"))


def _list_docstring_lines(tree: ast.Module) -> set[int]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    documented = [node for node in ast.walk(tree) if isinstance(node, kinds) and ast.get_docstring(node) is not None]
    docstrings = [node.body[0] for node in documented]
    return {
        number
        for docstring in docstrings
        for number in range(docstring.lineno, (docstring.end_lineno or docstring.lineno) + 1)
    }
