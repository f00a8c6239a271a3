"""Errors store their data in fields, from which the line that a user reads is built."""

from __future__ import annotations

from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from pydantic import BaseModel, Field, ValidationError

from distributed_something.core.errors import (
    MAX_PROBLEMS_SHOWN,
    CloudError,
    InputError,
    InputProblems,
    UserFacingError,
    explain_aws_error,
)
from distributed_something.core.files import explain_validation_error
from distributed_something.core.monitor_file import parse_monitor_file
from distributed_something.jobs.job_file import parse_job_file
from distributed_something.jobs.make_jobs import MakeJobsOptions, build_job_file
from distributed_something.jobs.plates import BadRange, expand_wells
from distributed_something.project.config_file import load_settings
from tests.support.offline import CONFIG, JOB, MONITOR, format_config


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserFacingError("no room"), "no room"),
        (
            UserFacingError("no room", "make some", action="making a\nfolder"),
            "while making a folder: no room — make some",
        ),
        (
            InputError(Path("a/b.json"), "groups[1]", "it is empty", "fill it"),
            "a/b.json: groups[1]: it is empty; fill it",
        ),
        (
            InputError("b.json", "", "it is empty", "fill it", others=[InputError("b.json", "x", "no\nwhere", "go")]),
            "b.json: it is empty; fill it\nb.json: x: no where; go",
        ),
        (CloudError("no\x1b[2J", "wait", action="asking", code="Denied"), r"while asking: Denied: no\x1b[2J — wait"),
        (CloudError("no such queue"), "no such queue"),
    ],
)
def test_an_error_is_printed_as_one_line_per_problem(error: UserFacingError, line: str) -> None:
    assert str(error) == line


def test_an_aws_error_keeps_awss_code_and_message() -> None:
    response_error = ClientError(
        {"Error": {"Code": "NoSuchBucket", "Message": "deleted; or never created"}}, "HeadBucket"
    )
    error = explain_aws_error("reading it", response_error)
    assert (error.action, error.code, error.problem) == ("reading it", "NoSuchBucket", "deleted; or never created")
    assert error.remedy == "create the bucket first, or correct AWS_BUCKET in the config"


def job_error(**keys: object) -> InputError:
    with pytest.raises(InputError) as caught:
        parse_job_file(Path("job.json"), dict(JOB) | keys, lambda bucket, prefix: [])
    return caught.value


def test_a_semicolon_in_a_value_does_not_truncate_its_error() -> None:
    error = job_error(upload_flags="--acl 'a; b'")
    assert (error.file, error.key) == (Path("job.json"), "upload_flags")
    assert error.problem == "\"--acl 'a; b'\" cannot be used"
    assert error.remedy.startswith("--acl is 'a; b', not one of private, public-read")


@pytest.mark.parametrize(
    ("key", "value", "problem", "remedy"),
    [
        ("APP_NAME", "a/b", "'a/b' is not a valid name",
         "use at most 80 letters, digits, - or _, starting with a letter or digit, such as 'CellCount'"),
        ("ASSIGN_IP", "maybe", "'maybe' is not 'True' or 'False'", "write 'True' or 'False'"),
        ("CLUSTER_MACHINES", 0, "0 is too small", "write a number that is at least 1"),
        ("MAX_COST", -1, "-1 is too small", "write a number that is at least 0"),
        ("MAX_COST", 10**9, "1000000000 is too large", "write a number that is at most 10000000"),
        ("MEMORY", "much", "'much' is not a whole number", "write a whole number, such as 4"),
        ("MACHINE_TYPE", [], "[] is too short", "list at least 1"),
    ],
)  # fmt: skip
def test_an_invalid_value_in_a_config_is_explained(
    tmp_path: Path, key: str, value: object, problem: str, remedy: str
) -> None:
    path = tmp_path / "config.py"
    path.write_text(format_config(CONFIG | {key: value}))
    with pytest.raises(InputError) as caught:
        load_settings(path)
    error = caught.value
    assert (error.file, error.key, error.problem, error.remedy) == (path, key, problem, remedy)


