"""The Job file: what a message is, every way to list jobs, and the batches that they leave in."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distributed_something.core.errors import InputError
from distributed_something.jobs.job_file import MAX_MESSAGE_BYTES, JobFile, load_job_file
from distributed_something.jobs.send_batches import iter_message_batches
from distributed_something.jobs.sources import ObjectLister
from distributed_something.jobs.submission_plan import plan_submission
from distributed_something.worker.attempt.attempt import ATTEMPTS_ATTRIBUTE, FAILURES_ATTRIBUTE
from distributed_something.worker.attempt.outcomes import MAX_ATTRIBUTE_CHARACTERS
from distributed_something.worker.job.job_id import job_id

COMMAND = {"command": "echo {job}"}
WELLS = [{"plate": "P1", "well": "A01"}, {"plate": "P1", "well": "A02"}]


def no_bucket(bucket: str, prefix: str) -> NoReturn:
    raise AssertionError(f"s3://{bucket}/{prefix} was listed")


def write_job_file(folder: Path, content: dict[str, object], list_objects: ObjectLister = no_bucket) -> JobFile:
    path = folder / "job.json"
    path.write_text(json.dumps(content))
    return load_job_file(path, list_objects)


def groups_of(folder: Path, groups: object, list_objects: ObjectLister = no_bucket) -> list[object]:
    """The groups that `groups` stands for, read twice: each reading must give the same."""
    loaded = write_job_file(folder, COMMAND | {"groups": groups}, list_objects)
    first, again = list(loaded.groups()), list(loaded.groups())
    assert first == again
    return list(first)


def test_a_message_is_the_shared_keys_and_its_group(tmp_path: Path) -> None:
    content = {
        "_comment": "not sent",
        "pipeline": "p.cppipe",
        "settings": {"_comment": "inside it is data"},
        "number": 1.5,
        "upload": {".": "here"},
        "groups": WELLS,
        "output_comment2": "not sent either: its name has _comment in it",
    }
    shared = {"pipeline": "p.cppipe", "settings": content["settings"], "number": 1.5}
    bodies = [json.loads(body) for body in write_job_file(tmp_path, content).bodies()]
    assert bodies == [shared | {"group": well} for well in WELLS]


def test_a_message_without_shared_keys_is_its_group_alone(tmp_path: Path) -> None:
    bodies = list(write_job_file(tmp_path, {"groups": WELLS}).bodies())
    assert [json.loads(body) for body in bodies] == [{"group": well} for well in WELLS]


def test_a_body_is_ascii_whatever_its_words(tmp_path: Path) -> None:
    (body,) = write_job_file(tmp_path, COMMAND | {"groups": [{"plate": "Größe 💥"}]}).bodies()
    assert body.isascii()  # so that its length in characters is its length in bytes
    assert json.loads(body)["group"] == {"plate": "Größe 💥"}


def test_the_largest_message_may_be_sent_again_with_all_that_a_worker_tells_of_it(tmp_path: Path) -> None:
    empty = len(next(write_job_file(tmp_path, {"groups": ["x"]}).bodies())) - 1
    (body,) = write_job_file(tmp_path, {"groups": ["x" * (MAX_MESSAGE_BYTES - empty)]}).iter_checked_messages()
    with pytest.raises(InputError, match=r"its message has 1,040,385 bytes"):
        list(write_job_file(tmp_path, {"groups": ["x" * (MAX_MESSAGE_BYTES - empty + 1)]}).iter_checked_messages())
    told = {"reason": "💥" * MAX_ATTRIBUTE_CHARACTERS, ATTEMPTS_ATTRIBUTE: "9" * 10, FAILURES_ATTRIBUTE: "9" * 10}
    attributes = sum(len(f"{name}String{value}".encode()) for name, value in told.items())
    assert len(body[0]) + attributes <= 1024 * 1024  # SQS counts both


def test_plates_are_a_list_of_texts(tmp_path: Path) -> None:
    bodies = write_job_file(tmp_path, {"plates": ["P1", "P2"], "input_bucket": "images"}).bodies()
    assert [json.loads(body) for body in bodies] == [{"input_bucket": "images", "group": name} for name in ("P1", "P2")]


def test_groups_may_be_a_list_of_objects(tmp_path: Path) -> None:
    assert groups_of(tmp_path, WELLS) == WELLS


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
def test_groups_may_be_a_table_beside_the_job_file(tmp_path: Path, name: str, table: str) -> None:
    (tmp_path / name).write_bytes(table.encode())
    assert groups_of(tmp_path, name) == WELLS


def test_a_cell_may_hold_what_separates_cells_and_lines(tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_text('name\n"a,b"\n"c\nd"\n" e ""f"" "\n')
    assert groups_of(tmp_path, "jobs.csv") == [{"name": "a,b"}, {"name": "c\nd"}, {"name": ' e "f" '}]


def test_groups_may_be_every_combination_of_some_values(tmp_path: Path) -> None:
    cross = {"cross": {"plate": ["P1", "P2"], "well": ["A01", "A02", 3]}}
    expected = [{"plate": plate, "well": well} for plate in ("P1", "P2") for well in ("A01", "A02", 3)]
    assert groups_of(tmp_path, cross) == expected


def test_groups_may_be_the_objects_of_a_bucket(tmp_path: Path) -> None:
    listings = []

    def two_images(bucket: str, prefix: str) -> Iterable[str]:
        listings.append((bucket, prefix))
        return ["in/", "in/a.b.tif", "in/notes.txt", "in/deep/ü 1.tif"]

    groups = groups_of(tmp_path, {"s3": "s3://images/in/", "match": "*.tif"}, two_images)
    assert groups == [
        {"key": "in/a.b.tif", "name": "a.b.tif", "stem": "a.b"},
        {"key": "in/deep/ü 1.tif", "name": "ü 1.tif", "stem": "ü 1"},
    ]
    assert listings == [("images", "in/")]  # once: the bucket may change between checking and sending


def test_a_pattern_may_speak_of_folders_below_the_prefix(tmp_path: Path) -> None:
    def images(bucket: str, prefix: str) -> Iterable[str]:
        return ["in/raw/a.tif", "in/old/b.tif"]

    groups = groups_of(tmp_path, {"s3": "s3://images/in/", "match": "raw/*"}, images)
    assert groups == [{"key": "in/raw/a.tif", "name": "a.tif", "stem": "a"}]


def test_a_table_is_read_no_further_than_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_text("n\n" + "".join(f"{n}\n" for n in range(20_000)) + "the last row,is wrong\n")
    loaded = write_job_file(tmp_path, COMMAND | {"groups": "jobs.csv"})
    assert next(loaded.groups()) == {"n": "0"}
    assert len(list(itertools.islice(loaded.bodies(), 5))) == 5
    with pytest.raises(InputError, match=r"jobs.csv: line 20002: 2 cells under 1 names"):
        plan_submission(loaded)


def test_a_cross_is_read_no_further_than_it_is_asked_for(tmp_path: Path) -> None:
    axes = {name: list(range(100)) for name in "abcdefgh"}  # 10,000 million million jobs
    loaded = write_job_file(tmp_path, COMMAND | {"groups": {"cross": axes}})
    assert [group["h"] for group in itertools.islice(loaded.groups(), 3) if isinstance(group, dict)] == [0, 1, 2]


def test_the_same_message_has_the_same_id_in_whatever_order_it_is_written() -> None:
    message = {"command": "a", "group": {"well": "A01", "plate": "P1"}}
    assert job_id(message) == job_id(json.loads(json.dumps(message)))
    assert job_id(message).rsplit("-", 1)[1] == job_id(dict(reversed(message.items()))).rsplit("-", 1)[1]
    assert job_id(message).startswith("A01-P1-")


def test_different_messages_have_different_ids_though_their_values_read_alike() -> None:
    messages = [{"group": group} for group in ({"a": "1"}, {"a": 1}, {"b": "1"}, {"a": "1 "}, "1")]
    messages.append({"command": "x", "group": {"a": "1"}})
    assert len({job_id(message) for message in messages}) == len(messages)


def test_the_ids_of_a_job_file_are_those_that_the_worker_computes(tmp_path: Path) -> None:
    for body, identity in write_job_file(
        tmp_path, COMMAND | {"groups": WELLS, "_comment": "x"}
    ).iter_checked_messages():
        assert job_id(json.loads(body)) == identity


def test_a_plan_counts_the_jobs_shows_the_first_and_tells_one_file_from_another(tmp_path: Path) -> None:
    planned = plan_submission(write_job_file(tmp_path, COMMAND | {"groups": WELLS}))
    other = plan_submission(write_job_file(tmp_path, COMMAND | {"groups": WELLS[::-1]}))
    assert planned.count == other.count == 2
    assert json.loads(planned.first) == COMMAND | {"group": WELLS[0]}
    assert planned.digest != other.digest


@settings(derandomize=True, deadline=None, max_examples=100, database=None)
@given(sizes=st.lists(st.sampled_from([1, 100, 70_000, 104_857, 104_858, 524_288, 524_289, 2**20]), max_size=40))
def test_a_batch_never_holds_more_than_sqs_takes_and_no_message_is_lost(sizes: list[int]) -> None:
    numbered = [(number, "x" * size) for number, size in enumerate(sizes)]
    batches = list(iter_message_batches(numbered))
    assert [message for batch in batches for message in batch] == numbered
    for batch in batches:
        assert 1 <= len(batch) <= 10
        assert sum(len(body) for _, body in batch) <= 2**20
    for batch, after in itertools.pairwise(batches):  # and none is cut sooner than it must be
        assert len(batch) == 10 or sum(len(body) for _, body in [*batch, after[0]]) > 2**20


def test_every_object_of_a_bucket_is_checked_and_sent_once(tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    path.write_text('{"command": "work {name}", "groups": {"s3": "s3://bucket/raw/", "match": "*.tif"}}')
    keys = [f"raw/{number}.tif" for number in range(5)]
    loaded = load_job_file(path, lambda bucket, prefix: keys)
    checked = [json.loads(body)["group"]["key"] for body, _ in loaded.iter_checked_messages()]
    assert checked == keys
    assert len({identity for _, identity in loaded.iter_checked_messages()}) == 5
    assert [json.loads(body)["group"]["key"] for body in loaded.bodies()] == keys
