"""Runs the `deliver` hooks in docs/your-own.md, with stand-ins for ssh, scp, and rclone that write to a folder."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from distributed_something.worker.job.message.job_template import job_from_message
from tests.support.paths import ROOT
from tests.worker.attempt.attempt_harness import MESSAGE, AttemptHarness

# ssh runs its last argument in a shell, as sshd does; scp and rclone copy to the path after the colon.
PROGRAMS = {
    "ssh": 'for last; do :; done\nexec sh -c "$last"',
    "scp": 'while [ $# -gt 2 ]; do shift; done\nexec cp "$1" "${2#*:}"',
    "rclone": 'target="$STORE/${4#*:}"\nmkdir -p "${target%/*}"\nexec cp "$3" "$target"',
}
FILES = {"a b.txt": "x\n", "sub/it's.txt": "y\n"}
COMMAND = """mkdir {output_dir}/sub; echo x > "{output_dir}/a b.txt"; echo y > "{output_dir}/sub/it's.txt"
touch {output_dir}/left.tmp"""


def read_hooks(name: str, store: Path) -> dict[str, Any]:
    """Return the names in the example that mentions the program `name`, with `store` as its folder on the server."""
    text = (ROOT / "docs" / "your-own.md").read_text()
    blocks = re.findall(r"(?:^(?: {4}.*)?\n)+", text, flags=re.M)
    (block,) = (block for block in blocks if "def deliver(" in block and f'"{name}"' in block)
    names: dict[str, Any] = {"__name__": "example"}
    exec(dedent(block).replace("/data/results", str(store)), names)
    return names


@pytest.mark.parametrize(("program", "is_uploaded"), [("scp", False), ("rclone", True)])
def test_the_examples_deliver_every_file_and_may_run_twice(
    harness: AttemptHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, is_uploaded: bool
) -> None:
    programs, store = tmp_path / "programs", tmp_path / "store"
    programs.mkdir()
    store.mkdir()
    for name, text in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    monkeypatch.setenv("STORE", str(store))
    hooks = read_hooks(program, store)
    message = MESSAGE | {"command": COMMAND, "shell": True, "leave_out": ["*.tmp"]}
    for run in ("20261123T104500Z", "20261124T104500Z"):
        harness.replace_settings(RUN=run, CHECK_IF_DONE_BOOL="False")
        harness.handle(
            message, make_job=hooks.get("make_job", job_from_message), deliver=hooks["deliver"], message_id=run
        )
        record = harness.recorded[-1]
        assert record["state"] == "done", record["reason"]
        assert [file["size"] for file in record["delivered"]] == [2, 2]
        assert bool(record["outputs"]) == is_uploaded
    folders = list(store.glob("**/sub"))
    assert len(folders) == 1
    root = folders[0].parent
    assert {path.relative_to(root).as_posix(): path.read_text() for path in root.rglob("*") if path.is_file()} == FILES
    assert record["job"] == root.name
