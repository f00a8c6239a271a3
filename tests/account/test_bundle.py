"""The auto-monitor's zip file: reproducible, complete, and importable with only what Lambda provides."""

from __future__ import annotations

import ast
import importlib.util
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

from distributed_something.account.lambda_function import LAMBDA_HANDLER, build_bundle, hash_bundle
from tests.support.paths import ROOT

# Packages that Lambda's Python provides in addition to the standard library.
LAMBDA_PACKAGES = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "six", "urllib3")
MAX_ZIP_BYTES = 50 * 1000 * 1000  # Lambda's limit for a zip file that is part of the request


def list_file_names(content: bytes) -> list[str]:
    return zipfile.ZipFile(io.BytesIO(content)).namelist()


def write_project(folder: Path, **files: str) -> Path:
    """Write a project whose package has these modules, and return its folder. `__` in a name stands for `/`."""
    for name, content in {"__init__": "", **files}.items():
        path = folder / "distributed_something" / f"{name if name == '__init__' else name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode())
    return folder


def test_the_zip_contains_only_the_packages_that_the_auto_monitor_needs() -> None:
    content = build_bundle(ROOT)

    names = list_file_names(content)
    assert {"distributed_something/__init__.py", "distributed_something/run/monitor/loop.py",
            "distributed_something/worker/job/job_id.py"} <= set(names)  # fmt: skip
    assert {name for name in names if not name.endswith(".py")} == {
        "distributed_something/results/report/assets/report.css",
        "distributed_something/results/report/assets/report.js",
    }
    assert all(name.startswith("distributed_something/") for name in names)
    assert not {"cli", "diagnose", "localcloud", "project"} & {name.split("/")[1] for name in names}
    assert len(content) < MAX_ZIP_BYTES


def test_the_zip_contains_every_module_of_the_package_that_it_imports() -> None:
    archive = zipfile.ZipFile(io.BytesIO(build_bundle(ROOT)))
    modules = {name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in archive.namelist()}
    for name in (name for name in archive.namelist() if name.endswith(".py")):
        for node in ast.walk(ast.parse(archive.read(name))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("distributed_something"):
                assert node.module in modules, f"{name} imports {node.module}"


def test_line_endings_dates_modes_and_other_files_do_not_change_the_zip(tmp_path: Path) -> None:
    code = {"run__b": "x = 1\n", "run__a": "y = 2\n", "worker__job__c": "z = 3\n"}
    project = write_project(tmp_path / "one", **code)
    other = write_project(
        tmp_path / "other", **{name: text.replace("\n", "\r\n") for name, text in reversed(code.items())}
    )
    folder = other / "distributed_something" / "run"
    os.utime(folder / "a.py", (0, 0))
    (folder / "a.py").chmod(0o700)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "a.cpython-313.pyc").write_bytes(b"\0")
    (folder / "notes.txt").write_text("notes")

    assert build_bundle(project) == build_bundle(other)
    assert list_file_names(build_bundle(project)) == [
        f"distributed_something/{name}.py" for name in ("__init__", "run/a", "run/b", "worker/job/c")
    ]


def test_a_changed_character_changes_the_digest(tmp_path: Path) -> None:
    before = hash_bundle(build_bundle(write_project(tmp_path, run__a="x = 1\n")))
    after = hash_bundle(build_bundle(write_project(tmp_path, run__a="x = 2\n")))

    assert before != after
    assert len(before) == 44  # base64 of 32 bytes, as Lambda's CodeSha256


def test_every_file_in_the_zip_is_readable_by_everyone_and_has_the_same_date() -> None:
    entries = zipfile.ZipFile(io.BytesIO(build_bundle(ROOT))).infolist()

    assert {entry.external_attr >> 16 & 0o444 for entry in entries} == {0o444}
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}


def test_the_handler_can_be_imported_with_boto3_as_the_only_other_package(tmp_path: Path) -> None:
    code, packages = tmp_path / "code", tmp_path / "packages"
    zipfile.ZipFile(io.BytesIO(build_bundle(ROOT))).extractall(code)
    packages.mkdir()
    for name in LAMBDA_PACKAGES:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        path = Path(spec.origin)
        source = path.parent if path.name == "__init__.py" else path
        (packages / source.name).symlink_to(source)
    module, _, function = LAMBDA_HANDLER.rpartition(".")
    program = (
        f"import sys, json; sys.path[:0] = {[str(code), str(packages)]!r}; import {module} as m; "
        f"print(json.dumps([callable(m.{function}), sorted(n.partition('.')[0] for n in sys.modules)]))"
    )

    # -S disables site-packages, so that only Lambda's packages can be imported.
    process = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False)

    assert process.returncode == 0, process.stderr
    is_callable, loaded = json.loads(process.stdout)
    assert is_callable
    assert not {"pydantic", "rich", "click"} & set(loaded)
