"""Which Job file the commands name that the user is to type next."""

from __future__ import annotations

import pytest

from distributed_something.results.command_line import JOB_FILE_WORD, choose_job_file


@pytest.mark.parametrize(
    ("paths", "chosen"),
    [
        ((), JOB_FILE_WORD),
        (("files/exampleJob.json",), "files/exampleJob.json"),
        (("files/exampleJob.json", "files/plateJob.json"), "files/plateJob.json"),
        (("files/a.json", "files/b.json"), JOB_FILE_WORD),
        (("files/a.json", "files/AppJob.json", "files/exampleJob.json"), "files/AppJob.json"),
    ],
)
def test_the_apps_own_job_file_or_the_only_one_besides_the_example_is_named(
    paths: tuple[str, ...], chosen: str
) -> None:
    assert choose_job_file(paths, "App") == chosen
