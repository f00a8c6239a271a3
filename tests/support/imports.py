"""Imports between the package's modules: at the top, inside functions, and under TYPE_CHECKING."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import ROOT

PACKAGE = "distributed_something"


@dataclass(frozen=True)
class Import:
    """One import. `importer` is the importing module; `module` is the imported one."""

    importer: str
    path: Path
    line: int
    module: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.importer} imports {self.module}"


def list_modules() -> dict[str, Path]:
    """Return the path of every module in the package, keyed by dotted name."""
    paths = sorted((ROOT / PACKAGE).rglob("*.py"))
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def iter_imports(name: str, path: Path, modules: dict[str, Path]) -> Iterator[Import]:
    """Yield a module's imports from the package. `modules` maps the package's module names to paths."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith(PACKAGE):
                    yield Import(name, path.relative_to(ROOT), node.lineno, alias.name)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            argument = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
            if isinstance(argument, str) and argument.startswith(PACKAGE):
                yield Import(name, path.relative_to(ROOT), node.lineno, argument)
        elif isinstance(node, ast.ImportFrom):
            parent = name if path.name == "__init__.py" else name.rpartition(".")[0]
            for _ in range(max(0, node.level - 1)):
                parent = parent.rpartition(".")[0]
            base = node.module or ""
            if node.level:
                base = f"{parent}.{base}".rstrip(".")
            if base.startswith(PACKAGE):
                for alias in node.names:
                    inner = f"{base}.{alias.name}"
                    yield Import(name, path.relative_to(ROOT), node.lineno, inner if inner in modules else base)


def get_package(module: str) -> str:
    """Return a module's top-level package, such as `run` for `distributed_something.run.monitor.loop`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""
