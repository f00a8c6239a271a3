"""Finding and killing the processes of a local cloud, even after their parent has ended."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest

from distributed_something.localcloud.base.processes import (
    kill_marked_processes,
    list_marked_processes,
    wait_for_condition,
)

MARK = "TEST_PROCESSES_MARK"
SLEEPER = "import time; time.sleep(600)"
PARENT = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "{SLEEPER}"], start_new_session=True)
print("ready", flush=True)
if sys.argv[1] == "stay":
    time.sleep(600)
"""


@pytest.fixture
def value() -> Iterator[str]:
    """A unique value for the mark. After the test, all processes that have it are killed."""
    value = uuid.uuid4().hex
    yield value
    kill_marked_processes(MARK, value)


def start_parent(value: str, next_action: str) -> subprocess.Popen[str]:
    """Start a marked process, and wait until it has started a child in a new session."""
    env = os.environ | {MARK: value}
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT, next_action], env=env, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_process_and_its_child_in_another_session_are_found_and_killed(value: str) -> None:
    parent = start_parent(value, "stay")
    # The child has no environment for a moment, while it begins to run its program.
    assert wait_for_condition(lambda: len(list_marked_processes(MARK, value)) == 2, 20)
    assert parent.pid in list_marked_processes(MARK, value)
    kill_marked_processes(MARK, value)
    assert list_marked_processes(MARK, value) == []
    parent.communicate(timeout=20)


def test_a_child_is_found_after_its_parent_has_ended(value: str) -> None:
    parent = start_parent(value, "leave")
    parent.wait(timeout=20)
    assert wait_for_condition(lambda: len(list_marked_processes(MARK, value)) == 1, 20)
    kill_marked_processes(MARK, value)
    assert list_marked_processes(MARK, value) == []
    parent.communicate(timeout=20)


def test_processes_with_other_marks_and_the_caller_are_not_killed(value: str) -> None:
    parent = start_parent(value, "stay")
    assert list_marked_processes(MARK, value[:-1]) == []
    assert list_marked_processes(f"MORE_{MARK}", value) == []
    code = f"""if True:
        from distributed_something.localcloud.base.processes import kill_marked_processes, list_marked_processes
        kill_marked_processes("{MARK}", "{value}")
        print("alive", list_marked_processes("{MARK}", "{value}"))
    """
    caller = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {MARK: value}, capture_output=True, text=True, check=False
    )
    assert caller.stdout == "alive []\n", caller.stderr
    parent.communicate(timeout=20)


def test_waiting_ends_when_the_condition_is_true_or_the_time_is_up() -> None:
    now = [0.0]

    def wait(seconds_until_true: float) -> bool:
        now[0] = 0.0
        return wait_for_condition(
            lambda: now[0] >= seconds_until_true,
            5,
            clock=lambda: now[0],
            sleep=lambda seconds: now.__setitem__(0, now[0] + seconds),
        )

    assert wait(3)
    assert 3 <= now[0] < 3.1
    assert not wait(100)
    assert 5 <= now[0] < 5.1
