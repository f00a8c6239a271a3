"""Where failed jobs came from: which Job files, or a script that sent its own messages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from distributed_something.results.causes import group_failures
from distributed_something.results.job_counter import FailedJob
from distributed_something.results.job_source import JobSource

_MAX_KEYS_NAMED = 3
# Keys that say where results go, how long a job may take, and so on, but not what its program does.
_PLACE_KEYS = frozenset({
    "group", "Metadata", "plate", "upload", "upload_flags", "input_bucket", "output_bucket", "input_endpoint",
    "output_endpoint", "output", "output_location", "output_file_location", "output_structure", "shared_location",
    "shared_inputs", "timeout_minutes", "expected_files", "keep_failed", "leave_out",
})  # fmt: skip


@dataclass(frozen=True)
class JobOrigin:
    """Where some failed jobs came from.

    `job_files`: the Job files from which `submitJob` and `retry` made their messages, as the user typed them; the one
    that was used last is the last one. `scripted`: how many came from no known Job file, because a script, the AWS CLI,
    or the like sent their messages. `is_unknown`: whether older workers did not say where some came from. `groups`: the
    IDs of the groups of each Job file's jobs, in the same order; none if some jobs may have come from any.
    """

    job_files: tuple[str, ...] = ()
    scripted: int = 0
    is_unknown: bool = False
    groups: tuple[tuple[str, ...], ...] = ()

    @property
    def is_script(self) -> bool:
        """Whether none of the jobs came from a Job file."""
        return bool(self.scripted) and not self.job_files

    @property
    def is_mixed(self) -> bool:
        """Whether some of the jobs came from a Job file, and others did not."""
        return bool(self.scripted and self.job_files)


UNKNOWN_ORIGIN = JobOrigin()


def find_origin(failures: Iterable[FailedJob], source: JobSource) -> JobOrigin:
    """Return where these jobs of a run came from. `source`: where the run's jobs came from.

    A job of an older worker, which did not say so, may have come from each of the run's Job files.
    """
    jobs_by_time: dict[str, list[FailedJob]] = {}
    scripted, is_unknown = 0, False
    for failed in failures:
        if failed.submission is None:
            is_unknown = True
        elif failed.submission in source.job_files:
            jobs_by_time.setdefault(failed.submission, []).append(failed)
        else:
            scripted += 1
    files = [source.job_files[time] for time in sorted(jobs_by_time)]
    files += [*source.other_files, source.job_file] if is_unknown else []
    names = tuple(reversed(dict.fromkeys(reversed(files))))
    jobs_by_file: dict[str, list[FailedJob]] = {name: [] for name in names}
    for time, jobs in jobs_by_time.items():
        jobs_by_file[source.job_files[time]] += jobs
    groups = tuple(tuple(group.id for group in group_failures(jobs)) for jobs in jobs_by_file.values())
    return JobOrigin(names, scripted, is_unknown, () if is_unknown else groups)


def makes_own_command(example: FailedJob | None) -> bool:
    """Return whether worker/generic-worker.py makes the command of this job, whose message has none."""
    return example is not None and bool(example.message_keys) and "command" not in example.message_keys


def format_job_keys(example: FailedJob | None) -> str:
    """Return the keys of the job's message that its program depends on: its command or, without one, its other keys."""
    if example is None or not makes_own_command(example):
        return "the command"
    keys = [f"`{key}`" for key in example.message_keys if key not in _PLACE_KEYS][:_MAX_KEYS_NAMED]
    if len(keys) > 1:
        keys = [*keys[:-2], f"{keys[-2]} or {keys[-1]}" if len(keys) == 2 else f"{keys[-2]}, or {keys[-1]}"]
    return ", ".join(keys) or "the keys"
