"""The parts of the worker, each alone: what holds for any value, exact requests to SQS, S3 played in the process."""

from __future__ import annotations

import json
import logging
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError, EndpointConnectionError
from botocore.stub import Stubber
from hypothesis import given, settings
from hypothesis import strategies as st
from moto import mock_aws

from distributed_something.worker.attempt import handler, job_record
from distributed_something.worker.attempt.handler import UPLOAD_RESERVE_SECONDS, Hooks, JobHandler
from distributed_something.worker.attempt.job_record import (
    CLAIM_REASON,
    _put_record,
    build_record_key,
    claim_job_results,
    read_record,
    write_record,
)
from distributed_something.worker.attempt.lease import Lease, LeaseKeeper
from distributed_something.worker.attempt.outcomes import AttemptFinisher, OutcomeCallbacks
from distributed_something.worker.container.stop import StopRequest
from distributed_something.worker.job.checks import usual_failure
from distributed_something.worker.job.failures import Failed, Interruption, MissingInput, StaleMessage, UploadError
from distributed_something.worker.job.job import BadMessage, Folders, Job, job_from_message, parse_message
from distributed_something.worker.job.job_id import job_id
from distributed_something.worker.job.placeholders import TemplateError, fill_placeholders, list_placeholders
from distributed_something.worker.job.worker_settings import BadEnvironment, JobDefaults, Settings, read_worker_settings
from distributed_something.worker.logs.job_log import JobLogs
from distributed_something.worker.machine.times import read_boot_clock
from distributed_something.worker.program.launcher import LauncherPool
from distributed_something.worker.program.memory import OomKills
from distributed_something.worker.program.program import Result, run_command
from distributed_something.worker.transfer import results
from distributed_something.worker.transfer.inputs import fetch_inputs
from distributed_something.worker.transfer.results import has_unchanged_results, upload_results
from distributed_something.worker.transfer.s3_listing import ListedObject, list_object_sizes
from tests.support.emulator import KEYS, until

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
FOLDERS, DEFAULTS = Folders(Path("/job")), JobDefaults("bucket", "App")
HOUR = 3600
URL = "https://sqs.us-east-1.amazonaws.com/123456789012/queue"


def job(**message: Any) -> Job:
    return job_from_message({"group": {"v": "x"}, "command": "true"} | message, FOLDERS, DEFAULTS)


# Job ids


@given(ANYTHING)
def test_a_job_id_is_safe_in_a_key_a_folder_and_a_log_stream_for_any_group(group: Any) -> None:
    identity = job_id({"group": group})
    assert set(identity) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert 10 < len(identity) <= 91
    assert identity[0] not in "-_"


@given(st.dictionaries(st.text(), ANYTHING))
def test_a_job_id_is_the_same_after_the_message_travelled(message: dict[str, Any]) -> None:
    travelled = json.loads(json.dumps(dict(reversed(list(message.items())))))
    assert job_id({"group": "g"} | travelled) == job_id({"group": "g"} | message)


@given(ANYTHING, ANYTHING)
def test_messages_that_differ_have_different_job_ids(one: Any, other: Any) -> None:
    alike = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (job_id({"group": one}) == job_id({"group": other})) == alike


@pytest.mark.parametrize(
    ("group", "readable"),
    [
        ({"plate": "P1", "well": "A01"}, "P1-A01-"),
        ("Metadata_Plate=P1,Metadata_Well=A01", "P1-A01-"),
        ({"site": 7, "all": True}, "7-true-"),
        ({"path": "a/b c.tif"}, "a-b-c-tif-"),
        ({}, "job-"),
    ],
)
def test_a_job_id_begins_with_the_values_of_its_group(group: Any, readable: str) -> None:
    assert job_id({"group": group}).startswith(readable)


# Placeholders


@given(VALUES)
def test_a_value_never_changes_the_number_of_words(value: str) -> None:
    command = job(group={"v": value}, command="prog --name={v} {v} 'a {v}'").command
    assert command == ["prog", f"--name={value}", value, f"a {value}"]


@given(VALUES)
def test_a_value_stays_one_word_for_a_shell_wherever_its_placeholder_stands(value: str) -> None:
    command = job(group={"v": value}, command='prog {v} "a {v}" \'b {v}\' \\"{v}', shell=True).command
    assert isinstance(command, str)
    assert shlex.split(command) == ["prog", value, f"a {value}", f"b {value}", f'"{value}']


@settings(max_examples=15, deadline=None)
@given(VALUES)
def test_a_real_shell_agrees(value: str) -> None:
    script = '# {v}\'s\nx=-\nprintf \'%s\\0\' {v} "{v}" \'{v}\' "$(echo -)" "$x{v}" $x{v}'
    command = job(group={"v": value}, command=script, shell=True).command
    printed = subprocess.run(["/bin/sh", "-c", str(command)], capture_output=True, check=True).stdout
    assert printed == b"".join(text.encode() + b"\0" for text in (value, value, value, "-", f"-{value}", f"-{value}"))


@pytest.mark.parametrize(
    "command", ["cat <<END\n{v}\nEND", "echo `basename {v}`", 'echo "$(basename {v})"', "echo $'{v}'"]
)
def test_a_placeholder_that_cannot_be_quoted_for_a_shell_is_refused(command: str) -> None:
    with pytest.raises(BadMessage, match=r"\{v\} stands behind"):
        job(command=command, shell=True)


@pytest.mark.parametrize("shell", [True, False])
def test_the_braces_of_awk_and_json_stay_literal(shell: bool) -> None:
    words = job(command="""awk -F, '{print $1}' {{v}} '{"a": 1}' {v}""", shell=shell).command
    expected = ["awk", "-F,", "{print $1}", "{v}", '{"a": 1}', "x"]
    assert (words if isinstance(words, list) else shlex.split(words)) == expected


def test_a_plain_value_stands_in_quotes_as_a_person_would_write_it() -> None:
    made = job(group={"v": "cookie dough"}, command="printf \"I like {v}\" '{v}' {v}", shell=True)
    assert made.command == "printf \"I like cookie dough\" 'cookie dough' 'cookie dough'"


def test_a_shells_own_variables_stay_the_shells() -> None:
    assert job(command='echo ${HOME} "${v}" ${x:-{v}}', shell=True).command == 'echo ${HOME} "${v}" ${x:-x}'


