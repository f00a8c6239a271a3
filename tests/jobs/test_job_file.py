"""The Job file: messages, all ways to list jobs, errors that list all problems, and batches for SQS."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distributed_something.core.errors import MAX_PROBLEMS_SHOWN, InputError
from distributed_something.jobs.job_file import MAX_MESSAGE_BYTES, JobFile, load_job_file
from distributed_something.jobs.sources import ObjectLister
from distributed_something.jobs.submission.plan import plan_submission
from distributed_something.jobs.submission.send_batches import iter_message_batches
from distributed_something.worker.attempt.attempt import ATTEMPTS_ATTRIBUTE, FAILURES_ATTRIBUTE
from distributed_something.worker.attempt.outcomes import MAX_ATTRIBUTE_CHARACTERS
from distributed_something.worker.job.job_id import job_id

COMMAND = {"command": "echo {job}"}
WELLS = [{"plate": "P1", "well": "A01"}, {"plate": "P1", "well": "A02"}]


def fail_if_listed(bucket: str, prefix: str) -> NoReturn:
    raise AssertionError(f"s3://{bucket}/{prefix} was listed")


def write_job_file(folder: Path, content: dict[str, object], list_objects: ObjectLister = fail_if_listed) -> JobFile:
    path = folder / "job.json"
    path.write_text(json.dumps(content))
    return load_job_file(path, list_objects)


def read_groups(folder: Path, groups: object, list_objects: ObjectLister = fail_if_listed) -> list[object]:
    """Return the groups in a job file with this `groups`, after checking that a second pass yields the same groups."""
    job_file = write_job_file(folder, COMMAND | {"groups": groups}, list_objects)
    first, second = list(job_file.groups()), list(job_file.groups())
    assert first == second
    return list(first)


def test_a_message_has_the_shared_keys_and_its_group(tmp_path: Path) -> None:
    content = {
        "_comment": "not sent",
        "pipeline": "p.cppipe",
        "settings": {"_comment": "this is data"},
        "number": 1.5,
        "upload": {".": "here"},
        "groups": WELLS,
        "output_comment2": "not sent, because its name contains _comment",
    }
    shared = {"pipeline": "p.cppipe", "settings": content["settings"], "number": 1.5}
    bodies = [json.loads(body) for body in write_job_file(tmp_path, content).iter_bodies()]
    assert bodies == [shared | {"group": well} for well in WELLS]


PUBLISHED_KEYS = '"pipeline": "w/a.cppipe", "data_file": "w/l.csv", "input": "w/in", "output": "w/out"'


@pytest.mark.parametrize(
    "text",
    [
        f'{{"_comment": "a", {PUBLISHED_KEYS}, "_comment": "b", "groups": [{{"Metadata": "Metadata_Plate=P1"}}]}}',
        f'{{{PUBLISHED_KEYS}, "groups": [{{"_comment": 1, "Metadata": "Metadata_Plate=P1", "_comment": 2}}]}}',
        f'{{{PUBLISHED_KEYS}, "my_comment_1": {{"a": 1, "a": 2}}, "groups": [{{"Metadata": "Metadata_Plate=P1"}}]}}',
    ],
)
def test_comments_may_be_repeated_and_are_not_sent(tmp_path: Path, text: str) -> None:
    path = tmp_path / "job.json"
    path.write_text(text)
    (body,) = load_job_file(path, fail_if_listed).iter_bodies()
    expected = json.loads(f'{{{PUBLISHED_KEYS}, "group": {{"Metadata": "Metadata_Plate=P1"}}}}')
    assert json.loads(body) == expected


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('{"_comment": 1, "data_file": "a.csv", "data_file": "a.csv", "groups": [{"w": 1}]}', "data_file"),
        ('{"_comment": 1, "_comment": 2, "groups": [{"w": 1, "w": 2}]}', "w"),
    ],
)
def test_other_keys_may_not_be_repeated(tmp_path: Path, text: str, key: str) -> None:
    path = tmp_path / "job.json"
    path.write_text(text)
    with pytest.raises(InputError, match=f"{key}'?: duplicate key"):
        load_job_file(path, fail_if_listed)


def test_comments_in_lines_of_a_table_are_not_sent(tmp_path: Path) -> None:
    (tmp_path / "wells.jsonl").write_text('{"well": "A01", "_comment": "first"}\n{"_comment": "last", "well": "A02"}\n')
    assert read_groups(tmp_path, "wells.jsonl") == [{"well": "A01"}, {"well": "A02"}]


def test_a_group_that_contains_only_a_comment_is_not_a_job(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a job"):
        write_job_file(tmp_path, COMMAND | {"groups": [{"well": "A01"}, {"_comment": "x"}]})


def test_a_message_without_shared_keys_has_only_its_group(tmp_path: Path) -> None:
    bodies = list(write_job_file(tmp_path, {"groups": WELLS}).iter_bodies())
    assert [json.loads(body) for body in bodies] == [{"group": well} for well in WELLS]


def test_a_body_is_ascii_for_any_text(tmp_path: Path) -> None:
    (body,) = write_job_file(tmp_path, COMMAND | {"groups": [{"plate": "Größe 💥"}]}).iter_bodies()
    assert body.isascii()  # so that the number of characters equals the number of bytes
    assert json.loads(body)["group"] == {"plate": "Größe 💥"}


def test_a_worker_can_resend_the_largest_message_with_its_attributes(tmp_path: Path) -> None:
    empty = len(next(write_job_file(tmp_path, {"groups": ["x"]}).iter_bodies())) - 1
    (message,) = write_job_file(tmp_path, {"groups": ["x" * (MAX_MESSAGE_BYTES - empty)]}).iter_checked_messages()
    with pytest.raises(
        InputError, match=r"its message has 1,040,385 bytes, more than the maximum of 1,040,384; shorten"
    ):
        list(write_job_file(tmp_path, {"groups": ["x" * (MAX_MESSAGE_BYTES - empty + 1)]}).iter_checked_messages())
    attributes = {"reason": "💥" * MAX_ATTRIBUTE_CHARACTERS, ATTEMPTS_ATTRIBUTE: "9" * 10, FAILURES_ATTRIBUTE: "9" * 10}
    attribute_bytes = sum(len(f"{name}String{value}".encode()) for name, value in attributes.items())
    assert len(message.body) + attribute_bytes <= 1024 * 1024  # SQS counts the body and the attributes


def test_plates_are_a_list_of_strings(tmp_path: Path) -> None:
    bodies = write_job_file(tmp_path, {"plates": ["P1", "P2"], "input_bucket": "images"}).iter_bodies()
    assert [json.loads(body) for body in bodies] == [{"input_bucket": "images", "group": name} for name in ("P1", "P2")]


def test_groups_may_be_a_list_of_objects(tmp_path: Path) -> None:
    assert read_groups(tmp_path, WELLS) == WELLS


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("jobs.csv", "plate,well\nP1,A01\nP1,A02\n"),
        ("jobs.CSV", "plate,well\r\nP1,A01\r\n\r\nP1,A02"),
        ("jobs.tsv", "\ufeffplate\twell\nP1\tA01\nP1\tA02\n"),
        ("jobs.jsonl", '{"plate": "P1", "well": "A01"}\n\n{"plate": "P1", "well": "A02"}'),
        ("jobs.ndjson", '\ufeff{"plate": "P1", "well": "A01"}\n{"plate": "P1", "well": "A02"}\n'),
    ],
)
def test_groups_may_be_a_table_next_to_the_job_file(tmp_path: Path, name: str, table: str) -> None:
    (tmp_path / name).write_bytes(table.encode())
    assert read_groups(tmp_path, name) == WELLS


def test_a_cell_may_contain_separators_and_line_breaks(tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_text('name\n"a,b"\n"c\nd"\n" e ""f"" "\n')
    assert read_groups(tmp_path, "jobs.csv") == [{"name": "a,b"}, {"name": "c\nd"}, {"name": ' e "f" '}]


@pytest.mark.parametrize("empty", ["", ",", ",,", " , ", '"",""'])
def test_empty_rows_of_a_spreadsheet_are_ignored(tmp_path: Path, empty: str) -> None:
    (tmp_path / "jobs.csv").write_text(f"plate,well\nP1,A01\n{empty}\nP1,A02\n{empty}\n{empty}\n")
    job_file = write_job_file(tmp_path, COMMAND | {"groups": "jobs.csv"})
    assert plan_submission(job_file).count == 2


@pytest.mark.parametrize("header", ["well, col", " well ,col ", "well;col", "\ufeffwell,\tcol"])
def test_spaces_around_the_names_of_columns_do_not_belong_to_them(tmp_path: Path, header: str) -> None:
    (tmp_path / "jobs.csv").write_text(f"{header}\nA01{';' if ';' in header else ','}3\n")
    job_file = write_job_file(tmp_path, {"command": "run {well} {col}", "groups": "jobs.csv"})
    assert [json.loads(message.body)["group"] for message in job_file.iter_checked_messages()] == [
        {"well": "A01", "col": "3"}
    ]


def test_names_with_spaces_around_them_are_shown_in_quotes(tmp_path: Path) -> None:
    (line,) = find_plan_problems(tmp_path, {"command": "run {col}", "groups": [{"well": "A01", " col": 3}]})
    assert "use one of its keys (well, ' col')" in line


def test_a_table_in_utf_16_is_a_table(tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_bytes("plate;well\r\nP1;A01\r\nP1;A02\r\n".encode("utf-16"))
    assert read_groups(tmp_path, "jobs.csv") == WELLS
    (tmp_path / "jobs.jsonl").write_bytes(
        '{"plate": "P1", "well": "A01"}\n{"plate": "P1", "well": "A02"}'.encode("utf-16")
    )
    assert read_groups(tmp_path, "jobs.jsonl") == WELLS


@pytest.mark.parametrize("name", ["jobs.csv", "jobs.jsonl"])
def test_a_table_that_is_not_utf_8_is_refused_with_line_and_column(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes('"a"\n"b"\n"\xe9"\n'.encode("latin-1"))
    lines = find_plan_problems(tmp_path, COMMAND | {"groups": name})
    assert f"{name}: line 3, column 2: this is not UTF-8 text; save the table in UTF-8" in lines


PRINTED_GROUPS = [[{"plate": "P1", "well": "A01"}, [1, 2]], [{"plate": "P1", "well": "A02"}, []]]


def test_groups_may_be_what_cellprofiler_prints(tmp_path: Path) -> None:
    assert read_groups(tmp_path, PRINTED_GROUPS) == WELLS
    (tmp_path / "groups.json").write_text(json.dumps(PRINTED_GROUPS))
    assert read_groups(tmp_path, "groups.json") == WELLS
    (tmp_path / "groups.json").write_text(json.dumps(WELLS))
    assert read_groups(tmp_path, "groups.json") == WELLS


@pytest.mark.parametrize("entry", [[{}, [1, 2]], [{"well": "A01"}], [{"well": "A01"}, ["1"]], [{"well": "A01"}, 1]])
def test_other_lists_are_not_groups(tmp_path: Path, entry: object) -> None:
    (line,) = find_load_problems(tmp_path, COMMAND | {"groups": [{"well": "A01"}, entry]})
    assert line.startswith("job.json: groups[2]: ")
    assert line.endswith('is not a job; write an object such as {"well": "A01"}, or a string')


def test_a_json_file_without_a_list_of_groups_is_refused(tmp_path: Path) -> None:
    (tmp_path / "groups.json").write_text('{"well": "A01"}')
    (line,) = find_load_problems(tmp_path, COMMAND | {"groups": "groups.json"})
    assert line.startswith("job.json: groups: groups.json does not contain a list of jobs; write a list of objects")
    (tmp_path / "groups.json").write_text('[[{"well": "A01"}, [1],]]')
    (line,) = find_load_problems(tmp_path, COMMAND | {"groups": "groups.json"})
    assert line.startswith("groups.json: line 1, column 23: trailing comma")


def test_hidden_files_of_macos_in_a_bucket_are_ignored(tmp_path: Path) -> None:
    keys = ["in/a.tif", "in/._a.tif", "in/__MACOSX/in/a.tif", "in/.DS_Store", "in/x/._b.tif", "in/x/b.tif"]
    for match in ("*.tif", "*", ".*"):
        groups = read_groups(tmp_path, {"s3": "s3://images/in/", "match": match}, lambda *_: keys)
        assert [group["key"] for group in groups] == (["in/a.tif", "in/x/b.tif"] if match != ".*" else [])


def test_groups_may_be_all_combinations_of_several_values(tmp_path: Path) -> None:
    cross = {"cross": {"plate": ["P1", "P2"], "well": ["A01", "A02", 3]}}
    expected = [{"plate": plate, "well": well} for plate in ("P1", "P2") for well in ("A01", "A02", 3)]
    assert read_groups(tmp_path, cross) == expected


def test_groups_may_be_the_objects_in_a_bucket(tmp_path: Path) -> None:
    listings = []

    def list_images(bucket: str, prefix: str) -> Iterable[str]:
        listings.append((bucket, prefix))
        return ["in/", "in/a.b.tif", "in/notes.txt", "in/deep/ü 1.tif"]

    groups = read_groups(tmp_path, {"s3": "s3://images/in/", "match": "*.tif"}, list_images)
    assert groups == [
        {"key": "in/a.b.tif", "name": "a.b.tif", "stem": "a.b"},
        {"key": "in/deep/ü 1.tif", "name": "ü 1.tif", "stem": "ü 1"},
    ]
    # The bucket is listed only once, because it may change between checking and sending.
    assert listings == [("images", "in/")]


def test_a_pattern_may_contain_folders_below_the_prefix(tmp_path: Path) -> None:
    def list_images(bucket: str, prefix: str) -> Iterable[str]:
        return ["in/raw/a.tif", "in/old/b.tif"]

    groups = read_groups(tmp_path, {"s3": "s3://images/in/", "match": "raw/*"}, list_images)
    assert groups == [{"key": "in/raw/a.tif", "name": "a.tif", "stem": "a"}]


def test_a_table_is_read_only_as_far_as_needed(tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_text(
        "n\n" + "".join(f"{n}\n" for n in range(20_000)) + "the last row,has two cells\n"
    )
    job_file = write_job_file(tmp_path, COMMAND | {"groups": "jobs.csv"})
    assert next(job_file.groups()) == {"n": "0"}
    assert len(list(itertools.islice(job_file.iter_bodies(), 5))) == 5
    with pytest.raises(
        InputError, match=r"jobs.csv: line 20002, column 2: the row has 2 cells, but the header has 1; give"
    ):
        plan_submission(job_file)


def test_a_cross_is_read_only_as_far_as_needed(tmp_path: Path) -> None:
    axes = {name: list(range(100)) for name in "abcdefgh"}  # 10¹⁶ jobs
    job_file = write_job_file(tmp_path, COMMAND | {"groups": {"cross": axes}})
    assert [group["h"] for group in itertools.islice(job_file.groups(), 3) if isinstance(group, dict)] == [0, 1, 2]


def test_the_order_of_keys_does_not_change_a_job_id() -> None:
    message = {"command": "a", "group": {"well": "A01", "plate": "P1"}}
    assert job_id(message) == job_id(json.loads(json.dumps(message)))
    reordered = {"group": {"plate": "P1", "well": "A01"}, "command": "a"}
    assert job_id(message) == job_id(reordered)
    assert job_id(message).startswith("P1-A01-")


def test_different_messages_with_similar_values_have_different_job_ids() -> None:
    messages = [{"group": group} for group in ({"a": "1"}, {"a": 1}, {"b": "1"}, {"a": "1 "}, "1")]
    messages.append({"command": "x", "group": {"a": "1"}})
    assert len({job_id(message) for message in messages}) == len(messages)


def test_the_job_ids_in_a_job_file_are_the_ids_that_the_worker_computes(tmp_path: Path) -> None:
    job_file = write_job_file(tmp_path, COMMAND | {"groups": WELLS, "_comment": "x"})
    for message in job_file.iter_checked_messages():
        assert job_id(json.loads(message.body)) == message.id


def test_a_plan_contains_the_job_count_the_first_message_and_a_digest_of_all_messages(tmp_path: Path) -> None:
    plan = plan_submission(write_job_file(tmp_path, COMMAND | {"groups": WELLS}))
    other = plan_submission(write_job_file(tmp_path, COMMAND | {"groups": WELLS[::-1]}))
    assert plan.count == other.count == 2
    assert json.loads(plan.first) == COMMAND | {"group": WELLS[0]}
    assert plan.digest != other.digest


@settings(derandomize=True, deadline=None, max_examples=100, database=None)
@given(sizes=st.lists(st.sampled_from([1, 100, 70_000, 104_857, 104_858, 524_288, 524_289, 2**20]), max_size=40))
def test_batches_stay_within_the_limits_of_sqs_and_contain_every_message(sizes: list[int]) -> None:
    numbered = [(number, "x" * size) for number, size in enumerate(sizes)]
    batches = list(iter_message_batches(numbered))
    assert [message for batch in batches for message in batch] == numbered
    for batch in batches:
        assert 1 <= len(batch) <= 10
        assert sum(len(body) for _, body in batch) <= 2**20
    for batch, next_batch in itertools.pairwise(batches):  # no batch is smaller than necessary
        assert len(batch) == 10 or sum(len(body) for _, body in [*batch, next_batch[0]]) > 2**20


def test_every_object_in_a_bucket_is_checked_and_sent_once(tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    path.write_text('{"command": "work {name}", "groups": {"s3": "s3://bucket/raw/", "match": "*.tif"}}')
    keys = [f"raw/{number}.tif" for number in range(5)]
    job_file = load_job_file(path, lambda bucket, prefix: keys)
    checked = [json.loads(message.body)["group"]["key"] for message in job_file.iter_checked_messages()]
    assert checked == keys
    assert len({message.id for message in job_file.iter_checked_messages()}) == 5
    assert [json.loads(body)["group"]["key"] for body in job_file.iter_bodies()] == keys


# Errors that list all problems


def find_load_problems(folder: Path, content: dict[str, object]) -> list[str]:
    """Return the lines of the error for a job file with this content that is raised before any job is checked."""
    with pytest.raises(InputError) as caught:
        write_job_file(folder, content)
    return str(caught.value).replace(f"{folder}/", "").splitlines()


def find_plan_problems(folder: Path, content: dict[str, object]) -> list[str]:
    """Return the lines of the error for the jobs in this content that is raised before any job is sent."""
    with pytest.raises(InputError) as caught:
        plan_submission(write_job_file(folder, content))
    return str(caught.value).replace(f"{folder}/", "").splitlines()


def test_one_error_contains_all_problems_in_a_job_file(tmp_path: Path) -> None:
    lines = find_load_problems(
        tmp_path,
        {
            "command": "echo {plate} {row}", "inputs": "a.png", "timeout_minutes": 0, "expected_files": -1, "group": 1,
            "upload": {"nowhere": "/root", "..": "good"}, "groups": [{"well": "A01"}, {}, 7],
        },
    )  # fmt: skip
    assert lines == [
        "job.json: group: this name is reserved for the job's own values in its message; rename this key, or write "
        "'groups'",
        "job.json: inputs: 'a.png' is not a list of inputs; write a list of strings, or an object such as "
        '{"plates/{plate}/": "images"}',
        "job.json: timeout_minutes: 0 is too small; write a number greater than 0",
        "job.json: expected_files: -1 is too small; write a number that is at least 0",
        "job.json: upload 'nowhere': '/root' is not a prefix in the bucket; write a prefix such as 'project/images'",
        "job.json: upload 'nowhere': there is no file or folder nowhere; correct the path, which is relative to the "
        "job file",
        "job.json: command: nothing fills the placeholder {plate} in groups[1]; use one of its keys (well), or add "
        "this key",
        "job.json: command: nothing fills the placeholder {row} in groups[1]; use one of its keys (well), or add "
        "this key",
        'job.json: groups[2]: {} is not a job; write an object such as {"well": "A01"}, or a string',
        'job.json: groups[3]: 7 is not a job; write an object such as {"well": "A01"}, or a string',
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({}, "groups: this key is missing; list the jobs"),
        ({"groups": ["a"], "plates": ["b"]}, "groups: the file has both 'groups' and 'plates'; remove one of them"),
        ({"groups": "jobs.csv"}, "groups: there is no table jobs.csv; correct the path"),
    ],
)
def test_an_invalid_source_of_groups_is_reported_together_with_invalid_shared_keys(
    tmp_path: Path, content: dict[str, object], problem: str
) -> None:
    first, second = find_load_problems(tmp_path, {"keep_failed": "yes", **content})
    assert first == "job.json: keep_failed: 'yes' is not true or false; write true or false, without quotes"
    assert second.startswith(f"job.json: {problem}")


def test_a_shared_location_must_be_a_boolean(tmp_path: Path) -> None:
    (problem,) = find_load_problems(tmp_path, COMMAND | {"shared_location": "true", "groups": ["a"]})
    assert problem == "job.json: shared_location: 'true' is not true or false; write true or false, without quotes"
    content = COMMAND | {"shared_location": True, "output_location": "all", "groups": ["a", "b"]}
    assert len(list(write_job_file(tmp_path, content).iter_checked_messages())) == 2


@pytest.mark.parametrize(
    "groups",
    [
        {"cross": {name: list(range(100)) for name in "abcdefgh"}},
        {"s3": "s3://images/in/", "match": "*.tif"},
        [{"well": f"A{number}"} for number in range(100)],
    ],
    ids=["cross", "s3", "list"],
)
def test_an_unfilled_placeholder_is_reported_once_together_with_invalid_shared_keys(
    tmp_path: Path, groups: object
) -> None:
    """To find the placeholder, no bucket is listed, and not all combinations are generated."""
    lines = find_load_problems(tmp_path, {"command": "echo {plate}", "shell": "yes", "groups": groups})
    assert [line.split(": ")[1] for line in lines] == ["shell", "command"]
    assert "nothing fills the placeholder {plate} in groups[1]" in lines[1]


def test_a_shell_command_that_cannot_take_a_value_safely_is_reported_once(tmp_path: Path) -> None:
    content = {"command": "echo `basename {well}`", "shell": True, "groups": [{"well": "A01"}, {"well": "A02"}]}
    (line,) = find_load_problems(tmp_path, COMMAND | content)
    assert line.startswith("job.json: command: {well} is used after `, where values cannot be quoted; assign {well}")


def test_a_value_that_a_shell_could_execute_is_reported_with_its_job(tmp_path: Path) -> None:
    content = {"command": "echo $(( {n} + 1 ))", "shell": True, "groups": [{"n": 1}, {"n": "a[$(id)]"}]}
    with pytest.raises(InputError) as caught:
        list(write_job_file(tmp_path, COMMAND | content).iter_checked_messages())
    assert "groups[2]" in str(caught.value)
    assert "{n} is used in arithmetic" in str(caught.value)


@pytest.mark.parametrize(
    "command",
    [
        {"command": "sh <<END\necho {n}\nEND", "shell": True},
        {"command": "echo 'echo {n}' > run.sh; sh run.sh", "shell": True},
        {"command": "bash -c 'echo {n}'"},
        {"command": [["true"], ["bash", "-c", "echo {n}"]]},
    ],
)
def test_a_value_that_a_command_hands_to_another_shell_is_reported_with_its_job(
    tmp_path: Path, command: dict[str, object]
) -> None:
    content = {**command, "groups": [{"n": "A01"}, {"n": "$(id)"}]}
    with pytest.raises(InputError) as caught:
        list(write_job_file(tmp_path, COMMAND | content).iter_checked_messages())
    assert "groups[2]" in str(caught.value)
    assert "{n} becomes text that `" in str(caught.value)


def test_all_invalid_rows_in_a_table_are_reported_together_with_invalid_shared_keys(tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_text("well\nA01,x\nA02\nA03,x\n")
    lines = find_load_problems(tmp_path, {"command": 7, "groups": "jobs.csv"})
    assert [line.split(": ")[1] for line in lines] == ["command", "line 2, column 2", "line 4, column 2"]


def test_an_invalid_address_and_an_invalid_pattern_are_both_reported(tmp_path: Path) -> None:
    lines = find_load_problems(tmp_path, COMMAND | {"groups": {"s3": "images/in", "match": 5}})
    assert lines == [
        "job.json: groups.s3: 'images/in' is not the address of a bucket; write an address such as "
        "'s3://bucket/prefix/'",
        "job.json: groups.match: 5 is not a pattern; write a pattern such as '*.tif'",
    ]


def test_all_invalid_lists_in_a_cross_are_reported(tmp_path: Path) -> None:
    lines = find_load_problems(tmp_path, COMMAND | {"groups": {"cross": {"a": [], "b": [1], "c": "x"}}})
    assert lines == [
        "job.json: groups.cross.a: [] is not a list of values; write at least one value: [ … ]",
        "job.json: groups.cross.c: 'x' is not a list of values; write at least one value: [ … ]",
    ]


def test_one_error_contains_all_invalid_jobs_with_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_text("out\na\nb,b\n../c\na\nd\n../e\n../c\nd\nd\nd\n")
    lines = find_plan_problems(tmp_path, COMMAND | {"output_location": "{out}", "groups": "jobs.csv"})
    assert [line.split(": ")[1] for line in lines] == [
        "line 3, column 2", "groups[3]", "groups[6]", "groups[7]", "groups", "groups",
    ]  # fmt: skip
    assert [line.split("`output_location` is ")[1].split("-")[0] for line in lines[1:4]] == [
        "'../c/c", "'../e/e", "'../c/c",
    ]  # fmt: skip
    assert lines[4:] == [
        "job.json: groups: jobs 1 and 4 are the same job; keep one of them",
        "job.json: groups: jobs 5 and 8 and 9 are the same job; keep one of them",
    ]


def test_invalid_groups_in_a_list_are_reported_together_with_jobs_that_workers_would_reject(tmp_path: Path) -> None:
    groups: list[object] = [{"out": "a"}, 7, {"out": "../b"}, {}]
    lines = find_load_problems(tmp_path, COMMAND | {"output_location": "{out}", "groups": groups})
    assert [line.split(": ")[1] for line in lines] == ["groups[2]", "groups[3]", "groups[4]"]
    assert "`output_location` is '../b" in lines[1]


def test_one_error_contains_all_invalid_json_lines(tmp_path: Path) -> None:
    (tmp_path / "jobs.jsonl").write_text('{"well": "A01"}\n{well}\n7\n{"plate": "P1"}\n')
    lines = find_plan_problems(tmp_path, {"command": "echo {well}", "groups": "jobs.jsonl"})
    assert [line.split(": ")[:2] for line in lines] == [
        ["jobs.jsonl", "line 2, column 2"],
        ["jobs.jsonl", "line 3"],
        ["job.json", "command"],
    ]
    assert "nothing fills the placeholder {well} in groups[4]; use one of its keys (plate), or add this key" in lines[2]


def test_a_table_that_ends_too_early_is_reported_together_with_its_invalid_rows(tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_text('well\nA01,x\n"A02\n')
    lines = find_plan_problems(tmp_path, COMMAND | {"groups": "jobs.csv"})
    assert lines == [
        "jobs.csv: line 2, column 2: the row has 2 cells, but the header has 1; give the row as many cells as the "
        "header",
        "jobs.csv: line 3, column 1: the quote is not closed; add the closing quote; write a quote inside quotes "
        'twice: ""',
    ]


def test_a_problem_in_the_shared_keys_is_reported_only_for_the_first_job(tmp_path: Path) -> None:
    (line,) = find_plan_problems(tmp_path, COMMAND | {"output_bucket": "My Bucket", "groups": WELLS})
    assert line.startswith("job.json: groups[1]: `output_bucket` is 'My Bucket', ")


def test_reading_stops_when_no_more_problems_would_be_shown(tmp_path: Path) -> None:
    (tmp_path / "jobs.jsonl").write_text("7\n" * 100 + "[" * 100_000)
    lines = find_plan_problems(tmp_path, COMMAND | {"groups": "jobs.jsonl"})
    assert len(lines) == MAX_PROBLEMS_SHOWN + 1
    assert lines[-2].startswith(f"jobs.jsonl: line {MAX_PROBLEMS_SHOWN}: ")
    assert lines[-1] == "there are more problems; fix these first"


def test_duplicate_jobs_are_reported_up_to_the_limit(tmp_path: Path) -> None:
    groups = [{"n": number} for number in range(100)]
    lines = find_plan_problems(tmp_path, COMMAND | {"groups": groups * 4})
    assert len(lines) == MAX_PROBLEMS_SHOWN + 1
    assert all(" are the same job; keep one of them" in line for line in lines[:-1])


def test_the_sending_pass_stops_at_the_first_invalid_row(tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_text("well\nA01\nA02,x\nA03,x\n")
    bodies = write_job_file(tmp_path, COMMAND | {"groups": "jobs.csv"}).iter_bodies()
    assert json.loads(next(bodies))["group"] == {"well": "A01"}
    with pytest.raises(InputError) as caught:
        next(bodies)
    assert str(caught.value).splitlines() == [
        f"{tmp_path}/jobs.csv: line 3, column 2: the row has 2 cells, but the header has 1; give the row as many "
        "cells as the header"
    ]


def test_for_a_misspelled_placeholder_the_error_suggests_a_similar_placeholder(tmp_path: Path) -> None:
    content = COMMAND | {"command": "run {output_dirr}", "groups": [{"plate": "P1"}]}
    job_file = write_job_file(tmp_path, content)
    with pytest.raises(InputError) as caught:
        list(job_file.iter_checked_messages())
    assert caught.value.remedy.startswith("write {output_dir}, or use one of its keys (plate)")


@pytest.mark.parametrize("inputs", [["{path}"], ["s3://bucket/{path}"], {"{path}": "a.tif"}])
@pytest.mark.parametrize(
    ("name", "table", "place"),
    [
        ("wells.csv", "path,well\nimg/a.tif,A01\n\n,A02\n", "line 4 of wells.csv"),
        ("wells.tsv", "path\twell\nimg/a.tif\tA01\n \tA02\n", "line 3 of wells.tsv"),
        ("wells.jsonl", '{"path": "a"}\n{"path": null}\n', "line 2 of wells.jsonl"),
    ],
)
def test_a_row_whose_input_is_blank_is_refused_with_its_line(
    tmp_path: Path, inputs: object, name: str, table: str, place: str
) -> None:
    (tmp_path / name).write_text(table)
    (line,) = find_plan_problems(tmp_path, COMMAND | {"inputs": inputs, "groups": name})
    assert line.startswith("job.json: groups[2]: the input ")
    assert "{path} is blank" in line
    assert place in line


def test_a_blank_output_location_is_refused_for_each_job(tmp_path: Path) -> None:
    groups = [{"place": "a"}, {"place": ""}, {"place": None}]
    lines = find_plan_problems(tmp_path, COMMAND | {"output_location": "{place}", "groups": groups})
    assert [line.split(": ")[1] for line in lines] == ["groups[2]", "groups[3]"]


def test_shared_inputs_are_checked_like_inputs_and_fill_shared_dir(tmp_path: Path) -> None:
    content = {
        "shared_inputs": ["refs/{genome}"],
        "command": "align {shared_dir}/{genome}",
        "groups": [{"genome": "a"}],
    }
    assert plan_submission(write_job_file(tmp_path, content)).count == 1
    assert "write a list of strings" in find_load_problems(tmp_path, content | {"shared_inputs": 7})[0]
    (line,) = find_plan_problems(tmp_path, content | {"groups": [{"genome": ""}]})
    assert "groups[1]: the input 'refs/{genome}' has no address" in line
    (line,) = find_plan_problems(tmp_path, content | {"shared_inputs": []})
    assert "nothing fills the placeholder {shared_dir}" in line


@pytest.mark.parametrize(("keys", "paid"), [({"requester_pays": True}, [True]), ({}, [False])])
def test_a_bucket_is_listed_at_the_requesters_cost_only_if_the_job_file_says_so(
    tmp_path: Path, keys: dict[str, bool], paid: list[bool]
) -> None:
    listed: list[bool] = []

    def list_objects(bucket: str, prefix: str, requester_pays: bool = False) -> list[str]:
        listed.append(requester_pays)
        return ["p/a"]

    path = tmp_path / "job.json"
    path.write_text(json.dumps({"command": "true", "groups": {"s3": "s3://bucket/p/"}} | keys))
    assert len(list(load_job_file(path, list_objects).iter_bodies())) == 1
    assert listed == paid


@pytest.mark.parametrize("address", ["http://example.org/{n}", "https://127.0.0.1/{n}", "https://[::1]/{n}"])
def test_a_job_with_an_unsafe_input_is_a_problem_unless_the_config_allows_it(tmp_path: Path, address: str) -> None:
    path = tmp_path / "job.json"
    path.write_text(json.dumps({"command": "true", "inputs": [address], "groups": [{"n": 1}]}))
    with pytest.raises(InputError, match="set ALLOW_UNSAFE_INPUTS = 'True' in the config"):
        list(load_job_file(path, lambda *_: [], allow_unsafe_inputs=False).iter_checked_messages())
    assert list(load_job_file(path, lambda *_: []).iter_checked_messages())


def test_the_address_of_a_server_is_checked_without_showing_a_password(tmp_path: Path) -> None:
    content: dict[str, object] = {
        "command": "x {n}", "input_endpoint": "https://ada:s3cret@store", "output_endpoint": "store",
        "groups": [{"n": 1}],
    }  # fmt: skip
    assert find_load_problems(tmp_path, content) == [
        "job.json: input_endpoint: the address contains a user or password; remove it; credentials belong in the "
        "image, never in a message",
        "job.json: output_endpoint: 'store' is not the address of an S3 server; write one such as "
        "'https://s3.example.org:9000'",
    ]


@pytest.mark.parametrize("endpoint", ["http://store.example.org", "https://127.0.0.1:9000", "https://localhost"])
def test_a_server_that_the_config_does_not_allow_is_reported_once(tmp_path: Path, endpoint: str) -> None:
    path = tmp_path / "job.json"
    path.write_text(json.dumps({"command": "x {n}", "output_endpoint": endpoint, "groups": [{"n": 1}, {"n": 2}]}))
    with pytest.raises(InputError) as caught:
        load_job_file(path, fail_if_listed, allow_unsafe_inputs=False)
    assert [problem.key for problem in caught.value.problems] == ["output_endpoint"]
    assert "ALLOW_UNSAFE_INPUTS" in caught.value.remedy
    assert plan_submission(load_job_file(path, fail_if_listed)).count == 2


def test_a_placeholder_cannot_choose_the_server(tmp_path: Path) -> None:
    content: dict[str, object] = {"command": "x", "input_endpoint": "https://{host}", "groups": [{"host": "evil"}]}
    (problem,) = find_load_problems(tmp_path, content)
    assert problem.startswith("job.json: input_endpoint: 'https://{host}' is not the address of an S3 server; ")


def test_objects_of_another_server_cannot_be_listed_as_jobs(tmp_path: Path) -> None:
    content: dict[str, object] = {
        "command": "x {key}", "input_endpoint": "https://store", "groups": {"s3": "s3://plates/in/"},
    }  # fmt: skip
    (problem,) = find_load_problems(tmp_path, content)
    assert problem.startswith("job.json: groups: objects can be listed only in AWS, but `input_endpoint` is another ")


@pytest.mark.parametrize(
    "content",
    [
        {"inputs": ["https://me:secret@host/{well}"]},
        {"inputs": ["{url}"]},
        {"inputs": {"https://me:secret@host/a": "a"}},
        {"shared_inputs": ["s3://me:secret@bucket/a"]},
        {"inputs": ["ftp://secret@host/a"], "allow": True},
    ],
)
@pytest.mark.parametrize("command", [COMMAND, {}])
def test_a_password_in_an_address_is_refused_without_showing_it(
    tmp_path: Path, content: dict[str, object], command: dict[str, object]
) -> None:
    url = (
        "https://me:secret@host/a"
        if content["inputs" if "inputs" in content else "shared_inputs"] == ["{url}"]
        else "x"
    )
    job_file = write_job_file(tmp_path, command | content | {"groups": [{"well": "A01", "url": url}]})
    with pytest.raises(InputError, match="the address of an input contains a user name or password") as refused:
        plan_submission(job_file)
    assert "copy the file to S3, or fetch it in the command" in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("address", "remedy"),
    [
        ("ftp://host/a", "use https://"), ("HTTPS://host/a", "write https://"), ("/", "is blank"),
        ("https://2130706433/a", "the machine itself"), ("https://0x7f.1/a", "the machine itself"),
        ("https://127.0.0.1./a", "the machine itself"), ("https://169.254.169.254/", "credentials; no input is there"),
    ],
)  # fmt: skip
def test_an_address_that_cannot_be_an_input_is_refused(tmp_path: Path, address: str, remedy: str) -> None:
    path = tmp_path / "job.json"
    path.write_text(json.dumps(COMMAND | {"inputs": [address], "groups": WELLS}))
    job_file = load_job_file(path, fail_if_listed, allow_unsafe_inputs=False)
    with pytest.raises(InputError, match=remedy):
        plan_submission(job_file)


def test_a_group_that_is_not_a_job_is_shown_as_json(tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    path.write_text('{"command": "true", "groups": [[null, [1, true]]]}')
    with pytest.raises(InputError, match=r"groups\[1\]: \[null, \[1, true\]\] is not a job"):
        list(load_job_file(path, lambda bucket, prefix: []).iter_bodies())
