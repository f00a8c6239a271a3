"""Tests for the advice about failed jobs that did not come from the Job file that was used last."""

from __future__ import annotations

from dataclasses import replace

import pytest

from distributed_something.results.advice import (
    choose_advice,
    choose_current_advice,
    list_alternative_commands,
    list_next_commands,
)
from distributed_something.results.causes import group_failures
from distributed_something.results.command_line import CommandLine
from distributed_something.results.job_counter import FailedJob, JobCounts, build_failed_job
from distributed_something.results.job_source import JobSource
from distributed_something.results.outcome import RunOutcome
from distributed_something.results.status.advice_text import format_advice, format_current_advice

LINE = CommandLine(
    options=("--local",), monitor_file="m.json", fleet_file="fleet.json", job_file="files/fly.json", has_image=False,
    is_pushed=False,
)  # fmt: skip
FLY, OTHER, SCRIPT = "20261123T104500.000Z", "20261123T105500.000Z", ""
SOURCE = JobSource("files/other.json", job_files={FLY: "files/fly.json", OTHER: "files/other.json"})
MACHINES = ["startCluster fleet.json", "monitor m.json"]
KEYS = ("command", "output_location", "group")


def fail(count: int, submission: str | None, code: int | None = 1, **more: object) -> list[FailedJob]:
    values = {"reason_class": "program", "exit_code": code, "submission": submission, "message_keys": KEYS, **more}
    return [FailedJob(f"{submission}{code}-{n}", float(n), "a reason", **values) for n in range(count)]  # type: ignore[arg-type]


def build_outcome(*failures: FailedJob, left: int = 0, lost: int = 0, done: int = 3) -> RunOutcome:
    counts = JobCounts(done=done, failed=len(failures))
    groups = tuple(group_failures(failures))
    return RunOutcome(done + len(failures) + left + lost, counts, left, [*failures], 1, groups=groups)


def advise(outcome: RunOutcome, source: JobSource = SOURCE, *, is_hopeless: bool = False) -> tuple[list[str], str]:
    """Return the commands after `next:` without their common words, and the text."""
    advice = choose_advice(outcome, is_hopeless=is_hopeless, source=source)
    assert advice is not None
    commands = [command.removeprefix("python run.py --local ") for command in list_next_commands(advice, LINE)]
    return commands, " ".join(format_advice(advice, LINE).split())


def test_failed_jobs_are_corrected_in_the_job_file_that_they_came_from() -> None:
    commands, text = advise(build_outcome(*fail(2, FLY)))
    assert commands == ["retry m.json --with files/fly.json", *MACHINES]
    assert "Correct the command in files/fly.json or the input files" in text
    assert "other.json" not in text


WITH_BOTH = ["retry m.json --with files/fly.json", "retry m.json --yes --with files/other.json"]


def test_failed_jobs_of_several_job_files_are_each_sent_with_their_own_file() -> None:
    """`submitJob` would also run the jobs that are done: a corrected command gives them other IDs."""
    commands, text = advise(build_outcome(*fail(2, FLY), *fail(1, OTHER)))
    assert commands == [*WITH_BOTH, *MACHINES]
    assert "Correct the command in files/fly.json and files/other.json" in text


def test_the_advice_says_which_causes_belong_to_which_job_file() -> None:
    own, others = fail(2, FLY, 3), fail(1, OTHER, 4)
    (first,), (second,) = group_failures(own), group_failures(others)
    commands, text = advise(build_outcome(*own, *others))
    assert commands == [*WITH_BOTH, *MACHINES]
    assert f"Correct the command in files/fly.json ({first.id}) and files/other.json ({second.id})" in text


def test_jobs_of_several_job_files_that_ran_out_of_time_get_a_longer_limit_and_nothing_else() -> None:
    late = fail(1, FLY, None, reason_class="time-out", time_limit_seconds=60.0)
    (group,) = group_failures(late)
    commands, text = advise(build_outcome(*fail(2, FLY), *fail(2, OTHER), *late))
    longer = f"retry m.json --only {group.id} --timeout 2"
    assert commands == [longer, WITH_BOTH[0].replace("retry m.json", "retry m.json --yes"), WITH_BOTH[1], *MACHINES]
    assert f"{group.id} (1 job): The program needs more time. The command doubles the time limit." in text
    commands, _ = advise(build_outcome(*fail(2, FLY), *fail(2, SCRIPT), *late))
    assert commands == [longer, "retry m.json --yes --with files/fly.json", *MACHINES]


