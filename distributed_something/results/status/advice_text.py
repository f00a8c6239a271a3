"""The text of the advice about a run's jobs, during the run and after it: what to correct, and what to type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from distributed_something.core.text import (
    LABEL_COLUMNS,
    TERMINAL_COLUMNS,
    format_count,
    format_row,
    format_wrapped_lines,
    shorten_start,
)
from distributed_something.results.advice import (
    MAX_NAMED_GROUPS,
    Advice,
    OtherRemedy,
    is_submitted,
    list_alternative_commands,
    list_job_files,
    list_next_commands,
    list_sending_commands,
)
from distributed_something.results.causes import format_exit_code
from distributed_something.results.command_line import (
    JOB_FILE_WORD,
    CommandLine,
    format_command_lines,
    format_next_command,
)
from distributed_something.results.job_counter import FailedJob
from distributed_something.results.status.advice_causes import (
    MISSING_PROGRAM_EXIT_CODE,
    NO_PROGRAM_EXIT_CODES,
    AdviceCause,
)
from distributed_something.results.status.advice_recipes import REPLACING_RECIPES, Recipe
from distributed_something.results.status.job_origin import JobOrigin, format_job_keys, makes_own_command
from distributed_something.results.status.missing_inputs import (
    Upload,
    count_other_uploads,
    format_upload_words,
    list_upload_commands,
)


def format_advice(advice: Advice, line: CommandLine) -> str:
    """Return what to correct, and then `next:` with the commands to type, one per line."""
    lines = _format_correction(advice, line)
    first, *others = list_next_commands(advice, line)
    return "\n".join([*lines, format_next_command(first), *_format_commands(others)])


def format_current_advice(advice: Advice, line: CommandLine, *, is_urgent: bool) -> str:
    """Return the same during the run. `is_urgent`: whether nothing works, so that waiting for its end is useless.

    Otherwise, a `retry` would now send the jobs again as they are, so the first command only continues the run.
    """
    if is_urgent:
        first, *others = list_sending_commands(advice, line)
        return "\n".join([*_format_correction(advice, line), format_next_command(first), *_format_commands(others)])
    monitor = line.format_command("monitor", line.monitor_file)
    return "\n".join([
        *_format_correction(advice, line, "The run continues; keep monitor running. Once it has ended:"),
        format_next_command(monitor),
        "once the run has ended:",
        *_format_commands(list_next_commands(advice, line)),
    ])  # fmt: skip


def _format_correction(advice: Advice, line: CommandLine, start: str = "") -> list[str]:
    paths = [line.select_job_file(path).job_file for path in advice.origin.job_files] or list_job_files(advice, line)
    job_files = " or ".join(map(shorten_start, dict.fromkeys(paths)))
    others = f"{format_count(advice.lost, 'other job')} {'was' if advice.lost == 1 else 'were'} lost: not in the queue."
    way = "Run the script again for them." if advice.is_scripted else "The commands send lost jobs too."
    loss = f"{others} {way}" if advice.lost and advice.cause is not AdviceCause.LOST else ""
    named, subject = replace(line, job_file=job_files), _format_groups(advice.groups, advice.jobs)
    parts = [start, loss, subject, _explain_removal(advice), _explain_scripted_jobs(advice, line)]
    label, correction = format_row("what to do", ""), _explain_correction(advice, named)
    if advice.cause is AdviceCause.MISSING_INPUT and advice.uploads:
        parts.append(_explain_uploads(advice.uploads, _format_reason(advice)))
        lines = _format_text_and_commands(parts, list_upload_commands(advice.uploads, line), label)
        lines += _format_text_and_commands([correction], list_alternative_commands(advice, line))
    else:
        lines = _format_text_and_commands([*parts, correction], list_alternative_commands(advice, line), label)
    for other in advice.others:
        remedy = _explain_other_remedy(other, named, is_submitted=is_submitted(advice, line))
        parts = [_format_groups(other.groups, other.jobs), remedy]
        is_missing = other.cause is AdviceCause.MISSING_INPUT
        lines += _format_text_and_commands(parts, list_upload_commands(other.uploads, line) if is_missing else [])
    return lines


def _format_text_and_commands(
    parts: Sequence[str], commands: Sequence[str], label: str = " " * LABEL_COLUMNS
) -> list[str]:
    """Return the lines of a text, which begins with the label, and of the commands that follow it."""
    indent, text = " " * LABEL_COLUMNS, " ".join(filter(None, parts))
    lines = format_wrapped_lines(text, label, indent, TERMINAL_COLUMNS) if text else []
    return [*lines, *(row for command in commands for row in format_command_lines(command, indent, indent))]


def _explain_uploads(uploads: Sequence[Upload], reason: str) -> str:
    """Return the text before the commands that upload missing inputs."""
    others = count_other_uploads(uploads)
    more = f", and those in {format_count(others, 'other folder')} likewise" if others else ""
    return f"Upload the missing inputs{reason}{more}. Replace {format_upload_words(uploads)}:"


def _format_groups(groups: Sequence[str], jobs: int) -> str:
    """Return the IDs of groups and how many jobs they have; "" if there are no other groups."""
    return f"{_format_group_ids(groups)} ({format_count(jobs, 'job')}):" if groups else ""


def _format_group_ids(groups: Sequence[str]) -> str:
    more = len(groups) - MAX_NAMED_GROUPS
    others = [f"{more} more causes" if more > 1 else "another cause"] if more > 0 else []
    return ", ".join([*groups[:MAX_NAMED_GROUPS], *others])


def _explain_other_remedy(other: OtherRemedy, line: CommandLine, *, is_submitted: bool) -> str:
    reason = f" ({other.example.reason})"
    match other.cause:
        case AdviceCause.MEMORY:
            return f"The program needs more memory. In the config, {line.memory_remedy}."
        case AdviceCause.TIME if is_submitted and not other.origin.is_script:
            return f"The program needs more time. Raise timeout_minutes in {name_message_place(other.origin, line)}."
        case AdviceCause.TIME if other.minutes is None:
            return "The program needs more time. Replace MINUTES with a longer limit."
        case AdviceCause.MISSING_INPUT:
            return _explain_uploads(other.uploads, reason) if other.uploads else f"Upload the missing inputs{reason}."
        case AdviceCause.MESSAGE:
            place = name_message_place(other.origin, line)
            return f"Correct {place}; the reason says what is wrong{reason}."
        case AdviceCause.NO_PROGRAM if makes_own_command(other.example):
            return f"The program fails{reason}. Correct worker/generic-worker.py, which starts it, or the program."
        case AdviceCause.PROGRAM | AdviceCause.NO_PROGRAM:
            start = f"The program fails{reason}. Correct {name_message_keys(other.origin, other.example, line)}"
            return f"{start}{', the input files' if other.cause is AdviceCause.PROGRAM else ''}, or the program."
    return _CORRECTIONS_BY_CAUSE[other.cause].replace("{reason}", reason)


def _format_commands(commands: Sequence[str]) -> list[str]:
    indent = " " * len("next: ")
    return [text for command in commands for text in format_command_lines(command, indent, indent)]


def _explain_correction(advice: Advice, line: CommandLine) -> str:
    """Return what to correct. `line.job_file` is a text that names all Job files of the jobs."""
    match advice.cause:
        case AdviceCause.NO_PROGRAM | AdviceCause.PROGRAM:
            return _explain_program(advice, line)
        case AdviceCause.NO_CONTAINER if advice.has_remedy:
            return "Do what `remedy` says, and type the commands at the end."
        case AdviceCause.NO_CONTAINER if line.has_image:
            return "Containers do not start or do not work. Correct DOCKERHUB_TAG, worker/Dockerfile, or worker/."
        case AdviceCause.TIME if advice.recipe in (Recipe.RESUBMIT, Recipe.SUBMIT):
            return f"The program needs more time. Raise timeout_minutes in {line.job_file}."
        case AdviceCause.TIME if advice.recipe is Recipe.SCRIPT:
            return "The program needs more time. Raise timeout_minutes in the messages."
        case AdviceCause.TIME if advice.minutes is None:
            return "The program needs more time. Replace MINUTES with a longer limit."
        case AdviceCause.MISSING_INPUT | AdviceCause.REFUSED | AdviceCause.WEB | AdviceCause.MESSAGE:
            return _explain_data(advice, line)
        case AdviceCause.MEMORY:
            return f"The program needs more memory. In the config, {line.memory_remedy}."
        case AdviceCause.LOST if advice.source.again_files:
            return "Some jobs were lost. Send the Job file again, with --again as before: all its jobs run again."
        case AdviceCause.SENT_AGAIN | AdviceCause.NEXT_BATCH:
            return _explain_batch(advice)
        case AdviceCause.CANARY:
            others = format_count(advice.jobs, "other job")
            return (
                f"This was a canary. These commands send the {others} of {line.job_file}, and skip those that are done."
            )
        case AdviceCause.WAITING if advice.has_failed:
            text = "New machines continue with the jobs in the queue, which does not contain the failed jobs."
            return f"{text} To add them, correct their cause, and type first:"
    return _CORRECTIONS_BY_CAUSE[advice.cause].replace("{reason}", _format_reason(advice))


def _explain_data(advice: Advice, line: CommandLine) -> str:
    """Return what to correct if messages or inputs are wrong. A script's messages cannot be sent with a Job file."""
    reason, is_scripted = _format_reason(advice), bool(advice.origin.scripted)
    text = _CORRECTIONS_BY_CAUSE.get(advice.cause, "").replace("{reason}", reason)
    if advice.cause is AdviceCause.MESSAGE:
        return f"Correct {name_message_place(advice.origin, line)}; the reason says what is wrong{reason}."
    if advice.cause is AdviceCause.MISSING_INPUT:
        return _explain_missing_inputs(advice, line, is_scripted=is_scripted)
    if is_scripted or advice.recipe not in (Recipe.REBUILD, Recipe.RETRY):
        return text
    if advice.cause is AdviceCause.WEB:
        return f"{text} If you correct the address in {line.job_file}, add `--with {line.job_file}` to retry."
    return f"{text} If you correct data in `upload` folders, add `--with {line.job_file}` to retry, to upload it."


