"""`submitJob` on the command line: sending the same jobs twice, and the hint about existing results."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from boto3 import Session

from distributed_something.aws.clients import Clients
from distributed_something.cli.context import Context, ExitCode
from distributed_something.cli.main import main
from distributed_something.core.submission import SubmissionDocument, build_submission, build_submission_time
from tests.support.fakes import QUEUE_URL, SETTINGS, FakeBucket, FakeSqs, build_client_error
from tests.support.run_documents import list_submissions

CONFIG = {name: value for name, value in SETTINGS.model_dump(exclude={"own"}).items() if value != ""}
REMEDY = "add --yes to send them again, or --replace to remove the waiting jobs first"


class Project:
    """A project with a Job file of 60 jobs, an SQS queue, and a bucket."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.patch, self.capsys = folder, patch, capsys
        self.sqs, self.bucket = FakeSqs(), FakeBucket()
        self.sqs.created = 0
        self.bucket.modified = time.time()
        (folder / "config.py").write_text("".join(f"{name} = {value!r}\n" for name, value in CONFIG.items()))
        self.write_jobs(60)
        patch.chdir(folder)
        ecs = SimpleNamespace(describe_services=lambda **_: {"services": []})
        clients = SimpleNamespace(sqs=self.sqs, s3=self.bucket, impatient_s3=self.bucket, ecs=ecs)
        patch.setattr(Context, "clients", clients)
        self.remaining = ("startCluster", "monitor")
        patch.setattr(Context, "find_remaining_commands", lambda _: self.remaining)
        patch.setattr(Context, "check_setup", lambda _: None)

    def write_jobs(self, count: int, **shared: Any) -> None:
        content = {"command": "work {n}", "output_location": "results/{job}", "expected_files": 1} | shared
        groups = [{"n": number} for number in range(count)]
        (self.folder / "job.json").write_text(json.dumps(content | {"groups": groups}))

    def write_worker(self, line: str) -> None:
        """Write a generic-worker.py whose `make_job` begins with this line."""
        (self.folder / "worker").mkdir()
        (self.folder / "worker" / "generic-worker.py").write_text(
            "from distributed_something.worker import BadMessage, job_from_message, serve\n\n"
            f"def make_job(message, folders, settings):\n    {line}\n"
            "    return job_from_message(message, folders, settings)\n\nserve(make_job=make_job)\n"
        )

    def submit(self, *arguments: str) -> tuple[int, str]:
        """Run the command, and return its exit code and what it wrote to standard error."""
        code = main(["submitJob", "job.json", *arguments])
        return code, self.capsys.readouterr().err

    def answer(self, text: str) -> None:
        """Let the command run in a terminal in which the user types this answer."""
        terminal = SimpleNamespace(isatty=lambda: True)
        self.patch.setattr(sys, "stdin", terminal)
        self.patch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
        self.patch.setattr(click.termui, "visible_prompt_func", lambda _: text)

    @property
    def documents(self) -> list[SubmissionDocument]:
        s3: Any = self.bucket
        return list_submissions(s3, SETTINGS.AWS_BUCKET, SETTINGS.APP_NAME)

    def write_document(self, **changes: Any) -> None:
        """Replace the only submission's document."""
        (key,) = (key for key in self.bucket.objects if "/submissions/" in key)
        self.bucket.objects[key] = build_submission(SubmissionDocument(**vars(self.documents[0]) | changes))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Project:
    return Project(tmp_path, monkeypatch, capsys)


# Checks before anything is sent


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_during_the_check_leaves_no_file_behind_and_sends_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    folder = project.folder / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_DFL)  # as if started without nohup
    project.write_worker(f"import os, time; os.kill(os.getppid(), {int(number)}); time.sleep(600)")
    code, text = project.submit()
    assert (code, text.strip()) == (130, "run.py: interrupted; to continue, run the same command again")
    assert list(folder.iterdir()) == []
    assert project.sqs.received == []