def test_a_value_is_never_read_again_as_a_template() -> None:
    assert fill_placeholders("{a}", {"a": "{b}", "b": "c"}) == "{b}"
    assert list_placeholders("{a} {{b}} {c d} {e.f}") == {"a", "e.f"}


def test_a_placeholder_that_nothing_fills_is_named() -> None:
    with pytest.raises(TemplateError, match=r"nothing fills \{plate\}; there are: well"):
        fill_placeholders("{plate}", {"well": "A01"})


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


# Leases


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def batch(first: int, last: int, first_id: int = 0) -> dict[str, Any]:
    """The request that extends the leases of receipts `first` to `last`."""
    entries = [
        {"Id": str(n), "ReceiptHandle": f"r{receipt}", "VisibilityTimeout": 30}
        for n, receipt in enumerate(range(first, last + 1), first_id)
    ]
    return {"QueueUrl": URL, "Entries": entries}


def extended(count: int, *refused: str) -> dict[str, Any]:
    successful = [{"Id": str(n)} for n in range(count) if str(n) not in refused]
    failed = [{"Id": one, "SenderFault": True, "Code": "MessageNotInflight"} for one in refused]
    return {"Successful": successful, "Failed": failed}


@pytest.fixture
def sqs() -> Any:
    return boto3.client("sqs", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")


def test_leases_are_extended_in_batches_of_ten(sqs: Any) -> None:
    keeper = LeaseKeeper(sqs, URL, 30, clock := Clock())
    leases = [keeper.add_lease(f"r{n}", clock()) for n in range(12)]
    clock.now += 10
    with Stubber(sqs) as stub:
        stub.add_response("change_message_visibility_batch", extended(10), batch(0, 9))
        stub.add_response("change_message_visibility_batch", extended(2), batch(10, 11))
        keeper.tick()
        stub.assert_no_pending_responses()
    assert {lease.expires for lease in leases} == {1040.0}


def test_a_lease_that_sqs_refuses_to_extend_is_lost_and_the_others_are_not(sqs: Any) -> None:
    keeper = LeaseKeeper(sqs, URL, 30, clock := Clock())
    leases = [keeper.add_lease(f"r{n}", clock()) for n in range(3)]
    with Stubber(sqs) as stub:
        stub.add_response("change_message_visibility_batch", extended(3, "1"), batch(0, 2))
        keeper.tick()
    assert [lease.lost for lease in leases] == [False, True, False]


def test_a_lease_that_could_not_be_extended_before_it_ended_is_lost(sqs: Any) -> None:
    keeper = LeaseKeeper(sqs, URL, 30, clock := Clock())
    lease = keeper.add_lease("r0", clock())
    lost = []
    with Stubber(sqs) as stub:
        for _ in range(3):
            stub.add_client_error("change_message_visibility_batch", "ServiceUnavailable", http_status_code=503)
            clock.now += 10
            keeper.tick()
            lost.append(lease.lost)
    assert lost == [False, False, True]


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="only Linux has a clock that goes on meanwhile")
def test_a_lease_runs_out_while_the_computer_sleeps(sqs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    awake, asleep = time.clock_gettime(time.CLOCK_BOOTTIME), 3600.0
    held = LeaseKeeper(sqs, URL, 30, read_boot_clock).add_lease("r0", read_boot_clock())
    assert not held.lost
    monkeypatch.setattr(time, "clock_gettime", lambda which: awake + asleep if which == time.CLOCK_BOOTTIME else awake)
    assert held.lost


@pytest.mark.parametrize(
    "odd", [b"null", b"[]", b'"x"', b"\xff\xfe", b'{"Successful": [{"Id": "z"}]}', b'{"Successful": [{"Id": "99"}]}',
            b'{"Successful": [null]}', b'{"Failed": [{"Id": "-1", "SenderFault": true}]}', b"<html>", b""]
)  # fmt: skip
def test_an_odd_answer_ends_neither_the_round_nor_the_leases(sqs: Any, odd: bytes) -> None:
    keeper = LeaseKeeper(sqs, URL, 30, clock := Clock())
    leases = [keeper.add_lease(f"r{n}", clock()) for n in range(11)]
    right = json.dumps({"Successful": [{"Id": "0"}]}).encode()
    answers = [odd, right, json.dumps(extended(10)).encode(), right]

    def answer(request: Any, **_: Any) -> AWSResponse:
        return AWSResponse(request.url, 200, {}, Raw(answers.pop(0)))

    sqs.meta.events.register("before-send.sqs", answer)
    clock.now += 10
    keeper.tick()
    assert {lease.expires for lease in leases[:10]} == {1030.0}
    assert leases[10].expires == 1040.0
    keeper.tick()
    assert {lease.expires for lease in leases} == {1040.0}
    assert not any(lease.lost for lease in leases)


class Raw:
    """The bytes of an answer, as botocore reads them."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self) -> Iterator[bytes]:
        yield self._content


def test_a_lease_that_is_lost_is_not_extended_any_more(sqs: Any) -> None:
    keeper = LeaseKeeper(sqs, URL, 30, clock := Clock())
    keeper.add_lease("r0", clock())
    clock.now += 30
    keeper.add_lease("r1", clock())
    with Stubber(sqs) as stub:
        stub.add_response("change_message_visibility_batch", extended(1), batch(1, 1, first_id=1))
        keeper.tick()
        stub.assert_no_pending_responses()


def test_a_released_lease_is_not_extended(sqs: Any) -> None:
    keeper = LeaseKeeper(sqs, URL, 30, clock := Clock())
    keeper.release(keeper.add_lease("r0", clock()))
    with Stubber(sqs):
        keeper.tick()


def test_a_lease_is_extended_up_to_sqss_twelve_hours_and_not_refused_for_asking_more(sqs: Any) -> None:
    keeper = LeaseKeeper(sqs, URL, 8 * HOUR, clock := Clock())
    lease = keeper.add_lease("r0", clock(), age=HOUR)  # received an hour ago by another worker
    asked: list[int] = []
    with Stubber(sqs) as stub:
        sqs.meta.events.register(
            "before-parameter-build.sqs.ChangeMessageVisibilityBatch",
            lambda params, **_: asked.extend(entry["VisibilityTimeout"] for entry in params["Entries"]),
        )
        for _ in range(2):
            stub.add_response("change_message_visibility_batch", extended(1))
            clock.now += 2 * HOUR
            keeper.tick()
        clock.now += 7 * HOUR
        keeper.tick()  # nothing to ask for any more
    assert asked == [8 * HOUR, 7 * HOUR - 60]
    assert lease.lost


# Staging


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket="ours")
        yield client


def no_sleep(seconds: float) -> None:
    raise AssertionError(f"it rests {seconds} s although nothing will pass")


def put(s3: Any, *keys: str) -> None:
    for key in keys:
        s3.put_object(Bucket="ours", Key=key, Body=key.encode())


def fetched(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_keys_prefixes_and_addresses_are_fetched(s3: Any, tmp_path: Path) -> None:
    put(s3, "in/a.txt", "p/1/x", "p/1/y", "p/2/", "other/z")
    size = fetch_inputs(s3, ["in/a.txt", "p/", "s3://ours/other/z", "in/a.txt"], "ours", tmp_path)
    assert fetched(tmp_path) == {"a.txt": "in/a.txt", "1/x": "p/1/x", "1/y": "p/1/y", "z": "other/z"}
    assert size == len("in/a.txtp/1/xp/1/yother/z")


def test_inputs_with_a_place_of_their_own_lie_there(s3: Any, tmp_path: Path) -> None:
    put(s3, "in/a.txt", "p/1/x", "p/y", "b/z", "c/z")
    fetch_inputs(s3, {"in/a.txt": "d/e.txt", "p/": "plate", "b/z": "b/", "s3://ours/c/z": "c/"}, "ours", tmp_path)
    assert fetched(tmp_path) == {
        "d/e.txt": "in/a.txt", "plate/1/x": "p/1/x", "plate/y": "p/y", "b/z": "b/z", "c/z": "c/z",
    }  # fmt: skip


@pytest.mark.parametrize("place", ["../a", "/../a", "..", "a/../../b", "x\0"])
def test_a_place_outside_the_jobs_folder_is_refused(s3: Any, tmp_path: Path, place: str) -> None:
    put(s3, "in/a")
    with pytest.raises(Failed, match="would lie outside the job's folder"):
        fetch_inputs(s3, {"in/a": place.replace("\\0", "\0")}, "ours", tmp_path)


def test_an_input_never_replaces_one_that_came_before(s3: Any, tmp_path: Path) -> None:
    put(s3, "a/x", "b/x")
    fetch_inputs(s3, ["a/x"], "ours", tmp_path)
    with pytest.raises(Failed, match="two inputs would be the same file: x"):
        fetch_inputs(s3, ["b/x"], "ours", tmp_path)


def test_two_inputs_that_would_be_the_same_file_are_refused(s3: Any, tmp_path: Path) -> None:
    put(s3, "a/x", "b/x")
    with pytest.raises(Failed, match="two inputs would be the same file: x"):
        fetch_inputs(s3, ["a/x", "b/x"], "ours", tmp_path)


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        ("no.tif", "s3://ours/no.tif does"),
        ("no/", "s3://ours/no/ has no files"),
        ("s3://c-d/x", "s3://c-d/x"),
        ("s3://c-d/x/", "c-d/x/"),
        ("s3:///k", "the input 's3:///k' is in no bucket: '' cannot be"),
        ("s3://", "is in no bucket"),
        ("s3://My Bucket/k", "in no bucket: 'My Bucket'"),
        ("s3://My Bucket/x/", "in no bucket: 'My Bucket'"),
        ("s3://arn:aws:s3:us-east-1:123456789012:accesspoint:x.y/k", "Invalid ARN"),
    ],
)
def test_a_missing_input_is_named(s3: Any, tmp_path: Path, wanted: str, named: str) -> None:
    with pytest.raises(MissingInput, match=named):
        fetch_inputs(s3, [wanted], "ours", tmp_path, sleep=no_sleep)


def test_a_key_needs_a_bucket(s3: Any, tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match="the input 'k' is in no bucket"):
        fetch_inputs(s3, ["k"], "", tmp_path)


@pytest.mark.parametrize(("code", "status"), [("InvalidBucketName", 400), ("KeyTooLongError", 400)])
def test_a_name_that_s3_knows_to_be_none_is_missing_at_once(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, status: int
) -> None:
    def refuse(**_: Any) -> None:
        answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
        raise ClientError(answer, "GetObject")  # type: ignore[arg-type]

    monkeypatch.setattr(s3, "get_object", refuse)
    with pytest.raises(MissingInput, match=code):
        fetch_inputs(s3, ["in/a"], "a..b", tmp_path, sleep=no_sleep)


def test_outputs_for_a_bucket_that_cannot_be_are_not_sent_again_and_again(s3: Any, tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(UploadError, match="My Bucket"):
        upload_results(s3, tmp_path, "My Bucket", "out", sleep=no_sleep)


@pytest.mark.parametrize(("key", "wanted"), [("p/../../evil", "p/"), ("p/..", "p/.."), ("p/a/../../../evil", "p/")])
def test_a_key_with_dots_stays_inside_or_is_refused(s3: Any, tmp_path: Path, key: str, wanted: str) -> None:
    put(s3, key)
    inside = tmp_path / "job" / "input"
    inside.mkdir(parents=True)
    with pytest.raises(Failed, match="outside the job's folder"):
        fetch_inputs(s3, [wanted], "ours", inside)
    assert fetched(tmp_path) == {}


def test_an_input_that_is_a_file_and_a_folder_is_a_failure_with_its_name(s3: Any, tmp_path: Path) -> None:
    put(s3, "p/a", "p/a/b")
    with pytest.raises(Failed, match="cannot be written here"):
        fetch_inputs(s3, ["p/"], "ours", tmp_path)


def test_large_and_empty_files_are_uploaded_and_verified(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "SINGLE_PUT_BYTES", 1)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "large").write_bytes(b"large" * 9)
    (tmp_path / "empty").touch()
    outputs = upload_results(s3, tmp_path, "ours", "out/job")
    assert [(output.key, output.size) for output in outputs] == [("out/job/deep/large", 45), ("out/job/empty", 0)]
    assert list_object_sizes(s3, "ours", "out/") == {"out/job/deep/large": 45, "out/job/empty": 0}


@pytest.mark.parametrize("single", [1, 100])
def test_an_upload_that_stays_refused_fails_after_its_tries(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, single: int
) -> None:
    monkeypatch.setattr(results, "SINGLE_PUT_BYTES", single)
    (tmp_path / "a").write_text("two")
    with pytest.raises(UploadError, match="s3://gone/out: "):
        upload_results(s3, tmp_path, "gone", "out")


def test_an_upload_that_arrived_short_fails(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("two")
    monkeypatch.setattr(results, "listed", lambda *_: {"out/a": ListedObject(2, "", datetime.now(UTC))})
    with pytest.raises(UploadError, match="1 of 1 files are not there or incomplete, such as out/a"):
        upload_results(s3, tmp_path, "ours", "out", sleep=lambda seconds: None)


def test_an_output_whose_name_is_not_utf8_is_named(s3: Any, tmp_path: Path) -> None:
    (tmp_path / "a\udcff").touch()
    with pytest.raises(Failed, match="not UTF-8"):
        upload_results(s3, tmp_path, "ours", "out")


# One message from lease to deletion

ENVIRONMENT = {
    "APP_NAME": "App",
    "SQS_QUEUE_URL": URL,
    "AWS_BUCKET": "ours",
    "SQS_DEAD_LETTER_QUEUE_URL": f"{URL}-dead",
}


class Queue:
    """Remembers what was done with messages."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.told: list[dict[str, str]] = []  # the attributes of what was sent

    def change_message_visibility(self, **_: Any) -> None:
        self.calls.append("given back")

    def delete_message(self, **_: Any) -> None:
        self.calls.append("deleted")

    def send_message(self, MessageAttributes: Any, **_: Any) -> None:
        again = "reason" not in MessageAttributes
        self.calls.append("sent again" if again else "buried")
        self.told.append({name: value["StringValue"] for name, value in MessageAttributes.items()})


def message_of(
    body: Any = None, receives: int = 1, first: float = 0, carried: dict[str, str] | None = None
) -> dict[str, Any]:
    """A message as SQS gives it."""
    return {
        "ReceiptHandle": "r",
        "Body": json.dumps(body or {"group": "g", "command": "touch {output_dir}/a"}),
        "Attributes": {
            "ApproximateReceiveCount": str(receives),
            "ApproximateFirstReceiveTimestamp": str(int((time.time() - first * HOUR) * 1000)),
        },
        "MessageAttributes": {name: {"StringValue": text} for name, text in (carried or {}).items()},
    }


class Table:
    """A handler with its queue, and hooks that a test replaces."""

    def __init__(self, s3: Any, tmp_path: Path, launcher: LauncherPool) -> None:
        self.launcher = launcher
        self.queue, self.stop, self.s3 = Queue(), StopRequest(time.monotonic), s3
        self.heard: list[str] = []
        self.leaving: list[Lease] = []
        self.settings = read_worker_settings(ENVIRONMENT | {"WORK_DIR": str(tmp_path)})
        self.keeper = LeaseKeeper(self.queue, URL, 30, time.monotonic)

    def handle(
        self, body: Any = None, *, receives: int = 1, first: float = 0, carried: dict[str, str] | None = None,
        **hooks: Any,
    ) -> None:  # fmt: skip
        """`first`: how many hours ago the message was first received; `carried`: what it was told when it was sent."""
        handler = self._handler(hooks)
        attempt = handler.take(message_of(body, receives, first, carried or {}), time.monotonic())
        if handler.begin(attempt) and handler.run(attempt):
            handler.finish(attempt)
        self._check_that_nothing_is_left()

    def give_back(self) -> None:
        """A message that was held for a slot, when the container ends."""
        handler = self._handler({})
        handler.give_back(handler.take(message_of(), time.monotonic()))
        self._check_that_nothing_is_left()

    def _handler(self, hooks: dict[str, Any]) -> JobHandler:
        chosen: dict[str, Any] = {
            "make_job": job_from_message, "prepare": lambda *_: None, "failure": lambda *_: None,
        } | hooks  # fmt: skip
        heard = OutcomeCallbacks(
            lambda size: self.heard.append("success"), lambda *words: self.heard.append(": ".join(words[1:]))
        )
        ending = AttemptFinisher(self.queue, self.s3, self.settings, self.keeper, heard, self._delete_soon)
        job_logs = JobLogs(None, "")
        return JobHandler(
            self.s3, self.settings, Hooks(**chosen), self.keeper, self.stop, ending, job_logs, self.launcher
        )

    def _delete_soon(self, lease: Lease) -> None:
        assert lease.receipt in self.keeper._held
        self.leaving.append(lease)
        self.queue.calls.append("deleted")

    def _check_that_nothing_is_left(self) -> None:
        assert list(self.keeper._held.values()) == self.leaving  # theirs end with their messages
        while self.leaving:
            self.keeper.release(self.leaving.pop())
        assert list(self.settings.work_dir.glob("job-*")) == []

    def record(self) -> dict[str, Any] | None:
        identity = job_id({"group": "g", "command": "touch {output_dir}/a"})
        return read_record(self.s3, self.settings, identity)


@pytest.fixture(scope="module")
def launcher() -> Iterator[LauncherPool]:
    made = LauncherPool(1)
    yield made
    made.end()


@pytest.fixture
def table(s3: Any, tmp_path: Path, launcher: LauncherPool) -> Table:
    return Table(s3, tmp_path, launcher)


def broken(*_: Any) -> Any:
    raise KeyError("image")


def leaving(*_: Any) -> Any:
    sys.exit(3)


@pytest.mark.parametrize(("fault", "reason"), [(broken, "KeyError: 'image'"), (leaving, "SystemExit: 3")])
@pytest.mark.parametrize("hook", ["make_job", "prepare", "failure"])
def test_a_fault_in_a_hook_costs_one_attempt_and_is_told(
    table: Table, hook: str, fault: Callable[..., Any], reason: str
) -> None:
    table.handle(**{hook: fault})
    record = table.record() or {}
    assert (record["reason"], record["reason_class"]) == (reason, "worker code")
    assert table.queue.calls == ["given back"]


def test_a_bad_message_that_a_hook_finds_is_buried_with_a_reason_that_sqs_accepts(table: Table) -> None:
    def refuse(*_: Any) -> Job:
        raise BadMessage("no \0 well\n")

    table.handle(make_job=refuse)
    assert table.queue.calls == ["buried", "deleted"]
    assert table.queue.told == [{"reason": "no ? well?"}]


@pytest.mark.parametrize("ask", [lambda message: message["plate"], lambda message: message["group"]["plate"]])
def test_a_message_without_a_key_that_a_hook_asks_for_is_buried_at_once(
    table: Table, ask: Callable[[Any], Any]
) -> None:
    table.handle({"group": {}, "command": "true"}, make_job=lambda message, *_: ask(message))
    assert table.queue.calls == ["buried", "deleted"]
    assert table.queue.told == [{"reason": "the message has no `plate`"}]


def test_prepare_fetches_what_it_finds_in_a_fetched_file(table: Table) -> None:
    put(table.s3, "table.csv", "images/a.tif", "images/b.tif")

    def prepare(job: Job, folders: Folders) -> None:
        assert (folders.input_dir / "table.csv").exists()
        folders.fetch({f"images/{name}.tif": f"tif/{name}.tif" for name in "ab"})
        assert (folders.input_dir / "tif" / "a.tif").read_text() == "images/a.tif"

    message = {"group": "g", "command": "cp -r {input_dir}/tif {output_dir}", "inputs": ["table.csv"]}
    table.handle(message, prepare=prepare)
    record = read_record(table.s3, table.settings, job_id(message)) or {}
    assert record["bytes_in"] == len("table.csv" + "images/a.tif" + "images/b.tif")
    assert [one["key"].rpartition("/")[2] for one in record["outputs"]] == ["a.tif", "b.tif"]


def test_a_further_input_that_is_missing_is_named(table: Table) -> None:
    table.handle(prepare=lambda job, folders: folders.fetch(["images/gone.tif"]))
    record = table.record() or {}
    assert record["reason"] == "the input s3://ours/images/gone.tif does not exist (NoSuchKey)"
    assert record["reason_class"] == "missing input"


@pytest.mark.parametrize(
    ("code", "status", "calls"), [("NoSuchKey", 404, ["buried", "deleted"]), ("AccessDenied", 403, ["given back"])]
)
def test_only_what_is_not_there_ends_a_job_at_its_first_try(
    table: Table, monkeypatch: pytest.MonkeyPatch, code: str, status: int, calls: list[str]
) -> None:
    answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}

    def refuse(**_: Any) -> None:
        raise ClientError(answer, "GetObject")  # type: ignore[arg-type]

    table.settings = replace(table.settings, check_if_done=False)
    message = {"group": "g", "command": "true", "inputs": ["in/a"]}
    real = table.s3.get_object
    monkeypatch.setattr(table.s3, "get_object", lambda **asked: refuse() if asked["Key"] == "in/a" else real(**asked))
    table.handle(message)
    assert table.queue.calls == calls


