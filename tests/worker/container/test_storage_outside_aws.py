"""Real workers whose inputs and results are outside AWS: on another S3 server, or where `deliver` sends them."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from distributed_something.worker.job.job_id import job_id
from tests.support.emulator import WorkerLab, run_ministack, run_roto, wait_until

COPY = "cp {input_dir}/a.txt {output_dir}/b.txt"
# As in docs/your-own.md, but with `cp` in place of scp.
DELIVER_SCRIPT = """
import os, subprocess, sys
from distributed_something.worker import describe_delivery, job_from_message, list_results, serve

STORE = os.environ["STORE"]


def make_job(message, folders, settings):
    return job_from_message(message, folders, settings, upload_results=False)


def deliver(job, folders):
    folder = f"{STORE}/{job.id}"
    with open(f"{STORE}/calls", "a") as calls:
        calls.write(f"{job.id}\\n")
    subprocess.run(["mkdir", "-p", folder], check=True, capture_output=True)
    if os.path.exists(f"{STORE}/hang"):
        open(f"{STORE}/hanging", "w").close()
        subprocess.run(["sleep", "600"], check=True)
    deliveries = []
    for name, path in list_results(job, folders).items():
        subprocess.run(["cp", path, f"{folder}/{name}"], check=True, capture_output=True)
        deliveries.append(describe_delivery(folder, name, path))
    return deliveries


sys.exit(serve(make_job=make_job, deliver=deliver))
"""


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with run_ministack(tmp_path_factory.mktemp("cloud")) as url:
        yield url


@pytest.fixture
def lab(cloud: str, tmp_path: Path) -> Iterator[WorkerLab]:
    lab = WorkerLab(cloud, tmp_path, visibility=60)
    yield lab
    lab.kill_workers()


def test_inputs_come_from_another_server_and_results_go_to_it(lab: WorkerLab, tmp_path: Path) -> None:
    with run_roto(tmp_path) as endpoint:
        server = boto3.client(
            "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="lab", aws_secret_access_key="lab"
        )
        server.create_bucket(Bucket="plates")
        server.put_object(Bucket="plates", Key="in/a.txt", Body=b"abc")
        server.put_object(Bucket="plates", Key="refs/genome.fa", Body=b"acgt")
        keys = tmp_path / "keys.ini"
        host = endpoint.removeprefix("http://")
        keys.write_text(f"[{host}]\naws_access_key_id = lab\naws_secret_access_key = lab-secret\n")
        lab.start_worker(ALLOW_UNSAFE_INPUTS="True", ENDPOINT_CREDENTIALS_FILE=str(keys))
        message = lab.send_job(
            group={"well": "A01"}, inputs=["in/a.txt"], input_bucket="plates", output_bucket="plates",
            shared_inputs=["refs/"], input_endpoint=endpoint, output_endpoint=endpoint, shell=True,
            command=f"{COPY}; cp {{shared_dir}}/genome.fa {{output_dir}}/; env > {{output_dir}}/env.txt",
        )  # fmt: skip
        record = lab.wait_for_record(job_id(message), state="done")
        assert (record["input_endpoint"], record["output_endpoint"]) == (endpoint, endpoint)
        assert {file["address"] for file in record["inputs"]} == {"s3://plates/in/a.txt", "s3://plates/refs/genome.fa"}
        stored = {
            name: server.get_object(Bucket="plates", Key=f"App/{job_id(message)}/{name}")["Body"].read()
            for name in ("b.txt", "genome.fa", "env.txt")
        }
        assert (stored["b.txt"], stored["genome.fa"]) == (b"abc", b"acgt")
        assert b"ENDPOINT_CREDENTIALS" not in stored["env.txt"]  # the program does not even get the file's path
        digest = hashlib.sha256(b"abc").hexdigest()
        assert (record["outputs"][0]["bucket"], record["outputs"][0]["checksum_sha256"]) == ("plates", digest)
        assert lab.read_object(f"App/{job_id(message)}/b.txt") is None

        end_workers(lab)
        lab.run = "20991231T000000Z"
        lab.send_job(**message)  # the results on the other server show that it is done
        lab.start_worker(ALLOW_UNSAFE_INPUTS="True", ENDPOINT_CREDENTIALS_FILE=str(keys), RUN=lab.run)
        skipped = lab.wait_for_record(job_id(message), state="skipped")
        assert len(skipped["outputs"]) == 3


def test_an_address_of_the_machine_itself_is_refused_by_the_worker(lab: WorkerLab) -> None:
    lab.start_worker()
    message = lab.send_job(group="g", command="true", inputs=["a"], input_endpoint="http://127.0.0.1:9000")
    record = lab.wait_for_record(job_id(message), state="failed")
    assert (record["reason_class"], record["final"], record["attempts"]) == ("bad message", True, 1)
    assert record["reason"].startswith("`input_endpoint`: 'http://127.0.0.1:9000' is an address of the machine itself")


def test_a_server_that_does_not_have_the_bucket_is_named_before_the_program_runs(
    lab: WorkerLab, tmp_path: Path
) -> None:
    with run_roto(tmp_path) as endpoint:
        login = {"ENDPOINT_ACCESS_KEY_ID": "lab", "ENDPOINT_SECRET_ACCESS_KEY": "lab"}
        lab.start_worker(ALLOW_UNSAFE_INPUTS="True", EXPECTED_NUMBER_FILES="0", **login)
        message = lab.send_job(group="g", command="true", output_bucket="nowhere", output_endpoint=endpoint)
        record = lab.wait_for_record(job_id(message), state="failed")
        assert record["reason"].startswith(f"the output bucket nowhere does not exist on {endpoint}")
        assert (record["reason_class"], record["program_started"]) == ("bad data", None)


def test_a_container_whose_credentials_file_is_missing_ends_at_once(lab: WorkerLab) -> None:
    worker = lab.start_worker(ENDPOINT_CREDENTIALS_FILE="/nowhere/keys.ini")
    assert worker.wait(30) == 2
    assert "ENDPOINT_CREDENTIALS_FILE is '/nowhere/keys.ini': No such file or directory" in lab.read_log()


def end_workers(lab: WorkerLab) -> None:
    """End the workers as ECS does. A killed worker's request could still take a message from the queue."""
    for worker in lab.workers:
        worker.terminate()
        worker.wait(60)


