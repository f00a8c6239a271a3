"""The hook `check` of a project's worker: `submitJob` gives it all jobs, and the files that it asks for."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from distributed_something.core.errors import CloudError, InputError
from distributed_something.jobs.job_file import load_job_file
from distributed_something.jobs.own_worker import IncompleteCheck, OwnWorker, OwnWorkerCheck
from distributed_something.jobs.run_job import build_one_job_container
from distributed_something.jobs.submission.plan import plan_submission
from distributed_something.jobs.uploads.checked_files import MAX_FILE_BYTES, CheckedFiles
from tests.support.fakes import SETTINGS, FakeBucket
from tests.support.paths import ROOT

HOOK = """
from distributed_something.worker import BadMessage, Failed, job_from_message, serve

def make_job(message, folders, settings):
    job = job_from_message(message, folders, settings, own={"group": message["group"]})
    return job

def check(job, folders):
    group = job.own["group"]
    table = f"tables/{group['plate']}.csv"
    folders.fetch({table: table})
    if group["well"] not in (folders.input_dir / table).read_text().split():
        raise Failed(f"{table} has no well {group['well']}")

serve(make_job=make_job, check=check)
"""
JOB = {"command": "true", "groups": [{"plate": p, "well": w} for p in ("P1", "P2") for w in ("A01", "A02", "A03")]}


def check(
    folder: Path, files: dict[str, str], content: dict[str, Any] = JOB, hook: str = HOOK,
    get_s3: Callable[[str], Any] | None = None, on_note: Callable[[str], None] = print,
) -> IncompleteCheck | None:  # fmt: skip
    """Check the jobs with these files in the bucket `app-bucket`, or with the clients that `get_s3` returns."""
    (folder / "worker").mkdir(exist_ok=True)
    (folder / "worker" / "generic-worker.py").write_text(hook)
    path = folder / "job.json"
    path.write_text(json.dumps(content))
    job_file = load_job_file(path, lambda bucket, prefix: [])
    bucket = FakeBucket()
    bucket.objects = {name: text.encode() for name, text in files.items()}
    source = CheckedFiles("app-bucket", job_file.uploads, get_s3 or (lambda endpoint: build_s3(bucket)))
    worker = OwnWorker(folder / "worker", ROOT / "worker", build_one_job_container(SETTINGS))
    with OwnWorkerCheck(worker, job_file, fetch=source.fetch, on_note=on_note) as check:
        return check.complete(plan_submission(job_file))


def build_s3(bucket: FakeBucket, size: int = 1) -> Any:
    def get_object(**request: str) -> dict[str, Any]:
        assert request["Bucket"] == "app-bucket"
        return bucket.get_object(**request) | {"ContentLength": size}

    return SimpleNamespace(get_object=get_object)


def test_every_job_is_checked_with_the_files_that_it_needs(tmp_path: Path) -> None:
    wells = "A01 A02 A03"
    assert check(tmp_path, {"tables/P1.csv": wells, "tables/P2.csv": wells}) is None
    with pytest.raises(InputError) as caught:
        check(tmp_path, {"tables/P1.csv": "A01 A02", "tables/P2.csv": "A02 A03"})
    assert [(problem.key, problem.problem) for problem in caught.value.problems] == [
        ("groups[3]", "the worker refuses this job: tables/P1.csv has no well A03"),
        ("groups[4]", "the worker refuses this job: tables/P2.csv has no well A01"),
    ]
    assert {problem.remedy for problem in caught.value.problems} == {""}


@pytest.mark.parametrize("error", ["BadMessage", "Failed"])
def test_only_a_job_that_is_refused_because_of_a_file_is_not_blamed_on_the_job_file(tmp_path: Path, error: str) -> None:
    files = {"tables/P1.csv": "A01 A02", "tables/P2.csv": "A01 A02 A03"}
    refused = HOOK.replace("raise Failed", f"raise {error}")
    with pytest.raises(InputError) as caught:
        check(tmp_path, files, hook=refused)
    assert caught.value.remedy == ""
    with pytest.raises(InputError, match=r"correct the job file or the config, or make_job"):
        check(tmp_path, files, hook=HOOK.replace("    table = f", f"    raise {error}('no')\n    table = f"))


def test_files_in_upload_folders_take_the_place_of_those_in_the_bucket(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "P1.csv").write_text("A01 A02 A03")
    content = JOB | {"upload": {"new": "tables"}}
    assert check(tmp_path, {"tables/P1.csv": "", "tables/P2.csv": "A01 A02 A03"}, content) is None
    with pytest.raises(InputError, match=r"groups\[1\]: .*tables/P1.csv has no well A01"):
        check(tmp_path, {"tables/P1.csv": "", "tables/P2.csv": "A01 A02 A03"})


def test_a_file_that_is_missing_is_named_and_the_other_jobs_are_checked(tmp_path: Path) -> None:
    assert check(tmp_path, {"tables/P2.csv": "A01 A02 A03"}) == IncompleteCheck(
        "no file", "s3://app-bucket/tables/P1.csv"
    )
    with pytest.raises(InputError, match=r"groups\[6\]: the worker refuses this job: tables/P2.csv has no well A03"):
        check(tmp_path, {"tables/P2.csv": "A01 A02"})


def test_files_come_from_the_server_and_bucket_of_the_job(tmp_path: Path) -> None:
    wells = "A01 A02 A03"
    requests: list[tuple[str, str]] = []

    def get_s3(endpoint: str) -> Any:
        def get_object(**request: str) -> dict[str, Any]:
            requests.append((endpoint, f"{request['Bucket']}/{request['Key']}"))
            return {"Body": BytesIO(wells.encode() if "P1" in request["Key"] else b"A01"), "ContentLength": 1}

        return SimpleNamespace(get_object=get_object)

    content = JOB | {"input_bucket": "plates", "input_endpoint": "https://s3.example.org", "upload": {"new": "tables"}}
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "P1.csv").write_text("is in AWS")
    with pytest.raises(InputError) as caught:
        check(tmp_path, {}, content, get_s3=get_s3)
    assert [problem.key for problem in caught.value.problems] == ["groups[5]", "groups[6]"]
    assert requests == [("https://s3.example.org", f"plates/tables/{plate}.csv") for plate in ("P1", "P2")]
    place = "s3://plates/tables/P1.csv on https://s3.example.org"
    assert check(tmp_path, {}, content, get_s3=lambda endpoint: None) == IncompleteCheck("no file", place)


def test_each_warning_of_the_hook_is_a_note_once_even_if_jobs_are_refused(tmp_path: Path) -> None:
    warning = "    import warnings\n    warnings.warn(f\"is {group['plate']} right?\")\n"
    warning += "    warnings.warn('not for users', DeprecationWarning)\n"
    hook = HOOK.replace("    table = f", f"{warning}    table = f")
    notes: list[str] = []
    wells = "A01 A02 A03"
    assert check(tmp_path, {"tables/P1.csv": wells, "tables/P2.csv": wells}, hook=hook, on_note=notes.append) is None
    assert notes == ["is P1 right?", "is P2 right?"]
    notes.clear()
    with pytest.raises(InputError):
        check(tmp_path, {"tables/P1.csv": "A01", "tables/P2.csv": wells}, hook=hook, on_note=notes.append)
    assert notes == ["is P1 right?", "is P2 right?"]


def test_files_with_the_same_name_are_not_mixed_up(tmp_path: Path) -> None:
    hook = HOOK.replace("fetch({table: table})", "fetch([table])").replace("input_dir / table", "input_dir / 'a.csv'")
    hook = hook.replace("{group['plate']}.csv", "{group['plate']}/a.csv")
    with pytest.raises(InputError, match=r"groups\[6\]: .*tables/P2/a.csv has no well A03"):
        check(tmp_path, {"tables/P1/a.csv": "A01 A02 A03", "tables/P2/a.csv": "A01 A02"}, hook=hook)


@pytest.mark.parametrize("reason", ["no cloud", "refused", "too large"])
def test_a_file_that_cannot_be_read_is_not_fetched(tmp_path: Path, reason: str) -> None:
    bucket = FakeBucket()
    bucket.objects["a.csv"] = b"x"

    def get_s3(endpoint: str) -> Any:
        if reason == "refused":
            raise CloudError("no login")
        return None if reason == "no cloud" else build_s3(bucket, MAX_FILE_BYTES + 1)

    available = CheckedFiles("app-bucket", {}, lambda endpoint: build_s3(bucket))
    assert not CheckedFiles("app-bucket", {}, get_s3).fetch("", "s3://app-bucket/a.csv", tmp_path / "a.csv")
    assert not available.fetch("", "https://example.org/a.csv", tmp_path / "a.csv")
    assert available.fetch("", "s3://app-bucket/a.csv", tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_bytes() == b"x"
