"""The structure of the package: which package may import which, no cycles, and the sizes that keep it readable."""

from __future__ import annotations

import ast
from itertools import pairwise

from tests.support.imports import PACKAGE, Import, imports_of, modules, package_of
from tests.support.paths import ROOT

# A package may import those that stand in a line below its own, and `worker`'s public names.
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
LAYER = {package: number for number, packages in enumerate(LAYERS) for package in packages}
ABOVE = {"config", "examples", "run", "tests"}  # beside the package, in the repository
MAX_MODULES, MAX_MODULE_LINES, MAX_FUNCTION_LINES, MAX_PARAMETERS = 12, 400, 40, 7
MIN_WORDS = 2.0  # of a function's name, on average


def fault_of(one: Import) -> str | None:
    """Why this import breaks the rules; None where it does not."""
    importer, imported = package_of(one.importer), package_of(one.module)
    if importer == "worker" and one.module == f"{PACKAGE}.worker" != one.importer:
        return "worker's modules import each other, not the list of its public names"
    if importer == imported or not importer or not imported:
        return None
    if imported == "worker":
        return None if one.module == f"{PACKAGE}.worker" else "only distributed_something.worker itself is public"
    if imported == "localcloud":
        return None if importer == "cli" else "only cli knows the local cloud"
    if importer in ("worker", "localcloud"):
        return f"{importer} imports nothing of the other packages"
    return None if LAYER[imported] > LAYER[importer] else f"{importer} stands below or beside {imported}"


def test_every_package_imports_only_what_stands_below_it() -> None:
    known = modules()
    faults = [
        f"{one}: {fault}"
        for name, path in known.items()
        for one in imports_of(name, path, known)
        if (fault := fault_of(one))
    ]
    assert not faults, "\n".join(faults)


def test_modules_are_imported_by_name_and_nothing_above_the_package_is() -> None:
    """`import distributed_something.run` would reach any module of it, and no rule would see which."""
    faults = [
        f"{path.relative_to(ROOT)}:{node.lineno}: import {alias.name}"
        for path in modules().values()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import)
        for alias in node.names
        if (alias.name.startswith(PACKAGE) and alias.asname is None) or alias.name.split(".")[0] in ABOVE
    ]
    faults += [
        f"{path.relative_to(ROOT)}:{node.lineno}: from {node.module} import …"
        for path in modules().values()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and not node.level and str(node.module).split(".")[0] in ABOVE
    ]
    assert not faults, "\n".join(faults)


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Imports inside functions and behind TYPE_CHECKING count as well; a package's list of public names does not."""
    known = modules()
    graph = {
        name: {one.module: one for one in imports_of(name, path, known)}
        for name, path in known.items()
        if name != f"{PACKAGE}.worker"
    }
    done: set[str] = set()

    def walk(name: str, way: list[str]) -> None:
        if name in way:
            steps = [*way[way.index(name) :], name]
            lines = [str(graph[one][other]) for one, other in pairwise(steps)]
            raise AssertionError("a cycle:\n" + "\n".join(lines))
        if name in done or name not in graph:
            return
        for inner in graph[name]:
            if inner != name:
                walk(inner, [*way, name])
        done.add(name)

    for name in graph:
        walk(name, [])


def test_the_package_has_the_thirteen_packages_and_no_modules_of_its_own() -> None:
    top = {path.name for path in (ROOT / PACKAGE).iterdir() if path.name != "__pycache__"}
    assert top == {*LAYER, "worker", "localcloud", "__init__.py"}


def test_no_folder_is_crowded() -> None:
    folders = [path for path in (ROOT / PACKAGE).rglob("*") if path.is_dir()]
    crowded = {str(one): count for one in folders if (count := len(list(one.glob("*.py")))) > MAX_MODULES}
    assert not crowded


def test_every_folder_says_what_lives_there() -> None:
    silent = [
        path for path in (ROOT / PACKAGE).rglob("__init__.py") if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent, f"without a docstring: {', '.join(map(str, silent))}"


def test_modules_and_functions_stay_small() -> None:
    faults: list[str] = []
    for path in modules().values():
        text = path.read_text()
        if text.count("\n") > MAX_MODULE_LINES:
            faults.append(f"{path}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                assert node.end_lineno is not None
                if node.end_lineno - node.lineno + 1 > MAX_FUNCTION_LINES:
                    faults.append(f"{path}:{node.lineno}: {node.name} has {node.end_lineno - node.lineno + 1} lines")
                count = len(node.args.posonlyargs) + len(node.args.args) + len(node.args.kwonlyargs)
                if count > MAX_PARAMETERS:
                    faults.append(f"{path}:{node.lineno}: {node.name} has {count} parameters")
    assert not faults, "\n".join(faults)


def test_function_names_have_two_words_or_more_on_average() -> None:
    names = [
        node.name.strip("_")
        for path in modules().values()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("__")
    ]
    words = sum(len(name.split("_")) for name in names)
    assert words / len(names) >= MIN_WORDS, f"{words / len(names):.2f}"