def _explain_missing_inputs(advice: Advice, line: CommandLine, *, is_scripted: bool) -> str:
    """Return how to continue after the upload; also what to upload, if no commands before this text do it."""
    text = "" if advice.uploads else f"Upload the missing inputs{_format_reason(advice)}"
    if is_scripted:
        return f"{text}." if text else ""
    if advice.recipe is not Recipe.RETRY:
        place = f"add them to the folder from which {line.job_file} uploads them (`upload`)."
        return f"{text}, or {place}" if text else f"Or {place}"
    start = f"{text}, and type the commands at the end." if text else "Then type the commands at the end."
    return f"{start} Or, if {line.job_file} uploads them (`upload`), add them to its folder, and type instead:"


def _explain_removal(advice: Advice) -> str:
    """Return which jobs `retry --replace` removes from the queue; "" if that is not among the commands."""
    if advice.recipe not in (Recipe.REPLACE, Recipe.REPLACE_LONGER) or not advice.left:
        return ""
    jobs = "the waiting job" if advice.left == 1 else f"the waiting jobs (at most {advice.left:,})"
    return f"retry --replace first removes {jobs} from the queue."


def _explain_scripted_jobs(advice: Advice, line: CommandLine) -> str:
    """Return what to do about jobs that a script sent and that the commands do not send; "" if there are none."""
    if advice.recipe is Recipe.SCRIPT:
        emptied = ", which empties the queue," if advice.has_waiting else ""
        return f"A script sent these jobs, not submitJob: run it again after setup{emptied} with correct messages."
    is_replacing = advice.recipe in REPLACING_RECIPES and advice.has_waiting
    if not advice.scripted and is_replacing and advice.unsubmitted:
        jobs = format_count(advice.unsubmitted, "job")
        return f"--replace also removes {jobs} that a script sent, not submitJob: run it again after --replace."
    if not advice.scripted:
        return ""
    jobs = f"{advice.scripted:,} of the failed jobs" if advice.source.job_file else "these jobs"
    if is_replacing:
        return f"A script sent {jobs}: run it again after --replace, which removes its jobs from the queue."
    is_mixed = advice.recipe is Recipe.RETRY_WITH and advice.origin.is_mixed
    if (
        is_mixed
        or advice.recipe in (*REPLACING_RECIPES, Recipe.SUBMIT, Recipe.SEND_AGAIN)
        or is_submitted(advice, line)
    ):
        return f"A script sent {jobs}: correct its messages, too, and run it again before startCluster."
    return ""


