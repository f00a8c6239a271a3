"""The job that a message asks for: what is taken, what is refused, and where its results go."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_something.worker.job.job import BadMessage, Folders, Job, job_from_message, parse_message
from distributed_something.worker.job.worker_settings import JobDefaults

VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
FOLDERS, DEFAULTS = Folders(Path("/job")), JobDefaults("bucket", "App")


def job(**message: Any) -> Job:
    """The job of a message, whose group is {"v": "x"} if the test does not say otherwise."""
    return job_from_message({"group": {"v": "x"}, "command": "true"} | message, FOLDERS, DEFAULTS)


@given(VALUES)
def test_a_value_never_changes_the_number_of_words(value: str) -> None:
    command = job(group={"v": value}, command="prog --name={v} {v} 'a {v}'").command
    assert command == ["prog", f"--name={value}", value, f"a {value}"]


@pytest.mark.parametrize("shell", [True, False])
def test_the_braces_of_awk_and_json_stay_literal(shell: bool) -> None:
    words = job(command="""awk -F, '{print $1}' {{v}} '{"a": 1}' {v}""", shell=shell).command
    expected = ["awk", "-F,", "{print $1}", "{v}", '{"a": 1}', "x"]
    assert (words if isinstance(words, list) else shlex.split(words)) == expected


def test_a_command_for_a_shell_has_its_values_quoted() -> None:
    assert job(group={"v": "it's"}, command="echo {v}", shell=True).command == """echo 'it'"'"'s'"""


def test_a_placeholder_that_cannot_be_quoted_for_a_shell_makes_a_message_bad() -> None:
    with pytest.raises(BadMessage, match=r"\{v\} stands behind"):
        job(command="echo `basename {v}`", shell=True)


@given(st.text())
def test_an_output_location_never_leaves_its_prefix(value: str) -> None:
    try:
        location = job(group={"v": value}, output_location="results/{v}").output_location
    except BadMessage:
        return
    assert location.startswith("results/")
    assert not {"", ".", ".."} & set(location.split("/"))


@pytest.mark.parametrize("location", ["results", "results/{v}", "results/{{job}}", "{job}/x"])
def test_two_jobs_never_share_an_output_location(location: str) -> None:
    one, other = (job(group={"v": "x", "n": n}, output_location=location) for n in (1, 2))
    assert one.id in one.output_location
    assert one.output_location != other.output_location


@pytest.mark.parametrize(
    "body", ["", "[]", "{}", '{"group": 1}', "[" * 100_000, '{"group": "\\ud800"}', '{"group": ' + "9" * 5000 + "}"]
)
def test_a_body_that_is_no_message_is_bad(body: str) -> None:
    with pytest.raises(BadMessage):
        parse_message(body)


@pytest.mark.parametrize(
    "wrong",
    [
        {"command": ""}, {"command": 5}, {"command": "'"}, {"command": ["a\0b"]}, {"command": "a\0b", "shell": True},
        {"command": [["a"], []]}, {"command": [["a"], "b"]}, {"command": [["a\0b"]]}, {"inputs": {"a": 1}},
        {"inputs": {"a": ""}}, {"leave_out": "a"}, {"upload_flags": "--delete"}, {"inputs": "a"},
        {"timeout_minutes": 0}, {"timeout_minutes": True}, {"expected_files": -1},
        {"output_bucket": 1}, {"output_bucket": "My Bucket"}, {"output_bucket": "{none}", "none": ""},
        {"inputs": ["s3:///k"]}, {"inputs": ["s3://My Bucket/k"]}, {"inputs": {"s3://a/k": "k"}},
        {"inputs": ["k"], "input_bucket": "a/b"}, {"inputs": ["k"], "input_bucket": "arn:aws:s3:::ours"},
        {"inputs": ["https://[x/a"]}, {"inputs": ["https://x:y/a"]}, {"inputs": ["https:///a"]},
    ],
)  # fmt: skip
def test_a_key_of_the_wrong_kind_makes_a_message_bad(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadMessage):
        job(**wrong)


@pytest.mark.parametrize(
    "bucket",
    [
        "ours", "Our_Old.Bucket", "bucket--use1-az4--x-s3", "arn:aws:s3:us-east-1:123456789012:accesspoint/ours",
        "arn:aws-cn:s3-outposts:us-east-1:123456789012:outpost/o/accesspoint/ours",
    ],
)  # fmt: skip
def test_any_bucket_that_boto3_takes_may_be_a_jobs(bucket: str) -> None:
    made = job(inputs=["k", "p/"], input_bucket=bucket, output_bucket=bucket)
    assert (made.input_bucket, made.output_bucket) == (bucket, bucket)


def test_an_address_of_the_web_needs_no_bucket() -> None:
    assert Job("j", "true", "", "ours", "out/j", inputs=["https://example.org/a"]).input_bucket == ""


def test_a_time_limit_ends_before_sqs_forgets_the_message() -> None:
    assert job(timeout_minutes=1e6).timeout_seconds == 11 * 3600
    assert job(timeout_minutes=10**400).timeout_seconds == 11 * 3600  # which is no float
    assert job(timeout_minutes=2).timeout_seconds == 120