def test_prepare_can_end_an_attempt_with_a_reason(table: Table) -> None:
    def prepare(job: Job, folders: Folders) -> None:
        raise Failed("a.tif is cut off", "bad input")

    table.handle(prepare=prepare)
    record = table.record() or {}
    assert (record["reason"], record["reason_class"]) == ("a.tif is cut off", "bad input")
    assert record["exit_code"] is None


def test_more_inputs_are_fetched_in_prepare_only(table: Table) -> None:
    table.handle(failure=lambda job, folders, result: folders.fetch(["images/a.tif"]))
    assert (table.record() or {})["reason"] == "RuntimeError: folders.fetch is there in prepare() only"


def test_files_that_are_no_results_are_left_out(table: Table) -> None:
    command = "cd {output_dir} && mkdir logs sub && touch done done.csv a.tmp logs/a logs/b sub/done sub/logs sub/a.tmp"
    message = {"group": "g", "leave_out": ["done", "logs/*", "*.tmp"], "command": command, "shell": True}
    table.handle(message)
    record = read_record(table.s3, table.settings, job_id(message)) or {}
    keys = [one["key"].partition(job_id(message) + "/")[2] for one in record["outputs"]]
    assert keys == ["done.csv", "sub/logs"]


def test_a_program_that_makes_its_output_folder_itself_has_results_there(table: Table) -> None:
    def make_job(message: dict[str, Any], folders: Folders, settings: Settings) -> Job:
        own = folders.root / "plate.zarr"
        command = ["sh", "-c", f"mkdir {own} && echo 1 > {own}/chunk && touch {folders.output_dir}/not-this"]
        return job_from_message(message, folders, settings, command=command, output_dir=own, output_location="p.zarr")

    table.handle(make_job=make_job)
    assert [one["key"] for one in (table.record() or {})["outputs"]] == ["p.zarr/chunk"]