def name_message_place(origin: JobOrigin, line: CommandLine) -> str:
    """Return where the messages of these jobs are to be corrected. `line.job_file`: names all Job files of the run."""
    if origin.is_script:
        return "the messages that your script sends"
    names = [shorten_start(line.select_job_file(path).job_file) for path in origin.job_files]
    if len(set(origin.groups)) > 1:  # each file's jobs have failed in other ways
        names = [f"{name} ({_format_group_ids(ids)})" for name, ids in zip(names, origin.groups, strict=True)]
    files = (" and " if origin.groups else " or ").join(names)
    return f"{files or line.job_file}{' and the messages of the script' if origin.scripted else ''}"


def name_message_keys(origin: JobOrigin, example: FailedJob | None, line: CommandLine) -> str:
    """Return which keys of the messages the program depends on, and where they are to be corrected."""
    return f"{format_job_keys(example)} in {name_message_place(origin, line)}"


def _explain_batch(advice: Advice) -> str:
    assert advice.batch is not None
    batch, verb = advice.batch, "was" if advice.jobs == 1 else "were"
    noun, sent = ("failed job", "sent again") if advice.cause is AdviceCause.SENT_AGAIN else ("job", "sent")
    state = "machines are working on them" if batch.is_active else "no machines are running"
    text = f"{format_count(advice.jobs, noun)} {verb} {sent} after this run."
    text += f" The queue holds {format_count(batch.jobs, 'job')}; {state}."
    return f"{text} To add the other failed jobs, correct their cause, and type first:" if advice.has_failed else text