def test_a_cause_of_fewer_jobs_of_several_job_files_is_corrected_in_each_of_them() -> None:
    wrong = [*fail(1, FLY, None, reason_class="bad message"), *fail(1, OTHER, None, reason_class="bad message")]
    (group,) = group_failures(wrong)
    commands, _ = advise(build_outcome(*fail(3, FLY), *wrong))
    assert commands == [
        f"retry m.json --only {group.id} --with files/fly.json",
        f"retry m.json --yes --only {group.id} --with files/other.json",
        "retry m.json --yes --with files/fly.json",
        *MACHINES,
    ]


def test_a_job_file_is_not_named_if_none_of_its_jobs_failed() -> None:
    source = replace(SOURCE, other_files=("files/fly.json",))
    commands, text = advise(build_outcome(*fail(3, FLY, 127), left=9, done=0), source, is_hopeless=True)
    assert commands == ["submitJob files/fly.json --replace", "submitJob files/other.json", *MACHINES]
    assert "Correct the command in files/fly.json, and" in text


def test_jobs_of_older_workers_may_have_come_from_each_job_file() -> None:
    source = replace(SOURCE, other_files=("files/fly.json",))
    commands, text = advise(build_outcome(*fail(2, None), *fail(1, OTHER)), source)
    assert commands == ["setup", "submitJob files/fly.json", "submitJob files/other.json", *MACHINES]
    assert "Correct the command in files/fly.json or files/other.json" in text


def test_waiting_jobs_that_retry_had_made_from_several_job_files_are_replaced_by_each() -> None:
    source = replace(SOURCE, other_files=("files/fly.json",), retried_runs=("20261122T104500Z",))
    for failures in ([*fail(3, FLY), *fail(1, OTHER)], fail(3, OTHER)):
        commands, _ = advise(build_outcome(*failures, left=9, done=0), source, is_hopeless=True)
        assert commands == [
            "retry 20261122T104500Z --replace --with files/fly.json",
            "retry 20261122T104500Z --yes --with files/other.json",
            *MACHINES,
        ]


@pytest.mark.parametrize("code", [1, 127])
@pytest.mark.parametrize("submission", [SCRIPT, "20200101T000000.000Z"])
def test_jobs_of_a_script_are_sent_again_by_retry_and_never_by_a_job_file(submission: str, code: int) -> None:
    """The same is true of jobs whose submission is not known any more."""
    commands, text = advise(build_outcome(*fail(2, submission, code)))
    assert commands == ["setup", "retry m.json", *MACHINES]
    assert "A script sent these jobs, not submitJob." in text
    assert "run the corrected script instead of retry, or add `--with JOBFILE` to retry" in text
    assert "fly.json" not in text
    assert "other.json" not in text


def test_messages_without_a_group_cannot_be_sent_with_a_job_file() -> None:
    _, text = advise(build_outcome(*fail(2, SCRIPT, message_keys=("command", "Metadata"))))
    assert "run the corrected script instead of retry." in text
    assert "--with" not in text


def test_if_a_script_sent_some_of_the_jobs_the_job_file_sends_only_its_own() -> None:
    commands, text = advise(build_outcome(*fail(2, FLY), *fail(3, SCRIPT)))
    assert commands == ["retry m.json --with files/fly.json", *MACHINES]
    assert (
        "A script sent 3 of the failed jobs: correct its messages, too, and run it again before startCluster." in text
    )
    advice = choose_advice(build_outcome(*fail(2, FLY), *fail(3, SCRIPT)), is_hopeless=False, source=SOURCE)
    assert advice is not None  # if only the program is wrong, `retry` sends all of them
    alternative = [words.split(" --local ")[1] for words in list_alternative_commands(advice, LINE)]
    assert alternative == ["setup", "retry m.json", *MACHINES]


