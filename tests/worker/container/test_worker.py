"""The worker as a real process on a real queue, told in sentences."""

from __future__ import annotations

import hashlib
import json
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from distributed_something.worker.job.job_id import job_id
from tests.support.emulator import Lab, ministack, until

LONG_LEASE = 60  # seconds
NEXT_RUN = "20991231T000000Z"  # all that lies in the bucket is older
RECORD_KEYS = {
    "job", "state", "attempts", "machine", "image", "app", "run", "started", "ended", "seconds", "exit_code", "reason",
    "reason_class", "last_lines", "program_seconds", "peak_memory_bytes", "cpu_seconds", "bytes_in", "bytes_out",
    "outputs", "log", "message",
}  # fmt: skip


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with ministack(tmp_path_factory.mktemp("cloud")) as url:
        yield url


@pytest.fixture(scope="module")
def lab(cloud: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One worker of four slots, two tries, leases that no busy computer loses."""
    lab = Lab(cloud, tmp_path_factory.mktemp("lab"), visibility=LONG_LEASE)
    lab.worker(DOCKER_CORES="4")
    yield lab
    lab.end()


@pytest.fixture
def own(cloud: str, tmp_path: Path) -> Iterator[Lab]:
    """A queue of the test's own, without a worker yet."""
    lab = Lab(cloud, tmp_path, visibility=LONG_LEASE)
    yield lab
    lab.end()


def python(code: str, *words: str) -> list[str]:
    return [sys.executable, "-c", code, *words]


def test_a_job_ends_done_with_verified_outputs_and_a_whole_record(lab: Lab) -> None:
    lab.put("in/a.txt", b"abc")
    message = lab.send(
        group={"well": "A01"}, inputs=["in/a.txt"], command="cp {input_dir}/a.txt {output_dir}/b.txt", expected_files=1
    )
    record = lab.recorded(job_id(message), state="done")
    assert set(record) == RECORD_KEYS
    key = f"App/{job_id(message)}/b.txt"
    digest = hashlib.sha256(b"abc").hexdigest()
    assert record["outputs"] == [{"bucket": lab.name, "key": key, "size": 3, "checksum_sha256": digest}]
    assert (record["exit_code"], record["bytes_in"], record["bytes_out"], record["attempts"]) == (0, 3, 3, 1)
    assert record["message"] == message
    assert record["peak_memory_bytes"] > 100_000
    assert lab.text(key) == b"abc"
    assert record["log"] is None  # it printed nothing
    until(lambda: not lab.waiting() and not lab.waiting(hidden=True), "the message is still in the queue")


def test_exit_code_3_is_recorded_with_the_last_lines_and_goes_to_the_dead_letter_queue_after_the_last_try(
    lab: Lab,
) -> None:
    message = lab.send(group={"x": "three"}, command="echo before; echo no such well >&2; exit 3", shell=True)
    record = lab.recorded(job_id(message), state="failed", attempts=2)
    assert (record["exit_code"], record["reason"], record["reason_class"]) == (3, "exit code 3", "program")
    assert record["last_lines"][-2:] == ["before", "no such well"]
    until(lambda: any(json.loads(dead["Body"]) == message for dead in lab.dead()), "it is not in the queue of the dead")


def test_a_bad_message_goes_to_the_dead_letter_queue_at_once_with_its_reason(lab: Lab) -> None:
    bodies = ["{", json.dumps({"group": {"a": "1"}, "command": "cat {plate}"}), '{"group": "\\ud800", "command": "w"}']
    for body in bodies:
        lab.send_text(body)
    reasons: dict[str, str] = {}

    def all_dead() -> bool:
        for dead in lab.dead():
            if dead.get("MessageAttributes"):
                reasons[dead["Body"]] = dead["MessageAttributes"]["reason"]["StringValue"]
        return set(reasons) >= set(bodies)

    until(all_dead, f"not all are dead: {reasons}")
    assert "the message is not valid JSON" in reasons[bodies[0]]
    assert "the placeholder {plate} has no value" in reasons[bodies[1]]


@pytest.mark.parametrize(
    "value", ['it\'s "two" words', "; touch pwned", "$(touch pwned) `touch pwned`", "a\nb\n", "../../x", "*", "é💡", ""]
)
def test_a_value_arrives_as_it_is(lab: Lab, value: str) -> None:
    code = "import sys, pathlib; pathlib.Path(sys.argv[1], 'v').write_bytes(sys.argv[2].encode())"
    commands: list[dict[str, Any]] = [
        {"command": python(code, "{output_dir}", "{v}")},
        {"command": "printf %s {v} > {output_dir}/v", "shell": True},
        {"command": 'printf %s "{v}" > "{output_dir}/v"; ls > /dev/null', "shell": True},
    ]
    messages = [lab.send(group={"v": value}, **command, expected_files=1) for command in commands]
    for message in messages:
        lab.recorded(job_id(message), state="done")
        assert lab.text(f"App/{job_id(message)}/v") == value.encode()


def test_output_that_is_not_utf8_is_kept_and_told(lab: Lab) -> None:
    message = lab.send(group={"x": "bytes"}, command="printf '\\377\\376 caf\\351\\n'; exit 1", shell=True)
    record = lab.recorded(job_id(message), state="failed")
    assert record["last_lines"] == ["\ufffd\ufffd caf\ufffd"]
    assert lab.text(record["log"].removeprefix(f"s3://{lab.name}/")) == b"\xff\xfe caf\xe9\n"


@pytest.mark.parametrize("own", ["echo own > log.txt", "mkfifo log.txt", "mkdir log.txt", "ln -s /etc/hosts log.txt"])
def test_a_programs_own_file_of_any_name_is_not_taken_for_its_log(lab: Lab, own: str) -> None:
    message = lab.send(group={"x": own}, command=f"echo said; {own}", shell=True)
    record = lab.recorded(job_id(message), state="done")
    assert lab.text(record["log"].removeprefix(f"s3://{lab.name}/")) == b"said\n"


@pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="what left its process group is found through /proc"
)
def test_a_program_that_leaves_children_behind_leaves_no_process(lab: Lab) -> None:
    leave = (
        "import subprocess; print(*(subprocess.Popen(['sleep', '600'], start_new_session=n > 0).pid for n in (0, 1)))"
    )
    message = lab.send(group={"x": "children"}, command=python(leave))
    record = lab.recorded(job_id(message), state="done")
    pids = (lab.text(record["log"].removeprefix(f"s3://{lab.name}/")) or b"").split()
    assert len(pids) == 2
    until(lambda: not any(_is_alive(int(pid)) for pid in pids), "a process is left")  # of its own 600 s


