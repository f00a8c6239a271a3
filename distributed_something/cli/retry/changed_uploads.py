"""What `retry` says about files that have changed since they were uploaded, which only `--with` uploads again."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from distributed_something.cli.context import Context
from distributed_something.core.text import (
    LABEL_COLUMNS,
    TERMINAL_COLUMNS,
    format_count,
    format_row,
    format_wrapped_lines,
)

if TYPE_CHECKING:
    from distributed_something.cli.retry.planner import RetryChoice
    from distributed_something.core.monitor_file import MonitorFile


def list_changed_upload_lines(context: Context, run: MonitorFile, choice: RetryChoice) -> list[str]:
    """Return a note if files in `upload` folders differ from the bucket, with the command that uploads them.

    They are those of the Job file that the app used last. Problems with it, and AWS errors, are ignored: `retry` does
    not need it.
    """
    from distributed_something.core.errors import AWSError, CloudError, InputError
    from distributed_something.jobs.job_file import load_job_file
    from distributed_something.jobs.uploads.upload_folders import count_changed_files
    from distributed_something.results.command_line import format_command_lines
    from distributed_something.results.job_source import select_last_job_file

    s3, settings, changed = context.clients.s3, context.settings, 0
    path = select_last_job_file(s3, settings, context.command_line).job_file
    if choice.job_file is not None or not Path(path).is_file():
        return []
    with suppress(*AWSError, CloudError, InputError, OSError):
        uploads = load_job_file(Path(path), context.list_objects).uploads
        changed = count_changed_files(s3, settings.AWS_BUCKET, uploads)
    if not changed:
        return []
    verb = "differs" if changed == 1 else "differ"
    text = f"{format_count(changed, 'file')} in the `upload` folders of {path} {verb} from the bucket. Without --with,"
    text += " retry uploads nothing. If the failed jobs need what has changed, "
    if choice.yes:  # the queue may hold other jobs, which --replace would remove
        return _wrap_note(f"{text}upload it.")
    options = ["--with", path, *([] if choice.timeout is None else ["--timeout", f"{choice.timeout:g}"])]
    options += [word for only in choice.only for word in ("--only", only)] if choice.dry_run else ["--replace"]
    command, indent = context.format_command("retry", run.run, *options), " " * LABEL_COLUMNS
    return [*_wrap_note(f"{text}type:"), *format_command_lines(command, indent, indent)]


def _wrap_note(text: str) -> list[str]:
    return format_wrapped_lines(text, format_row("note", ""), " " * LABEL_COLUMNS, TERMINAL_COLUMNS)