def _explain_program(advice: Advice, line: CommandLine) -> str:
    code, owner = advice.example.exit_code if advice.example else None, "Its"
    if advice.cause is AdviceCause.NO_PROGRAM:
        place = "in the image" if line.has_image else "on this computer"
        problem = f"The program {_describe_start_error(advice, place)}."
        correction = (
            "add the program in worker/Dockerfile" if line.has_image else f"install the program ({line.path_remedy})"
        )
    else:
        end = f"The program fails with {format_exit_code(code)}." if code else ""
        problem = end or f"The jobs fail{_format_reason(advice)}."
        if len(advice.groups) > 1:  # the example is a job of one of them
            problem, owner = "The program fails in different ways.", "One"
        correction = "correct the program in the image" if line.has_image else "correct the program"
    log = f" {owner} log: {advice.example.log}" if advice.example and advice.example.log else ""
    return f"{problem}{log} {_format_choice(advice, line, correction)}"


def _format_choice(advice: Advice, line: CommandLine, correction: str) -> str:
    """Return what to correct if a program fails: the command, the data, or the program (`correction`)."""
    has_run, has_command = advice.cause is AdviceCause.PROGRAM, not makes_own_command(advice.example)
    if not has_run and not has_command:
        return f"Correct worker/generic-worker.py, which starts it, or {correction}."
    if advice.origin.is_script:
        return _format_script_choice(advice, line, correction, has_run=has_run)
    place = name_message_place(replace(advice.origin, scripted=0), line)
    start, are_right, upload = (
        f"Correct {format_job_keys(advice.example)} in {place}",
        "the command is right",
        "",
    )
    if has_run:  # so its input files may be wrong, too
        start, are_right = f"{start} or the input files", "both are right" if has_command else "these are right"
        upload = ", which also upload what has changed (`upload`)"
        if not has_command:  # its data is often uploaded with the AWS CLI
            upload += "; first upload what `upload` does not name"
        upload = "" if advice.recipe is Recipe.SEND_AGAIN else upload
    if not list_alternative_commands(advice, line):
        return f"{start} or, if {are_right}, {correction}."
    if upload and not line.has_image:  # the other commands upload nothing
        correction += " (if `upload` uploads it, type the commands at the end)"
    return f"{start}, and type the commands at the end{upload}. Or, if {are_right}, {correction}, and type instead:"


