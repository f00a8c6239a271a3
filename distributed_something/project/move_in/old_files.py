"""Copies the folder `files` of a published implementation, except for what must not be in a project's repository."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from distributed_something.core.errors import InputError
from distributed_something.core.files import read_json_object
from distributed_something.jobs.job_file import load_job_file
from distributed_something.jobs.job_keys import GROUPS_KEYS, collect_own_names

MAX_COPIED_BYTES = 50 * 1000**2  # Git hosts warn about larger files, or refuse them
# Patterns for names that are not copied, and why.
_LEFT_OUT_NAMES = {
    ".*": "a hidden file",
    "__pycache__": "a cache of Python's",
    "*.pyc": "a cache of Python's",
    "*SpotFleetRequestId.json": "the monitor file of an earlier run",
    "*.pem": "a private key, which must not be in a repository",
    "*.ppk": "a private key, which must not be in a repository",
    "id_rsa*": "a private key, which must not be in a repository",
    "*accessKeys.csv": "AWS credentials, which must not be in a repository",
    "credentials*": "AWS credentials, which must not be in a repository",
    "requirements.txt": "the packages of the old run.py; requirements.txt in the project replaces it",
}
_SECRET_MARKERS = (b"PRIVATE KEY-----", b"aws_secret_access_key", b"Secret access key")
_MARKER_BYTES = 4096  # at the start of a file, where these are
_FLEET_KEYS = {"IamFleetRole", "LaunchSpecifications", "LaunchTemplateConfigs"}


@dataclass
class CopiedFiles:
    """What became of the files. Paths are relative to the folder, with `/`.

    `job_files`: how many jobs each contains; None if they are listed only when they are submitted. `problems`: what is
    wrong with Job files. `left_out`: why files and folders were not copied.
    """

    job_files: dict[str, int | None] = field(default_factory=dict)
    fleet_files: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    problems: list[InputError] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def copy_old_files(folder: Path, target: Path, worker: Path, skipped: Iterable[Path] = ()) -> CopiedFiles:
    """Copy `folder` to `target`, and return what became of each file. `worker`: the new project's folder `worker`.

    `skipped`: paths that are neither copied nor reported. Files that `target` contains already are replaced.
    """
    copied = CopiedFiles()
    for name, path in _iter_files(folder, copied.left_out, set(map(os.path.realpath, skipped))):
        goal = target / name
        goal.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(path, goal)
        except OSError as error:
            goal.unlink(missing_ok=True)
            copied.left_out[name] = f"it cannot be read ({error.strerror})"
            continue
        copied.others.append(name)
    for name in [name for name in copied.others if name.endswith(".json")]:
        _classify_json(name, target / name, worker, copied)
    copied.problems = [_name_copied_file(problem, target) for problem in copied.problems]
    return copied


def _name_copied_file(error: InputError, target: Path) -> InputError:
    """Return the error with paths in the project; until everything is copied, `target` is in a temporary folder."""
    file, problem, remedy = (
        text.replace(str(target.resolve()), target.name).replace(str(target), target.name)
        for text in (str(error.file), error.problem, error.remedy)
    )
    return InputError(file, error.key, problem, remedy)


def _iter_files(folder: Path, left_out: dict[str, str], skipped: Collection[str]) -> Iterator[tuple[str, Path]]:
    """Yield the name and path of each file to copy, and add the others to `left_out`, except `skipped`."""

    def note_error(error: OSError) -> None:
        left_out[os.path.relpath(error.filename, folder)] = f"it cannot be read ({error.strerror})"

    for root, folders, names in os.walk(folder, onerror=note_error):
        for name in sorted([*folders, *names]):
            path = Path(root, name)
            relative = path.relative_to(folder).as_posix()
            if os.path.realpath(path) in skipped:  # unlike `resolve`, it accepts a link to itself
                if name in folders:
                    folders.remove(name)
                continue
            reason = _find_reason(path)
            if reason:
                left_out[relative] = reason
                if name in folders:
                    folders.remove(name)
            elif name in names:
                yield relative, path
        folders.sort()


def _find_reason(path: Path) -> str | None:
    """Return why this file or folder is not copied, or None."""
    for pattern, reason in _LEFT_OUT_NAMES.items():
        if fnmatch(path.name, pattern):
            return reason
    try:
        path.name.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    if path.is_symlink():
        return "a link"
    if path.is_dir():
        return None
    if not path.is_file():
        return "not a file"
    if path.stat().st_size > MAX_COPIED_BYTES:
        return f"larger than {MAX_COPIED_BYTES // 1000**2} MB; keep it in the bucket"
    return _find_secret(path)


def _find_secret(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            start = file.read(_MARKER_BYTES)
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    return "it may contain credentials" if any(marker in start for marker in _SECRET_MARKERS) else None


def _classify_json(name: str, path: Path, worker: Path, copied: CopiedFiles) -> None:
    try:
        content = read_json_object(path, "a JSON file")
    except InputError as error:
        copied.problems.append(error)
        return
    if "MONITOR_FLEET_ID" in content:
        path.unlink()
        copied.others.remove(name)
        copied.left_out[name] = _LEFT_OUT_NAMES["*SpotFleetRequestId.json"]
    elif not _FLEET_KEYS.isdisjoint(content):
        copied.others.remove(name)
        copied.fleet_files.append(name)
    elif any(key in content for key in GROUPS_KEYS):
        copied.others.remove(name)
        copied.job_files[name] = _count_jobs(path, worker, copied.problems)


def _count_jobs(path: Path, worker: Path, problems: list[InputError]) -> int | None:
    """Return the number of jobs in a Job file; None if that is unknown. Add what is wrong with it to `problems`."""
    try:
        job_file = load_job_file(path, lambda *_, **__: [], collect_own_names(worker))
        return sum(1 for _ in job_file.iter_checked_messages()) or None
    except InputError as error:
        problems.extend(error.problems)
        return None
