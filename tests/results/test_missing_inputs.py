"""The advice about inputs that are not in S3: it names the commands that upload them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from distributed_something.results.advice import choose_advice, list_alternative_commands, list_next_commands
from distributed_something.results.command_line import CommandLine
from distributed_something.results.job_counter import FailedJob, JobCounts, build_failed_job
from distributed_something.results.job_source import JobSource
from distributed_something.results.outcome import RunOutcome
from distributed_something.results.status.advice_text import format_advice
from distributed_something.results.status.missing_inputs import list_upload_commands, list_uploads

AWS = CommandLine(job_file="files/job.json")
LOCAL = replace(AWS, options=("--local",))


def build_failures(*addresses: str, **more: Any) -> list[FailedJob]:
    """Return jobs that failed because these inputs, or inputs below these folders, do not exist."""
    return [
        FailedJob(f"job-{number}", float(number), f"the input {address or 'x'} does not exist (NoSuchKey)",
                  "missing input", missing_input=address, **more)
        for number, address in enumerate(addresses)
    ]  # fmt: skip


def advise(failures: list[FailedJob], line: CommandLine = LOCAL, source: JobSource | None = None) -> list[str]:
    """Return the lines of the advice before the commands at its end, without indentation and broken lines."""
    outcome = RunOutcome(len(failures) + 2, JobCounts(done=2, failed=len(failures)), 0, failures, 1)
    advice = choose_advice(outcome, is_hopeless=False, source=source or JobSource())
    assert advice is not None
    text = format_advice(advice, line).partition("\nnext: ")[0]
    return [row.strip() for row in text.replace(" \\\n", "").splitlines()]


def list_commands(failures: list[FailedJob], line: CommandLine = AWS) -> list[str]:
    return list_upload_commands(list_uploads(failures), line)


def test_a_missing_file_is_uploaded_to_its_address_and_then_the_failed_jobs_are_sent_again() -> None:
    rows = advise(build_failures("s3://lab/in/a.tif"))
    command = "python run.py --local runScript aws s3 cp FILE s3://lab/in/a.tif"
    assert "Replace FILE with a path on your computer:" in " ".join(rows[: rows.index(command)])
    assert rows[rows.index(command) + 1].startswith("Then type the commands at the end.")


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (AWS, "aws s3 cp FILE s3://lab/in/a.tif"),
        (replace(AWS, profile="our lab"), "aws s3 cp FILE s3://lab/in/a.tif --profile 'our lab'"),
        (LOCAL, "python run.py --local runScript aws s3 cp FILE s3://lab/in/a.tif"),
        (replace(AWS, program=("python", "run.py", "--local")),
         "python run.py --local runScript aws s3 cp FILE s3://lab/in/a.tif"),
    ],
)  # fmt: skip
def test_the_command_works_where_the_run_is(line: CommandLine, command: str) -> None:
    assert list_commands(build_failures("s3://lab/in/a.tif"), line) == [command]


def test_inputs_on_an_s3_server_of_the_users_own_are_uploaded_there() -> None:
    failures = build_failures("s3://lab/in/a.tif", input_endpoint="https://s3.example.org:9000")
    expected = ["aws s3 cp FILE s3://lab/in/a.tif --endpoint-url https://s3.example.org:9000"]
    assert list_commands(failures) == list_commands(failures, LOCAL) == expected


def test_several_files_are_uploaded_with_their_folder_and_a_folder_with_all_its_files() -> None:
    addresses = (
        "s3://lab/b c/x.tif",
        "s3://lab/a/1.tif",
        "s3://lab/a/2.tif",
        "s3://lab/a/2.tif",
        "s3://lab/plates/P1/",
    )
    failures = build_failures(*addresses)
    assert list_commands(failures) == [
        "aws s3 sync FOLDER s3://lab/a/", "aws s3 cp FILE 's3://lab/b c/x.tif'",
        "aws s3 sync FOLDER s3://lab/plates/P1/",
    ]  # fmt: skip
    assert "Replace FILE and FOLDER with paths on your computer:" in " ".join(advise(failures))


def test_only_some_commands_are_named_and_the_other_folders_are_counted() -> None:
    rows = advise(build_failures(*(f"s3://lab/P{number}/" for number in range(7))))
    assert sum("aws s3 sync FOLDER s3://lab/" in row for row in rows) == 3
    assert "and those in 4 other folders likewise" in " ".join(rows)


def test_without_an_address_there_is_no_command() -> None:
    text = " ".join(advise(build_failures("", "")))
    assert "aws s3" not in text
    assert "Replace" not in text
    assert "Upload the missing inputs (the input x does not exist (NoSuchKey)), and type the commands" in text


def test_the_commands_that_run_the_jobs_again_stay_the_same() -> None:
    """Scripts may type them, and cannot replace FILE."""
    known, unknown = (
        choose_advice(RunOutcome(3, JobCounts(done=2, failed=1), 0, build_failures(address), 1), is_hopeless=False)
        for address in ("s3://lab/a", "")
    )
    assert known is not None
    assert unknown is not None
    for list_them in (list_next_commands, list_alternative_commands):
        assert list_them(known, LOCAL) == list_them(unknown, LOCAL)


def test_missing_inputs_of_a_script_and_those_of_some_jobs_only_are_uploaded_too() -> None:
    missing = build_failures("s3://lab/in/a.tif", submission="")
    assert advise(missing, source=JobSource())[-1].endswith("aws s3 cp FILE s3://lab/in/a.tif")
    others = [FailedJob(f"late-{number}", 9.0, "too late", "time-out") for number in range(3)]
    assert advise([*others, *missing])[-1].endswith("aws s3 cp FILE s3://lab/in/a.tif")


@pytest.mark.parametrize(
    ("address", "known"),
    [
        ("s3://lab/in/a.tif", "s3://lab/in/a.tif"), (None, ""), ("s3://lab/a\nb", ""),
        ("s3://lab/token=AKIAIOSFODNN7EXAMPLE", ""),
    ],
)  # fmt: skip
def test_an_address_is_left_out_if_it_cannot_be_typed_or_shows_a_secret(address: str | None, known: str) -> None:
    line = {"job": "a", "state": "failed", "reason_class": "missing input", "missing_input": address}
    assert build_failed_job(line).missing_input == known