def test_jobs_of_a_script_that_need_something_else_are_not_sent_with_the_job_file() -> None:
    scripted = fail(1, SCRIPT, 127)
    (group,) = group_failures(scripted)
    commands, text = advise(build_outcome(*fail(3, FLY), *scripted))
    assert commands == [f"retry m.json --only {group.id}", "retry m.json --yes --with files/fly.json", *MACHINES]
    assert "Correct the command in the messages that your script sends, or the program." in text
    commands, _ = advise(build_outcome(*fail(3, FLY), *fail(3, OTHER), *scripted))
    further = [command.replace("m.json --with", "m.json --yes --with") for command in WITH_BOTH]
    assert commands == [f"retry m.json --only {group.id}", *further, *MACHINES]
    other = fail(1, OTHER, 127)
    (group,) = group_failures(other)
    commands, _ = advise(build_outcome(*fail(3, FLY), *other))
    assert commands[0] == f"retry m.json --only {group.id} --with files/other.json"


def test_wrong_messages_of_a_script_are_sent_again_only_by_it() -> None:
    bad = fail(2, SCRIPT, None, reason_class="bad message")
    commands, text = advise(build_outcome(*bad))
    assert commands == ["setup", *MACHINES]
    assert "run it again after setup with correct messages" in text
    assert "Correct the messages that your script sends; the reason says what is wrong (a reason)." in text
    commands, text = advise(build_outcome(*bad, left=4, done=0), is_hopeless=True)
    assert commands == ["cleanup m.json --yes", "setup", *MACHINES]
    assert "setup, which empties the queue" in text or "empties the queue" in text


def test_while_the_jobs_of_a_script_wait_no_job_file_replaces_them() -> None:
    outcome = build_outcome(*fail(2, SCRIPT), left=9, done=0)
    commands, text = advise(outcome, is_hopeless=True)
    assert commands == ["setup", "retry m.json --yes", *MACHINES]
    assert "python run.py --local cleanup m.json --yes python run.py --local setup next:" in text
    assert "correct the script, type the following, run it, and type the last two commands:" in text


def test_replacing_the_jobs_of_a_job_file_also_removes_those_of_a_script() -> None:
    outcome = build_outcome(*fail(3, FLY), *fail(1, SCRIPT), left=9, done=0)
    commands, text = advise(outcome, is_hopeless=True)
    assert commands == ["submitJob files/fly.json --replace", "submitJob files/other.json", *MACHINES]
    assert "run it again after --replace, which removes its jobs from the queue" in text
    commands, text = advise(build_outcome(*fail(3, FLY), *fail(1, SCRIPT), done=0), is_hopeless=True)
    assert commands == ["submitJob files/fly.json --replace", "submitJob files/other.json", *MACHINES]
    assert "correct its messages, too, and run it again before startCluster" in text


def test_the_advice_says_which_waiting_jobs_of_a_script_replace_removes_before_any_was_tried() -> None:
    note = "--replace also removes 3 jobs that a script sent, not submitJob: run it again after --replace."
    outcome = build_outcome(*fail(3, FLY), left=9, done=0)
    commands, text = advise(outcome, replace(SOURCE, sent=9), is_hopeless=True)
    assert commands == ["submitJob files/fly.json --replace", "submitJob files/other.json", *MACHINES]
    assert note in text
    for sent in (None, 12, 20):
        assert "script" not in advise(outcome, replace(SOURCE, sent=sent), is_hopeless=True)[1]
    advice, is_urgent = choose_current_advice(fail(3, FLY), [], JobCounts(failed=3), 9, replace(SOURCE, sent=9))
    assert advice is not None
    assert note in " ".join(format_current_advice(advice, LINE, is_urgent=is_urgent).split())


def test_after_a_retry_the_waiting_jobs_get_the_job_file_that_they_came_from() -> None:
    """Another Job file may have been submitted since."""
    source = replace(SOURCE, retried_runs=("20261122T104500Z",))
    commands, _ = advise(build_outcome(*fail(3, FLY), left=9, done=0), source, is_hopeless=True)
    assert commands == ["retry 20261122T104500Z --replace --with files/fly.json", *MACHINES]