def start_delivering_worker(lab: WorkerLab, store: Path, **env: str) -> Any:
    script = lab.folder / "generic-worker.py"
    script.write_text(DELIVER_SCRIPT)
    store.mkdir(exist_ok=True)
    return lab.start_worker(script, STORE=str(store), **env)


def test_results_are_delivered_elsewhere_and_a_later_run_knows_it(lab: WorkerLab, tmp_path: Path) -> None:
    store = tmp_path / "store"
    start_delivering_worker(lab, store)
    lab.put_object("in/a.txt", b"abc")
    message = lab.send_job(group={"well": "A01"}, inputs=["in/a.txt"], command=COPY, expected_files=1)
    job = job_id(message)
    record = lab.wait_for_record(job, state="done")
    digest = hashlib.sha256(b"abc").hexdigest()
    place = f"{store}/{job}"
    assert record["delivered"] == [{"place": place, "name": "b.txt", "size": 3, "checksum": f"sha256:{digest}"}]
    assert (record["outputs"], record["output_location"], record["bytes_out"]) == ([], place, 3)
    assert (store / job / "b.txt").read_bytes() == b"abc"
    assert lab.read_object(f"App/{job}/b.txt") is None

    end_workers(lab)
    lab.run = "20991231T000000Z"
    start_delivering_worker(lab, store, RUN=lab.run)
    lab.send_job(**message)
    assert lab.wait_for_record(job, state="skipped")["delivered"] == record["delivered"]
    assert (store / "calls").read_text().split() == [job]


def test_a_job_whose_worker_is_killed_while_it_delivers_is_delivered_again(cloud: str, tmp_path: Path) -> None:
    lab, store = WorkerLab(cloud, tmp_path, visibility=2), tmp_path / "store"
    try:
        store.mkdir()
        (store / "hang").touch()
        worker = start_delivering_worker(lab, store)
        lab.put_object("in/a.txt", b"abc")
        job = job_id(lab.send_job(group="g", inputs=["in/a.txt"], command=COPY))
        wait_until((store / "hanging").exists, "deliver was not called")
        os.killpg(worker.pid, signal.SIGKILL)
        assert lab.read_record(job) is None  # it is not done before deliver returns
        (store / "hang").unlink()
        start_delivering_worker(lab, store)
        record = lab.wait_for_record(job, state="done")
        assert (store / job / "b.txt").read_bytes() == b"abc"
        assert record["attempts"] == 2
        assert (store / "calls").read_text().split() == [job, job]
    finally:
        lab.kill_workers()
