"""The values that completion offers: files of the kind that a command takes, and the IDs of failures.

While the user waits, no config is run, nothing is asked of AWS or the local cloud, and at most a few files are read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from distributed_something.cli.context import Context, shorten_path

if TYPE_CHECKING:
    from distributed_something.results.causes import FailureGroup

MAX_FILES_READ = 100  # reading them takes less than 0.1 s
MAX_BYTES_READ = 100_000  # of a file; larger ones are Job files
FAILURES_SUFFIX = ".failures"  # of files/.APP_NAME.failures
MAX_FAILURES_KEPT = 100


class ProjectFile(click.Path):
    """A file of a kind that `core.files.find_file_kind` knows; these files are offered first."""

    def __init__(self, kind: str) -> None:
        super().__init__(path_type=Path)
        self.kind = kind

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        context = ctx.find_root().ensure_object(Context)
        folder = incomplete.rpartition("/")[0] + "/" if "/" in incomplete else ""
        shown = f"{shorten_path(context.project / 'files')}/"
        names = [name for prefix in dict.fromkeys((shown, folder)) for name in self._list_files(prefix)]
        items = [CompletionItem(name) for name in names if name.startswith(incomplete)]
        return items or super().shell_complete(ctx, param, incomplete)

    def _list_files(self, prefix: str) -> Iterator[str]:
        """Yield the paths of the files of this kind in a folder, each with the folder's path as it was typed."""
        folder = Path(prefix or ".").expanduser()
        for path in sorted(islice(folder.glob("*.json"), MAX_FILES_READ)):
            if _find_kind(path) == self.kind:
                yield prefix + path.name


def _find_kind(path: Path) -> str | None:
    from distributed_something.core.errors import InputError
    from distributed_something.core.files import find_file_kind, read_json_object

    with suppress(InputError, OSError):
        if path.stat().st_size > MAX_BYTES_READ:
            return "Job file"
        return find_file_kind(read_json_object(path, "JSON file"))
    return None


def save_failures(context: Context, run: str, groups: Sequence[FailureGroup]) -> None:
    """Save the IDs of a run's failures beside the monitor file, so that completion knows them without asking AWS.

    Without a folder that can be written to, nothing is saved.
    """
    from distributed_something.core.files import write_file_atomically

    failures = [{"id": group.id, "cause": group.cause, "jobs": len(group.jobs)} for group in groups[:MAX_FAILURES_KEPT]]
    path = context.project / "files" / f".{context.settings.APP_NAME}{FAILURES_SUFFIX}"
    if path.parent.is_dir() and (failures or path.exists()):
        with suppress(OSError):
            write_file_atomically(path, json.dumps({"run": run, "failures": failures}).encode())


def complete_failures(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the IDs of the failures that `status` or `monitor` showed last, with how many jobs failed, and why."""
    from distributed_something.core.text import format_count

    project = ctx.find_root().ensure_object(Context).project
    return [
        CompletionItem(failure["id"], help=f"{format_count(failure['jobs'], 'job')}: {failure['cause']}")
        for failure in _load_failures(project)
        if failure["id"].startswith(incomplete)
    ]


def _load_failures(project: Path) -> list[dict[str, Any]]:
    """Return the newest saved failures; none if there are none, or if the file was damaged."""
    paths = (project / "files").glob(f".*{FAILURES_SUFFIX}")
    with suppress(OSError, ValueError, KeyError):
        newest = max(paths, key=lambda path: path.stat().st_mtime)
        failures: list[dict[str, Any]] = json.loads(newest.read_text(encoding="utf-8"))["failures"]
        return failures
    return []
