"""Small files: they are written completely or not at all, and errors in JSON name the mistake."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from distributed_something.core.errors import InputError
from distributed_something.core.files import check_file_kind, parse_json, write_file_atomically, write_json_atomically


def test_a_file_is_written_with_its_folder_and_permissions(tmp_path: Path) -> None:
    write_file_atomically(tmp_path / "deep" / "run.sh", b"#!/bin/sh\n", executable=True)
    write_json_atomically(tmp_path / "deep" / "a.json", {"é": [1]})
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "deep").iterdir()}
    assert modes == {"run.sh": 0o755, "a.json": 0o644}
    assert (tmp_path / "deep" / "a.json").read_text() == json.dumps({"é": [1]}, indent=2) + "\n"


@pytest.mark.parametrize("call", ["fsync", "replace", "chmod"])
def test_a_failed_write_keeps_the_old_file_and_leaves_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "a.json"
    write_json_atomically(path, "old")
    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="No space left"):
        write_json_atomically(path, "new")
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == '"old"\n'


def test_the_old_file_is_kept_if_a_value_cannot_be_written_as_json(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json_atomically(path, "old")
    with pytest.raises(TypeError):
        write_json_atomically(path, object())
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == '"old"\n'


def test_a_new_file_is_flushed_to_disk_before_it_replaces_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    for name in ("fsync", "replace"):
        original = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, name=name, original=original: calls.append(name) or original(*a))
    write_file_atomically(tmp_path / "a", b"x")
    assert calls == ["fsync", "replace"]


@pytest.mark.parametrize(
    ("text", "explanation"),
    [
        ("", "line 1, column 1: the file is empty; write one JSON object: { … }"),
        ('{"a": 1,}', "line 1, column 8: trailing comma before }; remove it"),
        ('{"a": 1},\n', "line 1, column 9: trailing comma at the end of the file; remove it"),
        ('{"a": [1,\n  ], "b": 2}', "line 1, column 9: trailing comma before ]; remove it"),
        ('["a",,"b"]', "line 1, column 6: missing value before the comma; add it, or remove the comma"),
        ('{"a": 1}\n# end', 'line 2, column 1: JSON does not allow comments; remove it, or write "_comment": "…"'),
        ('[1, // one\n 2]', 'line 1, column 5: JSON does not allow comments; remove it, or write "_comment": "…"'),
        ("[1,\n 2,\n]", "line 2, column 3: trailing comma before ]; remove it"),
        ('{\n  "groups": [\n    {"a": 1},\n  ]\n}', "line 3, column 13: trailing comma before ]; remove it"),
        ("[,]", "line 1, column 2: missing value before the comma; add it, or remove the comma"),
        ("{'a': 1}", "line 1, column 2: ' is not a JSON quote; use straight double quotes: \""),
        ('{"a": \u201cb\u201d}', "line 1, column 7: \u201c is not a JSON quote; use straight double quotes: \""),
        ('{"a": True}', "line 1, column 7: True is Python, not JSON; write true"),
        ('{"a": None}', "line 1, column 7: None is Python, not JSON; write null"),
        ('{"a": 1 "b": 2}', "line 1, column 9: missing comma or closing bracket before this; add it"),
        ('{"a" 1}', 'line 1, column 6: missing colon after a key; write "key": value'),
        ('{a: 1}', 'line 1, column 2: missing key in double quotes; write "key": value'),
        ('{"a": "x\ny"}', "line 1, column 9: line break or tab inside a string; write \\n or \\t"),
        ('{"a": "C:\\data"}', "line 1, column 10: single backslash inside a string; write two: \\\\"),
        ('{"a": "b}', "line 1, column 7: this string has no closing quote; add one"),
        ('{"a": [1', "line 1, column 9: the file ends too early; add the missing closing ] or }"),
        ('{"a": 1} x', "line 1, column 10: text after the end of the JSON value; remove it"),
        ('{\n# b\n"a": 1}', 'line 2, column 1: JSON does not allow comments; remove it, or write "_comment": "…"'),
        ('{"a": 1 // b\n}', 'line 1, column 9: JSON does not allow comments; remove it, or write "_comment": "…"'),
        ('{"a": sfr-1}', "line 1, column 7: this is not valid JSON (Expecting value); correct it here or just before "
                         "this; put text in double quotes"),
    ],
)  # fmt: skip
def test_a_mistake_in_json_is_reported_with_its_line_and_column(text: str, explanation: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_json(text, "job.json")
    assert str(caught.value) == f"job.json: {explanation}"


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ('{ // one\n"a": [1, /* two\n lines */ 2,\n],\n # three\n}', ["1, column 3", "2, column 10", "3, column 12",
                                                                     "4, column 2", "5, column 2"]),
        ('{"a": "// not a comment",\r\n"b": 1, // one\r\n}\r\n# two', ["2, column 7", "2, column 9", "4, column 1"]),
        ('{"a": 1, # one\n"b" 2, # not found, because it is after another mistake\n}', ["1, column 10", "2, column 5"]),
        ("// only a comment", ["1, column 1"]),
        ("[1,], ", ["1, column 3", "1, column 5"]),
    ],
)  # fmt: skip
def test_all_trailing_commas_and_comments_are_reported_at_once(text: str, places: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        parse_json(text, "job.json")
    assert sorted(problem.key for problem in caught.value.problems) == [f"line {place}" for place in places]


CONTENT_BY_KIND = {
    "Job file": {"command": "echo", "groups": [{"well": "A01"}]},
    "Fleet file": {"IamFleetRole": "arn", "LaunchSpecifications": [{}]},
    "monitor file": {"MONITOR_FLEET_ID": "sfr-0123abcd"},
}


@pytest.mark.parametrize("expected", CONTENT_BY_KIND)
@pytest.mark.parametrize("given", CONTENT_BY_KIND)
def test_the_wrong_kind_of_file_is_recognized(given: str, expected: str) -> None:
    if given == expected:
        check_file_kind("files/a.json", CONTENT_BY_KIND[given], expected)
        return
    with pytest.raises(
        InputError, match=f"files/a.json: this is a {given}, not a {expected}; give the {expected}, such"
    ):
        check_file_kind("files/a.json", CONTENT_BY_KIND[given], expected)


def test_the_check_of_the_file_kind_accepts_an_unknown_kind_of_file() -> None:
    check_file_kind("files/a.json", {"other": "a"}, "Job file")
