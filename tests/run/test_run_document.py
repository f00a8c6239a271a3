"""`run.json`: what a run was started with. It never ends a start."""

from __future__ import annotations

import hashlib
import json
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from distributed_something.core.submission import SubmissionDocument, build_submission, build_submission_time
from distributed_something.jobs.submission.input_files import keep_input_files
from distributed_something.run.inputs import run_document
from distributed_something.run.inputs.run_document import RunFiles, record_run_inputs, record_submissions
from distributed_something.worker import VERSION, AppKeys
from tests.support.fakes import MONITOR_FILE, SETTINGS, START, FakeBucket, FakeSqs, build_client_error

KEY = MONITOR_FILE.keys.run_document


class Account:
    """A bucket with submissions, a queue, and the files that a run starts with."""

    def __init__(self, folder: Path) -> None:
        self.bucket, self.sqs = FakeBucket(), FakeSqs()
        self.sqs.created = START - 1000
        identity = {"Arn": "arn:aws:sts::123456789012:assumed-role/lab/ann"}
        self.clients: Any = SimpleNamespace(
            s3=self.bucket, sqs=self.sqs, sts=SimpleNamespace(get_caller_identity=lambda: identity)
        )
        self.config, self.fleet_file = folder / "config.py", folder / "fleet.json"
        self.config.write_text("APP_NAME = 'App'\n")
        self.fleet_file.write_text('\ufeff{"IamFleetRole": "role", "LaunchSpecifications": [{"UserData": "c2VjcmV0"}]}')

    def record(self, **own: str) -> str | None:
        settings = SETTINGS.model_copy(update={"own": own})
        files = RunFiles(self.config, self.fleet_file, "abc-dirty", lambda: "sha256:123")
        return record_run_inputs(self.clients, settings, MONITOR_FILE, files, START)

    def submit(self, seconds: float, name: str = "job.json", **values: Any) -> None:
        time = build_submission_time(START + seconds)
        document = SubmissionDocument("App", "AppQueue", time, name, "d", 2, 2, time, path=f"files/{name}", **values)
        self.bucket.objects[AppKeys("App").submission(time)] = build_submission(document)

    @property
    def document(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.bucket.objects[KEY])
        return content


@pytest.fixture
def account(tmp_path: Path) -> Account:
    return Account(tmp_path)


def test_the_document_says_what_was_run_with_what_and_by_whom(account: Account) -> None:
    account.submit(-5, files={"files/job.json": "f00"}, git_commit="def")
    assert account.record(PLATE="P1", DB_PASSWORD="hunter2") is None
    document = account.document
    assert (document["app"], document["run"], document["started"][:4]) == ("App", MONITOR_FILE.run, "2026")
    assert (document["git_commit"], document["versions"]["distributed_something"]) == ("abc-dirty", VERSION)
    assert document["image"] == {"name": SETTINGS.DOCKERHUB_TAG, "digest": "sha256:123"}
    assert (document["owner"], document["user"]) == (
        SETTINGS.OWNER or "ann", "arn:aws:sts::123456789012:assumed-role/lab/ann",
    )  # fmt: skip
    values = document["config"]["values"]
    assert (values["APP_NAME"], values["MEMORY"], values["PLATE"], values["DB_PASSWORD"]) == (
        "App", SETTINGS.MEMORY, "P1", "***",
    )  # fmt: skip
    assert document["config"]["sha256"] == hashlib.sha256(account.config.read_bytes()).hexdigest()
    assert document["fleet_file"]["values"]["LaunchSpecifications"] == [{"UserData": "***"}]
    assert document["fleet_file"]["sha256"] == hashlib.sha256(account.fleet_file.read_bytes()).hexdigest()
    assert document["job_files"] == [
        {
            "path": "files/job.json",
            "files": {"files/job.json": {"sha256": "f00", "key": "runs/App/inputs/f00/job.json"}},
            "jobs": 2,
            "submission": AppKeys("App").submission(build_submission_time(START - 5)),
            "git_commit": "def",
            "retry_of": "",
        }
    ]
    assert "hunter2" not in account.bucket.objects[KEY].decode()


def test_only_submissions_whose_jobs_may_be_in_the_queue_are_listed(account: Account) -> None:
    account.submit(-2000, "before-the-queue.json")
    account.submit(-30, "replaced.json")
    account.submit(-20, "replacing.json", replace=True, replaced=True)
    account.submit(-10, "more.json")
    account.record()
    assert [entry["path"] for entry in account.document["job_files"]] == ["files/replacing.json", "files/more.json"]


def test_jobs_that_are_sent_during_the_run_are_added(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    account.submit(-5)
    account.record()
    account.submit(5, "more.json")
    puts: list[dict[str, Any]] = []

    def get_object(**request: Any) -> dict[str, Any]:
        return {"Body": BytesIO(account.bucket.objects[request["Key"]]), "ETag": '"e"'}

    def put_object(**request: Any) -> None:
        puts.append(request)
        if len(puts) == 1:  # another submitJob was faster
            raise build_client_error("PreconditionFailed", "PutObject")
        account.bucket.objects[request["Key"]] = request["Body"]

    monkeypatch.setattr(run_document, "_find_document", lambda *_: (account.document, '"e"'))
    monkeypatch.setattr(account.bucket, "put_object", put_object)
    record_submissions(account.clients, SETTINGS, MONITOR_FILE.run, START + 10)
    assert [entry["path"] for entry in account.document["job_files"]] == ["files/job.json", "files/more.json"]
    assert [request["IfMatch"] for request in puts] == ['"e"', '"e"']
    assert account.document["git_commit"] == "abc-dirty"


def test_a_run_of_an_older_version_gets_no_document(account: Account) -> None:
    account.submit(5)
    record_submissions(account.clients, SETTINGS, MONITOR_FILE.run, START + 10)
    assert KEY not in account.bucket.objects


@pytest.mark.parametrize("fault", ["S3 refuses", "no fleet file", "no config", "a bug"])
def test_the_reason_is_returned_if_the_document_cannot_be_written(account: Account, fault: str) -> None:
    if fault == "S3 refuses":
        account.bucket.put_object = lambda **_: (_ for _ in ()).throw(build_client_error("AccessDenied", "PutObject"))  # type: ignore[method-assign]
    elif fault == "a bug":
        account.sqs.get_queue_url = lambda **_: 1 / 0  # type: ignore[method-assign, assignment]
    else:
        (account.fleet_file if fault == "no fleet file" else account.config).unlink()
    assert account.record()
    assert KEY not in account.bucket.objects


def test_the_document_is_written_although_the_user_is_unknown(account: Account) -> None:
    def refuse() -> None:
        raise build_client_error("AccessDenied", "GetCallerIdentity")

    account.clients.sts.get_caller_identity = refuse
    assert account.record() is None
    assert account.document["user"] is None


def test_job_files_and_tables_are_copied_under_their_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket: Any = FakeBucket()
    paths = [tmp_path / "job.json", tmp_path / "wells ü.csv", tmp_path / "missing.csv"]
    for path in paths[:2]:
        path.write_text(path.name)
    digests = {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths[:2]}
    assert keep_input_files(bucket, "app-bucket", "App", paths) == digests
    assert bucket.objects == {
        f"runs/App/inputs/{digest}/{Path(path).name}": Path(path).read_bytes() for path, digest in digests.items()
    }
    monkeypatch.setattr("distributed_something.jobs.submission.input_files.MAX_COPIED_BYTES", 3)
    bucket.put_object = lambda **_: 1 / 0
    assert keep_input_files(bucket, "app-bucket", "App", paths) == digests  # too large to be copied
