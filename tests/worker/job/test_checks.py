"""Tests for the checks used in `failure()`: every problem gives a reason, never an exception."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distributed_something.worker.job import checks
from distributed_something.worker.job.checks import (
    MAX_CHECKED_BYTES,
    missing_files,
    missing_key,
    missing_text,
    usual_failure,
    wrong_text,
)
from distributed_something.worker.job.job import Folders, Job
from distributed_something.worker.job.program_result import Result

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.lists(st.text() | st.integers(), max_size=3)
FILE_CHECKS: list[Callable[[Path], str | None]] = [
    lambda path: wrong_text(path, "Complete"),
    lambda path: missing_text(path, "Complete"),
    lambda path: missing_key(path, "plate"),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file"


def test_files_in_all_subfolders_are_counted_by_name_and_size(tmp_path: Path) -> None:
    for name, size in {"a.csv": 10, "deep/er/b.csv": 3, "c.png": 9, "empty.csv": 0}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))
    assert missing_files(tmp_path, 4) is None
    assert missing_files(tmp_path, 5) == "4 of 5 expected files match '*'"
    assert missing_files(tmp_path, 3, "*.csv") is None
    assert missing_files(tmp_path, 3, "*.csv", min_bytes=1) == "2 of 3 expected files match '*.csv' and are not empty"
    assert (
        missing_files(tmp_path, 3, "*.csv", min_bytes=4)
        == "1 of 3 expected files match '*.csv' and have 4 bytes or more"
    )
    assert missing_files(tmp_path, 1, "er/*.csv") is None


def test_a_folder_that_does_not_exist_has_no_files(tmp_path: Path) -> None:
    assert missing_files(tmp_path / "none", 1) == "0 of 1 expected files match '*'"


def test_folders_and_broken_links_do_not_count_as_files(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "none")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert missing_files(tmp_path, 1) == "0 of 1 expected files match '*'"


def test_an_invalid_pattern_gives_a_reason(tmp_path: Path) -> None:
    assert "files that match '/etc/*' cannot be counted" in str(missing_files(tmp_path, 1, "/etc/*"))


def test_a_file_must_contain_exactly_the_expected_text(file: Path) -> None:
    file.write_text("Complete\n")
    assert wrong_text(file, "Complete") is None
    file.write_text("Failure\n")
    assert wrong_text(file, "Complete") == "file contains 'Failure', not 'Complete'"


def test_text_is_found_in_a_file_with_any_encoding(file: Path) -> None:
    file.write_bytes(b"5 \xb5m\nComplete\n")
    assert missing_text(file, "Complete") is None
    assert missing_text(file, "Done") == "file does not contain 'Done'"


def test_a_missing_key_is_reported_with_its_path(file: Path) -> None:
    file.write_text(json.dumps({"plate": {"wells": [{"path": "A/1"}], "name": None}}))
    assert missing_key(file, "plate") is None
    assert missing_key(file, "plate", "name") is None
    assert missing_key(file, "plate", "wells", 0, "path") is None
    assert missing_key(file, "plate", "wells", 1, "path") == "file has no key plate.wells.1"
    assert missing_key(file, "plate", "name", "first") == "file has no key plate.name.first"


@pytest.mark.parametrize("check", FILE_CHECKS)
def test_a_missing_file_a_folder_and_a_pipe_each_give_a_reason(check: Any, file: Path) -> None:
    assert check(file) == "file does not exist"
    file.mkdir()
    assert check(file) == "file is not a regular file"
    file.rmdir()
    os.mkfifo(file)
    assert check(file) == "file is not a regular file"  # and the check does not wait for a writer


@pytest.mark.parametrize("check", FILE_CHECKS)
def test_a_file_without_read_permission_gives_a_reason(check: Any, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny_access(*_: Any) -> Any:
        raise PermissionError("no permission")

    file.touch()
    monkeypatch.setattr(checks.Path, "open", deny_access)
    assert check(file) == "file cannot be read: no permission"


@pytest.mark.parametrize("check", FILE_CHECKS)
def test_only_the_start_of_a_huge_file_is_read(check: Any, file: Path) -> None:
    with file.open("wb") as huge:
        huge.truncate(1 << 40)  # a sparse file, which takes no space on the disk
    assert str(MAX_CHECKED_BYTES) in check(file)


def test_bytes_that_are_not_utf8_are_reported_with_their_position(file: Path) -> None:
    file.write_bytes(b'{"plate": "\xb5"}')
    assert missing_key(file, "plate") == "file is not UTF-8 (byte 11)"
    assert wrong_text(file, "x") == "file is not UTF-8 (byte 11)"


def test_invalid_json_gives_a_reason(file: Path) -> None:
    for text in ("", "{", "[" * 200_000, "9" * 10_000, '{"plate": '):
        file.write_text(text)
        assert "is not valid JSON" in str(missing_key(file, "plate"))


@settings(deadline=None)  # the disk can be slow
@given(content=st.binary(max_size=200), keys=KEYS)
def test_no_file_content_makes_a_check_raise_an_exception(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, keys: list[str | int]
) -> None:
    file = tmp_path_factory.getbasetemp() / "any"
    file.write_bytes(content)
    for reason in (missing_key(file, *keys, "x"), wrong_text(file, "a word"), missing_text(file, "a word")):
        assert reason is None or reason.isprintable() or "\n" not in reason


@settings(deadline=None)  # the disk can be slow
@given(value=JSON, keys=KEYS)
def test_a_key_is_reported_missing_exactly_when_python_cannot_find_it(
    tmp_path_factory: pytest.TempPathFactory, value: Any, keys: list[str | int]
) -> None:
    file = tmp_path_factory.getbasetemp() / "json"
    file.write_text(json.dumps(value))
    assert (missing_key(file, *keys) is None) == _has_nested_key(json.loads(json.dumps(value)), keys)


@settings(deadline=None)  # the disk can be slow
@given(text=st.text(st.characters(exclude_categories=["Cs"])), word=st.text())
def test_text_is_reported_missing_exactly_when_python_cannot_find_it(
    tmp_path_factory: pytest.TempPathFactory, text: str, word: str
) -> None:
    file = tmp_path_factory.getbasetemp() / "text"
    file.write_bytes(text.encode())
    assert (missing_text(file, word) is None) == (word in text)


def _has_nested_key(value: Any, keys: list[str | int]) -> bool:
    try:
        for key in keys:
            if isinstance(value, str) or (isinstance(key, int) and key < 0):
                return False
            value = value[key]
    except (KeyError, IndexError, TypeError):
        return False
    return True


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    folders = Folders(tmp_path)
    folders.output_dir.mkdir()
    return folders


@pytest.mark.parametrize("leave_out", [["*.tmp"], ["logs/*", "x.tmp"]])
def test_expected_files_counts_only_files_that_will_be_uploaded(folders: Folders, leave_out: list[str]) -> None:
    job = Job("j", "true", "ours", "ours", "out", expected_files=1, leave_out=leave_out)
    (folders.output_dir / "x.tmp").touch()
    (folders.output_dir / "logs").mkdir()
    (folders.output_dir / "logs" / "a.tmp").touch()
    (folders.output_dir / "empty").mkdir()
    result = Result(0, 1.0, 0, 0.0, timed_out=False, stopped=False)
    assert usual_failure(job, folders, result) == "0 of 1 expected files written"
    (folders.output_dir / "deep").mkdir()
    (folders.output_dir / "deep" / "x.csv").touch()
    assert usual_failure(job, folders, result) is None


def test_a_folder_that_does_not_exist_has_no_results(tmp_path: Path) -> None:
    job = Job("j", "true", "ours", "ours", "out", expected_files=1)
    result = Result(0, 1.0, 0, 0.0, timed_out=False, stopped=False)
    assert usual_failure(job, Folders(tmp_path), result) == "0 of 1 expected files written"
