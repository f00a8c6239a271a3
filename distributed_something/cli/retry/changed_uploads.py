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
    from distributed_something.cli.retry.planner import RetryPlanner


def list_changed_upload_lines(planner: RetryPlanner) -> list[str]:
    """Return a note for each Job file whose `upload` folders differ from the bucket, with the command that helps.

    Problems with a Job file, and AWS errors, are ignored: `retry` does not need it.
    """
    from distributed_something.core.errors import CloudError
    from distributed_something.results.command_line import format_command_lines

    choice, paths = planner.choice, list[str]()
    if choice.job_file is None:
        with suppress(CloudError):
            paths = _find_job_files(planner)
    lines: list[str] = []
    for path in paths:
        if not (changed := _count_changed_files(planner.context, path)):
            continue
        verb = "differs" if changed == 1 else "differ"
        text = f"{format_count(changed, 'file')} in the `upload` folders of {path} {verb} from the bucket. Without"
        text += " --with, retry uploads nothing. If the failed jobs need what has changed, type"
        if not (choice.dry_run or lines):
            text += f" this, which first removes {_describe_removed_jobs(planner)} from the queue"
        options = ["--with", path, *([] if choice.timeout is None else ["--timeout", f"{choice.timeout:g}"])]
        options += [word for only in choice.only for word in ("--only", only)] if choice.dry_run else []
        # The first one has sent the jobs that the other ones add to.
        options += ["--yes"] if lines else [] if choice.dry_run else ["--replace"]
        command, indent = planner.context.format_command("retry", planner.run.run, *options), " " * LABEL_COLUMNS
        lines += [*_wrap_note(f"{text}:"), *format_command_lines(command, indent, indent)]
    return lines


def _describe_removed_jobs(planner: RetryPlanner) -> str:
    """Return which waiting jobs `--replace` would remove now that this `retry` has sent its jobs."""
    sent, queue = planner.batch.plan.count, planner.queue
    own = "the job just sent" if sent == 1 else f"the {sent:,} jobs just sent"
    others = queue.counts.waiting if queue and not planner.choice.replace else 0
    return f"{own} and {format_count(others, 'other waiting job')}" if others else own


def _find_job_files(planner: RetryPlanner) -> list[str]:
    """Return the Job files of the jobs to send, as the user types them; if none is known, the one that was used last.

    Raise CloudError if AWS reports an error.
    """
    from distributed_something.results.job_source import select_last_job_file
    from distributed_something.results.retry.job_file_selection import find_job_file

    context, job_files = planner.context, planner.source.job_files
    known = {find_job_file(job, job_files) for job in planner.to_send} - {""}
    if known:
        return list(dict.fromkeys(context.command_line.select_job_file(path).job_file for path in sorted(known)))
    return [select_last_job_file(context.clients.s3, context.settings, context.command_line).job_file]


def _count_changed_files(context: Context, path: str) -> int:
    """Return how many files in the Job file's `upload` folders differ from the bucket; 0 if that cannot be told."""
    from distributed_something.core.errors import AWSError, CloudError, InputError
    from distributed_something.jobs.job_file import load_job_file
    from distributed_something.jobs.uploads.upload_folders import count_changed_files

    if Path(path).is_file():
        with suppress(*AWSError, CloudError, InputError, OSError):
            uploads = load_job_file(Path(path), context.list_objects).uploads
            return count_changed_files(context.clients.s3, context.settings.AWS_BUCKET, uploads)
    return 0


def _wrap_note(text: str) -> list[str]:
    return format_wrapped_lines(text, format_row("note", ""), " " * LABEL_COLUMNS, TERMINAL_COLUMNS)