def test_all_of_a_configs_invalid_values_are_reported_at_once(tmp_path: Path) -> None:
    path = tmp_path / "config.py"
    path.write_text(format_config(CONFIG | {"MEMORY": 0, "CPU_SHARES": 0, "EBS_VOL_SIZE": 0}))
    with pytest.raises(InputError) as caught:
        load_settings(path)
    assert [problem.key for problem in caught.value.problems] == ["EBS_VOL_SIZE", "CPU_SHARES", "MEMORY"]


def test_checks_after_a_problem_still_run_and_report_their_own_problems() -> None:
    problems = InputProblems()
    for key in ("a", "b"):
        with problems.collect():
            raise InputError("f", key, "bad", "fix it")
    with pytest.raises(InputError, match="f: a: bad; fix it\nf: b: bad; fix it") as caught:
        problems.raise_if_any()
    assert [problem.key for problem in caught.value.problems] == ["a", "b"]


def test_each_problem_of_a_nested_check_is_reported_once() -> None:
    problems = InputProblems()
    problems.add(InputError("f", "a", "bad", "fix it"))
    problems.add(InputError("f", "b", "bad", "fix it", others=[InputError("f", "c", "bad", "fix it")]))
    with pytest.raises(InputError) as caught:
        problems.raise_if_any()
    assert [problem.key for problem in caught.value.problems] == ["a", "b", "c"]


def test_nothing_is_raised_if_no_problem_was_found() -> None:
    problems = InputProblems()
    with problems.collect():
        pass
    problems.raise_if_any()


def test_an_input_with_hundreds_of_problems_does_not_fill_the_screen() -> None:
    problems = InputProblems()
    while not problems.is_full:
        problems.add(InputError("f", "k", "bad", "fix it"))
    with pytest.raises(InputError) as caught:
        problems.raise_if_any()
    lines = str(caught.value).splitlines()
    assert lines == ["f: k: bad; fix it"] * MAX_PROBLEMS_SHOWN + ["there are more problems; fix these first"]


def test_a_check_that_is_not_in_the_table_keeps_pydantics_message() -> None:
    class Even(BaseModel):
        number: int = Field(multiple_of=2)

    with pytest.raises(ValidationError) as caught:
        Even(number=3)
    error = explain_validation_error("f", caught.value, is_json=True)
    assert (error.problem, error.remedy) == ("3 is not valid", "input should be a multiple of 2")


