"""What surrounds a job in a real worker process: encodings, WORK_DIR, TMPDIR, and hooks that hang."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from distributed_something.worker.job.job_id import job_id
from tests.support.emulator import WorkerLab, run_ministack, wait_until
from tests.support.paths import ROOT

LONG_LEASE = 60  # seconds


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with run_ministack(tmp_path_factory.mktemp("cloud")) as url:
        yield url


@pytest.fixture
def lab(cloud: str, tmp_path: Path) -> Iterator[WorkerLab]:
    lab = WorkerLab(cloud, tmp_path, visibility=LONG_LEASE)
    yield lab
    lab.kill_workers()


@pytest.mark.parametrize(
    "locale", [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"LANG": "de_DE.ISO-8859-1"}, {}]
)
def test_names_are_utf8_in_any_locale_which_the_program_sees_unchanged(lab: WorkerLab, locale: dict[str, str]) -> None:
    lab.put_object("in/größe ☃.txt", "Größe".encode())
    variables = "env | grep -E '^(LANG|LC_|PYTHON)' | sort > {output_dir}/env"
    script = 'cp {input_dir}/* {output_dir}/; echo "☃ $1"; ' + variables
    command = ["sh", "-c", script, "sh", "{name}"]
    message = lab.send_job(group={"name": "ä☃"}, inputs=["in/größe ☃.txt"], command=command)
    lab.start_worker(**locale)
    record = lab.wait_for_record(job_id(message), state="done")
    prefix = f"App/{job_id(message)}/"
    assert lab.read_object(f"{prefix}größe ☃.txt") == "Größe".encode()
    assert "ä" in record["output_location"]
    log = lab.read_object(record["log"].removeprefix(f"s3://{lab.name}/"))
    assert log == "☃ ä☃\n".encode()
    expected = "".join(sorted(f"{name}={text}\n" for name, text in locale.items()))
    assert lab.read_object(f"{prefix}env") == expected.encode()


def test_a_result_whose_name_is_not_utf8_is_the_jobs_fault(lab: WorkerLab) -> None:
    code = "import os, sys; open(os.fsencode(sys.argv[1]) + b'/caf\\xe9.txt', 'w')"
    message = lab.send_job(group="g", command=[sys.executable, "-c", code, "{output_dir}"])
    lab.start_worker(LC_ALL="C", PYTHONUTF8="0")
    record = lab.wait_for_record(job_id(message), state="failed", final=True)
    assert "the name of the output 'caf\\xe9.txt' is not UTF-8" in record["reason"]
    assert (record["attempts"], record["reason_class"]) == (1, "bad data")


@pytest.mark.parametrize("work_dir", ["work", "new/deep"])
def test_a_relative_work_dir_works_and_is_created(lab: WorkerLab, work_dir: str) -> None:
    lab.put_object("in/a", b"abc")
    message = lab.send_job(group="g", inputs=["in/a"], command="cp {input_dir}/a {output_dir}/a")
    lab.start_worker(WORK_DIR=os.path.relpath(lab.folder / work_dir))
    lab.wait_for_record(job_id(message), state="done")
    assert lab.read_object(f"App/{job_id(message)}/a") == b"abc"


def test_a_work_dir_that_cannot_be_created_ends_the_worker_with_its_name(lab: WorkerLab) -> None:
    (lab.folder / "file").touch()
    worker = lab.start_worker(WORK_DIR=str(lab.folder / "file" / "x"))
    assert worker.wait(60) == 2
    assert f"WORK_DIR is '{lab.folder}/file/x': Not a directory" in lab.read_log()


def test_each_job_has_a_temporary_folder_that_is_short_enough_for_sockets_and_removed(lab: WorkerLab) -> None:
    code = """if True:
        import os, pathlib, socket, sys, tempfile
        folder = tempfile.mkdtemp(prefix="pymp-")
        socket.socket(socket.AF_UNIX).bind(folder + "/listener-" + 8 * "x")
        pathlib.Path(sys.argv[1], "place").write_text(os.environ["TMPDIR"])
    """
    messages = [
        lab.send_job(group=f"g{number}", command=[sys.executable, "-c", code, "{output_dir}"]) for number in range(2)
    ]
    lab.start_worker(WORK_DIR=str(lab.folder / ("long" * 20)), TMPDIR="/var/tmp")
    places = set()
    for message in messages:
        lab.wait_for_record(job_id(message), state="done")
        places.add((lab.read_object(f"App/{job_id(message)}/place") or b"").decode())
    assert len(places) == 2
    wait_until(lambda: not any(Path(place).exists() for place in places), "a temporary folder was not removed")


def test_a_hook_that_hangs_ends_its_attempt_and_then_the_container_without_harm_to_other_jobs(
    lab: WorkerLab, tmp_path: Path
) -> None:
    script = tmp_path / "generic-worker.py"
    script.write_text(
        "import sys, threading\nfrom distributed_something.worker import serve\n"
        "def prepare(job, folders):\n    if 'hang' in job.id: threading.Event().wait()\n"
        "sys.exit(serve(prepare=prepare))\n"
    )
    slow = lab.send_job(group="slow", command=f"while [ ! -e {tmp_path}/end ]; do sleep 0.1; done", shell=True)
    hanging = lab.send_job(group="hang", command="true")
    work = tmp_path / "work"
    work.mkdir()
    env = {"PATH": os.environ["PATH"], "WORK_DIR": str(work), "PYTHONPATH": str(ROOT)} | lab.environment
    env |= {"DOCKER_CORES": "2", "HOOK_SECONDS": "1", "EXPECTED_NUMBER_FILES": "0"}
    with (tmp_path / "log").open("wb") as log:
        worker = subprocess.Popen([sys.executable, str(script)], env=env, stdout=log, stderr=log)
    lab.workers.append(worker)
    record = lab.wait_for_record(job_id(hanging), state="failed")
    assert record["reason"] == "the hook prepare() in generic-worker.py did not end within 1 second"
    assert record["reason_class"] == "worker code"
    assert worker.poll() is None  # the other program continues
    (tmp_path / "end").touch()
    lab.wait_for_record(job_id(slow), state="done")
    assert worker.wait(30) == 1
    assert "a hook hangs; this container ends after its running programs" in (tmp_path / "log").read_text()
    assert lab.count_messages() == 1
