"""Tests for building jobs from valid and invalid messages, and for output locations."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_something.worker.job.job import BadMessage, Folders, Job, JobOutline
from distributed_something.worker.job.job_id import job_id
from distributed_something.worker.job.message.job_template import JobTemplate, fill_key, job_from_message, parse_message
from distributed_something.worker.job.worker_settings import JobDefaults

VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
FOLDERS, DEFAULTS = Folders(Path("/job")), JobDefaults("bucket", "App")


def build_job(**message: Any) -> Job:
    """Build a job from a message with these keys. The default group is {"v": "x"}."""
    return job_from_message({"group": {"v": "x"}, "command": "true"} | message, FOLDERS, DEFAULTS)


@given(VALUES)
def test_a_value_never_changes_the_number_of_words_in_a_command(value: str) -> None:
    command = build_job(group={"v": value}, command="prog --name={v} {v} 'a {v}'").command
    assert command == ["prog", f"--name={value}", value, f"a {value}"]


TEMPLATES = st.lists(
    st.sampled_from(["{v}", "{n}", "{{v}}", "{job}", "%", "%(v)s", "%s", "/", "a", " ", "{w}"]), min_size=1
)
SHARED = st.fixed_dictionaries(
    {"command": TEMPLATES.map("".join)},
    optional={
        "inputs": st.lists(TEMPLATES.map("".join), max_size=2),
        "output_location": TEMPLATES.map("".join),
        "shell": st.booleans(),
        "shared_location": st.sampled_from([True, "yes"]),
        "v": st.just("shared"),
    },
)
GROUPS = st.text() | st.fixed_dictionaries({"v": st.text() | st.lists(st.text())}, optional={"n": st.integers()})


@given(SHARED, st.lists(GROUPS, min_size=1))
def test_a_template_for_many_groups_accepts_the_same_messages_as_the_worker(
    shared: dict[str, Any], groups: list[Any]
) -> None:
    """submitJob uses one template for all jobs of a Job file, and the worker makes one for each message."""
    template = JobTemplate(shared, FOLDERS, DEFAULTS)

    def build(function: Any, *arguments: Any) -> Job | str:
        try:
            return function(*arguments)
        except BadMessage as error:
            return str(error)

    for group in groups:
        expected = build(job_from_message, {**shared, "group": group}, FOLDERS, DEFAULTS)
        assert build(template.build_job, group) == expected
        outline = build(template.build_outline, group)
        parts = [getattr(expected, name) for name in JobOutline._fields] if isinstance(expected, Job) else ()
        assert outline == (JobOutline(*parts) if parts else expected)


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ({"inputs": ["a/{v}"], "output_location": "{v}/{v}"}, "the input 'a/{v}' has no address: {v} is blank"),
        ({"command": "run {w}", "inputs": ["a/{v}"]}, "the placeholder {w} has no value; available: "),
        ({"shared_inputs": ["https://h.org/x", "s3://b"]}, "the input 's3://b' has no valid bucket"),
        ({"output_location": "a//b", "output_bucket": "!"}, "`output_location` is 'a//b/job-"),
    ],
)
def test_of_several_problems_of_a_job_the_first_one_in_the_order_of_its_life_is_named(
    message: dict[str, Any], problem: str
) -> None:
    with pytest.raises(BadMessage) as caught:
        build_job(group={"v": " "}, **message)
    assert str(caught.value).startswith(problem)


@given(VALUES, st.lists(st.sampled_from(["%s", "%%", "%(v)d", "%", "(", ")"])).map("".join))
def test_percent_signs_in_templates_and_values_are_not_changed(value: str, text: str) -> None:
    words = build_job(group={"v": value}, command=["prog", f"{text}{{v}}{text}", f"{{{{v}}}}{text}", text]).command
    assert words == ["prog", f"{text}{value}{text}", f"{{v}}{text}", text]


@pytest.mark.parametrize("shell", [True, False])
def test_braces_in_awk_and_json_are_not_placeholders(shell: bool) -> None:
    words = build_job(command="""awk -F, '{print $1}' {{v}} '{"a": 1}' {v}""", shell=shell).command
    expected = ["awk", "-F,", "{print $1}", "{v}", '{"a": 1}', "x"]
    assert (words if isinstance(words, list) else shlex.split(words)) == expected


def parse_job(message: dict[str, Any]) -> Job:
    """Return the job for a message as a worker reads it from the queue."""
    return job_from_message(parse_message(json.dumps(message)), FOLDERS, DEFAULTS)


@pytest.mark.parametrize(
    ("published", "group", "command"),
    [
        ({"plate": "P1"}, "P1", "convert {group}"),
        ({"plate": "P1"}, "P1", "convert {plate} {job}"),
        ({"plate": "P1"}, {"plate": "P1"}, "convert {plate}"),
        ({"Metadata": "Metadata_Plate=P1"}, {"Metadata": "Metadata_Plate=P1"}, "convert {Metadata}"),
        ({"Metadata": {"well": "A01"}}, {"well": "A01"}, "convert {well}"),
        ({"Metadata": {"well": "A01"}, "_comment": "x", "my_comment2": [1]}, {"well": "A01"}, "convert {well}"),
    ],
)
def test_a_message_in_a_published_form_is_the_same_job_as_its_group(
    published: dict[str, Any], group: Any, command: str
) -> None:
    shared = {"command": command, "output_location": "results/{job}"}
    first, second = parse_job(shared | published), parse_job(shared | {"group": group})
    assert (first.id, first.command, first.output_location) == (second.id, second.command, second.output_location)


def test_a_shared_key_named_plate_keeps_its_value_if_groups_are_strings() -> None:
    assert build_job(group="x", plate="P9", command="prog {plate} {group}").command == ["prog", "P9", "x"]


@pytest.mark.parametrize(
    "message", [{}, {"plate": 7}, {"Metadata": ["a"]}, {"plate": None}, {"group": 1, "plate": "P"}]
)
def test_a_message_without_a_group_is_invalid(message: dict[str, Any]) -> None:
    with pytest.raises(BadMessage, match=r"`group` is missing|is neither an object nor a string"):
        parse_job({"command": "true"} | message)


def test_values_reach_a_shell_command_in_variables() -> None:
    command = build_job(group={"v": "it's"}, command="echo {v}", shell=True).command
    assert command == """DS_VALUE_1='it'"'"'s'; echo "${DS_VALUE_1}\""""