def _format_script_choice(advice: Advice, line: CommandLine, correction: str, *, has_run: bool) -> str:
    """Return the same for jobs that a script sent: no Job file corrects their messages."""
    data = "Correct the input files or the program" if has_run else correction[0].upper() + correction[1:]
    start = f"A script sent these jobs, not submitJob. {data}, and type the commands at the end"
    messages = f"Or, if {format_job_keys(advice.example)} in the messages is wrong"
    if list_alternative_commands(advice, line):
        return f"{start}. {messages}, correct the script, type the following, run it, and type the last two commands:"
    if advice.has_waiting:
        return f"{start}. {messages}, wait until the run has ended, and ask status again."
    other = ""
    if advice.example and "group" in advice.example.message_keys:  # `retry --with` keeps the groups
        other = f", or add `--with {JOB_FILE_WORD}` to retry, with a Job file in which it is right"
    return f"{start}, which send the same messages. {messages}, run the corrected script instead of retry{other}."


def _describe_start_error(advice: Advice, place: str) -> str:
    """Return what is wrong with a program that could not be started, as far as the error or the exit code says so."""
    error, code = (advice.example.start_error, advice.example.exit_code) if advice.example else ("", None)
    if error == "ENOENT" or code == MISSING_PROGRAM_EXIT_CODE:
        return f"does not exist {place}"
    if error in ("EACCES", "EPERM") or code in NO_PROGRAM_EXIT_CODES:
        return f"is not executable {place}"
    return f"does not exist {place}, or is not executable"


def _format_reason(advice: Advice) -> str:
    return f" ({advice.example.reason})" if advice.example else ""


_CORRECTIONS_BY_CAUSE = {
    AdviceCause.NO_MACHINE: "Machines do not join the cluster. Correct the Fleet file, or what its machines need.",
    AdviceCause.NO_CONTAINER: "The workers do not start or do not work. Correct worker/generic-worker.py.",
    AdviceCause.TIME: "The program needs more time. The command doubles the time limit.",
    AdviceCause.DISK: (
        "The disk is full. The container's log names the job that filled it. Limit what this job writes, or raise"
        " EBS_VOL_SIZE in the config."
    ),
    AdviceCause.DELIVERY: "Make sure that the place to which deliver() sends the results accepts them{reason}.",
    AdviceCause.ACCESS: "Correct the bucket or the permission that the reason names{reason}.",
    AdviceCause.WEB: "Correct the address of the input, or do what the reason says about its web server{reason}.",
    AdviceCause.CONFIG: "Correct what the reason names in the config or the image{reason}.",
    AdviceCause.HOOK: "Correct worker/generic-worker.py, which fails{reason}.",
    AdviceCause.REFUSED: "Correct worker/generic-worker.py or the data: the worker refuses the jobs{reason}.",
    AdviceCause.CRASH: (
        "The workers die while they run these jobs{reason}. Correct worker/generic-worker.py, a library that it calls,"
        " or the program, whichever kills them."
    ),
    AdviceCause.MACHINE: "The jobs' machines failed{reason}. The jobs can run again.",
    AdviceCause.LOST: "Some jobs were lost. Send the Job file again; jobs that are done are skipped.",
    AdviceCause.WAITING: "New machines continue with the jobs in the queue.",
    AdviceCause.REPLACED: "The jobs in the queue have been replaced since. They only need machines.",
}
