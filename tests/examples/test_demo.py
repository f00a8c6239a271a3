"""`make demo`: a new user's first run, both complete and interrupted."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.examples.clone import Clone
from tests.support.project import list_project_processes, wait_until


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Clone]:
    clone = Clone(tmp_path / "clone")
    yield clone
    wait_until(lambda: list_project_processes(clone.home) == [])


def test_the_demo_counts_the_cells_of_a_plate_and_draws_it(clone: Clone) -> None:
    demo = clone.start_demo()
    out, err = demo.communicate(timeout=150)
    assert demo.returncode == 0, out + err
    assert "jobs done       96" in out
    assert "1,705 cells in 96 wells" in out + err
    assert (clone.home / "examples" / "cellcount" / "local" / "plate.png").stat().st_size > 100_000
    assert "the local cloud is stopped" in err
    assert "$ python run.py --local --project examples/cellcount setup\n" in err
    assert not (clone.home / "local").exists()  # so that the user's own run with the root's files skips no job
    assert list_project_processes(clone.home) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_stops_the_local_cloud(clone: Clone, number: signal.Signals) -> None:
    demo = clone.start_demo("helloworld")
    state = clone.home / "examples" / "helloworld" / "local" / ".cloud" / "state.json"
    wait_until(state.exists)
    os.killpg(demo.pid, number)
    _, err = demo.communicate(timeout=60)
    assert demo.returncode == 128 + number
    assert "The demo did not finish" in err
    assert list_project_processes(clone.home) == []


def test_for_an_unknown_example_the_error_lists_the_existing_examples(clone: Clone) -> None:
    demo = clone.start_demo("nothing")
    _, err = demo.communicate(timeout=20)
    assert demo.returncode == 2
    assert "examples/nothing does not exist; use one of these examples: " in err
    assert " helloworld" in err