class Server:
    """An S3 server that returns `content` for every object. `seen`: the path and `Authorization` of each request."""

    def __init__(self, content: bytes) -> None:
        self.seen: list[tuple[str, str]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.seen.append((self.path, self.headers.get("Authorization", "")))
                self.send_response(200)
                self.send_header("ETag", '"e"')
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(b"0,1,2")
    with server.http:
        yield server
        server.http.shutdown()


def test_the_hook_check_reads_files_from_the_jobs_own_server(project: Project, server: Server) -> None:
    own = {"ALLOW_UNSAFE_INPUTS": "True", "ENDPOINT_CREDENTIALS_FILE": str(project.folder / "keys.ini")}
    lines = [f"{name} = {value!r}\n" for name, value in (CONFIG | own).items()]
    (project.folder / "config.py").write_text("".join(lines))
    section = f"[{server.endpoint.removeprefix('http://')}]"
    (project.folder / "keys.ini").write_text(f"{section}\naws_access_key_id = ADA\naws_secret_access_key = s\n")
    project.write_worker("pass")
    script = project.folder / "worker" / "generic-worker.py"
    check = """
def check(job, folders):
    folders.fetch(["tables/numbers.csv"])
    if job.id not in (folders.input_dir / "numbers.csv").read_text():
        raise BadMessage(f"numbers.csv has no {job.id}")

"""
    text = script.read_text().replace("serve(make_job=make_job)", f"{check}serve(make_job=make_job, check=check)")
    script.write_text(text)
    project.patch.setattr(Context, "clients", Clients(Session(region_name="us-east-1")))
    project.write_jobs(4, input_endpoint=server.endpoint, input_bucket="plates")
    code, error = project.submit("--dry-run")
    assert code == ExitCode.INPUT
    assert "groups[4]: the worker refuses this job: numbers.csv has no 3" in error
    ((path, authorization),) = server.seen
    assert path == "/plates/tables/numbers.csv"
    assert "Credential=ADA/" in authorization
    (project.folder / "keys.ini").unlink()
    code, error = project.submit("--dry-run")
    assert code == ExitCode.DONE
    note = f"not checked with s3://plates/tables/numbers.csv on {server.endpoint}, which cannot be read"
    assert note in " ".join(error.split())


@pytest.mark.parametrize("options", [(), ("--dry-run",), ("--again",)])
@pytest.mark.parametrize(
    ("content", "problems"),
    [
        (
            {"comand": "work {n}", "expected_file": 1, "timeout_minute": 5},
            ["comand", "expected_file", "timeout_minute"],
        ),
        ({"output_location": "results/{job}"}, ["groups[1]: the worker refuses this job: `command` is missing"]),
    ],
)
def test_jobs_that_cannot_run_are_rejected_and_nothing_is_sent(
    project: Project, options: tuple[str, ...], content: dict[str, Any], problems: list[str]
) -> None:
    (project.folder / "job.json").write_text(json.dumps(content | {"groups": [{"n": 1}]}))
    code, error = project.submit(*options)
    assert code == ExitCode.INPUT
    assert len(error.splitlines()) == len(problems)
    for line, problem in zip(error.splitlines(), problems, strict=True):
        assert line.startswith(f"run.py: job.json: {problem}")
    assert (project.sqs.received, project.bucket.objects) == ([], {})
    assert not list(project.folder.glob(".*"))


def test_jobs_that_the_projects_own_hook_refuses_are_rejected(project: Project) -> None:
    project.write_worker("raise BadMessage('no well')")
    code, error = project.submit("--dry-run")
    assert (code, error) == (
        ExitCode.INPUT,
        "run.py: job.json: groups[1]: the worker refuses this job: no well; "
        "correct the job file or the config, or make_job in worker/generic-worker.py\n",
    )


def test_misspelled_keys_do_not_hide_what_the_worker_refuses(project: Project) -> None:
    project.write_worker("if message['group']['n'] > message['limit']: raise BadMessage('too many')")
    content = {"comand": "work {n}", "limitt": 1, "uploadd": {}, "groups": [{"n": 1}, {"n": 2}]}
    (project.folder / "job.json").write_text(json.dumps(content))
    for options in ((), ("--dry-run",)):
        code, error = project.submit(*options)
        assert code == ExitCode.INPUT
        keys = [line.split(": ")[2] for line in error.splitlines()]
        assert keys == ["comand", "limitt", "uploadd", "groups[2]"]
        assert "the worker refuses this job: too many" in error
    assert not project.sqs.received


def test_a_module_that_is_missing_on_this_computer_is_noted_and_the_jobs_are_sent(project: Project) -> None:
    project.write_worker("import no_such_module")
    code, error = project.submit()
    assert code == ExitCode.DONE
    assert error.splitlines()[0] == (
        "note: worker/generic-worker.py: not checked with your jobs, because the module no_such_module is missing on "
        "this computer"
    )
    assert len(project.sqs.received) == 60


# The same jobs twice


def test_without_a_terminal_the_same_jobs_are_rejected_in_one_line(project: Project) -> None:
    assert project.submit()[0] == ExitCode.DONE
    time = build_submission_time(project.documents[0].began)
    code, error = project.submit()
    began = f"{time[:4]}-{time[4:6]}-{time[6:8]} {time[9:11]}:{time[11:13]} UTC"
    assert (code, error) == (
        ExitCode.INPUT,
        f"run.py: job.json: its 60 jobs were already sent at {began}, and the queue still has 60 jobs; {REMEDY}\n",
    )
    assert len(project.sqs.received) == 60
    assert len(project.documents) == 1


@pytest.mark.parametrize("answer", ["", "n", "N", "no"])
def test_in_a_terminal_no_is_the_default_and_nothing_is_sent(project: Project, answer: str) -> None:
    project.submit()
    project.answer(answer)
    code, error = project.submit()
    assert code == ExitCode.INPUT
    assert error.splitlines()[-1] == "nothing was sent"
    assert max(map(len, error.splitlines())) <= 80
    assert len(project.sqs.received) == 60
    assert not list(project.folder.glob(".*"))


def test_in_a_terminal_the_answer_yes_sends_the_jobs_again(project: Project) -> None:
    project.submit()
    project.answer("y")
    assert project.submit()[0] == ExitCode.DONE
    assert len(project.sqs.received) == 120


@pytest.mark.parametrize(("option", "waiting"), [("--yes", 120), ("--replace", 60)])
def test_options_send_the_same_jobs_again_without_a_question(project: Project, option: str, waiting: int) -> None:
    project.submit()
    assert project.submit(option)[0] == ExitCode.DONE
    assert len(project.sqs.received) == waiting


def test_a_file_that_has_not_changed_replaces_its_jobs_with_a_note(project: Project) -> None:
    project.submit()
    code, error = project.submit("--replace")
    assert code == ExitCode.DONE
    text = " ".join(error.split())
    assert "note job.json makes the same jobs as at 20" in text
    assert "Jobs that failed will probably fail in the same way, unless something else was corrected." in text
    assert max(map(len, error.splitlines())) <= 80
    project.write_jobs(60, command="better {n}")
    assert "the same jobs" not in project.submit("--replace")[1]


def test_a_first_submission_replaces_nothing(project: Project) -> None:
    assert "the same jobs" not in project.submit("--replace")[1]


def test_the_next_command_is_monitor_while_a_run_is_active(project: Project) -> None:
    project.remaining = ("monitor",)
    last = project.submit()[1].splitlines()[-1]
    assert last == "next: python run.py monitor files/AppSpotFleetRequestId.json"


def test_a_changed_job_file_is_not_added_to_its_waiting_jobs_without_a_question(project: Project) -> None:
    """Such as after a correction of the command, without --replace."""
    project.submit()
    project.write_jobs(61, command="better {n}")
    code, error = project.submit()
    assert code == ExitCode.INPUT
    assert "job.json: it has changed since 60 jobs of it were sent at 20" in error
    assert error.endswith("the queue still has 60 jobs; add --yes to send them as well, or --replace to remove the "
                          "waiting jobs first\n")  # fmt: skip
    assert len(project.sqs.received) == 60
    assert project.submit("--replace")[0] == ExitCode.DONE
    assert len(project.sqs.received) == 61


def test_jobs_of_another_file_are_sent_without_a_question(project: Project) -> None:
    project.submit()
    project.write_jobs(61)
    (project.folder / "job.json").rename(project.folder / "other.json")
    assert main(["submitJob", "other.json"]) == ExitCode.DONE
    assert len(project.sqs.received) == 121


def test_the_same_jobs_are_sent_without_a_question_after_they_left_the_queue(project: Project) -> None:
    project.submit()
    project.sqs.received.clear()
    project.write_document(ended="20200101T000000.000Z")
    assert project.submit()[0] == ExitCode.DONE


def test_jobs_that_were_just_sent_are_known_although_sqs_does_not_count_them_yet(project: Project) -> None:
    project.submit()
    project.sqs.received.clear()
    code, error = project.submit()
    assert code == ExitCode.INPUT
    assert f"UTC; {REMEDY}\n" in error


def test_jobs_that_were_sent_only_in_part_or_by_another_computer_are_described(project: Project) -> None:
    project.submit()
    project.write_document(count=12)
    assert "12 of its 60 jobs were already sent at" in project.submit()[1]
    project.write_document(count=0, ended=None)
    assert "job.json: another submitJob began to send its jobs at" in project.submit()[1]


def test_a_changed_time_limit_does_not_make_the_jobs_other_jobs(project: Project) -> None:
    project.submit()
    project.write_jobs(60, timeout_minutes=7)
    code, error = project.submit()
    assert code == ExitCode.INPUT
    assert "its 60 jobs were already sent at" in error


def test_a_bucket_that_cannot_be_listed_does_not_prevent_a_submission(project: Project) -> None:
    def refuse(_: str) -> Any:
        raise build_client_error("AccessDenied", "ListObjectsV2")

    project.bucket.get_paginator = refuse  # type: ignore[method-assign]
    code, error = project.submit()
    assert code == ExitCode.DONE
    assert error.startswith("note: earlier submissions cannot be read (needs s3:ListBucket)\n")


def test_resume_and_replace_exclude_each_other(project: Project) -> None:
    code, error = project.submit("--resume", "--replace")
    assert code == ExitCode.INPUT
    assert error.count("\n") == 1
    assert "leave out one of them" in error


def test_the_commit_of_the_project_is_in_the_document(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    find = "distributed_something.jobs.submission.document.find_git_commit"
    monkeypatch.setattr(find, lambda folder: f"commit of {folder.name}")
    project.submit()
    assert project.documents[0].git_commit == f"commit of {project.folder.name}"


# The hint about existing results


def write_results(project: Project, jobs: int) -> None:
    """Write a result file for this many jobs."""
    from distributed_something.jobs.job_file import load_job_file

    job_file = load_job_file(project.folder / "job.json", lambda bucket, prefix: [])
    for message in list(job_file.iter_checked_messages())[:jobs]:
        project.bucket.objects[f"{message.output_location}/out.csv"] = b"x"


HINT = (
    "already there   48 of 60 jobs have results and will be skipped; add --again to\n                run them again\n"
)


def test_the_number_of_jobs_that_have_results_is_printed_in_80_columns(project: Project) -> None:
    write_results(project, 48)
    assert project.submit() == (
        ExitCode.DONE, f"{HINT}jobs            60 of 60 sent to AppQueue\nnext: python run.py startCluster FLEETFILE\n"
    )  # fmt: skip
    assert project.documents[-1].already_there == 48


def test_a_dry_run_prints_it_too(project: Project) -> None:
    write_results(project, 48)
    assert project.submit("--dry-run") == (ExitCode.DONE, HINT)
    assert project.sqs.received == []


@pytest.mark.parametrize("arguments", [(), ("--dry-run",)])
def test_nothing_is_printed_with_again_or_without_results(project: Project, arguments: tuple[str, ...]) -> None:
    assert "already there" not in project.submit(*arguments)[1]
    write_results(project, 48)
    assert "already there" not in project.submit("--again", "--yes", *arguments)[1]


@pytest.mark.parametrize("arguments", [(), ("--dry-run",)])
def test_no_aws_error_while_counting_results_reaches_the_user(project: Project, arguments: tuple[str, ...]) -> None:
    write_results(project, 48)
    expected = project.submit("--again", "--yes", *arguments)
    del project.sqs.received[:]

    def refuse(**_: Any) -> Any:
        raise build_client_error("AccessDenied", "ListObjectsV2")

    project.patch.setattr(Context.clients, "impatient_s3", SimpleNamespace(list_objects_v2=refuse))
    assert project.submit("--yes", *arguments) == expected


def test_nothing_is_printed_for_a_worker_that_chooses_the_location_itself(project: Project) -> None:
    write_results(project, 48)
    (project.folder / "worker").mkdir()
    (project.folder / "worker" / "generic-worker.py").write_text(
        "from distributed_something.worker import job_from_message, serve\n"
        "def make_job(message, folders, settings):\n"
        "    return job_from_message(message, folders, settings, output_location='elsewhere')\n"
        "serve(make_job=make_job)\n"
    )
    assert project.submit("--dry-run") == (ExitCode.DONE, "")


# A canary


def test_a_canary_sends_few_jobs_and_its_document_says_how_many_the_file_has(project: Project) -> None:
    code, text = project.submit("--canary", "6")
    assert (code, len(project.sqs.received)) == (0, 6)
    assert "canary          6 of 60 jobs, spread evenly over the file" in text
    (document,) = project.documents
    assert (document.planned, document.count, document.canary_of, document.job_count) == (6, 6, 60, 60)
    project.sqs.received.clear()
    project.submit("--yes")
    full = project.documents[-1]
    assert (full.planned, full.canary_of, full.job_count) == (60, 0, 60)
    assert document.canary_digest == full.digest != document.digest


def test_a_canary_is_chosen_by_the_sizes_of_its_inputs_if_they_are_known(project: Project) -> None:
    project.write_jobs(60, inputs=["images/{n}.tif"])
    for number in range(60):
        project.bucket.put_object(Key=f"images/{number}.tif", Body=b"x" * (60 - number))
    _, text = project.submit("--canary", "6")
    assert "6 of 60 jobs, spread over the sizes of their inputs" in text


@pytest.mark.parametrize("count", ["1", "4"])
def test_a_canary_that_is_too_small_for_a_forecast_says_so_before_it_is_sent(project: Project, count: str) -> None:
    code, text = project.submit("--canary", count)
    assert code == 0
    note = f"note: --canary {count}: the summary will have no forecast, which needs at least 5 measured jobs"
    assert text.index(note) < text.index("sent to")
    assert "note: --canary" not in project.submit("--canary", "5", "--yes")[1]


def test_a_canary_that_is_refused_is_not_announced(project: Project) -> None:
    project.submit("--canary", "6")
    code, error = project.submit("--canary", "3")  # the queue is not empty
    assert (code, len(error.splitlines())) == (2, 1)
    code, error = project.submit("--canary", "6", "--resume")  # nothing was interrupted
    assert (code, len(error.splitlines())) == (2, 1)
    write_results(project, 12)

    def refuse(**_: str) -> Any:
        raise build_client_error("AWS.SimpleQueueService.NonExistentQueue", "GetQueueUrl")

    project.sqs.get_queue_url = refuse  # type: ignore[method-assign]
    for options in ((), ("--canary", "6"), ("--canary", "1")):
        code, error = project.submit("--yes", *options)
        assert (code, len(error.splitlines())) == (1, 1), error


def test_an_interrupted_canary_says_how_many_jobs_resume_concerns(project: Project) -> None:
    project.submit("--canary", "6")
    interrupted = project.documents[0]
    journal = project.folder / ".job.json.submitted"
    header = {"digest": interrupted.digest, "queue": QUEUE_URL, "count": 6, "submission": vars(interrupted)}
    journal.write_text(json.dumps(header) + "\n0 1\n")
    code, error = project.submit()
    assert code == 2
    assert "an earlier canary of 6 jobs of this job file was interrupted; type --canary 6 --resume to continue" in error
    for options in ((), ("--canary", "7")):
        code, error = project.submit("--resume", *options)
        assert code == 2
        assert "the interrupted submission is a canary of 6 jobs; type --canary 6 --resume to continue it" in error
        assert "send all jobs" not in error
    code, text = project.submit("--resume", "--canary", "6")
    assert code == 0
    assert "jobs            4 of 6 sent to" in text


def test_a_long_job_file_is_shortened_in_a_question(project: Project) -> None:
    project.submit()
    path = Path("results of the plates", "x" * 60, "y" * 60, "job.json")
    path.parent.mkdir(parents=True)
    (project.folder / "job.json").rename(path)
    project.answer("n")
    code = main(["submitJob", str(path)])
    lines = project.capsys.readouterr().err.splitlines()
    assert (code, max(map(len, lines)) <= 80) == (2, True)
    assert any("…" in line and "/job.json:" in line for line in lines)


def test_a_canary_can_be_previewed(project: Project) -> None:
    assert project.submit("--canary", "6", "--dry-run")[0] == 0
    assert (project.documents, project.sqs.received) == ([], [])


@pytest.mark.parametrize("count", ["0", "60", "61", "many"])
def test_a_number_that_is_not_a_part_of_the_jobs_is_one_line_and_nothing_is_sent(project: Project, count: str) -> None:
    code, text = project.submit("--canary", count)
    assert (code, len(text.splitlines()), project.documents) == (2, 1, [])
    assert "--canary" in text


def test_all_jobs_after_a_canary_that_still_waits_are_sent_only_after_a_question(project: Project) -> None:
    project.submit("--canary", "6")
    code, text = project.submit()
    assert code == 2
    assert "a canary of 6 jobs was sent at" in text
    assert "add --yes to send them as well" in text


def test_placeholders_in_the_config_do_not_hide_what_the_worker_refuses(project: Project) -> None:
    lines = [f"{name} = {value!r}\n" for name, value in (CONFIG | {"AWS_BUCKET": "your-bucket-name"}).items()]
    (project.folder / "config.py").write_text("".join(lines))
    project.write_worker("raise BadMessage('no well')")
    script = project.folder / "worker" / "generic-worker.py"
    for options in ((), ("--dry-run",)):
        code, error = project.submit(*options)
        assert code == ExitCode.INPUT
        assert [line.split(": ")[1:3] for line in error.splitlines()] == [
            ["config.py", "AWS_BUCKET"], ["job.json", "groups[1]"],
        ]  # fmt: skip
    check = "def check(job, folders):\n    folders.fetch(['a.csv'])\n\n"
    text = script.read_text().replace("raise BadMessage('no well')", "pass")
    script.write_text(text.replace("serve(make_job=make_job)", f"{check}serve(make_job=make_job, check=check)"))
    project.patch.delattr(Context, "clients")  # fails if AWS is called
    code, error = project.submit("--dry-run")
    assert (code, len(error.splitlines())) == (ExitCode.INPUT, 1)
