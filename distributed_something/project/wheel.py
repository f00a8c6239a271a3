"""The wheel of this package that a project carries in `vendor/`, and what its content says about its version.

In a clone of the repository, the wheel is built from the sources. An installed package is packed again from its own
files, because pip does not keep the wheel.
"""

from __future__ import annotations

import os
import zipfile
from importlib import metadata
from pathlib import Path

from distributed_something.core.errors import UserFacingError
from distributed_something.project.template import PACKAGE_PARENT, is_repository

DISTRIBUTION = "distributed-something"
WHEEL_PATTERN = "distributed_something-*.whl"
_INSTALLER_FILES = {"INSTALLER", "REQUESTED", "direct_url.json"}  # pip adds them; a wheel does not contain them


def build_wheel(folder: Path) -> Path:
    """Build the wheel of this package in `folder`, which exists, and return its path. Raise UserFacingError."""
    return _build_from_sources(folder) if is_repository() else _pack_installed_package(folder)


def _build_from_sources(folder: Path) -> Path:
    try:
        from hatchling.build import build_wheel as build_with_hatchling
    except ImportError as error:
        raise UserFacingError(f"{error.name} is not installed", "run make venv", action="building the wheel") from None
    target, previous = folder.resolve(), Path.cwd()
    os.chdir(PACKAGE_PARENT)  # hatchling builds the project in the current folder
    try:
        return target / build_with_hatchling(str(target))
    finally:
        os.chdir(previous)


def _pack_installed_package(folder: Path) -> Path:
    """Write a wheel with the files of the installed distribution, without what pip added to them."""
    distribution = metadata.distribution(DISTRIBUTION)
    path = folder / f"distributed_something-{distribution.version}-py3-none-any.whl"
    files = {file.as_posix(): file for file in distribution.files or () if _is_from_wheel(file)}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, file in sorted(files.items()):
            if file.name == "RECORD":
                lines = file.read_text().splitlines()
                archive.writestr(name, "".join(f"{line}\n" for line in lines if line.partition(",")[0] in files))
            else:
                archive.write(str(file.locate()), name)
    return path


def _is_from_wheel(file: metadata.PackagePath) -> bool:
    return ".." not in file.parts and file.suffix != ".pyc" and file.name not in _INSTALLER_FILES