def test_a_placeholder_that_cannot_be_quoted_for_a_shell_makes_the_message_invalid() -> None:
    with pytest.raises(
        BadMessage, match=r"\{v\} is used after `, where values cannot be quoted; assign \{v\} to a shell"
    ):
        build_job(command="echo `basename {v}`", shell=True)


@given(st.text())
def test_an_output_location_never_leaves_its_prefix(value: str) -> None:
    try:
        location = build_job(group={"v": value}, output_location="results/{v}").output_location
    except BadMessage:
        return
    assert location.startswith("results/")
    assert not {"", ".", ".."} & set(location.split("/"))


@pytest.mark.parametrize("location", ["results", "results/{v}", "results/{{job}}", "{job}/x"])
def test_two_jobs_never_share_an_output_location(location: str) -> None:
    first, second = (build_job(group={"v": "x", "n": n}, output_location=location) for n in (1, 2))
    assert first.id in first.output_location
    assert first.output_location != second.output_location


def test_a_shared_location_is_used_as_written() -> None:
    job = build_job(output_location="results/{v}/", shared_location=True)
    assert (job.output_location, job.shared_location) == ("results/x", True)
    assert not build_job(shared_location=False).shared_location
    message = {"group": {"v": "x"}, "command": "true", "output_location": "results"}
    shared_job = job_from_message(message, FOLDERS, DEFAULTS, shared_location=True)
    assert (shared_job.output_location, shared_job.shared_location) == ("results", True)


@pytest.mark.parametrize("value", ["true", 1, None])
def test_a_shared_location_that_is_not_a_boolean_makes_the_message_invalid(value: Any) -> None:
    with pytest.raises(BadMessage, match=r"`shared_location` is .*, not true or false"):
        build_job(shared_location=value)


def test_only_a_job_with_a_shared_location_or_at_its_own_request_needs_a_done_document() -> None:
    assert not build_job().needs_done_document
    assert build_job(shared_location=True).needs_done_document
    message = {"group": "g", "command": "true"}
    assert job_from_message(message, FOLDERS, DEFAULTS, has_done_document=True).needs_done_document


@pytest.mark.parametrize(
    "body", ["", "[]", "{}", '{"group": 1}', "[" * 100_000, '{"group": "\\ud800"}', '{"group": ' + "9" * 5000 + "}"]
)
def test_a_body_that_is_not_a_message_is_rejected(body: str) -> None:
    with pytest.raises(BadMessage):
        parse_message(body)