def test_a_job_that_takes_too_long_fails_with_the_class_time_out(lab: Lab) -> None:
    message = lab.send(group={"x": "slow"}, command="sleep 600", timeout_minutes=0.005)
    record = lab.recorded(job_id(message), state="failed")
    assert record["reason_class"] == "time-out"
    assert record["exit_code"] == -signal.SIGTERM


def test_a_job_with_a_missing_input_fails_at_once_and_names_it(lab: Lab) -> None:
    message = lab.send(group={"x": "nowhere"}, inputs=["in/{x}.tif"], command="true")
    record = lab.recorded(job_id(message), state="failed")
    assert record["reason_class"] == "missing input"
    assert f"s3://{lab.name}/in/nowhere.tif" in record["reason"]
    assert record["attempts"] == 1
    until(lambda: lab.dead(), "it does not come to the dead-letter queue")


def test_a_job_killed_by_a_signal_says_so(lab: Lab) -> None:
    message = lab.send(group={"x": "killed"}, command="kill -9 $$", shell=True)
    record = lab.recorded(job_id(message), state="failed")
    assert (record["reason_class"], record["reason"]) == ("signal", "killed by signal 9")


def test_a_program_that_is_not_there_is_named(lab: Lab) -> None:
    message = lab.send(group={"x": "absent"}, command="no-such-program")
    assert "'no-such-program' cannot be started" in lab.recorded(job_id(message), state="failed")["reason"]


