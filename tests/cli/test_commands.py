"""Commands read all user input first, and they start the local cloud only if they need it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from distributed_something.cli.console import Console
from distributed_something.cli.context import Context, ExitCode
from distributed_something.cli.main import main
from distributed_something.core.errors import UserFacingError
from tests.support.offline import Outcome, block_requests, run_command, write_project

BUG = "run.py: a bug in distributed_something: ZeroDivisionError"
BUG_REMEDY = "type the command again with --debug, and report what it shows"


@pytest.fixture(autouse=True)
def _nothing_is_sent() -> Iterator[None]:
    with block_requests():
        yield


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(write_project(tmp_path))
    return tmp_path


def run_in_project(*words: str) -> Outcome:
    return run_command("--project", ".", *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("setup", "--config", "none.py"), "none.py: there is no such file"),
        (("submitJob", "none.json"), "none.json: there is no such file; give the path of a job file"),
        (("startCluster", "none.json"), "none.json: there is no such file; give the path of a fleet file"),
        (("monitor", "none.json"), "none.json: there is no such file; give the path of a monitor file"),
        (("cleanup", "none.json"), "none.json: there is no such file; give the path of a monitor file"),
        (("why", "none.json"), "none.json: there is no such file; give the path of a monitor file"),
        (("check", "none.json"), "none.json: there is no such file; give the path of a fleet file"),
        (("runJob", "none.json", "--index", "1"), "none.json: there is no such file; give the path of a job file"),
        (("runJob", "files/job.json", "--index", "3"), "there is no job 3; write a number from 1 to 2"),
        (("interrupt", "--config", "none.py"), "none.py: there is no such file"),
        (
            ("interrupt",),
            "interrupt: no run of Tryout is active, so there are no machines; type first:\n  python run.py",
        ),
    ],
)
def test_invalid_input_does_not_start_the_local_cloud(project: Path, words: tuple[str, ...], message: str) -> None:
    before = sorted(project.rglob("*"))
    outcome = run_in_project("--local", *words)
    assert (outcome.code, outcome.out, message in outcome.err) == (ExitCode.INPUT, "", True), outcome.err
    assert sorted(project.rglob("*")) == before


@pytest.mark.parametrize("words", [(), ("status",)])
def test_the_examples_in_help_begin_as_the_user_started_run_py(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr("sys.argv", ["../a clone/run.py"])
    text = run_in_project(*words, "--help").out
    assert "python '../a clone/run.py' " in text
    assert "python run.py" not in text
    assert "{" not in text


def test_a_dry_run_does_not_start_the_local_cloud(project: Path) -> None:
    assert run_in_project("--local", "submitJob", "files/job.json", "--dry-run").code == ExitCode.DONE


@pytest.fixture
def container_options(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Record the `containers` option of each attempt to start a local cloud, and make every attempt fail."""
    options: list[bool] = []

    def start(project: Path, *, containers: bool, **_: Any) -> None:
        options.append(containers)
        raise UserFacingError("not in this test")

    monkeypatch.setattr("distributed_something.localcloud.start_local_cloud", start)
    return options


@pytest.mark.parametrize("containers", [False, True])
def test_the_containers_option_is_passed_to_the_local_cloud(
    project: Path, container_options: list[bool], containers: bool
) -> None:
    options = ["--local", "--containers"] if containers else ["--local"]
    assert run_in_project(*options, "setup") == Outcome(ExitCode.CLOUD, "", "run.py: not in this test\n")
    assert container_options == [containers]


@pytest.mark.parametrize(
    "words",
    [("why",), ("status", "files/monitor.json"), ("check",), ("cleanup",),
     ("retry", "--dry-run", "files/monitor.json")],
)  # fmt: skip
def test_commands_that_start_no_worker_need_no_container_engine(
    project: Path, container_options: list[bool], words: tuple[str, ...]
) -> None:
    run_in_project("--local", "--containers", *words)
    assert container_options == [False]


def test_running_one_job_in_a_container_does_not_affect_the_local_clouds_workers(
    project: Path, container_options: list[bool]
) -> None:
    run_in_project("--local", "--containers", "runJob", "files/job.json", "--index", "1")
    assert container_options == [False]


