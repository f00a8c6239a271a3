"""The worker as a separate process on an emulated queue."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from distributed_something.worker.job.job_id import job_id
from tests.support.emulator import WorkerLab, run_ministack, wait_until
from tests.support.paths import ROOT

LONG_LEASE = 60  # seconds
NEXT_RUN = "20991231T000000Z"  # later than any object in the bucket
RECORD_KEYS = {
    "job", "state", "final", "replaced", "attempts", "machine", "container", "slot", "image", "image_digest",
    "worker_version", "app", "run", "sent", "started", "fetch_started", "program_started", "program_ended", "ended",
    "seconds", "time_limit_seconds", "exit_code", "reason", "reason_class", "telling_line", "last_lines",
    "program_seconds", "peak_memory_bytes", "memory_limit_bytes", "cpu_seconds", "bytes_in", "inputs",
    "bytes_out", "outputs", "delivered", "overwritten", "results_of", "output_location", "input_endpoint",
    "output_endpoint", "missing_input",
    "earlier_attempts", "other_submissions", "retry_of", "submission", "again_since", "log", "start_error",
    "message_id", "message",
}  # fmt: skip


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with run_ministack(tmp_path_factory.mktemp("cloud")) as url:
        yield url


@pytest.fixture(scope="module")
def lab(cloud: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerLab]:
    """One worker with four slots, two attempts per job, and leases that do not expire even on a busy computer."""
    lab = WorkerLab(cloud, tmp_path_factory.mktemp("lab"), visibility=LONG_LEASE)
    lab.start_worker(DOCKER_CORES="4")
    yield lab
    lab.kill_workers()


@pytest.fixture
def own_lab(cloud: str, tmp_path: Path) -> Iterator[WorkerLab]:
    """A separate queue for this test. The test must start the workers."""
    lab = WorkerLab(cloud, tmp_path, visibility=LONG_LEASE)
    yield lab
    lab.kill_workers()


def python_command(code: str, *args: str) -> list[str]:
    return [sys.executable, "-c", code, *args]


def test_a_successful_job_has_verified_results_and_a_complete_record(lab: WorkerLab) -> None:
    lab.put_object("in/a.txt", b"abc")
    message = lab.send_job(
        group={"well": "A01"}, inputs=["in/a.txt"], command="cp {input_dir}/a.txt {output_dir}/b.txt", expected_files=1
    )
    record = lab.wait_for_record(job_id(message), state="done")
    assert set(record) == RECORD_KEYS
    key = f"App/{job_id(message)}/b.txt"
    digest = hashlib.sha256(b"abc").hexdigest()
    assert record["outputs"] == [{"bucket": lab.name, "key": key, "size": 3, "checksum_sha256": digest}]
    assert (record["exit_code"], record["bytes_in"], record["bytes_out"], record["attempts"]) == (0, 3, 3, 1)
    (file,) = record["inputs"]
    assert (file["address"], file["size"]) == (f"s3://{lab.name}/in/a.txt", 3)
    assert file["etag"]
    assert record["message"] == message
    assert record["peak_memory_bytes"] > 100_000
    assert lab.read_object(key) == b"abc"
    assert (record["log"], record["telling_line"]) == (None, None)  # the program printed nothing
    assert record["output_location"] == f"s3://{lab.name}/App/{job_id(message)}"
    names = ("started", "fetch_started", "program_started", "program_ended", "ended")
    assert sorted(names, key=record.__getitem__) == list(names)
    assert (record["final"], record["earlier_attempts"], record["results_of"]) == (True, [], None)
    assert record["container"]
    assert record["slot"] in range(4)
    wait_until(
        lambda: not lab.count_messages() and not lab.count_messages(hidden=True), "the message is still in the queue"
    )


def test_a_failure_is_recorded_with_the_last_lines_and_moves_to_the_dead_letter_queue_after_the_last_attempt(
    lab: WorkerLab,
) -> None:
    message = lab.send_job(group={"x": "three"}, command="echo before; echo no such well >&2; exit 3", shell=True)
    record = lab.wait_for_record(job_id(message), state="failed", attempts=2)
    assert (record["exit_code"], record["reason"], record["reason_class"]) == (3, "exit code 3", "program")
    assert record["last_lines"][-2:] == ["before", "no such well"]
    wait_until(
        lambda: any(json.loads(dead_message["Body"]) == message for dead_message in lab.receive_dead_letters()),
        "the message is not in the dead-letter queue",
    )


def test_the_record_of_a_failure_shows_the_line_that_says_why_it_failed(lab: WorkerLab) -> None:
    code = "import atexit; atexit.register(lambda: print(*range(40), sep='\\n')); raise ValueError('no nuclei in A01')"
    record = lab.wait_for_record(
        job_id(lab.send_job(group={"x": "traceback"}, command=python_command(code))), state="failed", attempts=2
    )
    assert record["telling_line"] == "ValueError: no nuclei in A01"
    assert record["last_lines"] == ["ValueError: no nuclei in A01", *map(str, range(21, 40))]


def test_a_worker_writes_a_journal_with_its_totals_and_a_line_per_attempt(own_lab: WorkerLab) -> None:
    done = own_lab.send_job(group={"x": "good"}, command="true")
    failed = own_lab.send_job(group={"x": "bad"}, command="exit 3", shell=True)
    own_lab.start_worker(JOURNAL_SECONDS="1")
    journal = own_lab.wait_for_journal(done=1, failed=1)
    first, *lines = journal
    assert (first["slots"], first["attempts"], first["already_there"]) == (1, 3, 0)
    ends = sorted((line["job"], line["attempts"], line["final"], line["exit_code"]) for line in lines)
    assert {line["job"]: (line["group"]["x"], line["output_location"]) for line in lines} == {
        job_id(done): ("good", f"s3://{own_lab.name}/App/{job_id(done)}"),
        job_id(failed): ("bad", f"s3://{own_lab.name}/App/{job_id(failed)}"),
    }
    bad = job_id(failed)
    assert ends == [(bad, 1, False, 3), (bad, 2, True, 3), (job_id(done), 1, True, 0)]
    own_lab.workers[0].terminate()
    assert own_lab.wait_for_journal(ended=True)[0]["running"] == 0


def test_a_bad_message_moves_to_the_dead_letter_queue_at_once_with_its_reason(lab: WorkerLab) -> None:
    bodies = ["{", json.dumps({"group": {"a": "1"}, "command": "cat {plate}"}), '{"group": "\\ud800", "command": "w"}']
    for body in bodies:
        lab.send_text(body)
    reasons: dict[str, str] = {}

    def have_all_moved() -> bool:
        for message in lab.receive_dead_letters():
            if message.get("MessageAttributes"):
                reasons[message["Body"]] = message["MessageAttributes"]["reason"]["StringValue"]
        return set(reasons) >= set(bodies)

    wait_until(have_all_moved, f"not all messages moved to the dead-letter queue: {reasons}")
    assert "the message is not valid JSON" in reasons[bodies[0]]
    assert "the placeholder {plate} has no value" in reasons[bodies[1]]


@pytest.mark.parametrize(
    "value", ['it\'s "two" words', "; touch pwned", "$(touch pwned) `touch pwned`", "a\nb\n", "../../x", "*", "é💡", ""]
)
def test_any_value_reaches_the_program_unchanged(lab: WorkerLab, value: str) -> None:
    code = "import sys, pathlib; pathlib.Path(sys.argv[1], 'v').write_bytes(sys.argv[2].encode())"
    commands: list[dict[str, Any]] = [
        {"command": python_command(code, "{output_dir}", "{v}")},
        {"command": "printf %s {v} > {output_dir}/v", "shell": True},
        {"command": 'printf %s "{v}" > "{output_dir}/v"; ls > /dev/null', "shell": True},
    ]
    messages = [lab.send_job(group={"v": value}, **command, expected_files=1) for command in commands]
    for message in messages:
        lab.wait_for_record(job_id(message), state="done")
        assert lab.read_object(f"App/{job_id(message)}/v") == value.encode()


def test_output_that_is_not_utf8_is_logged_unchanged_and_shown_in_the_record(lab: WorkerLab) -> None:
    message = lab.send_job(group={"x": "bytes"}, command="printf '\\377\\376 caf\\351\\n'; exit 1", shell=True)
    record = lab.wait_for_record(job_id(message), state="failed")
    assert record["last_lines"] == ["\ufffd\ufffd caf\ufffd"]
    assert lab.read_object(record["log"].removeprefix(f"s3://{lab.name}/")) == b"\xff\xfe caf\xe9\n"


@pytest.mark.parametrize(
    "command", ["echo own > log.txt", "mkfifo log.txt", "mkdir log.txt", "ln -s /etc/hosts log.txt"]
)
def test_a_file_named_like_the_log_does_not_replace_the_log(lab: WorkerLab, command: str) -> None:
    message = lab.send_job(group={"x": command}, command=f"echo hello; {command}", shell=True)
    record = lab.wait_for_record(job_id(message), state="done")
    assert lab.read_object(record["log"].removeprefix(f"s3://{lab.name}/")) == b"hello\n"


@pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="/proc is needed to find processes outside the process group"
)
def test_child_processes_that_a_program_leaves_behind_are_killed(lab: WorkerLab) -> None:
    code = (
        "import subprocess; print(*(subprocess.Popen(['sleep', '600'], start_new_session=n > 0).pid for n in (0, 1)))"
    )
    message = lab.send_job(group={"x": "children"}, command=python_command(code))
    record = lab.wait_for_record(job_id(message), state="done")
    pids = (lab.read_object(record["log"].removeprefix(f"s3://{lab.name}/")) or b"").split()
    assert len(pids) == 2
    wait_until(
        lambda: not any(_is_alive(int(pid)) for pid in pids), "a process is still running"
    )  # each process would run for 600 s


def test_a_job_that_takes_too_long_fails_with_reason_class_time_out(lab: WorkerLab) -> None:
    message = lab.send_job(group={"x": "slow"}, command="sleep 600", timeout_minutes=0.005)
    record = lab.wait_for_record(job_id(message), state="failed")
    assert record["reason_class"] == "time-out"
    assert record["exit_code"] == -signal.SIGTERM


def test_a_job_with_a_missing_input_fails_at_once_and_names_the_input(lab: WorkerLab) -> None:
    message = lab.send_job(group={"x": "nowhere"}, inputs=["in/{x}.tif"], command="true")
    record = lab.wait_for_record(job_id(message), state="failed")
    assert record["reason_class"] == "missing input"
    assert f"s3://{lab.name}/in/nowhere.tif" in record["reason"]
    assert record["attempts"] == 1
    wait_until(lambda: lab.receive_dead_letters(), "the message did not move to the dead-letter queue")


def test_a_job_whose_worker_is_killed_at_every_attempt_ends_with_a_record_that_says_so(
    cloud: str, tmp_path: Path
) -> None:
    """The queue has the redrive policy of `setup`: SQS delivers the job once more than its program may run."""
    retries = 2
    lab = WorkerLab(cloud, tmp_path, max_receives=retries + 1, visibility=2)
    starts = tmp_path / "starts"
    message = lab.send_job(group={"x": "deadly"}, command=f"echo >> {starts}; exec sleep 60", shell=True)
    for attempt in range(retries):
        lab.start_worker(JOB_RETRIES=str(retries))
        wait_until(
            lambda number=attempt + 1: starts.exists() and starts.read_text().count("\n") == number,
            f"attempt {attempt + 1} did not start",
        )
        lab.kill_workers()
    lab.start_worker(JOB_RETRIES=str(retries))
    try:
        record = lab.wait_for_record(job_id(message), state="failed")
        letters = wait_until(lab.receive_dead_letters, "the message is not in the dead-letter queue")
    finally:
        lab.kill_workers()
    assert record["reason_class"] == "crash"
    assert record["reason"] == "the worker of the last attempt was lost"
    assert starts.read_text().count("\n") == retries
    assert [json.loads(letter["Body"]) for letter in letters] == [message]
    assert letters[0]["MessageAttributes"]["reason"]["StringValue"].startswith("crash: ")


def test_a_killed_programs_record_names_the_signal(lab: WorkerLab) -> None:
    message = lab.send_job(group={"x": "killed"}, command="kill -9 $$", shell=True)
    record = lab.wait_for_record(job_id(message), state="failed")
    assert (record["reason_class"], record["reason"]) == ("signal", "killed by signal 9")


def test_the_record_names_a_program_that_does_not_exist(lab: WorkerLab) -> None:
    message = lab.send_job(group={"x": "absent"}, command="no-such-program")
    assert "'no-such-program' cannot be started" in lab.wait_for_record(job_id(message), state="failed")["reason"]


def test_a_job_with_too_few_files_fails_and_uploads_nothing(lab: WorkerLab) -> None:
    message = lab.send_job(group={"x": "few"}, command=["touch", "{output_dir}/one"], expected_files=2)
    assert lab.wait_for_record(job_id(message), state="failed")["reason"] == "1 of 2 expected files written"
    assert lab.read_object(f"App/{job_id(message)}/one") is None


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_program_cannot_read_the_workers_environment(lab: WorkerLab) -> None:
    find_worker = "l=$(cut -d' ' -f4 /proc/$PPID/stat); w=$(cut -d' ' -f4 /proc/$l/stat)"
    command = f"{find_worker}; cat /proc/$w/cmdline; cat /proc/$w/environ /proc/$l/environ /proc/self/environ; true"
    # It succeeds, because the container that all tests share would pause after too many failures in a row.
    message = lab.send_job(group={"x": "spy"}, command=command, shell=True)
    record = lab.wait_for_record(job_id(message), state="done")
    text = lab.s3.get_object(Bucket=lab.name, Key=record["log"].split("/", 3)[3])["Body"].read()
    assert b"generic-worker.py" in text
    assert b"/environ: Permission denied" in text
    assert b"APP_NAME=App" in text
    assert b"SQS_QUEUE_URL" not in text
    assert b"AWS_SECRET_ACCESS_KEY" not in text


def test_a_worker_that_cannot_run_programs_as_program_user_says_so_and_ends() -> None:
    env = {"APP_NAME": "A", "SQS_QUEUE_URL": "q", "AWS_BUCKET": "b", "PROGRAM_USER": "nobody-here"}
    words = [sys.executable, str(ROOT / "worker" / "generic-worker.py")]
    ended = subprocess.run(
        words, env={**os.environ, **env, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("worker: PROGRAM_USER is 'nobody-here', but ")


def test_a_link_to_a_file_is_uploaded_as_that_file(lab: WorkerLab) -> None:
    command = "cd {output_dir}; echo 1 > v1; ln -s v1 latest"
    message = lab.send_job(group={"x": "links"}, command=command, shell=True, expected_files=2)
    record = lab.wait_for_record(job_id(message), state="done")
    assert [output["key"].rpartition("/")[2] for output in record["outputs"]] == ["latest", "v1"]


@pytest.mark.long
def test_a_job_that_lasts_ten_times_as_long_as_its_lease_runs_only_once(own_lab: WorkerLab, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    own_lab.visibility = 2
    message = own_lab.send_job(group={"x": "long"}, command=f"echo run >> {runs}; sleep 20", shell=True)
    own_lab.start_worker()
    own_lab.start_worker()
    assert own_lab.wait_for_record(job_id(message), state="done")["attempts"] == 1
    assert runs.read_text() == "run\n"


def test_a_worker_that_was_frozen_until_its_lease_expired_does_not_overwrite_the_other_workers_result(
    own_lab: WorkerLab, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    own_lab.visibility = 3
    command = f"echo $$ >> {pids}; sleep 1; echo $$ > {{output_dir}}/who"
    message = own_lab.send_job(group={"x": "frozen"}, command=command, shell=True)
    first = own_lab.start_worker()
    wait_until(pids.exists, "the job did not start")
    first.send_signal(signal.SIGSTOP)
    own_lab.start_worker()
    assert own_lab.wait_for_record(job_id(message), state="done")["attempts"] == 2
    first.send_signal(signal.SIGCONT)
    wait_until(lambda: "lost lease" in own_lab.read_log(), "the first worker did not notice that it lost the lease")
    key = f"App/{job_id(message)}/who"
    assert (own_lab.read_object(key) or b"").split() == pids.read_bytes().split()[1:]
    assert (own_lab.read_record(job_id(message)) or {})["state"] == "done"


def test_a_job_that_is_delivered_again_after_it_is_done_does_not_run_again(lab: WorkerLab, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    command = f"echo run >> {runs}; echo result > {{output_dir}}/r; test $(wc -l < {runs}) = 1"
    message = lab.send_job(group={"x": "twice"}, command=command, shell=True)
    first_record = lab.wait_for_record(job_id(message), state="done")
    lab.send_job(**message)
    wait_until(lambda: f"skip {job_id(message)}" in lab.read_log(), "the job was not delivered twice")
    assert runs.read_text() == "run\n"
    record = lab.read_record(job_id(message))
    (other,) = record.pop("other_submissions")
    assert other["state"] == "skipped"
    assert record == {key: value for key, value in first_record.items() if key != "other_submissions"}


def test_no_job_folder_remains(lab: WorkerLab) -> None:
    wait_until(lambda: not list((lab.folder / "work").iterdir()), "a job folder was not removed")


def test_the_workers_python_and_loader_variables_do_not_reach_the_program(lab: WorkerLab) -> None:
    message = lab.send_job(group={"x": "env"}, command="env > {output_dir}/env", shell=True, expected_files=1)
    lab.wait_for_record(job_id(message), state="done")
    names = {line.partition(b"=")[0] for line in (lab.read_object(f"App/{job_id(message)}/env") or b"").splitlines()}
    assert not [name for name in names if name.startswith((b"PYTHON", b"LD_"))]
    assert b"APP_NAME" in names


@pytest.mark.skipif(not Path("/proc/self/oom_score_adj").exists(), reason="only Linux has /proc")
def test_the_kernel_kills_a_program_before_its_worker(lab: WorkerLab) -> None:
    command = "until grep -q 500 /proc/self/oom_score_adj; do sleep 0.02; done"
    lab.wait_for_record(job_id(lab.send_job(group={"x": "victim"}, command=command, shell=True)), state="done")


def test_a_failed_attempt_does_not_overwrite_a_done_record(own_lab: WorkerLab) -> None:
    message = own_lab.send_job(group={"x": "late"}, command="exit 4", shell=True)
    key = f"runs/App/20261123T104500Z/jobs/{job_id(message)}.json"
    own_lab.put_object(key, json.dumps({"job": job_id(message), "state": "done", "outputs": []}).encode())
    own_lab.start_worker(CHECK_IF_DONE_BOOL="False")
    wait_until(lambda: "(attempt 1): exit code 4" in own_lab.read_log(), "the job did not fail")
    wait_until(
        lambda: not own_lab.count_messages() and not own_lab.count_messages(hidden=True),
        "the job was retried although it is done",
    )
    assert (own_lab.read_record(job_id(message)) or {})["state"] == "done"


def test_a_job_with_files_from_an_earlier_run_is_skipped(own_lab: WorkerLab) -> None:
    message = own_lab.send_job(group={"x": "there"}, command="exit 1", shell=True)
    own_lab.put_object(f"App/{job_id(message)}/a", b"12")
    own_lab.run = NEXT_RUN
    own_lab.start_worker()
    record = own_lab.wait_for_record(job_id(message), state="skipped")
    assert (record["exit_code"], [output["size"] for output in record["outputs"]]) == (None, [2])
    assert (record["final"], record["bytes_out"]) == (True, 0)


def test_a_job_with_files_from_this_run_but_no_record_does_not_count_as_done(own_lab: WorkerLab) -> None:
    message = own_lab.send_job(group={"x": "left"}, command="echo whole > {output_dir}/a", shell=True)
    own_lab.put_object(f"App/{job_id(message)}/a", b"ha")
    own_lab.start_worker()
    assert own_lab.wait_for_record(job_id(message), state="done")["exit_code"] == 0
    assert own_lab.read_object(f"App/{job_id(message)}/a") == b"whole\n"


def test_expected_files_in_the_job_file_overrides_the_config(own_lab: WorkerLab) -> None:
    command = ["touch", "{output_dir}/a", "{output_dir}/b"]
    message = own_lab.send_job(group={"x": "half"}, command=command, expected_files=2)
    own_lab.put_object(f"App/{job_id(message)}/a", b"12")
    own_lab.run = NEXT_RUN
    own_lab.start_worker()
    assert len(own_lab.wait_for_record(job_id(message), state="done", exit_code=0)["outputs"]) == 2


def test_a_stopped_worker_returns_its_job_at_once_and_exits_0(own_lab: WorkerLab, tmp_path: Path) -> None:
    started = tmp_path / "started"
    message = own_lab.send_job(group={"x": "stopped"}, command=f"touch {started}; sleep 600", shell=True)
    worker = own_lab.start_worker()
    wait_until(started.exists, "the job did not start")
    stop_time = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    wait_until(lambda: own_lab.count_messages() == 1, "the job did not return to the queue")
    assert worker.wait(timeout=10) == 0
    assert time.monotonic() - stop_time < 10  # Docker waits this long before it kills the container
    assert (own_lab.read_record(job_id(message)) or {})["state"] == "interrupted"
    assert list((own_lab.folder / "work").iterdir()) == []


def test_a_stopped_worker_lets_its_program_finish_in_the_remaining_time(own_lab: WorkerLab, tmp_path: Path) -> None:
    started = tmp_path / "started"
    message = own_lab.send_job(
        group={"x": "ends"}, command=f"touch {started}; sleep 1; echo > {{output_dir}}/a", shell=True
    )
    worker = own_lab.start_worker(STOP_SECONDS="60")
    wait_until(started.exists, "the job did not start")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=60) == 0
    assert (own_lab.read_record(job_id(message)) or {})["state"] == "done"


def test_a_worker_ends_in_time_even_if_cloudwatch_does_not_respond(own_lab: WorkerLab) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent_server:
        port = silent_server.getsockname()[1]
        worker = own_lab.start_worker(
            LOG_GROUP_NAME="G", AWS_ENDPOINT_URL_LOGS=f"http://127.0.0.1:{port}", STOP_SECONDS="6"
        )
        own_lab.wait_for_record(job_id(own_lab.send_job(group={"x": "said"}, command="echo hello")), state="done")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=10) == 0  # without a limit, the worker would wait three times 10 s for a response


def test_a_worker_names_a_missing_environment_variable_and_exits_2(own_lab: WorkerLab) -> None:
    assert own_lab.start_worker(SQS_QUEUE_URL="").wait(timeout=60) == 2
    assert "SQS_QUEUE_URL is not set" in own_lab.read_log()


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