@pytest.mark.parametrize(
    ("key", "value", "problem", "remedy"),
    [
        ("MONITOR_START_TIME", "today", "'today' is not a whole number", "write a whole number"),
        ("MONITOR_MAX_COST", -1, "-1 is out of range", "write a number from 0 to 1000000000"),
        ("MONITOR_MAX_COST", True, "true is not a number", "write a number"),
        ("CLEAN_DASHBOARD", 1, "1 is not true or false", "write true or false"),
        (
            "MONITOR_QUEUE_NAME",
            "a b",
            "'a b' is not a queue name",
            "use at most 80 letters, digits, - or _, such as 'CellCountQueue'",
        ),
    ],
)
def test_an_invalid_value_in_a_monitor_file_is_explained(key: str, value: object, problem: str, remedy: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_monitor_file(dict(MONITOR) | {key: value}, "monitor.json")
    error = caught.value
    assert (error.file, error.key, error.problem, error.remedy) == ("monitor.json", key, problem, remedy)


def test_a_misspelled_optional_key_in_a_monitor_file_is_refused_and_a_foreign_one_ignored() -> None:
    content = {key: value for key, value in MONITOR.items() if key != "MONITOR_MAX_COST"}
    assert parse_monitor_file(content | {"NOTES": "mine"}, "monitor.json")
    with pytest.raises(InputError) as caught:
        parse_monitor_file(content | {"MONITOR_MAXCOST": 5}, "monitor.json")
    error = caught.value
    assert (error.key, error.remedy) == ("MONITOR_MAXCOST", "write MONITOR_MAX_COST")
    assert error.problem == "nothing uses this key, whose name is similar to MONITOR_MAX_COST"


def test_the_error_for_an_impossible_plate_size_lists_the_possible_sizes() -> None:
    with pytest.raises(BadRange) as caught:
        expand_wells("97", 2)
    assert (caught.value.problem, caught.value.remedy) == (
        "there is no 97-well plate", "use one of the plate sizes 6, 12, 24, 48, 96, 384, 1536",
    )  # fmt: skip
    with pytest.raises(InputError) as error_info:
        build_job_file(MakeJobsOptions(wells="97"), None, lambda bucket, prefix: [])
    assert (error_info.value.file, error_info.value.problem) == ("--wells", "there is no 97-well plate")
    assert error_info.value.remedy.startswith(
        "use one of the plate sizes 6, 12, 24, 48, 96, 384, 1536; write values sep"
    )


@pytest.mark.parametrize("code", ["AccessDenied", "AccessDeniedException", "AuthorizationError", "Forbidden",
                                  "UnauthorizedOperation"])  # fmt: skip
def test_every_error_code_for_a_missing_permission_refers_users_to_the_administrator(code: str) -> None:
    error = explain_aws_error("reading it", ClientError({"Error": {"Code": code, "Message": "no"}}, "GetThing"))
    permission = "the permission ec2:GetThing" if code == "UnauthorizedOperation" else "this permission"
    assert str(error) == f"while reading it: {code}: no — ask your administrator for {permission}"


def test_a_comma_instead_of_a_decimal_point_is_recognized(tmp_path: Path) -> None:
    path = tmp_path / "config.py"
    for source, remedy in (
        ("0,10", "write 0.10, with a dot and without a comma"),
        ("0.25,", "write 0.25, with a dot and without a comma"),
        ("'0,25'", "write 0.25, with a dot"),
    ):
        path.write_text(format_config(CONFIG) + f"MACHINE_PRICE = {source}\n")
        with pytest.raises(InputError) as caught:
            load_settings(path)
        assert (caught.value.key, caught.value.remedy) == ("MACHINE_PRICE", remedy)
        assert caught.value.problem.endswith(" is not a number")
    path.write_text(format_config(CONFIG) + "MACHINE_PRICE = 0,05\n")
    with pytest.raises(InputError, match=r"line \d+: this is not valid Python .*; write numbers with a dot"):
        load_settings(path)


def test_a_missing_constant_that_is_misspelled_is_reported_once_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "config.py"
    config = {name: value for name, value in CONFIG.items() if name != "MEMORY"}
    path.write_text(format_config(config | {"MEMRY": 1000, "MACHINE_PRICE": -1}))
    with pytest.raises(InputError) as caught:
        load_settings(path)
    by_key = {problem.key: problem for problem in caught.value.problems}
    assert by_key.keys() == {"MEMRY", "MACHINE_PRICE"}
    assert by_key["MEMRY"].problem == "the constant MEMORY is missing, whose name is similar"
    assert by_key["MEMRY"].remedy == "write MEMORY"


def test_all_of_a_monitor_files_missing_keys_are_reported_at_once() -> None:
    with pytest.raises(InputError) as caught:
        parse_monitor_file({"MONITOR_FLEET_ID": "sfr-0123abcd", "MONITOR_START_TIME": -1}, "monitor.json")
    keys = [problem.key for problem in caught.value.problems]
    assert keys == [
        "MONITOR_APP_NAME", "MONITOR_ECS_CLUSTER", "MONITOR_QUEUE_NAME", "MONITOR_BUCKET_NAME",
        "MONITOR_LOG_GROUP_NAME", "MONITOR_START_TIME",
    ]  # fmt: skip


def test_an_invalid_app_name_is_reported_without_the_names_built_from_it(tmp_path: Path) -> None:
    path = tmp_path / "config.py"
    path.write_text(
        format_config(CONFIG | {"MEMORY": 0}) + "APP_NAME = 'My App'\nSQS_QUEUE_NAME = APP_NAME + 'Queue'\n"
    )
    with pytest.raises(InputError) as caught:
        load_settings(path)
    assert [problem.key for problem in caught.value.problems] == ["APP_NAME", "MEMORY"]
