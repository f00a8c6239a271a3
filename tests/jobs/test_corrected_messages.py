"""`retry --with` builds messages from a Job file's shared keys and the groups of the failed jobs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from distributed_something.core.errors import InputError
from distributed_something.jobs.submission.retry import FailedMessage, correct_messages
from distributed_something.worker import RunKeys


def test_a_placeholder_that_no_failed_job_fills_is_explained_by_the_failed_jobs_and_not_by_the_files_groups(
    tmp_path: Path,
) -> None:
    path = tmp_path / "foreign.json"
    content = {"command": ["echo", "{column}"], "inputs": ["a/{commnd}.png"], "groups": [{"column": 1}]}
    path.write_text(json.dumps(content))
    failed = [FailedMessage("700-1-abc", {"command": "x", "group": {"w": 1, "mb": 700}})]
    with pytest.raises(InputError) as caught:
        correct_messages(RunKeys("App", "20261123T104500Z"), path, failed, None, lambda bucket, prefix: [])
    problems = [(problem.key, problem.problem, problem.remedy) for problem in caught.value.problems]
    place, remedy = "in the group of the failed job 700-1-abc", "use one of its keys (w, mb)"
    assert problems == [
        ("command", f"nothing fills the placeholder {{column}} {place}", remedy),
        ("inputs", f"nothing fills the placeholder {{commnd}} {place}", remedy),
    ]
