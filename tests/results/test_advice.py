"""Tests for the advice after a run that did not complete every job: the cause and the very commands to type."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from distributed_something.core.text import TERMINAL_COLUMNS
from distributed_something.results.advice import (
    build_batch_advice,
    choose_advice,
    choose_current_advice,
    list_alternative_commands,
    list_next_commands,
)
from distributed_something.results.causes import group_failures
from distributed_something.results.command_line import CommandLine, build_run_line, describe_command_line
from distributed_something.results.job_counter import FailedJob, JobCounts, build_failed_job
from distributed_something.results.job_source import JobSource
from distributed_something.results.next_batch import NextBatch
from distributed_something.results.outcome import RunOutcome
from distributed_something.results.status.advice_causes import AdviceCause, classify_failure
from distributed_something.results.status.advice_text import format_advice, format_current_advice
from tests.support.fakes import MONITOR_FILE

LOCAL = CommandLine(
    options=("--local",), monitor_file="files/AppSpotFleetRequestId.json", fleet_file="files/fleet.json",
    job_file="files/job.json", job_files=("files/job.json", "files/merge.json"), has_image=False, is_pushed=False,
)  # fmt: skip
AWS = CommandLine(monitor_file="files/AppSpotFleetRequestId.json", fleet_file="files/fleet.json", job_file="job.json")
MACHINES = ("startCluster files/fleet.json", "monitor files/AppSpotFleetRequestId.json")
RETRY = "retry files/AppSpotFleetRequestId.json"


def build_outcome(*failures: tuple[str, int | None], done: int = 0, left: int = 0, lost: int = 0) -> RunOutcome:
    """Return the outcome of a run whose jobs failed with these reason classes and exit codes."""
    failed = [
        FailedJob(f"job-{number}", float(number), "a reason", reason_class, exit_code=code)
        for number, (reason_class, code) in enumerate(failures)
    ]
    return RunOutcome(done + len(failed) + left + lost, JobCounts(done=done, failed=len(failed)), left, failed, 1)


def list_commands(outcome: RunOutcome, *, is_hopeless: bool, line: CommandLine = LOCAL) -> tuple[str, ...]:
    """Return the advised commands without the words that all of them have in common."""
    advice = choose_advice(outcome, is_hopeless=is_hopeless)
    assert advice is not None
    prefix = line.format_command()
    return tuple(command.removeprefix(prefix).strip() for command in list_next_commands(advice, line))


@pytest.mark.parametrize(
    ("reason_class", "exit_code", "cause"),
    [
        ("program", 127, AdviceCause.NO_PROGRAM),
        ("program", 126, AdviceCause.NO_PROGRAM),
        ("program", None, AdviceCause.REFUSED),
        ("program", 1, AdviceCause.PROGRAM),
        ("program", 137, AdviceCause.MEMORY),
        ("signal", -9, AdviceCause.MEMORY),
        ("signal", -11, AdviceCause.PROGRAM),
        ("missing input", None, AdviceCause.MISSING_INPUT),
        ("web", None, AdviceCause.WEB),
        ("bad message", None, AdviceCause.MESSAGE),
        ("bad config", None, AdviceCause.CONFIG),
        ("time-out", -15, AdviceCause.TIME),
        ("worker code", None, AdviceCause.HOOK),
        ("crash", None, AdviceCause.CRASH),
        ("interrupted", None, AdviceCause.MACHINE),
        ("a class of a newer worker", None, AdviceCause.PROGRAM),
    ],
)
def test_the_cause_follows_from_the_reason_class_and_the_exit_code(
    reason_class: str, exit_code: int | None, cause: AdviceCause
) -> None:
    assert classify_failure(FailedJob("a", 0.0, "a reason", reason_class, exit_code=exit_code)) is cause


def test_a_run_whose_jobs_are_all_done_needs_no_advice() -> None:
    assert choose_advice(build_outcome(done=3), is_hopeless=False) is None


@pytest.mark.parametrize("left", [0, 4])
def test_a_wrong_command_is_replaced_in_the_queue(left: int) -> None:
    outcome = build_outcome(("program", 127), ("program", 127), ("missing input", None), left=left)
    assert list_commands(outcome, is_hopeless=True) == ("submitJob files/job.json --replace", *MACHINES)


def test_a_program_that_the_image_lacks_is_added_and_the_failed_jobs_are_sent_again() -> None:
    advice = choose_advice(build_outcome(("program", 127), left=4), is_hopeless=True)
    assert advice is not None
    assert list_alternative_commands(advice, AWS) == [
        "python run.py buildImage --push", "python run.py setup", f"python run.py {RETRY} --yes",
        *(f"python run.py {command}" for command in MACHINES),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "build"),
    [
        (LOCAL, ()),
        (AWS, ("python run.py buildImage --push",)),
        (CommandLine(("--local", "--containers"), is_pushed=False), ("python run.py buildImage",)),
        (CommandLine(("--project", "examples/fiji")), ("python run.py --project examples/fiji buildImage --push",)),
    ],
)
def test_containers_that_never_start_get_a_new_image_and_task_definition(
    line: CommandLine, build: tuple[str, ...]
) -> None:
    advice = choose_advice(build_outcome(left=4), is_hopeless=True)
    assert advice is not None
    commands = ("setup",), ("startCluster", line.fleet_file), ("monitor", line.monitor_file)
    assert list_next_commands(advice, line) == [*build, *(line.format_command(*command) for command in commands)]


def test_jobs_with_missing_inputs_are_sent_again_before_the_monitor_file_is_replaced() -> None:
    missing = ("missing input", None)
    assert list_commands(build_outcome(missing, done=2), is_hopeless=False) == ("setup", RETRY, *MACHINES)
    assert list_commands(build_outcome(missing, left=2), is_hopeless=True) == ("setup", f"{RETRY} --yes", *MACHINES)


def test_inputs_that_the_job_file_uploads_are_sent_with_it() -> None:
    for left, sent in ((0, [f"{RETRY} --with files/job.json"]), (2, ["submitJob files/job.json --replace"])):
        advice = choose_advice(build_outcome(("missing input", None), left=left), is_hopeless=True)
        assert advice is not None
        expected = [LOCAL.format_command(*command.split()) for command in (*sent, *MACHINES)]
        assert list_alternative_commands(advice, LOCAL) == expected


def test_jobs_that_ran_out_of_time_get_a_longer_limit() -> None:
    late = ("time-out", -15)
    assert list_commands(build_outcome(late, done=2), is_hopeless=False)[0] == f"{RETRY} --timeout MINUTES"
    # The jobs in the queue have the old limit, too.
    assert list_commands(build_outcome(late, left=2), is_hopeless=True)[0] == "submitJob files/job.json --replace"


def test_after_a_completed_run_only_the_failed_jobs_get_the_corrected_job_file() -> None:
    outcome = build_outcome(("program", 1), done=9)
    assert list_commands(outcome, is_hopeless=False) == (f"{RETRY} --with files/job.json", *MACHINES)


def test_a_run_that_ended_early_continues_with_the_jobs_in_its_queue() -> None:
    assert list_commands(build_outcome(done=2, left=3), is_hopeless=False) == MACHINES


def test_the_command_that_adds_the_failed_jobs_to_the_queue_is_on_lines_of_its_own() -> None:
    advice = choose_advice(build_outcome(("program", 1), done=2, left=3), is_hopeless=False)
    assert advice is not None
    line = replace(LOCAL, options=("--local", "--project", "/somewhere/else/with a long name/plates"))
    text, _, _ = format_advice(advice, line).partition("\nnext: ")
    words, _, command = text.partition(" type first:\n")
    assert "retry" not in words
    joined = re.sub(r" \\\n +", " ", command).splitlines()
    assert [row.strip() for row in joined] == [line.format_retry(has_waiting=True)]
    assert max(map(len, text.splitlines())) <= TERMINAL_COLUMNS


@pytest.mark.parametrize("left", [0, 3])
def test_a_worker_that_dies_is_corrected_before_its_jobs_are_sent_again(left: int) -> None:
    outcome = build_outcome(("crash", None), done=3, left=left)
    advice = choose_advice(outcome, is_hopeless=left > 0)
    assert advice is not None
    retry = f"{RETRY} --yes" if left else RETRY
    assert list_commands(outcome, is_hopeless=left > 0) == ("setup", retry, *MACHINES)
    containers = [f"python run.py {command}" for command in ("buildImage --push", "setup", retry, *MACHINES)]
    assert list_next_commands(advice, AWS) == containers
    assert "Correct worker/generic-worker.py, a library" in " ".join(format_advice(advice, AWS).split())


def test_after_machines_did_not_join_the_cluster_only_a_corrected_fleet_is_started() -> None:
    advice = choose_advice(build_outcome(left=4), is_hopeless=True, has_no_machine=True)
    assert advice is not None
    assert (advice.cause, advice.recipe.value) == (AdviceCause.NO_MACHINE, "continue")
    assert "Correct the Fleet file" in format_advice(advice, LOCAL)


def test_lost_jobs_are_submitted_again() -> None:
    assert list_commands(build_outcome(done=2, lost=1), is_hopeless=False) == (
        "setup", "submitJob files/job.json", *MACHINES,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("failure", "commands"),
    [
        (("missing input", None), ("setup", "submitJob files/job.json", *MACHINES)),
        (("time-out", -15), ("setup", "submitJob files/job.json", *MACHINES)),
        (("program", 5), ("setup", "submitJob files/job.json", *MACHINES)),
        (("worker code", None), ("setup", "submitJob files/job.json", *MACHINES)),
    ],
)
def test_if_jobs_were_lost_the_job_file_sends_them_and_the_failed_ones(
    failure: tuple[str, int | None], commands: tuple[str, ...]
) -> None:
    outcome = build_outcome(failure, done=2, lost=3)
    assert list_commands(outcome, is_hopeless=False) == commands
    advice = choose_advice(outcome, is_hopeless=False)
    assert advice is not None
    assert "3 other jobs were lost" in " ".join(format_advice(advice, LOCAL).split())


def test_during_the_run_the_first_command_only_continues_it_and_the_others_are_for_later() -> None:
    failures = build_outcome(("missing input", None)).failures
    advice, is_urgent = choose_current_advice(failures, [], JobCounts(done=4, failed=1), left=5)
    assert advice is not None
    lines = format_current_advice(advice, LOCAL, is_urgent=is_urgent).splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("next: "))
    assert lines[start:] == [
        "next: python run.py --local monitor files/AppSpotFleetRequestId.json",
        "once the run has ended:",
        *(f"      python run.py --local {command}" for command in ("setup", RETRY, *MACHINES)),
    ]
    assert "keep monitor running" in " ".join(" ".join(lines).split())


def test_while_nothing_works_the_correction_is_urgent() -> None:
    failing = build_outcome(("program", 127)).failures
    advice, is_urgent = choose_current_advice([], failing, JobCounts(), left=5)
    assert advice is not None
    assert format_current_advice(advice, LOCAL, is_urgent=is_urgent).splitlines()[-1] == (
        "next: python run.py --local submitJob files/job.json --replace"
    )
    assert choose_current_advice([], failing, JobCounts(done=1), left=5) == (None, False)


CANARY = JobSource("files/job.json", canary=9, others=87)


@pytest.mark.parametrize(
    ("outcome", "is_hopeless", "first"),
    [
        (build_outcome(left=9), True, "setup"),
        (build_outcome(*[("program", 1)] * 9), True, "submitJob files/job.json --canary 9 --replace"),
        (build_outcome(done=8, lost=1), False, "setup|submitJob files/job.json --canary 9"),
        (build_outcome(("program", 1), done=8), False, f"{RETRY} --with files/job.json"),
        (build_outcome(done=9), False, "setup|submitJob files/job.json"),
    ],
)
def test_after_a_canary_a_failure_sends_the_canary_again_and_a_success_all_jobs(
    outcome: RunOutcome, is_hopeless: bool, first: str
) -> None:
    advice = choose_advice(outcome, is_hopeless=is_hopeless, source=CANARY)
    assert advice is not None
    commands = [command.removeprefix(LOCAL.format_command()).strip() for command in list_next_commands(advice, LOCAL)]
    assert commands == [*first.split("|"), *MACHINES]


def test_after_a_canary_whose_other_jobs_were_sent_there_is_nothing_left_to_do() -> None:
    assert choose_advice(build_outcome(done=9), is_hopeless=False, source=replace(CANARY, others=0)) is None
    assert choose_advice(build_outcome(done=9), is_hopeless=False, source=CANARY, batch=NextBatch(87)) is None


SEVERAL = JobSource("files/merge.json", other_files=("files/job.json",))


@pytest.mark.parametrize(
    ("outcome", "is_hopeless", "commands"),
    [
        (
            build_outcome(("program", 1), left=3), True,
            ["submitJob files/job.json --replace", "submitJob files/merge.json"],
        ),
        (
            build_outcome(("program", 1), done=3), False,
            ["setup", "submitJob files/job.json", "submitJob files/merge.json"],
        ),
        (build_outcome(done=3, lost=1), False, ["setup", "submitJob files/job.json", "submitJob files/merge.json"]),
        (build_outcome(("time-out", -15), done=3), False, [f"{RETRY} --timeout MINUTES"]),
    ],
)  # fmt: skip
def test_the_advice_names_all_job_files_whose_jobs_the_run_had(
    outcome: RunOutcome, is_hopeless: bool, commands: list[str]
) -> None:
    advice = choose_advice(outcome, is_hopeless=is_hopeless, source=SEVERAL)
    assert advice is not None
    listed = [command.removeprefix(LOCAL.format_command()).strip() for command in list_next_commands(advice, LOCAL)]
    assert listed == [*commands, *MACHINES]
    text = " ".join(format_advice(advice, LOCAL).split())
    assert ("files/job.json or files/merge.json" in text) is (advice.cause is AdviceCause.PROGRAM)


def test_after_a_canary_of_one_of_several_job_files_only_that_one_is_sent_whole() -> None:
    source = replace(SEVERAL, canary=9, others=87)
    advice = choose_advice(build_outcome(done=12), is_hopeless=False, source=source)
    assert advice is not None
    commands = [command.removeprefix(LOCAL.format_command()).strip() for command in list_next_commands(advice, LOCAL)]
    assert commands == ["setup", "submitJob files/merge.json", *MACHINES]
    advice = choose_advice(build_outcome(("program", 1), left=3), is_hopeless=True, source=source)
    assert advice is not None
    commands = [command.removeprefix(LOCAL.format_command()).strip() for command in list_next_commands(advice, LOCAL)]
    assert commands[:2] == ["submitJob files/job.json --replace", "submitJob files/merge.json --canary 9"]


@pytest.mark.parametrize("cause", list(AdviceCause))
def test_every_cause_has_a_text_that_ends_with_the_commands(cause: AdviceCause) -> None:
    failures = {
        classify_failure(FailedJob("a", 0.0, "{reason}", name, exit_code=code)): (name, code)
        for name, code in [
            ("program", 127), ("program", 1), ("bad message", None), ("missing input", None), ("disk", 1),
            ("out of memory", 137), ("time-out", None), ("aws", None), ("web", None), ("worker code", None),
            ("crash", None), ("program", None), ("machine", None), ("delivery", None), ("bad config", None),
        ]
    }  # fmt: skip
    outcomes = {
        AdviceCause.NO_MACHINE: build_outcome(left=1),
        AdviceCause.NO_CONTAINER: build_outcome(left=1),
        AdviceCause.LOST: build_outcome(lost=1),
        AdviceCause.WAITING: build_outcome(done=1, left=1),
        AdviceCause.REPLACED: build_outcome(left=1),
        AdviceCause.SENT_AGAIN: build_outcome(("program", 1)),
        AdviceCause.CANARY: build_outcome(done=1),
    }
    source = JobSource(is_replaced=cause is AdviceCause.REPLACED, others=8 if cause is AdviceCause.CANARY else 0)
    batch = NextBatch(1, frozenset({"job-0"})) if cause is AdviceCause.SENT_AGAIN else None
    outcome = outcomes.get(cause) or build_outcome(failures.get(cause, ("program", 1)))
    is_hopeless = cause not in (AdviceCause.LOST, AdviceCause.WAITING, AdviceCause.CANARY)
    advice = choose_advice(
        outcome, is_hopeless=is_hopeless, has_no_machine=cause is AdviceCause.NO_MACHINE, source=source, batch=batch
    )
    advice = build_batch_advice(NextBatch(1)) if cause is AdviceCause.NEXT_BATCH else advice
    assert advice is not None
    assert advice.cause is cause
    text, _, commands = format_advice(advice, LOCAL).partition("\nnext: ")
    assert text.startswith("what to do      ")
    joined = re.sub(r" \\\n +", " ", commands)  # long ones are broken
    assert [line.strip() for line in joined.splitlines()] == list_next_commands(advice, LOCAL)
    words = text.split("type instead:")[0]
    assert all(len(line) <= TERMINAL_COLUMNS for line in words.splitlines())


def test_lost_jobs_of_a_submission_with_again_are_sent_with_again() -> None:
    """Otherwise, older results would count."""
    source = JobSource("files/b.json", other_files=("files/a.json",), again_files=frozenset({"files/b.json"}))
    advice = choose_advice(build_outcome(lost=1), is_hopeless=False, source=source)
    assert advice is not None
    commands = list_next_commands(advice, LOCAL)
    assert [command.partition("submitJob ")[2] for command in commands if "submitJob" in command] == [
        "files/a.json",
        "files/b.json --again",
    ]
    assert "with --again as before: all its jobs run again" in " ".join(format_advice(advice, LOCAL).split())


@pytest.mark.parametrize("line", [LOCAL, AWS])
def test_if_a_program_fails_its_input_files_may_be_wrong_and_only_the_commands_at_the_end_upload_them(
    line: CommandLine,
) -> None:
    def explain(code: int, lost: int = 0) -> str:
        advice = choose_advice(build_outcome(("program", code), done=2, lost=lost), is_hopeless=False)
        assert advice is not None
        return " ".join(format_advice(advice, line).split())

    text = explain(7)
    assert f"Correct the command in {line.job_file} or the input files, and type the commands at the end, which" in text
    assert "which also upload what has changed (`upload`). Or, if both are right, correct the program" in text
    note = "correct the program (if `upload` uploads it, type the commands at the end), and type instead:"
    assert (note in text) is not line.has_image
    assert f" --with {line.job_file} " in text.partition("next: ")[2]
    assert f"Correct the command in {line.job_file} or the input files" in explain(7, lost=1)
    assert "input files" not in explain(127)  # the program did not start


def test_data_that_the_worker_refuses_is_only_uploaded_with_the_job_file() -> None:
    advice = choose_advice(build_outcome(("program", None)), is_hopeless=False)
    assert advice is not None
    text = " ".join(format_advice(advice, AWS).split())
    assert "If you correct data in `upload` folders, add `--with job.json` to retry, to upload it." in text


def test_the_job_file_that_was_submitted_last_is_named() -> None:
    assert LOCAL.select_job_file("merge.json").job_file == "files/merge.json"
    assert LOCAL.select_job_file("elsewhere.json").job_file == "files/job.json"
    assert LOCAL.format_command("submitJob", "my jobs.json") == "python run.py --local submitJob 'my jobs.json'"


def test_the_example_is_from_the_most_frequent_failure() -> None:
    advice = choose_advice(build_outcome(("program", 7), *[("program", 1)] * 3), is_hopeless=False)
    assert advice is not None
    assert advice.example is not None
    assert advice.example.exit_code == 1


def build_hopeless_outcome(*failing: tuple[str, int | None], left: int = 60) -> RunOutcome:
    """Return the outcome of a run that ended while every job was still in the queue, after attempts like these."""
    return replace(build_outcome(left=left), failing=build_outcome(*failing).failures)


def test_a_program_that_this_computer_lacks_may_be_in_a_path_that_the_local_cloud_does_not_know() -> None:
    advice = choose_advice(build_outcome(("program", 127)), is_hopeless=False)
    assert advice is not None
    hint = "if PATH has changed since the local cloud started, first type python run.py --local stop"
    assert f"install the program ({hint})" in " ".join(format_advice(advice, LOCAL).split())
    assert "PATH" not in format_advice(advice, AWS)


@pytest.mark.parametrize(
    ("reason_class", "exit_code", "cause", "commands"),
    [
        ("program", None, AdviceCause.REFUSED, ("setup", *MACHINES)),
        ("program", 127, AdviceCause.NO_PROGRAM, ("submitJob files/job.json --replace", *MACHINES)),
        ("time-out", -15, AdviceCause.TIME, ("submitJob files/job.json --replace", *MACHINES)),
        ("out of memory", None, AdviceCause.MEMORY, ("setup", *MACHINES)),
        ("upload", None, AdviceCause.ACCESS, ("setup", *MACHINES)),
        ("delivery", None, AdviceCause.DELIVERY, ("setup", *MACHINES)),
        ("worker code", None, AdviceCause.HOOK, ("setup", *MACHINES)),
        ("bad config", None, AdviceCause.CONFIG, ("setup", *MACHINES)),
    ],
)
def test_a_run_that_ends_before_any_job_failed_for_good_gets_the_advice_for_its_attempts(
    reason_class: str, exit_code: int | None, cause: AdviceCause, commands: tuple[str, ...]
) -> None:
    outcome = build_hopeless_outcome((reason_class, exit_code), (reason_class, exit_code))
    advice = choose_advice(outcome, is_hopeless=True)
    assert advice is not None
    assert (advice.cause, advice.jobs, advice.has_failed) == (cause, 2, False)
    assert list_commands(outcome, is_hopeless=True) == commands
    assert not any("retry" in command for command in list_alternative_commands(advice, LOCAL))


def test_a_run_that_ended_for_another_reason_continues_although_some_attempts_failed() -> None:
    assert list_commands(build_hopeless_outcome(("program", 1)), is_hopeless=False) == MACHINES


RETRIED = JobSource("files/job.json", ("20261123T104500Z",))


def list_retried_commands(outcome: RunOutcome, source: JobSource = RETRIED) -> list[str]:
    """Return the advised commands after a retry in which nothing worked, without those that start machines."""
    advice = choose_advice(outcome, is_hopeless=True, source=source)
    assert advice is not None
    return [command.removeprefix("python run.py --local ") for command in list_next_commands(advice, LOCAL)[:-2]]


@pytest.mark.parametrize("failure", [("program", 127), ("program", 1), ("bad message", None)])
def test_after_a_retry_only_the_jobs_of_the_run_are_sent_again(failure: tuple[str, int | None]) -> None:
    assert list_retried_commands(build_outcome(failure)) == [f"{RETRY} --with files/job.json"]
    # The waiting messages hold the wrong command, so they are replaced by those of the run in which the jobs failed.
    waiting = ["retry 20261123T104500Z --replace --with files/job.json"]
    assert list_retried_commands(build_outcome(failure, left=3)) == waiting
    assert list_retried_commands(build_hopeless_outcome(failure)) == waiting
    two = JobSource("files/job.json", ("20261123T104500Z", "20261124T104500Z"))
    assert list_retried_commands(build_outcome(failure, left=3), two) == [
        *waiting, "retry 20261124T104500Z --yes --with files/job.json",
    ]  # fmt: skip


@pytest.mark.parametrize(("left", "jobs"), [(1, "the waiting job"), (3, "the waiting jobs (at most 3)")])
def test_the_advice_says_how_many_jobs_retry_removes_from_the_queue(left: int, jobs: str) -> None:
    for failure in (("program", 1), ("time-out", None)):
        advice = choose_advice(build_outcome(failure, left=left), is_hopeless=True, source=RETRIED)
        assert advice is not None
        text = " ".join(format_advice(advice, LOCAL).split())
        assert f"retry --replace first removes {jobs} from the queue." in text
    without = choose_advice(build_outcome(("program", 1), done=2), is_hopeless=False, source=RETRIED)
    assert without is not None
    assert "removes" not in format_advice(without, LOCAL)


def test_after_a_retry_the_waiting_jobs_get_a_longer_limit_too() -> None:
    outcome = build_hopeless_outcome(("time-out", None))
    late = [replace(failed, time_limit_seconds=90.0) for failed in outcome.failing]
    assert list_retried_commands(replace(outcome, failing=late)) == ["retry 20261123T104500Z --replace --timeout 3"]


def test_jobs_that_were_lost_after_a_retry_are_sent_from_the_run_in_which_they_failed() -> None:
    advice = choose_advice(build_outcome(done=2, lost=1), is_hopeless=False, source=RETRIED)
    assert advice is not None
    assert list_next_commands(advice, LOCAL)[0] == "python run.py --local retry 20261123T104500Z"


@pytest.mark.parametrize(("seconds", "minutes"), [(1.8, "0.06"), (90, "3"), (3600, "120"), (30_000, "660")])
def test_the_longer_time_limit_is_a_number_that_can_be_typed(seconds: float, minutes: str) -> None:
    outcome = build_outcome(("time-out", -15), done=2)
    late = [replace(failed, time_limit_seconds=seconds) for failed in outcome.failures]
    commands = list_commands(replace(outcome, failures=late), is_hopeless=False)
    limit = float(commands[0].removeprefix(f"{RETRY} --timeout "))
    assert limit <= float(minutes)
    assert limit > seconds / 60 * 0.8


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ({"start_error": "ENOENT"}, AdviceCause.NO_PROGRAM),
        ({"start_error": "EACCES"}, AdviceCause.NO_PROGRAM),
        ({"start_error": "E2BIG", "time_limit_seconds": 60}, AdviceCause.PROGRAM),
        ({"start_error": None, "time_limit_seconds": None}, AdviceCause.REFUSED),
        ({"start_error": None, "time_limit_seconds": 60, "exit_code": 0}, AdviceCause.PROGRAM),
        # Records of older workers say only whether the program was tried.
        ({"time_limit_seconds": 60}, AdviceCause.NO_PROGRAM),
        ({"time_limit_seconds": None}, AdviceCause.REFUSED),
    ],
)
def test_a_program_is_missing_only_if_it_could_not_be_started(line: dict[str, object], cause: AdviceCause) -> None:
    failed = build_failed_job({"job": "a", "reason": "the plate has no wells", "reason_class": "program", **line})
    assert classify_failure(failed) is cause


def test_a_reason_that_a_hook_gives_is_shown_with_the_way_out() -> None:
    advice = choose_advice(build_outcome(("program", None), done=3), is_hopeless=False)
    assert advice is not None
    text = format_advice(advice, LOCAL)
    assert "Correct worker/generic-worker.py or the data" in text
    assert "(a reason)" in text
    assert "does not exist" not in text
    assert list_commands(build_outcome(("program", None), done=3), is_hopeless=False) == ("setup", RETRY, *MACHINES)


@pytest.mark.parametrize(
    ("exit_code", "words"),
    [(-11, "segmentation fault (exit code 139)"), (139, "segmentation fault"), (-6, "SIGABRT"), (3, "exit code 3")],
)
def test_the_advice_names_a_signal_as_the_groups_do(exit_code: int, words: str) -> None:
    advice = choose_advice(
        build_outcome(("signal" if exit_code < 0 else "program", exit_code), done=1), is_hopeless=False
    )
    assert advice is not None
    text = " ".join(format_advice(advice, LOCAL).split())
    assert f"The program fails with {words}" in text
    assert "exit code -" not in text


def test_a_queue_that_was_replaced_after_the_run_only_needs_machines() -> None:
    advice = choose_advice(build_outcome(("program", 1), left=3), is_hopeless=True, source=JobSource(is_replaced=True))
    assert advice is not None
    assert [command.split()[3] for command in list_next_commands(advice, LOCAL)] == ["startCluster", "monitor"]


def test_the_job_file_that_was_used_is_named_as_it_was_typed() -> None:
    several = replace(LOCAL, job_file="JOBFILE")
    assert several.select_job_file("files/merge.json").job_file == "files/merge.json"
    assert several.select_job_file("/elsewhere/files/merge.json").job_file == "files/merge.json"
    assert several.select_job_file("/tmp/fix.json").job_file == "/tmp/fix.json"
    assert several.select_job_file("fix.json").job_file == "fix.json"
    assert several.select_job_file("").job_file == "JOBFILE"


def test_a_monitor_without_a_project_advises_commands_as_they_were_typed_at_the_start() -> None:
    typed = replace(LOCAL, program=("python", "../run.py"), options=("--local", "--project", "my plates"))
    file = replace(MONITOR_FILE, **describe_command_line(typed, Path("files/fleet.json")))
    line = build_run_line(file)
    advice = choose_advice(build_outcome(("program", 1), done=3), is_hopeless=False, source=JobSource("files/job.json"))
    assert advice is not None
    assert list_next_commands(advice, line) == list_next_commands(advice, typed)
    assert (line.has_image, line.is_pushed) == (False, False)
    assert replace(line, has_image=True).format_build_command() == "python ../run.py --project 'my plates' buildImage"
    assert build_run_line(MONITOR_FILE).format_command("setup") == "python run.py setup"


# Jobs that were sent after the run


@pytest.mark.parametrize(("is_active", "commands"), [(False, MACHINES), (True, MACHINES[1:])])
def test_failed_jobs_that_were_sent_again_only_need_machines(is_active: bool, commands: tuple[str, ...]) -> None:
    outcome = build_outcome(("program", 1), ("program", 2), done=3)
    every, some = (NextBatch(2, frozenset(jobs), is_active) for jobs in (("job-0", "job-1"), ("job-1",)))
    advice = choose_advice(outcome, is_hopeless=False, batch=every)
    assert advice is not None
    assert list_next_commands(advice, LOCAL) == [LOCAL.format_command(*command.split()) for command in commands]
    assert "retry" not in format_advice(advice, LOCAL)
    advice = choose_advice(outcome, is_hopeless=False, batch=some)
    assert advice is not None
    assert "1 failed job was sent again after this run." in " ".join(format_advice(advice, LOCAL).split())
    assert list_alternative_commands(advice, LOCAL) == [LOCAL.format_retry(has_waiting=True)]


def test_retry_needs_yes_while_other_jobs_are_in_the_queue() -> None:
    advice = choose_advice(build_outcome(("program", 1), done=3), is_hopeless=False, batch=NextBatch(4))
    assert advice is not None
    assert "retry files/AppSpotFleetRequestId.json --yes --with" in list_next_commands(advice, LOCAL)[0]


@pytest.mark.parametrize(("slots", "text"), [(1, "raise MEMORY."), (2, "raise MEMORY or lower DOCKER_CORES.")])
def test_a_container_that_runs_one_program_at_a_time_can_only_get_more_memory(slots: int, text: str) -> None:
    advice = choose_advice(build_outcome(("out of memory", 137)), is_hopeless=False)
    assert advice is not None
    assert text in " ".join(format_advice(advice, replace(LOCAL, slots=slots)).split())


def build_mixed_outcome() -> RunOutcome:
    """Five jobs whose program fails, four that were killed, and three that ran out of time after 3.6 seconds."""
    outcome = build_outcome(*[("program", 1)] * 5, *[("program", -9)] * 4, *[("time-out", None)] * 3, done=48)
    failures = [
        replace(failed, time_limit_seconds=3.6) if failed.reason_class == "time-out" else failed
        for failed in outcome.failures
    ]
    return replace(outcome, failures=failures)


def test_jobs_that_need_something_else_are_sent_with_commands_of_their_own() -> None:
    outcome = build_mixed_outcome()
    program, memory, time = (group.id for group in group_failures(outcome.failures))
    assert list_commands(outcome, is_hopeless=False) == (
        f"{RETRY} --only {memory}",
        f"{RETRY} --yes --only {time} --timeout 0.12",
        f"{RETRY} --yes --with files/job.json",
        *MACHINES,
    )
    advice = choose_advice(outcome, is_hopeless=False)
    assert advice is not None
    alternative = [command.removeprefix(LOCAL.format_command()) for command in list_alternative_commands(advice, LOCAL)]
    assert [command.strip() for command in alternative] == [
        f"{RETRY} --only {time} --timeout 0.12", "setup", f"{RETRY} --yes", *MACHINES
    ]  # fmt: skip
    text = " ".join(format_advice(advice, LOCAL).split())
    assert f"{program} (5 jobs): The program fails with exit code 1." in text
    assert f"{memory} (4 jobs): The program needs more memory. In the config, raise MEMORY" in text
    assert f"{time} (3 jobs): The program needs more time." in text


def test_the_advice_names_the_groups_that_it_is_about_if_there_are_others() -> None:
    outcome = build_outcome(*[("program", code) for code in (1, 2, 3, 4, 5)])
    advice = choose_advice(outcome, is_hopeless=False)
    assert advice is not None
    assert len(advice.groups) == 5
    text = " ".join(format_advice(advice, LOCAL).split())
    assert (
        f"what to do {', '.join(advice.groups[:3])}, 2 more causes (5 jobs): The program fails in different ways."
        in text
    )
    assert list_commands(outcome, is_hopeless=False)[0] == f"{RETRY} --with files/job.json"
    single = choose_advice(build_outcome(("program", 1), ("program", 1)), is_hopeless=False)
    assert single is not None
    assert single.groups == ()


def test_groups_that_plain_retry_can_send_need_no_command_of_their_own() -> None:
    outcome = build_outcome(*[("missing input", None)] * 3, ("out of memory", None))
    commands = list_commands(outcome, is_hopeless=False)
    assert commands == ("setup", RETRY, *MACHINES)
    advice = choose_advice(outcome, is_hopeless=False)
    assert advice is not None
    assert "(1 job): The program needs more memory" in " ".join(format_advice(advice, LOCAL).split())


@pytest.mark.parametrize("changes", [{"left": 3}, {"lost": 1}])
def test_jobs_are_not_sent_separately_while_others_are_left(changes: dict[str, int]) -> None:
    """The commands then send more than the failed jobs."""
    outcome = build_outcome(("program", 1), ("program", 1), ("time-out", None), **changes)
    for is_hopeless in (False, True):
        assert not any("--only" in command for command in list_commands(outcome, is_hopeless=is_hopeless))
