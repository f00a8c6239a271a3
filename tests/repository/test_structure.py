"""Rules for the structure of the package: imports between packages, no import cycles, and limits on size."""

from __future__ import annotations

import ast
from collections import Counter
from itertools import pairwise

from tests.support.imports import PACKAGE, Import, get_package, iter_imports, list_modules
from tests.support.paths import ROOT

# A package may import the packages on any line below its own and the public names of `worker`.
LAYERS = (
    ("cli",),
    ("diagnose",),
    ("run",),
    ("results",),
    ("observe",),
    ("fleet", "project"),
    ("jobs", "account"),
    ("aws",),
    ("core",),
)
LAYER_BY_PACKAGE = {package: number for number, packages in enumerate(LAYERS) for package in packages}
OUTSIDE_PACKAGE = {"config", "examples", "run", "tests"}  # modules and folders next to the package
MAX_MODULES, MAX_MODULE_LINES, MAX_FUNCTION_LINES, MAX_PARAMETERS = 12, 400, 40, 7
MIN_WORDS = 2.0  # average number of words per function name


def find_import_problem(item: Import) -> str | None:
    """Return the rule that this import breaks, or None if the import is allowed."""
    importer, imported = get_package(item.importer), get_package(item.module)
    if importer == "worker" and item.module == f"{PACKAGE}.worker" != item.importer:
        return "modules of worker must import each other, not distributed_something.worker"
    if importer == imported or not importer or not imported:
        return None
    if imported == "worker":
        return None if item.module == f"{PACKAGE}.worker" else "import it from distributed_something.worker"
    if imported == "localcloud":
        return None if importer == "cli" else "only cli may import localcloud"
    if importer in ("worker", "localcloud"):
        return f"{importer} must not import other packages"
    if LAYER_BY_PACKAGE[imported] <= LAYER_BY_PACKAGE[importer]:
        return f"{importer} must not import {imported}, which is not in a lower layer"
    return None


def test_every_package_imports_only_from_lower_layers() -> None:
    module_paths = list_modules()
    problems = [
        f"{item}: {problem}"
        for name, path in module_paths.items()
        for item in iter_imports(name, path, module_paths)
        if (problem := find_import_problem(item))
    ]
    assert not problems, "\n".join(problems)


def test_no_two_test_modules_have_the_same_name() -> None:
    """Otherwise, pytest cannot collect both in one run, as `make check-long` does."""
    counts = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in counts.items() if count > 1] == []


def test_modules_are_imported_by_name_and_only_from_the_package() -> None:
    """With `import distributed_something.run`, code could use any module in it, and no test could tell which ones."""
    problems = [
        f"{path.relative_to(ROOT)}:{node.lineno}: import {alias.name}"
        for path in list_modules().values()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import)
        for alias in node.names
        if (alias.name.startswith(PACKAGE) and alias.asname is None) or alias.name.split(".")[0] in OUTSIDE_PACKAGE
    ]
    problems += [
        f"{path.relative_to(ROOT)}:{node.lineno}: from {node.module} import …"
        for path in list_modules().values()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and not node.level and str(node.module).split(".")[0] in OUTSIDE_PACKAGE
    ]
    assert not problems, "\n".join(problems)


def test_there_are_no_import_cycles() -> None:
    """Imports in functions and under TYPE_CHECKING count too.

    Those in `worker/__init__.py` do not, because it only re-exports names.
    """
    module_paths = list_modules()
    graph = {
        name: {item.module: item for item in iter_imports(name, path, module_paths)}
        for name, path in module_paths.items()
        if name != f"{PACKAGE}.worker"
    }
    checked: set[str] = set()

    def follow_imports(name: str, importers: list[str]) -> None:
        if name in importers:
            cycle = [*importers[importers.index(name) :], name]
            lines = [str(graph[importer][imported]) for importer, imported in pairwise(cycle)]
            raise AssertionError("import cycle:\n" + "\n".join(lines))
        if name in checked or name not in graph:
            return
        for imported in graph[name]:
            if imported != name:
                follow_imports(imported, [*importers, name])
        checked.add(name)

    for name in graph:
        follow_imports(name, [])


def test_the_top_level_contains_only_the_thirteen_packages() -> None:
    names = {path.name for path in (ROOT / PACKAGE).iterdir() if path.name != "__pycache__"}
    assert names == {*LAYER_BY_PACKAGE, "worker", "localcloud", "__init__.py"}


def test_no_folder_has_too_many_modules() -> None:
    folders = [path for path in (ROOT / PACKAGE).rglob("*") if path.is_dir()]
    too_large = {str(folder): count for folder in folders if (count := len(list(folder.glob("*.py")))) > MAX_MODULES}
    assert not too_large


def test_every_package_has_a_docstring() -> None:
    undocumented = [
        path for path in (ROOT / PACKAGE).rglob("__init__.py") if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not undocumented, f"without a docstring: {', '.join(map(str, undocumented))}"


def test_modules_and_functions_stay_small() -> None:
    problems: list[str] = []
    for path in list_modules().values():
        text = path.read_text()
        if text.count("\n") > MAX_MODULE_LINES:
            problems.append(f"{path}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                assert node.end_lineno is not None
                if node.end_lineno - node.lineno + 1 > MAX_FUNCTION_LINES:
                    problems.append(f"{path}:{node.lineno}: {node.name} has {node.end_lineno - node.lineno + 1} lines")
                count = len(node.args.posonlyargs) + len(node.args.args) + len(node.args.kwonlyargs)
                if count > MAX_PARAMETERS:
                    problems.append(f"{path}:{node.lineno}: {node.name} has {count} parameters")
    assert not problems, "\n".join(problems)


def test_the_average_function_name_has_at_least_two_words() -> None:
    names = [
        node.name.strip("_")
        for path in list_modules().values()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("__")
    ]
    words = sum(len(name.split("_")) for name in names)
    assert words / len(names) >= MIN_WORDS, f"{words / len(names):.2f}"
