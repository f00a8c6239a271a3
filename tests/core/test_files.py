"""Small files are written whole or not at all."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from distributed_something.core.files import write_file_atomically, write_json_atomically


def test_a_file_is_written_with_its_folder_and_rights(tmp_path: Path) -> None:
    write_file_atomically(tmp_path / "deep" / "run.sh", b"#!/bin/sh\n", executable=True)
    write_json_atomically(tmp_path / "deep" / "a.json", {"é": [1]})
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "deep").iterdir()}
    assert modes == {"run.sh": 0o755, "a.json": 0o644}
    assert (tmp_path / "deep" / "a.json").read_text() == json.dumps({"é": [1]}, indent=2) + "\n"


@pytest.mark.parametrize("call", ["fsync", "replace", "chmod"])
def test_a_disk_that_refuses_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "a.json"
    write_json_atomically(path, "old")
    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(OSError, match="No space left"):
        write_json_atomically(path, "new")
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == '"old"\n'


def test_what_cannot_be_json_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json_atomically(path, "old")
    with pytest.raises(TypeError):
        write_json_atomically(path, object())
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == '"old"\n'


def test_what_is_written_is_on_the_disk_before_it_takes_the_old_files_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    for name in ("fsync", "replace"):
        original = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, name=name, original=original: calls.append(name) or original(*a))
    write_file_atomically(tmp_path / "a", b"x")
    assert calls == ["fsync", "replace"]
