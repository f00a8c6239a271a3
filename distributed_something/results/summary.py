"""The summary of a run: a text for people and the same numbers as JSON, saved beside the run's records."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from distributed_something.core.errors import is_missing_object
from distributed_something.core.text import (
    TERMINAL_COLUMNS,
    format_cost,
    format_count,
    format_duration,
    format_one_line,
    format_wrapped_lines,
    format_wrapped_row,
    measure_columns,
    shorten_text,
    wrap_text,
)
from distributed_something.observe.containers import StartFailure
from distributed_something.results.causes import (
    FAILED_TITLE,
    FAILING_TITLE,
    FailureGroup,
    SharedValue,
    compute_group_cost,
    list_telling_lines,
)
from distributed_something.results.command_line import wrap_command
from distributed_something.results.job_counter import FailedJob, JobCounts, OverwrittenFiles
from distributed_something.results.outcome import MAX_RECORDS_READ, RunOutcome

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from distributed_something.core.monitor_file import MonitorFile
    from distributed_something.worker import RunKeys

MAX_GROUPS_SHOWN = 20
MAX_SHARED_VALUES_SHOWN = 3
MAX_GROUPS_SAVED = 1_000
NUMBER_COLUMNS = 8  # width of the columns for jobs and USD
ID_COLUMNS = 9
MAX_CAUSE_LINES = 3
MAX_TELLING_LINES = 3  # of the screen, for each line that says why a job failed
RETRY_INDENT = "    "


@dataclass(frozen=True)
class RunSummary:
    """The end of a run, as it is saved.

    `reason`: why the run ended, such as "run" if no jobs were left. `is_clean`: whether everything that the run created
    was removed or kept on purpose. `is_complete`: whether every job is done. `text`: what was printed. `ended`: when
    the run ended, in seconds since 1970; None in summaries of older versions. `report`: `text` without the commands to
    type next, which depend on where the reader is; "" in summaries of older versions.
    """

    reason: str
    is_clean: bool
    is_complete: bool
    text: str
    ended: float | None = field(default=None, compare=False)
    jobs: Mapping[str, Any] = field(default_factory=dict, compare=False)  # the counts in the JSON document
    report: str = field(default="", compare=False)
    saved: float | None = field(default=None, compare=False)  # when it was saved, in seconds since 1970
    start_failure: StartFailure | None = field(default=None, compare=False)  # if no container took a job


@dataclass(frozen=True)
class DeadLetters:
    """The messages in a dead-letter queue at the end of a run, and how many of them are older than the run.

    `older`: None if unknown.
    """

    queue: str
    count: int
    older: int | None


def save_run_summary(s3: S3Client, file: MonitorFile, summary: RunSummary, outcome: RunOutcome | None) -> None:
    """Save the summary in the bucket, unless the run already has one. AWS errors are not caught.

    A summary that says that something could not be removed or read is replaced.
    """
    earlier = find_run_summary(s3, file)
    if earlier is not None and earlier.is_clean:
        return
    document = {"app": file.MONITOR_APP_NAME, "run": file.run, "reason": summary.reason, "clean": summary.is_clean,
                "complete": summary.is_complete, "ended": summary.ended, "report": summary.report,
                "start_failure": None if summary.start_failure is None else asdict(summary.start_failure),
                "jobs": _build_counts(outcome),
                "failures": None if outcome is None else [*map(_build_failure, outcome.groups[:MAX_GROUPS_SAVED])],
                "failing": None if outcome is None else
                [*map(_build_failure, outcome.failing_groups[:MAX_GROUPS_SAVED])],
                }  # fmt: skip
    for key, body, kind in (
        (file.keys.summary, f"{summary.text}\n", "text/plain; charset=utf-8"),
        (file.keys.summary_data, json.dumps(document, indent=1), "application/json"),  # last: it says that both exist
    ):
        s3.put_object(Bucket=file.MONITOR_BUCKET_NAME, Key=key, Body=body.encode(), ContentType=kind)


def find_run_summary(s3: S3Client, file: MonitorFile) -> RunSummary | None:
    """Return the summary that was saved at the end of the run, or None if there is none. AWS errors are not caught."""
    return find_saved_summary(s3, file.MONITOR_BUCKET_NAME, file.keys)


def find_saved_summary(s3: S3Client, bucket: str, keys: RunKeys) -> RunSummary | None:
    """Return the same as `find_run_summary` for the run with these keys."""
    try:
        responses = [s3.get_object(Bucket=bucket, Key=key) for key in (keys.summary_data, keys.summary)]
        texts = [response["Body"].read().decode() for response in responses]
        document = json.loads(texts[0])
    except ClientError as error:
        if is_missing_object(error):
            return None
        raise
    except ValueError:
        return None
    if not isinstance(document, dict):
        return None
    flags = (document.get("clean") is True, document.get("complete") is True)
    jobs, ended, modified = document.get("jobs"), document.get("ended"), responses[0].get("LastModified")
    return RunSummary(
        str(document.get("reason")), *flags, texts[1].rstrip("\n"),
        ended if isinstance(ended, int | float) else None, jobs if isinstance(jobs, dict) else {},
        str(document.get("report") or ""), modified.timestamp() if modified else None,
        _parse_start_failure(document.get("start_failure")),
    )  # fmt: skip


def _parse_start_failure(content: object) -> StartFailure | None:
    """Return why no container took a job; None if the summary does not say so, as in older versions."""
    if not isinstance(content, dict):
        return None
    codes, lines, started = (content.get(name) for name in ("exit_codes", "lines", "started"))
    return StartFailure(
        str(content.get("kind") or ""),
        str(content.get("message") or ""),
        tuple(code for code in codes if isinstance(code, int)) if isinstance(codes, list) else (),
        tuple(map(str, lines)) if isinstance(lines, list) else (),
        started if isinstance(started, int) else 0,
    )


def format_run_outcome(
    outcome: RunOutcome, file: MonitorFile, seconds: float, letters: DeadLetters | None, cost: float | None = None, *,
    has_table: bool = False,
) -> str:  # fmt: skip
    """Return the text about the run's jobs.

    `seconds`: how long the run took. `cost`: its cost in USD, if it is known. `has_table`: whether `jobs.tsv` is saved.
    """
    lines = [format_wrapped_row("verdict", format_verdict(outcome)), *_format_counts(outcome)]
    lines.append(format_wrapped_row("time", format_duration(seconds)))
    if cost is not None:
        lines.append(
            format_wrapped_row("cost", f"{format_cost(cost)} USD (estimate: machines without disks and addresses)")
        )
    lines += [
        format_wrapped_row("machines", _format_machines(outcome, cost)),
        format_wrapped_row("records, logs", f"s3://{file.MONITOR_BUCKET_NAME}/{file.keys.jobs}"),
    ]
    if has_table:
        lines.append(format_wrapped_row("all jobs", f"s3://{file.MONITOR_BUCKET_NAME}/{file.keys.job_table}"))
    lines += _format_overwritten_files(outcome.overwritten)
    lines += _format_dead_letters(letters)
    return "\n".join(lines + format_failures(outcome, cost))


def format_failures(outcome: RunOutcome, cost: float | None = None) -> list[str]:
    """Return lines about the jobs that failed and those whose attempts failed, by cause; none if there are none.

    They are at most TERMINAL_COLUMNS wide, except for the addresses of logs. `cost`: of the run in USD, if it is known.
    """
    seconds = outcome.total_seconds if cost else 0.0
    lines = _format_groups(FAILED_TITLE, outcome.groups, cost, seconds)
    others = outcome.groups[MAX_GROUPS_SHOWN:]
    if others:
        jobs = format_count(sum(len(group.jobs) for group in others), "failed job")
        lines.append(f"… and {format_count(len(others), 'more cause')} ({jobs}); see jobs.tsv")
    if (unlisted := outcome.counts.failed - len(outcome.failures)) > 0:
        lines.append(f"… and {format_count(unlisted, 'more failed job')} that are not grouped; see jobs.tsv")
    lines += _format_groups(FAILING_TITLE, outcome.failing_groups, cost, seconds)
    if (more := len(outcome.failing_groups) - MAX_GROUPS_SHOWN) > 0:
        lines.append(f"… and {format_count(more, 'more cause')}")
    return lines


def format_retry_example(groups: Sequence[FailureGroup], retry_command: str) -> str:
    """Return how to run only the jobs of one group again; "" without groups. `retry_command`: for all failed jobs."""
    if not groups:
        return ""
    command = wrap_command(f"{retry_command} --only {groups[0].id}", TERMINAL_COLUMNS - len(RETRY_INDENT))
    title = "to run only the jobs of one cause again, give its ID, for example:"
    return "\n".join([title, *(f"{RETRY_INDENT}{line}" for line in command)])


def format_shared_value(shared: SharedValue) -> str:
    """Return text such as "38 of 41 have plate = P7"."""
    text = f"{shared.key} = {shared.value}"
    return f"{shared.jobs:,} of {shared.total:,} have {format_one_line(text)}"


def wrap_telling_lines(failed: FailedJob, columns: int) -> list[str]:
    """Return in lines of at most `columns` columns why the job failed."""
    return [text for line in list_telling_lines(failed) for text in wrap_text(line, columns, MAX_TELLING_LINES)]


def format_verdict(outcome: RunOutcome) -> str:
    """Return in one sentence how the run ended."""
    if outcome.is_complete:
        return "every job is done"
    counts, problems = outcome.counts, []
    if counts.failed:
        number, share = counts.failed, ""
        if outcome.submitted is not None:
            number, share = outcome.submitted - counts.repeated - counts.replaced, f"{counts.failed:,} of "
        problems.append(f"{share}{format_count(number, 'job')} failed")
    if outcome.left:
        problems.append(f"{format_count(outcome.left, 'job')} left in the queue")
    if unknown := outcome.unrecorded + outcome.unread:
        problems.append(f"{format_count(unknown, 'job')} unaccounted for")
    return ", ".join(problems)


def _format_counts(outcome: RunOutcome) -> list[str]:
    counts = outcome.counts
    lines = [format_wrapped_row("jobs done", f"{counts.done:,}")]
    if counts.already_there:
        lines.append(
            format_wrapped_row("already there", f"{counts.already_there:,}{_format_age(outcome.result_times)}")
        )
    lines.append(format_wrapped_row("jobs failed", f"{counts.failed:,}"))
    if outcome.left:
        lines.append(format_wrapped_row("in the queue", f"{outcome.left:,}"))
    if outcome.unrecorded:
        lines.append(format_wrapped_row("no record", f"{outcome.unrecorded:,} (neither ended nor in the queue)"))
    if counts.repeated:
        lines.append(
            format_wrapped_row("", f"and {format_count(counts.repeated, 'more end')} of jobs that were sent again")
        )
    if counts.replaced:
        lines.append(format_wrapped_row("replaced", _format_replaced_jobs(counts)))
    if outcome.unread:
        what = f"{outcome.unread:,} records that no journal mentions (the limit is {MAX_RECORDS_READ:,})"
        lines.append(format_wrapped_row("not counted", what))
    return lines


def _format_replaced_jobs(counts: JobCounts) -> str:
    done = counts.replaced_done + counts.replaced_already_there
    failed = counts.replaced - done
    states = [f"{failed:,} that failed"] if failed else []
    states += [f"{done:,} that {'was' if done == 1 else 'were'} done"] if done else []
    return f"{' and '.join(states)}; submitJob --replace has sent new ones"


def _format_groups(title: str, groups: Sequence[FailureGroup], cost: float | None, seconds: float) -> list[str]:
    """Return the title and the largest groups; no lines without groups. `seconds`: of all attempts, or 0 if unknown."""
    if not groups:
        return []
    lines = [_format_columns(title, "jobs", "USD" if seconds > 0 else None)]
    for group in groups[:MAX_GROUPS_SHOWN]:
        lines += _format_group(group, compute_group_cost(group, cost, seconds))
    return lines


def _format_group(group: FailureGroup, cost: float | None) -> list[str]:
    example = group.example
    attempts = f" (after {format_count(example.attempts, 'attempt')})" if example.attempts else ""
    width = TERMINAL_COLUMNS - ID_COLUMNS - measure_columns(attempts) - len("for example ")
    details = [f"for example {shorten_text(format_one_line(example.job), width)}{attempts}"]
    details += [f"| {line}" for line in wrap_telling_lines(example, TERMINAL_COLUMNS - ID_COLUMNS - len("| "))]
    details += map(format_shared_value, group.shared[:MAX_SHARED_VALUES_SHOWN])
    title, *others = wrap_text(group.cause, TERMINAL_COLUMNS - ID_COLUMNS - 2 * NUMBER_COLUMNS - 1, MAX_CAUSE_LINES)
    lines = [_format_columns(f"{group.id:<{ID_COLUMNS}}{title}", f"{len(group.jobs):,}", _format_cost(cost))]
    details = [*others, *details]
    lines += [" " * ID_COLUMNS + shorten_text(detail, TERMINAL_COLUMNS - ID_COLUMNS) for detail in details]
    indent = " " * ID_COLUMNS
    return (
        [*lines, *format_wrapped_lines(f"log: {example.log}", indent, indent, TERMINAL_COLUMNS)]
        if example.log
        else lines
    )


def _format_columns(text: str, jobs: str, cost: str | None) -> str:
    numbers = "".join(f"{number:>{NUMBER_COLUMNS}}" for number in (jobs, cost) if number is not None)
    width = TERMINAL_COLUMNS - len(numbers) - 1
    shown = shorten_text(text, width)
    return f"{shown}{' ' * (width - measure_columns(shown))} {numbers}"


def _format_machines(outcome: RunOutcome, cost: float | None) -> str:
    """Return how many machines there were. A run that cost something had some, although nobody counted them."""
    return f"{outcome.machines:,}" if outcome.machines or not cost else "unknown"


def _format_cost(cost: float | None) -> str | None:
    if cost is None:
        return None
    return f"{cost:,.2f}" if cost >= 0.01 or cost == 0 else "<0.01"


def _format_age(times: tuple[float, float] | None) -> str:
    """Return when the results that were already there were written."""
    if times is None:
        return ""
    oldest, newest = (f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M}" for time in times)
    return f" (results from {oldest} UTC)" if oldest == newest else f" (results from {oldest} to {newest} UTC)"


def _format_overwritten_files(files: OverwrittenFiles) -> list[str]:
    if not files.count:
        return []
    count = format_count(files.count, "file")
    more = files.count - len(files.names)
    lines = [format_wrapped_row("overwritten", f"{count}, each written by several jobs; the last is kept:")]
    lines += [format_wrapped_row("", name) for name in files.names]
    return [*lines, format_wrapped_row("", f"… and {format_count(more, 'more file')}")] if more else lines


def _format_dead_letters(letters: DeadLetters | None) -> list[str]:
    if letters is None or not letters.count:
        return []
    older = "" if not letters.older else f", {min(letters.older, letters.count):,} of them older than this run"
    return [format_wrapped_row("dead letters", f"{letters.count:,} in {letters.queue}{older}")]


def _build_counts(outcome: RunOutcome | None) -> dict[str, Any] | None:
    """Return the counts for the JSON document; None if the records could not be read."""
    if outcome is None:
        return None
    counts = outcome.counts
    return {
        "submitted": outcome.submitted, "done": counts.done, "already_there": counts.already_there,
        "failed": counts.failed, "repeated": counts.repeated, "replaced": counts.replaced,
        "left": outcome.left, "unrecorded": outcome.unrecorded,
        "unread": outcome.unread, "overwritten_files": outcome.overwritten.count,
    }  # fmt: skip


def _build_failure(group: FailureGroup) -> dict[str, Any]:
    """Return a failure group for the JSON document."""
    example = group.example
    return {
        "id": group.id, "cause": group.cause, "reason_class": group.reason_class, "exit_code": group.exit_code,
        "jobs": len(group.jobs),
        "example": {
            "job": example.job, "telling_line": list_telling_lines(example)[-1], "log": example.log or None,
        },
    }  # fmt: skip