@pytest.mark.parametrize(
    ("form", "group"),
    [
        ({"Metadata": "Metadata_Plate=P1"}, {"Metadata": "Metadata_Plate=P1"}),
        ({"Metadata": {"Plate": "P1"}}, {"Plate": "P1"}),
        ({"plate": "P1"}, "P1"),
        ({"group": "g", "Metadata": "m", "plate": "p"}, "g"),
    ],
)
def test_a_message_of_a_published_implementation_has_its_group_in_another_key(
    form: dict[str, Any], group: object
) -> None:
    message = parse_message(json.dumps({"pipeline": "a.cppipe", **form}))
    assert message["group"] == group
    if "group" not in form:
        assert message == {"pipeline": "a.cppipe", "group": group}
        assert job_id(message) == job_id({"pipeline": "a.cppipe", "group": next(iter(form.values()))})


@pytest.mark.parametrize("form", [{"Metadata": 1}, {"plate": ["P1"]}, {"Metadata": None, "plate": 2}])
def test_a_message_with_an_unusable_group_is_rejected(form: dict[str, Any]) -> None:
    with pytest.raises(BadMessage, match=r"`group` is missing|is neither an object nor a string"):
        parse_message(json.dumps(form))


@pytest.mark.parametrize(
    "invalid",
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
def test_a_key_with_an_invalid_value_makes_the_message_invalid(invalid: dict[str, Any]) -> None:
    with pytest.raises(BadMessage):
        build_job(**invalid)


@pytest.mark.parametrize(
    "bucket",
    [
        "ours", "Our_Old.Bucket", "bucket--use1-az4--x-s3", "arn:aws:s3:us-east-1:123456789012:accesspoint/ours",
        "arn:aws-cn:s3-outposts:us-east-1:123456789012:outpost/o/accesspoint/ours",
    ],
)  # fmt: skip
def test_a_job_may_use_any_bucket_that_boto3_accepts(bucket: str) -> None:
    job = build_job(inputs=["k", "p/"], input_bucket=bucket, output_bucket=bucket)
    assert (job.input_bucket, job.output_bucket) == (bucket, bucket)


def test_a_web_address_needs_no_input_bucket() -> None:
    assert Job("j", "true", "", "ours", "out/j", inputs=["https://example.org/a"]).input_bucket == ""


def test_a_time_limit_never_exceeds_what_sqs_allows() -> None:
    assert build_job(timeout_minutes=1e6).timeout_seconds == 11 * 3600
    assert build_job(timeout_minutes=10**400).timeout_seconds == 11 * 3600  # this number is too large for a float
    assert build_job(timeout_minutes=2).timeout_seconds == 120


@pytest.mark.parametrize("value", ["", " ", "\t\n", "/", None])
@pytest.mark.parametrize(
    "inputs",
    [
        ["{v}"], ["s3://bucket/{v}"], ["images/{v}"], ["images/{v}/"], ["images/{v}/{x}"], ["{v}/{v}"],
        ["https://example.org/{v}"], {"{v}": "a"}, {"s3://bucket/{v}": "a"}, {"in/a": "{v}"}, {"in/a": "b/{v}"},
    ],
)  # fmt: skip
def test_an_input_that_a_blank_value_would_turn_into_another_address_makes_the_message_invalid(
    inputs: Any, value: str | None
) -> None:
    with pytest.raises(BadMessage, match=r"\{v\} is blank|\{v\}/\{v\}"):
        build_job(group={"v": value, "x": "x"}, inputs=inputs)


@pytest.mark.parametrize("value", [[""], ["a", " "], ["a", None], [7]])
def test_a_list_of_inputs_with_a_blank_one_makes_the_message_invalid(value: Any) -> None:
    with pytest.raises(BadMessage, match=r"the input '\{v\}' is"):
        build_job(group={"v": value}, inputs=["{v}"])


@pytest.mark.parametrize("value", ["s3://bucket/", "s3://bucket//", "s3://bucket/ ", ["a", "s3://bucket/"]])
def test_a_placeholder_cannot_stand_for_an_entire_bucket(value: Any) -> None:
    with pytest.raises(BadMessage, match="a placeholder cannot stand for an entire bucket"):
        build_job(group={"v": value}, inputs=["{v}"])


def test_an_entire_bucket_is_an_input_only_if_it_is_written_as_such() -> None:
    assert build_job(inputs=["s3://bucket/"]).inputs == ["s3://bucket/"]
    for text in ("s3://bucket", "s3://bucket/ ", " "):
        with pytest.raises(BadMessage, match=r"has no key|is blank"):
            build_job(inputs=[text])


@pytest.mark.parametrize("start", ["/home/ubuntu/bucket/", "/home/ubuntu/bucket//", "{mount}/"])
def test_an_output_location_in_the_mounted_bucket_is_a_prefix_in_the_bucket(start: str) -> None:
    group = {"v": "x", "mount": "/home/ubuntu/bucket"}
    job = build_job(group=group, output_location=f"{start}out/{{job}}")
    assert job.output_location == f"out/{job.id}"
    job = build_job(group=group, output_location="/home/ubuntu/buckets/{job}")  # another folder
    assert job.output_location == f"home/ubuntu/buckets/{job.id}"


def test_all_of_the_mounted_bucket_is_an_input_only_if_it_is_written_as_such() -> None:
    assert build_job(inputs=["/home/ubuntu/bucket/"]).inputs == ["/home/ubuntu/bucket/"]
    with pytest.raises(BadMessage, match="cannot stand for an entire bucket"):
        build_job(group={"path": "/home/ubuntu/bucket/"}, inputs=["{path}"])


def test_a_value_that_is_only_a_part_of_a_name_may_be_blank() -> None:
    job = build_job(group={"v": ""}, inputs=["images/a{v}.png"], output_location="out/a{v}")
    assert job.inputs == ["images/a.png"]
    assert job.output_location.startswith("out/a/")


@pytest.mark.parametrize("value", ["", " ", None])
@pytest.mark.parametrize("location", ["{v}", "{v}/{job}", "results/{v}", "results/{v}/{job}", "/{v}/"])
@pytest.mark.parametrize("shared", [True, False])
def test_a_blank_value_in_the_output_location_makes_the_message_invalid(
    location: str, value: str | None, shared: bool
) -> None:
    with pytest.raises(BadMessage, match=r"`output_location` is .* but \{v\} is blank"):
        build_job(group={"v": value}, output_location=location, shared_location=shared)


@pytest.mark.parametrize("location", ["x" * 1023, "ä" * 511 + "xx", "p/" * 511 + "x"])
def test_an_output_location_that_leaves_no_room_for_a_name_is_found_before_the_job_runs(location: str) -> None:
    with pytest.raises(BadMessage, match=r"keys of at least 1,02\d bytes, but S3 allows only 1,024"):
        Job("j", "true", "ours", "ours", location)
    assert Job("j", "true", "ours", "ours", "x" * 1022).output_location


def test_an_inputs_key_that_s3_does_not_allow_makes_the_message_invalid() -> None:
    with pytest.raises(BadMessage, match="key is 1,026 bytes long, but S3 allows only 1,024"):
        build_job(group={"v": "ä" * 512}, inputs=["p/{v}"])


# Keys of a project's own


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("load/{plate}/x.csv", "load/P1/x.csv"),
        ("{project}/{batch}/{plate}-{plate}", "p/b/P1-P1"),
        ("{project}/{well}", "p/A01"),  # the caller's value
        ("{site}/{{plate}}", "3/{plate}"),
        ("plain {} {a b}", "plain {} {a b}"),
    ],
)
def test_placeholders_in_a_key_of_a_projects_own_are_filled(template: str, text: str) -> None:
    message = {"group": {"plate": "P1", "site": 3, "well": "B"}, "project": "p", "batch": "b", "key": template}
    assert fill_key(message, "key", {"well": "A01"}) == text


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("x/{plat}", r"`key`: the placeholder {plat} has no value; available: .*plate"),
        ("x/{blank}/y", "`key` is 'x/{blank}/y', but {blank} is blank"),
        ("{blank}/y/{none}/{blank}", "`key` is '{blank}/y/{none}/{blank}', but {blank} and {none} are blank"),
        ("", "`key` is '', not a non-empty string"),
        (5, "`key` is 5, not a non-empty string"),
        (None, "`key` is None, not a non-empty string"),
    ],
)
def test_a_key_of_a_projects_own_that_cannot_be_filled_is_rejected(value: object, problem: str) -> None:
    with pytest.raises(BadMessage, match=problem):
        fill_key({"group": {"plate": "P1"}, "blank": " ", "none": "", "key": value}, "key")


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ({"Metadata": ["Metadata_Plate=P1"]}, "^`Metadata` is neither an object nor a string$"),
        ({"group": 5}, "^`group` is neither an object nor a string$"),
        ({"command": "a"}, "^`group` is missing from the message$"),
    ],
)
def test_a_message_without_a_usable_group_is_rejected_with_the_key_that_it_has(
    message: dict[str, object], problem: str
) -> None:
    with pytest.raises(BadMessage, match=problem):
        parse_message(json.dumps(message))
