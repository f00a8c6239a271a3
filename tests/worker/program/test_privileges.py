"""Tests for what a program may not have: AWS credentials, the worker's memory, permissions, and others' folders."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from distributed_something.worker.attempt.work_folder import give_folders, make_job_folder
from distributed_something.worker.job.job import Folders
from distributed_something.worker.program.launcher import LauncherPool
from distributed_something.worker.program.privileges import (
    NoSuchUser,
    ProgramUser,
    choose_home,
    find_program_user,
)
from distributed_something.worker.program.program import ProgramSurroundings, run_command
from tests.support.paths import ROOT

needs_root = pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs root on Linux")
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
SECRETS = {
    "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "token",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/x", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://x",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN": "t", "AWS_WEB_IDENTITY_TOKEN_FILE": "/f", "AWS_ROLE_ARN": "arn",
    "AWS_PROFILE": "p", "AWS_ENDPOINT_URL_SQS": "http://q", "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://m",
    "ECS_CONTAINER_METADATA_URI": "http://a", "ECS_CONTAINER_METADATA_URI_V4": "http://b",
    "ECS_AGENT_URI": "http://c", "SQS_QUEUE_URL": "https://q", "SQS_DEAD_LETTER_QUEUE_URL": "https://d",
}  # fmt: skip
KEPT = {"AWS_REGION": "r", "AWS_DEFAULT_REGION": "r", "APP_NAME": "a", "AWS_BUCKET": "b", "MY_OWN": "m"}
# A worker that starts a program in the given folder; the program's output is in `log`.
WORKER = """
import sys
from pathlib import Path
from distributed_something.worker.program.launcher import LauncherPool
from distributed_something.worker.program.privileges import hide_process
from distributed_something.worker.program.program import ProgramSurroundings, run_command
hide_process()
folder = Path(sys.argv[1])
pool = LauncherPool(1, may_gain_privileges=False)
run_command(pool, sys.argv[2], ProgramSurroundings(folder, folder / "log", shell=True), 60)
pool.end()
"""


def read_environment(launcher: LauncherPool, folder: Path, *, may_use_aws: bool) -> dict[str, str]:
    """Return the environment variables of a program."""
    env = {**SECRETS, **KEPT, "PATH": os.environ["PATH"]}
    surroundings = ProgramSurroundings(folder, folder / "log", may_use_aws=may_use_aws, env=env)
    run_command(launcher, ["env"], surroundings, 60)
    return dict(line.split("=", 1) for line in (folder / "log").read_text().splitlines())


def run_in_worker(folder: Path, command: str) -> str:
    """Run the command as a program of a worker whose environment contains a secret, and return its output."""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "AWS_SECRET_ACCESS_KEY": "TopSecret"}
    subprocess.run([sys.executable, "-c", WORKER, str(folder), command], env=env, check=True, timeout=60)
    return (folder / "log").read_text()


def test_a_program_gets_no_credentials_and_keeps_the_other_variables(launcher: LauncherPool, tmp_path: Path) -> None:
    environment = read_environment(launcher, tmp_path, may_use_aws=False)
    assert not SECRETS.keys() & environment.keys()
    assert environment.items() >= KEPT.items()


def test_a_program_that_may_use_aws_gets_the_credentials(launcher: LauncherPool, tmp_path: Path) -> None:
    assert read_environment(launcher, tmp_path, may_use_aws=True).items() >= (SECRETS | KEPT).items()


@needs_linux
def test_no_process_that_a_program_can_read_contains_the_workers_credentials(tmp_path: Path) -> None:
    """The worker must be among the processes, or the test would prove nothing."""
    code = (
        "import pathlib\n"
        "for path in pathlib.Path('/proc').glob('[0-9]*'):\n"
        "    try:\n"
        "        words = (path / 'cmdline').read_text()\n"
        "        print('worker' if 'hide_process' in words else 'other', path.name)\n"
        "        print((path / 'environ').read_text())\n"
        "        (path / 'mem').open('rb').close()\n"
        "        print('memory of worker' if 'hide_process' in words else '')\n"
        "    except OSError:\n"
        "        pass\n"
    )
    (tmp_path / "look.py").write_text(code)
    text = run_in_worker(tmp_path, f"{sys.executable} look.py")
    assert "worker" in text.split()
    assert "TopSecret" not in text
    assert "memory of worker" not in text


@needs_linux
def test_a_program_cannot_mount_or_trace_or_regain_these_permissions(tmp_path: Path) -> None:
    text = run_in_worker(tmp_path, "cat /proc/self/status")
    status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert not int(status[name], 16) & (1 << 21 | 1 << 19), name
    assert status["NoNewPrivs"] == "1"


@needs_root
def test_programs_of_two_attempts_cannot_read_each_others_folders(launcher: LauncherPool, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:3]:
        parent.chmod(parent.stat().st_mode | 0o011)
    user = find_program_user("12345")
    assert user is not None
    surroundings = []
    for name in ("one", "two"):
        folders = Folders(tmp_path / name)
        make_job_folder(folders)
        folders.input_dir.mkdir(mode=0o700)
        (folders.input_dir / "image").write_text("pixels")
        (folders.temp_dir / "from-hook").write_text("temporary")
        surroundings.append(
            ProgramSurroundings(
                folders.root, folders.log, shell=True, identity=give_folders(folders, user), home=str(folders.root),
                own_env={"TMPDIR": str(folders.temp_dir)},
            )
        )  # fmt: skip
    command = (
        "id -u; cat input/image; echo hello > out && cat $TMPDIR/from-hook && echo > $TMPDIR/mine"
        " && ls ../one; ls ../one.tmp; echo $HOME >> /dev/stderr"
    )
    assert run_command(launcher, command, surroundings[1], 60).exit_code == 0
    text = surroundings[1].log.read_text()
    assert text.startswith("12345\npixelstemporary")
    assert text.count("Permission denied") == 2
    assert text.endswith(f"{tmp_path}/two\n")
    assert (tmp_path / "two" / "out").stat().st_uid == 12345
    assert surroundings[0].log.stat().st_mode & 0o777 == 0o600


@needs_root
def test_a_program_of_another_user_can_read_shared_inputs_but_not_change_them(
    launcher: LauncherPool, tmp_path: Path
) -> None:
    for parent in (tmp_path, *tmp_path.parents[:3]):
        parent.chmod(parent.stat().st_mode | 0o011)
    store, folders = tmp_path / "store", Folders(tmp_path / "job")
    make_job_folder(folders)
    store.mkdir()
    (store / "stored").write_text("genome\n")
    (store / "stored").chmod(0o444)
    (folders.shared_dir / "ref").mkdir(parents=True)
    os.link(store / "stored", folders.shared_dir / "ref" / "genome")
    identity = give_folders(folders, ProgramUser(12345, 12345, ""))
    surroundings = ProgramSurroundings(folders.root, folders.log, shell=True, identity=identity)
    command = "cd shared/ref; cat genome; echo x >> genome; chmod u+w genome; echo index > genome.idx && cat genome.idx"
    assert run_command(launcher, command, surroundings, 60).exit_code == 0
    lines = folders.log.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("genome", "index")
    assert len(lines) == 4
    assert (store / "stored").read_text() == "genome\n"
    assert (store / "stored").stat().st_uid == 0


@needs_root
def test_a_user_is_found_by_name_or_number(tmp_path: Path) -> None:
    users = tmp_path / "passwd"
    users.write_text("root:x:0:0::/root:/bin/sh\nbroken\nada:x:1000:100:Ada:/home/ada:/bin/sh\n")
    assert find_program_user("", users) is None
    assert find_program_user("ada", users) == find_program_user("1000", users) == (1000, 100, "/home/ada")
    assert find_program_user("77", users) == (77, 77, "")
    for name, reason in {"bob": "has no such user", "root": "is root", "0": "is root"}.items():
        with pytest.raises(NoSuchUser, match=reason):
            find_program_user(name, users)


def test_home_is_the_users_home_or_else_the_jobs_folder(tmp_path: Path) -> None:
    assert choose_home(ProgramUser(1, 1, str(tmp_path)), Path("job")) == str(tmp_path)
    for home in ("", str(tmp_path / "none")):
        assert choose_home(ProgramUser(1, 1, home), Path("job")) == "job"


@needs_root
def test_a_program_of_another_user_is_ended_with_all_its_processes(launcher: LauncherPool, tmp_path: Path) -> None:
    for parent in (tmp_path, *tmp_path.parents[:3]):
        parent.chmod(parent.stat().st_mode | 0o011)
    folders = Folders(tmp_path / "job")
    make_job_folder(folders)
    identity = give_folders(folders, ProgramUser(12345, 12345, ""))
    surroundings = ProgramSurroundings(folders.root, folders.log, shell=True, identity=identity)
    result = run_command(launcher, "trap '' TERM; setsid sleep 7654 & echo $! > pid; sleep 7654", surroundings, 0.5)
    assert result.timed_out
    process = (folders.root / "pid").read_text().strip()
    assert not Path("/proc", process).exists()


def test_a_container_that_does_not_start_as_root_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NoSuchUser, match="PROGRAM_USER is 'ada', but this container does not start as root"):
        find_program_user("ada")