@pytest.mark.parametrize(("expected", "state"), [(1, "done"), (2, "failed")])
def test_expected_files_are_counted_where_the_results_lie(table: Table, expected: int, state: str) -> None:
    def make_job(message: dict[str, Any], folders: Folders, settings: Settings) -> Job:
        own = folders.root / "plate.zarr"
        command = ["sh", "-c", f"mkdir {own} && touch {own}/chunk {folders.output_dir}/a {folders.output_dir}/b"]
        return job_from_message(message, folders, settings, command=command, output_dir=own, expected_files=expected)

    table.handle(make_job=make_job, failure=usual_failure)
    assert (table.record() or {})["state"] == state


def test_several_commands_run_one_after_the_other_and_count_together(table: Table) -> None:
    steps = [
        ["sh", "-c", "sleep 0.2; echo one; echo 1 > {output_dir}/a"],
        ["sh", "-c", "sleep 0.2; cat {output_dir}/a"],
    ]
    message = {"group": "g", "command": steps}
    table.handle(message)
    record = read_record(table.s3, table.settings, job_id(message)) or {}
    assert record["exit_code"] == 0
    assert record["program_seconds"] > 0.4
    log = table.s3.get_object(Bucket="ours", Key=record["log"].removeprefix("s3://ours/"))["Body"].read()
    assert log == b"one\n1\n"


