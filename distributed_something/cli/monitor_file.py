"""Finds the monitor file of a run: the one that the user names, or else the one of the config's app."""

from __future__ import annotations

from pathlib import Path

from distributed_something.cli.context import Context, shorten_path
from distributed_something.core.errors import InputError
from distributed_something.core.monitor_file import (
    MonitorFile,
    build_monitor_file_key,
    build_monitor_file_path,
    load_monitor_file,
)


def find_monitor_file(context: Context, path: Path | None) -> tuple[Path, MonitorFile]:
    """Return the path and the content of the monitor file.

    If the file of the config's app is not in this project, its copy in the bucket is used, for example on another
    computer. Raise InputError if there is no such file or if it is not valid.
    """
    if path is not None:
        return path, load_monitor_file(path)
    from distributed_something.run.monitor_file_copy import find_monitor_file_copy

    settings = context.settings
    default = shorten_path(build_monitor_file_path(context.project, settings.APP_NAME))
    if default.exists():
        return default, load_monitor_file(default)
    key = build_monitor_file_key(settings.APP_NAME)
    copy = find_monitor_file_copy(context.clients.s3, settings.AWS_BUCKET, key)
    if copy is None:
        problem = f"there is no run of {settings.APP_NAME} yet: this monitor file does not exist"
        raise InputError(default, "", problem, "run startCluster, which writes it")
    return default, copy
