"""`run.py upgrade`: brings this version of the package into a project.

It replaces the wheel in `vendor/` and the line of requirements.txt that names it; nothing else. Then it reports which
config keys and hooks differ between the two versions, by comparing the code in both wheels. A project of an older form
is first converted: see `convert.py`.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from lzma import LZMAError
from pathlib import Path

from distributed_something.core.errors import InputError, UserFacingError
from distributed_something.core.files import read_text_file, write_file_atomically
from distributed_something.core.text import format_row
from distributed_something.project.hook_signatures import (
    HookSignatures,
    format_hook_changes,
    get_config_line,
    parse_hooks,
    parse_settings_keys,
    read_config_constants,
)
from distributed_something.project.new import VENDOR_FOLDER
from distributed_something.project.wheel import WHEEL_PATTERN, build_wheel

# A line may continue after a backslash, for example with hashes.
_WHEEL_LINE = re.compile(
    rf"^(?P<wheel>(?:\./)?{VENDOR_FOLDER}/distributed_something-\S+\.whl)(?P<options>(?:\\\r?\n|.)*)", re.M
)
_HASH_OPTION = re.compile(r"(?P<space>(?:[ \t]|\\\r?\n)+)--hash[= ]\S+")
_SETTINGS_MODULE = "distributed_something/core/config_settings.py"
_HOOKS_MODULE = "distributed_something/project/template/worker/generic-worker.py"
_CONFIG = "distributed_something/project/template/config.py"
# What `zipfile` raises for a file that is not a wheel or is damaged. RuntimeError: damage can look like encryption, and
# NotImplementedError, for an unknown compression, derives from it. ValueError: the text is not UTF-8.
_DAMAGE_ERRORS = (OSError, EOFError, KeyError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error, LZMAError)


@dataclass(frozen=True)
class WheelContent:
    """What a project depends on in a version of the package: config keys, hooks, and the text of the shipped config."""

    config_keys: list[str]
    hooks: HookSignatures
    config: str


def upgrade_project(project: Path, *, dry_run: bool = False) -> list[str]:
    """Replace the project's wheel, unless it is this version already; return lines that report the changes.

    Raise InputError if the project does not name a wheel, and UserFacingError if its files cannot be written.
    """
    requirements = project / "requirements.txt"
    text = read_text_file(requirements, "a project's requirements.txt")
    match = _WHEEL_LINE.search(text)
    if match is None:
        remedy = "change the version in the line that installs distributed-something"
        raise InputError(requirements, "", f"no line names a wheel in {VENDOR_FOLDER}/", remedy)
    old = project / match["wheel"]
    with tempfile.TemporaryDirectory() as folder:
        new = build_wheel(Path(folder))
        before = read_wheel(old) if old.is_file() else None
        if before is not None and _has_same_content(old, new):
            return ["the project already has this version of the package"]
        lines = [format_row("replace", f"{VENDOR_FOLDER}/{old.name} with {new.name}")]
        if before is None:
            reason = f"because {VENDOR_FOLDER}/{old.name} does not exist"
            lines.append(format_row("unknown", f"changes of config keys and hooks, {reason}"))
        else:
            lines += _format_changes(before, read_wheel(new), project)
        if dry_run:
            return lines
        _replace_wheel(project, old, new, text)
    return [*lines, "next: make venv, then make push, so that machines run the new worker"]


def read_wheel(path: Path) -> WheelContent:
    """Return what a project depends on in this wheel. Raise InputError if it is not one of this package."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip():
                raise zipfile.BadZipFile
            settings, hooks, config = (
                archive.read(name).decode() for name in (_SETTINGS_MODULE, _HOOKS_MODULE, _CONFIG)
            )
    except _DAMAGE_ERRORS:
        problem = "this is not a wheel of distributed-something, or it is damaged"
        remedy = "restore it from the project's history, or delete it"
        raise InputError(path, "", problem, remedy) from None
    return WheelContent(parse_settings_keys(settings, path), parse_hooks(hooks, path), config)


def _has_same_content(old: Path, new: Path) -> bool:
    def list_content(path: Path) -> dict[str, int]:
        with zipfile.ZipFile(path) as archive:
            return {entry.filename: entry.CRC for entry in archive.infolist()}

    return old.name == new.name and list_content(old) == list_content(new)


def _replace_wheel(project: Path, old: Path, new: Path, requirements: str) -> None:
    """Add the new wheel, name it in requirements.txt, then delete the old one, so that the project is always valid."""
    vendor = project / VENDOR_FOLDER
    try:
        vendor.mkdir(exist_ok=True)
        write_file_atomically(vendor / new.name, new.read_bytes())
        write_file_atomically(project / "requirements.txt", _name_wheel(requirements, new).encode())
        for path in vendor.glob(WHEEL_PATTERN):
            if path.name != new.name:
                path.unlink()
    except OSError as error:
        remedy = "run the same command again to complete the upgrade"
        raise UserFacingError(error.strerror or str(error), remedy, action=f"upgrading {project}") from None


def _name_wheel(requirements: str, new: Path) -> str:
    """Return the text with the new wheel, and with its hash if the line has any: pip refuses a mix of both forms."""
    hashes = iter([f"--hash=sha256:{hashlib.sha256(new.read_bytes()).hexdigest()}"])

    def replace_hash(match: re.Match[str]) -> str:
        new_hash = next(hashes, "")
        return new_hash and f"{match['space']}{new_hash}"

    def replace_line(match: re.Match[str]) -> str:
        return f"./{VENDOR_FOLDER}/{new.name}{_HASH_OPTION.sub(replace_hash, match['options'])}"

    return _WHEEL_LINE.sub(replace_line, requirements)


def _format_changes(before: WheelContent, after: WheelContent, project: Path) -> Iterator[str]:
    """Yield one line for each config key and hook that differs between the versions."""
    own = read_config_constants(project / "config.py")
    for key in after.config_keys:
        if key not in before.config_keys:
            note = "; your config already sets it, check its value" if key in own else ""
            yield format_row("config", f"new: {get_config_line(after.config, key)}{note}")
    for key in before.config_keys:
        if key not in after.config_keys:
            note = "; in your config, it is now one of your own constants for the program" if key in own else ""
            yield format_row("config", f"removed: {key}{note}")
    for change in format_hook_changes(before.hooks, after.hooks):
        yield format_row("hook", change)