def test_missing_inputs_and_time_of_a_scripts_jobs_need_no_job_file() -> None:
    missing = fail(2, SCRIPT, None, reason_class="missing input")
    commands, text = advise(build_outcome(*missing))
    assert commands == ["setup", "retry m.json", *MACHINES]
    assert "json uploads them" not in text
    late = fail(2, SCRIPT, -15, reason_class="time-out", time_limit_seconds=60.0)
    assert advise(build_outcome(*late))[0] == ["retry m.json --timeout 2", *MACHINES]
    commands, text = advise(build_outcome(*late, left=4, done=0), is_hopeless=True)
    assert commands == ["cleanup m.json --yes", "setup", *MACHINES]
    assert "Raise timeout_minutes in the messages" in text


def test_lost_jobs_of_a_run_without_a_submission_are_sent_by_the_script() -> None:
    for failure in (fail(1, SCRIPT), fail(1, SCRIPT, None, reason_class="missing input")):
        commands, text = advise(build_outcome(*failure, lost=2), JobSource())
        assert commands == ["setup", "retry m.json", *MACHINES]
        assert "2 other jobs were lost: not in the queue. Run the script again for them." in text


def test_lost_jobs_of_a_job_file_are_sent_with_the_failed_jobs_of_a_script() -> None:
    commands, _ = advise(build_outcome(*fail(1, SCRIPT), lost=2))
    assert commands == ["setup", "submitJob files/other.json", "retry m.json --yes", *MACHINES]


def test_during_the_run_every_advised_command_can_be_typed_at_once() -> None:
    """Machines are running, so startCluster would be refused, and monitor watches already."""
    for failing in (fail(3, FLY), fail(3, SCRIPT), fail(3, FLY, 127)):
        advice, is_urgent = choose_current_advice([], failing, JobCounts(), 5, SOURCE)
        assert advice is not None
        assert is_urgent
        text = format_current_advice(advice, LINE, is_urgent=is_urgent)
        assert "startCluster" not in text
        assert "run.py --local monitor" not in text
        assert "cleanup" not in text


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (
            ("pipeline", "data_file", "input", "output", "group"),
            "Correct `pipeline`, `data_file`, or `input` in files",
        ),
        (("favorite_color", "group"), "Correct `favorite_color` in files/fly"),
        (("shared_metadata", "inputs", "output_file_location"), "Correct `shared_metadata` or `inputs` in files/fly"),
        (("output_location", "group"), "Correct the keys in files/fly"),
        (("command", "pipeline"), "Correct the command in files/fly"),
        ((), "Correct the command in files/fly"),
    ],
)
def test_the_advice_names_keys_that_the_job_file_has(keys: tuple[str, ...], words: str) -> None:
    assert words in advise(build_outcome(*fail(1, FLY, message_keys=keys)))[1]


def test_a_program_that_the_worker_starts_by_itself_is_not_in_the_job_file() -> None:
    commands, text = advise(build_outcome(*fail(2, FLY, 127, message_keys=("pipeline", "group"))))
    assert commands == ["setup", "retry m.json", *MACHINES]
    assert "Correct worker/generic-worker.py, which starts it, or install the program" in text
    assert "fly.json" not in text


def test_only_a_worker_that_knows_submissions_says_that_there_was_none() -> None:
    for submission in ("", FLY, None):
        assert build_failed_job({"job": "a", "submission": submission}).submission == submission
    assert build_failed_job({"job": "a"}).submission is None
    commands, _ = advise(build_outcome(*fail(2, None)))
    assert commands == ["retry m.json --with files/other.json", *MACHINES]


def test_a_web_address_in_a_job_file_is_sent_with_it() -> None:
    _, text = advise(build_outcome(*fail(1, FLY, None, reason_class="web")))
    assert "If you correct the address in files/fly.json, add `--with files/fly.json` to retry." in text
    assert "--with" not in advise(build_outcome(*fail(1, SCRIPT, None, reason_class="web")))[1]


def test_after_a_retry_the_longer_limit_also_reaches_jobs_of_a_script() -> None:
    late = fail(2, SCRIPT, -15, reason_class="time-out", time_limit_seconds=60.0)
    source = replace(SOURCE, retried_runs=("20261122T104500Z",))
    commands, _ = advise(build_outcome(*late, left=4, done=0), source, is_hopeless=True)
    assert commands == ["retry 20261122T104500Z --replace --timeout 2", *MACHINES]
