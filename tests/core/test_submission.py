"""Submission documents: their JSON and their times."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_something.core.submission import (
    SubmissionDocument,
    build_submission,
    build_submission_time,
    parse_submission,
    parse_submission_time,
)

LAST_SECOND = 253_402_300_799  # of the year 9999
times = st.integers(0, LAST_SECOND * 1000).map(lambda milliseconds: build_submission_time(milliseconds / 1000))
amounts = st.integers(0, 10**9)
documents = st.builds(
    SubmissionDocument,
    app=st.text(), queue=st.text(), time=times, job_file=st.text(), digest=st.text(), planned=amounts, count=amounts,
    ended=st.none() | times, git_commit=st.none() | st.text(), again=st.booleans(), removed=amounts,
)  # fmt: skip
DOCUMENT = SubmissionDocument("App", "AppQueue", "20261123T104500.123Z", "job.json", "digest", 60)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
)


@given(document=documents, unknown=st.dictionaries(st.text(), json_values))
def test_a_document_can_be_read_again_and_unknown_keys_are_ignored(
    document: SubmissionDocument, unknown: dict[str, object]
) -> None:
    assert parse_submission(build_submission(document)) == document
    assert parse_submission(json.dumps(unknown | asdict(document))) == document


@given(
    document=documents, name=st.sampled_from([field.name for field in fields(SubmissionDocument)]), value=json_values
)
def test_a_document_is_valid_or_rejected_for_any_value(document: SubmissionDocument, name: str, value: object) -> None:
    try:
        parsed = parse_submission(json.dumps(asdict(document) | {name: value}))
    except ValueError:
        return
    assert asdict(parsed) == asdict(document) | {name: value}
    assert type(getattr(parsed, name)) is type(value)


@given(st.text() | st.binary())
def test_any_text_is_a_document_or_raises_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - JSON's and Unicode's errors too
        parse_submission(text)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("count", True), ("count", -1), ("count", "60"), ("count", 1.0), ("again", 1), ("queue", None), ("ended", ""),
        ("ended", "2026-11-23T10:45:00Z"), ("time", "20261123T104500Z"), ("time", "20261123T104500.1Z"),
        ("git_commit", 1), ("removed", None),
    ],
)  # fmt: skip
def test_a_value_of_the_wrong_type_is_rejected(key: str, value: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse_submission(json.dumps(asdict(DOCUMENT) | {key: value}))


def test_keys_with_a_default_may_be_missing() -> None:
    required = {key: value for key, value in asdict(DOCUMENT).items() if key in {"app", "queue", "time", "job_file"}}
    assert parse_submission(json.dumps(required | {"digest": "digest", "planned": 60})) == DOCUMENT
    with pytest.raises(ValueError, match="digest is None"):
        parse_submission(json.dumps(required))


@given(st.lists(st.integers(0, LAST_SECOND * 1000)))
def test_times_in_documents_sort_like_numbers_and_keep_milliseconds(milliseconds: list[int]) -> None:
    texts = [build_submission_time(number / 1000) for number in sorted(milliseconds)]
    assert texts == sorted(texts)
    assert [round(parse_submission_time(text) * 1000) for text in texts] == sorted(milliseconds)


def test_a_document_knows_when_its_submission_began_and_ended() -> None:
    assert DOCUMENT.began == 1_795_430_700.123
    assert DOCUMENT.end is None
    assert replace(DOCUMENT, ended="20261123T104501.000Z").end == 1_795_430_701.0
