"""What the modules of the package import of each other: at the top, inside functions, and behind TYPE_CHECKING."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import ROOT

PACKAGE = "distributed_something"


@dataclass(frozen=True)
class Import:
    """`importer` imports `module`, or the module of that name's `name`, in this line."""

    importer: str
    path: Path
    line: int
    module: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.importer} imports {self.module}"


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    paths = sorted((ROOT / PACKAGE).rglob("*.py"))
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def imports_of(name: str, path: Path, known: dict[str, Path]) -> Iterator[Import]:
    """Imports of the package's own modules: at the top, inside functions, and behind TYPE_CHECKING alike."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith(PACKAGE):
                    yield Import(name, path.relative_to(ROOT), node.lineno, alias.name)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            named = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
            if isinstance(named, str) and named.startswith(PACKAGE):
                yield Import(name, path.relative_to(ROOT), node.lineno, named)
        elif isinstance(node, ast.ImportFrom):
            home = name if path.name == "__init__.py" else name.rpartition(".")[0]
            for _ in range(max(0, node.level - 1)):
                home = home.rpartition(".")[0]
            base = node.module or ""
            if node.level:
                base = f"{home}.{base}".rstrip(".")
            if base.startswith(PACKAGE):
                for alias in node.names:
                    inner = f"{base}.{alias.name}"
                    yield Import(name, path.relative_to(ROOT), node.lineno, inner if inner in known else base)


def package_of(module: str) -> str:
    """`distributed_something.run.monitor.loop` → `run`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""