def test_after_a_command_that_fails_no_other_is_run(table: Table) -> None:
    def failure(job: Job, folders: Folders, result: Result) -> str:
        return f"exit code {result.exit_code}, {len(list(folders.output_dir.iterdir()))} files"

    message = {"group": "g", "command": [["false"], ["touch", "{output_dir}/a"]]}
    table.handle(message, failure=failure)
    record = read_record(table.s3, table.settings, job_id(message)) or {}
    assert record["reason"] == "exit code 1, 0 files"


def test_the_time_limit_is_for_all_commands_together(table: Table) -> None:
    message = {"group": "g", "command": [["sleep", "0.6"]] * 20, "timeout_minutes": 1 / 60}
    table.handle(message)
    record = read_record(table.s3, table.settings, job_id(message)) or {}
    assert record["reason_class"] == "time-out"
    assert record["program_seconds"] < 6


def test_a_message_is_deleted_only_after_its_record_is_written(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="s3")

    monkeypatch.setattr(handler.records, "write", refuse)
    table.handle()
    assert table.queue.calls == ["given back"]


def test_an_attempt_that_lost_its_lease_publishes_nothing_and_touches_no_message(table: Table) -> None:
    def lose(*_: Any) -> None:
        next(iter(table.keeper._held.values())).refused = True

    table.handle(failure=lose)
    assert table.queue.calls == []
    assert list_object_sizes(table.s3, "ours", "") == {}


