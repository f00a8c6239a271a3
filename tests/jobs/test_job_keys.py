"""Misspelled keys in a Job file: which are refused, and what makes a key one of the project's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distributed_something.core.errors import InputError
from distributed_something.core.text import find_similar_name
from distributed_something.jobs.job_file import load_job_file
from distributed_something.jobs.job_keys import KnownJobKeys, collect_own_names, find_misspelled_keys
from distributed_something.worker import Folders, JobDefaults, job_from_message
from tests.support.paths import ROOT

JOB: dict[str, Any] = {"command": "work {well}", "groups": [{"well": "A01"}]}


def find_problems(folder: Path, content: dict[str, Any]) -> list[InputError]:
    """Return the problems that submitJob finds in this Job file of a project in `folder`."""
    path = folder / "job.json"
    path.write_text(json.dumps(content))
    try:
        load_job_file(path, lambda bucket, prefix: [], collect_own_names(folder / "worker"))
    except InputError as error:
        return error.problems
    return []


def write_worker(folder: Path, code: str, name: str = "generic-worker.py") -> None:
    path = folder / "worker" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(code)


@pytest.mark.parametrize(
    ("key", "known"),
    [
        ("comand", "command"),
        ("expected_file", "expected_files"),
        ("timeout_minute", "timeout_minutes"),
        ("input", "inputs"),
        ("uploads", "upload"),
        ("Shell", "shell"),
    ],
)
def test_a_key_one_or_two_letters_away_from_a_known_one_is_refused_with_the_right_name(
    tmp_path: Path, key: str, known: str
) -> None:
    (problem,) = find_problems(tmp_path, JOB | {key: "x"})
    assert str(problem) == (
        f"{tmp_path}/job.json: {key}: nothing uses this key, whose name is similar to '{known}'; "
        f"write '{known}'; if this is a key of your own, rename it, or use it as {{{key}}}"
    )


def test_all_misspelled_keys_are_reported_together_with_the_other_problems(tmp_path: Path) -> None:
    content = {"comand": "work {well}", "expected_file": 1, "shell": "yes", "groups": [{"well": "A01"}, 5]}
    assert [problem.key for problem in find_problems(tmp_path, content)] == [
        "comand", "expected_file", "shell", "groups[2]",
    ]  # fmt: skip


def test_a_misspelled_list_of_jobs_is_named(tmp_path: Path) -> None:
    problems = find_problems(tmp_path, {"command": "work", "goups": [{"well": "A01"}]})
    assert [problem.key for problem in problems] == ["goups", "groups"]
    assert problems[0].remedy.startswith("write 'groups'")
    assert not find_problems(tmp_path, JOB | {"plate": "P1"})  # the file has its jobs, so this is not `plates`


@pytest.mark.parametrize(
    "content",
    [
        {"command": "work {comand}", "comand": "-v"},
        {"inputs": {"images/{comand}/": "{comand}"}, "comand": "a"},
        {"comand_comment": "not sent"},
        {"project": "trial", "threads": 4},
        {"groups": [{"comand": "a", "well": "A01"}]},
    ],
    ids=["in the command", "in inputs", "a comment", "far from all", "in a group"],
)
def test_a_key_that_something_uses_is_the_users_own(tmp_path: Path, content: dict[str, Any]) -> None:
    assert not find_problems(tmp_path, JOB | content)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("def make_job(message, folders, settings):\n    return message['input']", "generic-worker.py"),
        ("KEYS = ('input', 'output')", "generic-worker.py"),
        ("KEYS = ('input', 'output')", "my_module.py"),
        ("print(values.get('input'))", "scripts/run.py"),
        ("jq -r '.[\"input\"]' message.json", "scripts/run.sh"),
    ],
)
def test_a_key_that_the_projects_own_worker_mentions_is_the_users_own(tmp_path: Path, code: str, name: str) -> None:
    assert find_problems(tmp_path, JOB | {"input": "x"})
    write_worker(tmp_path, code, name)
    assert not find_problems(tmp_path, JOB | {"input": "x"})


def test_a_key_that_only_a_docstring_or_a_comment_mentions_is_not_used(tmp_path: Path) -> None:
    write_worker(tmp_path, '"""Read `input`."""\n# input\ndef make_job(m, f, s):\n    "input"\n    return m[1]')
    assert find_problems(tmp_path, JOB | {"input": "x"})


@pytest.mark.parametrize(
    "code", ["message['pipeline']", "message.get('pipeline', '')", "read_text(message, 'pipeline')"]
)
def test_the_keys_that_the_projects_own_worker_reads_are_known(tmp_path: Path, code: str) -> None:
    write_worker(tmp_path, f"def make_job(message, folders, settings):\n    return {code}")
    (problem,) = find_problems(tmp_path, JOB | {"pipline": "x"})
    assert problem.remedy.startswith("write 'pipeline'")
    assert not find_problems(tmp_path, JOB | {"pipeline": "x"})


def test_a_worker_that_cannot_be_parsed_is_searched_as_text(tmp_path: Path) -> None:
    write_worker(tmp_path, "def make_job(:\n    message['input']")
    assert not find_problems(tmp_path, JOB | {"input": "x"})


def test_the_keys_that_the_worker_reads_are_the_known_keys() -> None:
    read: set[str] = set()

    class Message(dict[str, Any]):
        def get(self, key: str, default: Any = None) -> Any:
            read.add(key)
            return super().get(key, default)

    message = Message({"command": ["work"], "group": {"well": "A01"}})
    job_from_message(message, Folders(Path("job")), JobDefaults("bucket", "App"))
    assert read - {"group"} == set(KnownJobKeys.model_fields)


@pytest.mark.parametrize(
    ("example", "misspelled", "key"),
    [
        ("cellprofiler", "pipline", "pipeline"),
        ("cellprofiler", "datafile", "data_file"),
        ("cellprofiler", "output_struture", "output_structure"),
        ("fiji", "output_file_loction", "output_file_location"),
        ("fiji", "shared_metdata", "shared_metadata"),
        ("omezarr", "input_loction", "input_location"),
        ("omezarr", "path_to_metdata", "path_to_metadata"),
    ],
)
def test_misspelled_keys_of_published_implementations_are_found(example: str, misspelled: str, key: str) -> None:
    own_names = collect_own_names(ROOT / "examples" / example / "worker")
    content = {misspelled: "x", "groups": [{"Metadata": "A=B"}]}
    assert find_misspelled_keys(content, {misspelled: "x"}, own_names) == {misspelled: key}


def test_no_known_key_is_similar_to_another() -> None:
    for key in KnownJobKeys.model_fields:
        assert find_similar_name(key, set(KnownJobKeys.model_fields) - {key}) is None


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("examples/*/files/*Job.json")), ids=lambda path: f"{path.parts[-3]}-{path.stem}"
)
def test_the_keys_of_all_examples_are_accepted(path: Path) -> None:
    own_names = collect_own_names(path.parents[1] / "worker")
    content = json.loads(path.read_text())
    assert not find_misspelled_keys(content, _get_shared(content), own_names)


def _get_shared(content: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key not in ("groups", "plates", "upload")}