def test_too_few_files_are_a_failure_and_nothing_is_uploaded(lab: Lab) -> None:
    message = lab.send(group={"x": "few"}, command=["touch", "{output_dir}/one"], expected_files=2)
    assert lab.recorded(job_id(message), state="failed")["reason"] == "1 files written, 2 expected"
    assert lab.text(f"App/{job_id(message)}/one") is None


def test_a_link_to_a_file_is_uploaded_as_that_file(lab: Lab) -> None:
    command = "cd {output_dir}; echo 1 > v1; ln -s v1 latest"
    message = lab.send(group={"x": "links"}, command=command, shell=True, expected_files=2)
    record = lab.recorded(job_id(message), state="done")
    assert [output["key"].rpartition("/")[2] for output in record["outputs"]] == ["latest", "v1"]


def test_a_job_of_ten_lease_lengths_runs_once(own: Lab, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    own.visibility = 2
    message = own.send(group={"x": "long"}, command=f"echo run >> {runs}; sleep 20", shell=True)
    own.worker()
    own.worker()
    assert own.recorded(job_id(message), state="done")["attempts"] == 1
    assert runs.read_text() == "run\n"


def test_a_worker_that_was_frozen_past_its_lease_does_not_publish_over_the_others_result(
    own: Lab, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    own.visibility = 3
    command = f"echo $$ >> {begun}; sleep 1; echo $$ > {{output_dir}}/who"
    message = own.send(group={"x": "frozen"}, command=command, shell=True)
    first = own.worker()
    until(begun.exists, "the job does not start")
    first.send_signal(signal.SIGSTOP)
    own.worker()
    assert own.recorded(job_id(message), state="done")["attempts"] == 2
    first.send_signal(signal.SIGCONT)
    until(lambda: "lost lease" in own.log(), "the first worker does not notice")
    key = f"App/{job_id(message)}/who"
    assert (own.text(key) or b"").split() == begun.read_bytes().split()[1:]
    assert (own.record(job_id(message)) or {})["state"] == "done"


def test_a_done_job_delivered_again_stays_done_and_whole(lab: Lab, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    command = f"echo run >> {runs}; echo result > {{output_dir}}/r; test $(wc -l < {runs}) = 1"
    message = lab.send(group={"x": "twice"}, command=command, shell=True)
    before = lab.recorded(job_id(message), state="done")
    lab.send(**message)
    until(lambda: f"skip {job_id(message)}" in lab.log(), "it was not delivered twice")
    assert runs.read_text() == "run\n"
    assert lab.record(job_id(message)) == before


def test_no_work_folder_is_left(lab: Lab) -> None:
    until(lambda: not list((lab.folder / "work").iterdir()), "folders are left")


def test_no_variable_of_the_worker_reaches_the_program(lab: Lab) -> None:
    message = lab.send(group={"x": "env"}, command="env > {output_dir}/env", shell=True, expected_files=1)
    lab.recorded(job_id(message), state="done")
    names = {line.partition(b"=")[0] for line in (lab.text(f"App/{job_id(message)}/env") or b"").splitlines()}
    assert not [name for name in names if name.startswith((b"PYTHON", b"LD_"))]
    assert b"APP_NAME" in names


@pytest.mark.skipif(not Path("/proc/self/oom_score_adj").exists(), reason="only Linux has /proc")
def test_the_kernel_ends_a_program_before_its_worker(lab: Lab) -> None:
    command = "until grep -q 500 /proc/self/oom_score_adj; do sleep 0.02; done"
    lab.recorded(job_id(lab.send(group={"x": "victim"}, command=command, shell=True)), state="done")


def test_a_failed_attempt_does_not_overwrite_a_done_record(own: Lab) -> None:
    message = own.send(group={"x": "late"}, command="exit 4", shell=True)
    key = f"runs/App/20261123T104500Z/jobs/{job_id(message)}.json"
    own.put(key, json.dumps({"job": job_id(message), "state": "done", "outputs": []}).encode())
    own.worker(CHECK_IF_DONE_BOOL="False")
    until(lambda: "(attempt 1): exit code 4" in own.log(), "it did not fail")
    until(lambda: not own.waiting() and not own.waiting(hidden=True), "it is tried again although it is done")
    assert (own.record(job_id(message)) or {})["state"] == "done"


def test_files_that_are_there_already_make_a_job_done(own: Lab) -> None:
    message = own.send(group={"x": "there"}, command="exit 1", shell=True)
    own.put(f"App/{job_id(message)}/a", b"12")
    own.run = NEXT_RUN
    own.worker()
    record = own.recorded(job_id(message), state="done")
    assert (record["exit_code"], [output["size"] for output in record["outputs"]]) == (None, [2])


def test_files_of_this_very_run_without_a_record_are_what_a_dead_attempt_left(own: Lab) -> None:
    message = own.send(group={"x": "left"}, command="echo whole > {output_dir}/a", shell=True)
    own.put(f"App/{job_id(message)}/a", b"ha")
    own.worker()
    assert own.recorded(job_id(message), state="done")["exit_code"] == 0
    assert own.text(f"App/{job_id(message)}/a") == b"whole\n"


def test_the_job_files_expected_files_goes_before_the_configs(own: Lab) -> None:
    command = ["touch", "{output_dir}/a", "{output_dir}/b"]
    message = own.send(group={"x": "half"}, command=command, expected_files=2)
    own.put(f"App/{job_id(message)}/a", b"12")
    own.run = NEXT_RUN
    own.worker()
    assert len(own.recorded(job_id(message), state="done", exit_code=0)["outputs"]) == 2


def test_told_to_stop_the_worker_gives_its_job_back_at_once_and_exits_0(own: Lab, tmp_path: Path) -> None:
    started = tmp_path / "started"
    message = own.send(group={"x": "stopped"}, command=f"touch {started}; sleep 600", shell=True)
    worker = own.worker()
    until(started.exists, "the job does not start")
    asked = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    until(lambda: own.waiting() == 1, "the job is not back in the queue")
    assert worker.wait(timeout=10) == 0
    assert time.monotonic() - asked < 10  # as long as docker waits
    assert (own.record(job_id(message)) or {})["state"] == "interrupted"
    assert list((own.folder / "work").iterdir()) == []


def test_told_to_stop_a_worker_lets_a_program_end_in_the_time_that_there_is(own: Lab, tmp_path: Path) -> None:
    started = tmp_path / "started"
    message = own.send(group={"x": "ends"}, command=f"touch {started}; sleep 1; echo > {{output_dir}}/a", shell=True)
    worker = own.worker(STOP_SECONDS="60")
    until(started.exists, "the job does not start")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=60) == 0
    assert (own.record(job_id(message)) or {})["state"] == "done"


def test_a_worker_ends_in_the_time_that_there_is_although_cloudwatch_does_not_answer(own: Lab) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        worker = own.worker(LOG_GROUP_NAME="G", AWS_ENDPOINT_URL_LOGS=f"http://127.0.0.1:{port}", STOP_SECONDS="6")
        own.recorded(job_id(own.send(group={"x": "said"}, command="echo hello")), state="done")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=10) == 0  # unlimited it would wait three times 10 s for one answer


def test_a_worker_without_its_environment_names_the_variable_and_exits_2(own: Lab) -> None:
    assert own.worker(SQS_QUEUE_URL="").wait(timeout=60) == 2
    assert "SQS_QUEUE_URL is not set" in own.log()


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