@pytest.mark.parametrize("failures", ["0", "9"])
def test_an_attempt_that_loses_its_lease_while_its_failure_is_recorded_touches_no_message(
    table: Table, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failures: str
) -> None:
    monkeypatch.setattr(logging.getLogger("worker"), "propagate", True)
    written = write_record

    def write(*words: Any) -> bool:
        next(iter(table.keeper._held.values())).refused = True
        return written(*words)

    monkeypatch.setattr(handler.records, "write", write)
    table.handle(failure=lambda *_: "no well", carried={"failures": failures})
    assert table.queue.calls == []
    assert "lost lease of g-" in caplog.text


@pytest.mark.parametrize("end", [BadMessage("no"), Interruption(), StaleMessage()])
def test_of_a_message_whose_lease_is_lost_no_copy_is_sent_and_it_is_said(
    table: Table, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, end: Exception
) -> None:
    monkeypatch.setattr(logging.getLogger("worker"), "propagate", True)

    def lose(*_: Any) -> None:
        next(iter(table.keeper._held.values())).refused = True
        raise end

    table.handle(prepare=lose)
    assert table.queue.calls == []
    assert "lost lease of g-" in caplog.text


def test_a_download_is_left_when_the_worker_is_told_to_stop(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    put(table.s3, "in")
    download = table.s3.get_object

    def stopped_meanwhile(**asked: Any) -> Any:
        table.stop.tell(0)
        return download(**asked)

    monkeypatch.setattr(table.s3, "get_object", stopped_meanwhile)
    table.handle({"group": "g", "command": "true", "inputs": ["in"]}, prepare=broken)
    assert table.queue.calls == ["sent again", "deleted"]
    assert list_object_sizes(table.s3, "ours", "runs/") == {}


def test_a_job_that_was_not_begun_when_the_worker_is_told_to_stop_is_sent_again_as_new_before_the_old_is_deleted(
    table: Table,
) -> None:
    table.handle(prepare=lambda *_: table.stop.tell(1000), receives=2)
    assert table.queue.calls == ["sent again", "deleted"]
    assert table.queue.told == [{"tries": "1", "failures": "1"}]
    assert table.record() is None


def test_a_job_of_an_earlier_run_that_was_given_back_unbegun_is_still_skipped_for_its_files(table: Table) -> None:
    table.settings = replace(table.settings, expected_number_files=1, run="20991231T000000Z")
    put(table.s3, f"App/{job_id({'group': 'g', 'command': 'touch {output_dir}/a'})}/a")
    table.give_back()
    (told,) = table.queue.told
    table.handle(carried=told, failure=broken)
    assert (table.record() or {})["state"] == "done"
    assert table.queue.calls == ["sent again", "deleted", "deleted"]


def test_a_lease_ends_before_its_message_is_given_back(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    monkeypatch.setattr(table.queue, "change_message_visibility", lambda **_: held.append(len(table.keeper._held)))
    table.handle(prepare=broken)
    assert held == [0]


def test_a_program_that_ends_well_after_the_worker_was_told_to_stop_is_published(table: Table) -> None:
    table.handle(failure=lambda *_: table.stop.tell(1000))
    assert (table.record() or {})["state"] == "done"
    assert table.queue.calls == ["deleted"]


SLOW = {"group": "g", "command": "touch begun; sleep 600", "shell": True}


def interrupt(table: Table) -> dict[str, Any]:
    """Ends the container while SLOW's program runs; the record that is there then."""

    def when_it_runs(_job: Job, folders: Folders) -> None:
        def tell() -> None:
            until((folders.root / "begun").exists, "the program does not start")
            table.stop.tell(0)

        threading.Thread(target=tell).start()

    table.handle(SLOW, prepare=when_it_runs)
    return read_record(table.s3, table.settings, job_id(SLOW)) or {}


def test_a_job_that_is_interrupted_goes_back_before_its_record_is_written_since_s3_may_hang(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    before: list[str] = []

    def hang(*_: Any) -> bool:
        before.extend(table.queue.calls)
        raise EndpointConnectionError(endpoint_url="s3")

    monkeypatch.setattr(handler.records, "write", hang)
    assert interrupt(table) == {}
    assert before == ["sent again", "deleted"]


@pytest.mark.parametrize("found", [None, {"state": "failed", "attempts": 1}])
def test_what_the_next_attempt_has_recorded_by_then_stays(
    table: Table, monkeypatch: pytest.MonkeyPatch, found: dict[str, Any] | None
) -> None:
    """`found`: what is there when the record is about to be written; the next attempt's comes before it, or amid."""
    key, later = build_record_key(table.settings, job_id(SLOW)), {"state": "failed", "attempts": 2}
    write = _put_record

    def amid(*words: Any) -> bool:
        table.s3.put_object(Bucket="ours", Key=key, Body=json.dumps(later))
        return write(*words)

    table.s3.put_object(Bucket="ours", Key=key, Body=json.dumps(found or later))
    if found:
        monkeypatch.setattr(job_record, "_put", amid)
    assert interrupt(table) == later


def test_a_program_that_is_ended_since_time_is_up_is_recorded_as_interrupted_and_not_as_failed(table: Table) -> None:
    record = interrupt(table)
    assert (record["state"], record["reason_class"]) == ("interrupted", "interrupted")
    assert table.queue.calls == ["sent again", "deleted"]
    assert table.queue.told == [{"tries": "1", "failures": "0"}]
    assert table.heard == []


@pytest.mark.parametrize(
    ("receives", "hours", "minutes", "calls"),
    [
        (2, 10, 100, ["sent again", "deleted"]),  # 2 hours are left: too few for its time limit and the upload
        (2, 10, 80, ["deleted"]),
        (2, 0.6, 660, ["sent again", "deleted"]),
        (1, 10, 660, ["deleted"]),  # its first receive was just now: this machine's clock is wrong
        (1, 0, 1e6, ["deleted"]),
    ],
)
def test_a_message_too_old_for_its_jobs_time_limit_is_sent_again_as_new(
    table: Table, receives: int, hours: float, minutes: float, calls: list[str]
) -> None:
    message = {"group": "g", "command": "true", "timeout_minutes": minutes}
    table.handle(message, receives=receives, first=hours)
    assert table.queue.calls == calls
    if len(calls) == 2:
        assert table.queue.told == [{"tries": "1", "failures": "1"}]
        assert read_record(table.s3, table.settings, job_id(message)) is None


def test_a_program_is_ended_before_sqs_ends_its_lease_whatever_time_a_hook_gives_it(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[float] = []

    def seen(*words: Any, timeout_seconds: float, **named: Any) -> Result:
        limits.append(timeout_seconds)
        return run_command(*words, timeout_seconds=0.05, **named)

    monkeypatch.setattr(handler.program, "run", seen)
    message = {"group": "g", "command": "sleep 60"}
    table.handle(message, make_job=lambda *words: replace(job_from_message(*words), timeout_seconds=1e9))
    assert 11 * HOUR < limits[0] < 12 * HOUR - UPLOAD_RESERVE_SECONDS
    record = read_record(table.s3, table.settings, job_id(message)) or {}
    assert (record["reason_class"], record["reason"]) == ("time-out", "it ran longer than 689 minutes")


def test_the_last_try_goes_to_the_dead_letter_queue_with_its_class_and_reason(table: Table) -> None:
    table.handle(failure=lambda *_: "no well", receives=9)
    table.handle(failure=lambda *_: "no well", receives=10)
    assert table.queue.calls == ["given back", "buried", "deleted"]
    assert table.queue.told == [{"reason": "program: no well"}]
    assert table.heard == ["no well: program"] * 2


def test_a_job_sent_again_whose_workers_are_lost_again_and_again_is_not_tried_for_ever(table: Table) -> None:
    table.settings = replace(table.settings, job_retries=3)
    table.handle({"group": "one", "command": "true"}, receives=2, carried={"failures": "1"})
    table.handle({"group": "other", "command": "true"}, receives=2, carried={"failures": "2"})
    assert table.queue.calls == ["deleted", "buried", "deleted"]
    assert table.queue.told == [{"reason": "crash: tried 3 times, and at the last its worker was lost"}]


def test_out_of_memory_is_what_the_kernel_counted_while_the_program_ran(
    table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = tmp_path / "memory.events"
    counts.write_text("oom_kill 1\n")
    monkeypatch.setattr(handler, "OomKills", lambda: OomKills(tmp_path))
    classes = []
    for command in (f"echo oom_kill 3 > {counts}; exit 9", "exit 9"):
        message = {"group": "g", "command": command, "shell": True}
        table.handle(message, failure=lambda *_: "exit code 9")
        classes.append((read_record(table.s3, table.settings, job_id(message)) or {})["reason_class"])
    assert classes == ["out of memory", "program"]


def test_a_failure_is_told_with_the_last_line_that_the_program_printed(table: Table) -> None:
    table.handle({"group": "g", "command": "echo no such well >&2; exit 3", "shell": True}, failure=lambda *_: "exit 3")
    assert table.heard == ["exit 3: no such well: program"]


def done_elsewhere(table: Table, record_too: bool) -> Callable[..., None]:
    """Another worker, which got the same message, publishes while this one's program runs."""

    def publish(*_: Any) -> None:
        identity = job_id({"group": "g", "command": "touch {output_dir}/a"})
        table.s3.put_object(Bucket="ours", Key=f"App/{identity}/a", Body=b"the other's")
        if record_too:
            body = json.dumps({"job": identity, "state": "done", "outputs": []})
            table.s3.put_object(Bucket="ours", Key=build_record_key(table.settings, identity), Body=body)

    return publish


@pytest.mark.parametrize("record_too", [True, False])
def test_a_result_that_another_worker_published_meanwhile_is_not_overwritten(table: Table, record_too: bool) -> None:
    table.handle(failure=done_elsewhere(table, record_too))
    identity = job_id({"group": "g", "command": "touch {output_dir}/a"})
    assert table.s3.get_object(Bucket="ours", Key=f"App/{identity}/a")["Body"].read() == b"the other's"
    assert table.queue.calls == []  # the other deletes it; or its lease ends and it is looked at anew
    assert ((table.record() or {}).get("state") == "done") == record_too


def test_on_a_second_try_a_job_that_is_done_meanwhile_is_left_as_it_is(table: Table) -> None:
    table.handle(failure=done_elsewhere(table, record_too=True), receives=2)
    assert table.queue.calls == ["deleted"]


def test_what_a_dead_attempt_left_is_replaced(table: Table) -> None:
    identity = job_id({"group": "g", "command": "touch {output_dir}/a"})
    table.s3.put_object(Bucket="ours", Key=f"App/{identity}/a", Body=b"half of it")
    table.handle(receives=2)
    assert (table.record() or {})["state"] == "done"
    assert list_object_sizes(table.s3, "ours", "App/") == {f"App/{identity}/a": 0}


@pytest.mark.parametrize("state", ["failed", "interrupted", "done"])
def test_a_record_that_was_long_on_its_way_does_not_replace_one_that_is_done(table: Table, state: str) -> None:
    """Another attempt's record comes between this one's look and its own."""
    identity = job_id({"group": "g", "command": "touch {output_dir}/a"})
    key = build_record_key(table.settings, identity)
    put_object, done = table.s3.put_object, json.dumps({"job": identity, "state": "done", "attempts": 7}).encode()

    class Slow:
        def __getattr__(self, name: str) -> Any:
            return getattr(table.s3, name)

        def put_object(self, **words: Any) -> Any:
            if words["Key"] == key and "IfNoneMatch" in words:
                put_object(Bucket="ours", Key=key, Body=done)
            return put_object(**words)

    ours = {"job": identity, "state": state, "attempts": 1, "log": None}
    assert not write_record(Slow(), table.settings, ours, Path("none"))
    assert (table.record() or {})["attempts"] == 7


@pytest.mark.parametrize("receives", [1, 2])
def test_a_late_record_is_refused_once_another_attempt_claimed_the_outputs_also_if_that_one_is_lost(
    table: Table, monkeypatch: pytest.MonkeyPatch, receives: int
) -> None:
    """This worker is frozen before its record; another gets the job, replaces the outputs, and is killed."""
    identity = job_id({"group": "g", "command": "touch {output_dir}/a"})
    write = write_record

    def frozen(s3: Any, settings: Settings, record: dict[str, Any], *rest: Any) -> bool:
        assert claim_job_results(
            s3, settings, record | {"state": "interrupted", "reason": CLAIM_REASON, "machine": "it"}
        )
        s3.put_object(Bucket="ours", Key=f"App/{identity}/a", Body=b"the other's")
        return write(s3, settings, record, *rest)

    monkeypatch.setattr(job_record, "write", frozen)
    table.handle(receives=receives)
    assert (table.record() or {})["state"] == "interrupted"
    assert table.queue.calls == []
    monkeypatch.undo()
    table.handle(receives=3)
    assert (table.record() or {})["state"] == "done"
    assert table.s3.get_object(Bucket="ours", Key=f"App/{identity}/a")["Body"].read() == b""


def test_an_attempt_that_replaces_what_another_left_has_claimed_it(table: Table) -> None:
    identity = job_id({"group": "g", "command": "touch {output_dir}/a"})
    table.s3.put_object(Bucket="ours", Key=f"App/{identity}/a", Body=b"half of it")
    seen: list[Any] = []
    put_object = table.s3.put_object

    class Seeing:
        def __getattr__(self, name: str) -> Any:
            return getattr(s3, name)

        def put_object(self, **words: Any) -> Any:
            seen.append((words["Key"].rpartition("/")[2], (table.record() or {}).get("reason")))
            return put_object(**words)

    s3, table.s3 = table.s3, Seeing()
    table.handle(receives=2)
    assert seen == [(f"{identity}.json", None), ("a", CLAIM_REASON), (f"{identity}.json", CLAIM_REASON)]


@pytest.mark.parametrize("attempts", [1, 2])
def test_where_the_outputs_in_s3_are_this_attempts_anothers_record_is_replaced(table: Table, attempts: int) -> None:
    late = json.dumps({"job": "j", "state": "done", "attempts": 1}).encode()
    table.s3.put_object(Bucket="ours", Key=build_record_key(table.settings, "j"), Body=late)
    ours = {"job": "j", "state": "done", "attempts": attempts, "log": None, "machine": "this"}
    assert not write_record(table.s3, table.settings, ours, Path("none"), lambda: False)
    assert write_record(table.s3, table.settings, ours, Path("none"), lambda: True)
    assert (read_record(table.s3, table.settings, "j") or {})["machine"] == "this"


def test_outputs_are_still_there_as_long_as_nobody_replaced_one(s3: Any, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    outputs = upload_results(s3, tmp_path, "ours", "out")
    assert has_unchanged_results(s3, "out", outputs)
    s3.put_object(Bucket="ours", Key="out/a", Body=b"b")
    assert not has_unchanged_results(s3, "out", outputs)


def test_two_attempts_logs_do_not_replace_each_other(table: Table) -> None:
    for _ in range(2):
        table.handle({"group": "g", "command": "echo hello", "shell": True}, failure=lambda *_: "no")
    assert len([key for key in list_object_sizes(table.s3, "ours", "runs/") if key.endswith(".log.txt")]) == 2


def test_a_record_whose_answer_was_lost_counts_as_written(table: Table) -> None:
    ours = {"job": "j", "state": "done", "attempts": 1, "log": None}
    assert write_record(table.s3, table.settings, ours, Path("none"))
    assert write_record(table.s3, table.settings, ours, Path("none"))


def test_outputs_of_a_failed_attempt_are_kept_apart_only_if_the_job_file_asks(table: Table) -> None:
    message = {"group": "g", "command": "touch {output_dir}/a"}
    table.handle(message, failure=lambda *_: "no")
    assert not [key for key in list_object_sizes(table.s3, "ours", "") if key.endswith("/a")]
    kept = message | {"keep_failed": True}
    table.handle(kept, failure=lambda *_: "no")
    assert [key for key in list_object_sizes(table.s3, "ours", "") if key.endswith("/a")] == [
        f"runs/App/by-hand/jobs/failed/{job_id(kept)}/a"
    ]


def test_a_message_that_cannot_be_sent_again_is_left_to_its_lease(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="sqs")

    monkeypatch.setattr(table.queue, "send_message", refuse)
    table.handle(prepare=lambda *_: table.stop.tell(1000))
    assert table.queue.calls == []


def test_a_job_for_which_no_folder_can_be_made_goes_back_at_once_and_its_machine_is_to_blame(
    table: Table, tmp_path: Path
) -> None:
    tmp_path.rmdir()
    table.handle()
    assert table.queue.calls == ["given back"]
    assert (table.record() or {})["reason_class"] == "machine"
    (heard,) = table.heard
    assert heard.startswith("this machine: [Errno 2] No such file")
    assert heard.endswith(": machine")


def test_files_of_an_earlier_attempt_that_died_are_not_taken_for_a_result(table: Table) -> None:
    table.handle(failure=lambda *_: "no")
    failed = table.record() or {}
    put(table.s3, f"App/{failed['job']}/a")
    table.handle(receives=2)
    record = table.record() or {}
    assert (record["state"], record["attempts"], record["exit_code"]) == ("done", 2, 0)


def test_a_job_that_is_done_is_skipped_with_two_requests(table: Table) -> None:
    table.handle()
    asked: list[str] = []
    table.s3.meta.events.register("before-call.s3", lambda model, **_: asked.append(model.name))
    table.handle()
    assert asked == ["ListObjectsV2", "GetObject"]
    table.handle(receives=2)
    assert asked[2:] == ["GetObject"]


def test_a_job_sent_again_whose_files_are_there_has_its_failed_record_replaced(table: Table) -> None:
    table.handle(failure=lambda *_: "no")
    put(table.s3, f"App/{(table.record() or {})['job']}/a")
    table.handle(receives=1)
    assert (table.record() or {})["state"] == "done"


# The environment


@pytest.mark.parametrize(
    ("name", "value"), [("AWS_BUCKET", ""), ("DOCKER_CORES", "0"), ("DOCKER_CORES", "two"), ("SECONDS_TO_START", "-1")]
)
def test_a_variable_that_is_wrong_is_named(name: str, value: str) -> None:
    with pytest.raises(BadEnvironment, match=name):
        read_worker_settings(ENVIRONMENT | {name: value})


def test_a_worker_started_by_hand_has_defaults() -> None:
    found: Settings = read_worker_settings(ENVIRONMENT)
    assert (found.run, found.docker_cores, found.check_if_done) == ("by-hand", 1, True)