def test_setup_warns_about_a_constant_with_a_name_similar_to_a_known_one(
    project: Path, container_options: list[bool]
) -> None:
    with (project / "config.py").open("a") as config:
        config.write("JOB_RETRY = 3\nMEMORI = 9\n")
    assert run_in_project("--local", "setup").err.splitlines() == [
        "warning: config.py: JOB_RETRY: this is not a known constant, but its name is similar to JOB_RETRIES; "
        "write JOB_RETRIES, unless JOB_RETRY is a constant of your own",
        "warning: config.py: MEMORI: this is not a known constant, but its name is similar to MEMORY; "
        "write MEMORY, unless MEMORI is a constant of your own",
        "run.py: not in this test",
    ]


@pytest.mark.parametrize(
    ("image", "base"),
    [
        ("cellprofiler/distributed-cellprofiler:2.0.0_4.2.4", " base=cellprofiler/cellprofiler:4.2.4,"),
        ("cellprofiler/distributed-fiji:latest", " base=fiji/fiji:fiji-openjdk-8,"),
    ],
)
def test_setup_says_that_a_published_image_contains_the_old_worker_and_how_to_build_the_new_one(
    project: Path, container_options: list[bool], image: str, base: str
) -> None:
    with (project / "config.py").open("a") as config:
        config.write(f"DOCKERHUB_TAG = {image!r}\n")
    warning, *_ = run_in_project("--local", "setup").err.splitlines()
    assert warning.startswith(f"warning: config.py: DOCKERHUB_TAG: {image} contains the published system's worker")
    assert f"run make push{base}" in warning


def test_check_names_the_placeholders_of_the_config_and_the_fleet_file_in_one_answer(project: Path) -> None:
    with (project / "config.py").open("a") as config:
        config.write("AWS_BUCKET = 'your-bucket-name'\nSOURCE_BUCKET = 'bucket-name'\n")
    interface = {"DeviceIndex": 0, "SubnetId": "subnet-WWWWWWWW", "Groups": ["sg-ZZZZZZZZZ"]}
    specification = {"KeyName": "your_key_file_name", "NetworkInterfaces": [interface]}
    fleet = {"IamFleetRole": "arn:aws:iam::111122223333:role/fleet", "LaunchSpecifications": [specification]}
    (project / "files" / "fleet.json").write_text(json.dumps(fleet))
    for command in ("check", "startCluster"):
        lines = run_in_project(command, "files/fleet.json").err.splitlines()
        assert [line.partition(": ")[2].split(": ")[1] for line in lines] == [
            "AWS_BUCKET",
            "SOURCE_BUCKET",
            "LaunchSpecifications[0].KeyName",
            "LaunchSpecifications[0].NetworkInterfaces[0].SubnetId",
            "LaunchSpecifications[0].NetworkInterfaces[0].Groups[0]",
        ]


def test_the_config_is_read_once(project: Path, container_options: list[bool]) -> None:
    with (project / "config.py").open("a") as config:
        config.write("open('times', 'a').write('read\\n')\n")
    for words in (("setup",), ("runJob", "files/job.json", "--index", "1")):
        run_in_project("--local", *words)
    assert (project / "times").read_text() == "read\n" * 2


# Output


def test_results_are_printed_to_standard_output_and_progress_to_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console = Console()
    console.print_result("a result")
    console.print_progress("working")
    assert console.screen.is_terminal is False
    console.print_progress("[bold]working[/bold] :smile: " + "x" * 200)
    out, err = capsys.readouterr()
    assert (out, err) == ("a result\n", "working\n[bold]working[/bold] :smile: " + "x" * 200 + "\n")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (
            KeyboardInterrupt(),
            ExitCode.INTERRUPTED,
            "\nrun.py: interrupted; to continue, run the same command again\n",
        ),
        (OSError("two\nlines"), ExitCode.CLOUD, "run.py: two lines\n"),
        (ZeroDivisionError("two\nlines"), ExitCode.CLOUD, f"{BUG}: two lines; {BUG_REMEDY}\n"),
        (ZeroDivisionError(), ExitCode.CLOUD, f"{BUG}; {BUG_REMEDY}\n"),
        (UserFacingError("no", "try", action="testing"), ExitCode.CLOUD, "run.py: while testing: no — try\n"),
        (SystemExit(3), 3, ""),
    ],
)
def test_every_error_is_one_line_and_only_debug_shows_its_traceback(
    project: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, line: str
) -> None:
    monkeypatch.setattr(Context, "settings", property(raising(error)))
    assert run_in_project("setup") == Outcome(code, "", line)
    if isinstance(error, Exception):
        with pytest.raises(type(error)):
            main(["--debug", "--project", ".", "setup"])


def raising(error: BaseException) -> Callable[[Context], None]:
    def fail(_: Context) -> None:
        raise error

    return fail
