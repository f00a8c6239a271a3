"""What a command starts, and when: what the user wrote is read first, and only what the command needs is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from distributed_something.cli.console import Console
from distributed_something.cli.context import Context, ExitCode
from distributed_something.cli.main import main
from distributed_something.core.errors import UserFacingError
from tests.support.offline import Outcome, no_way_out, type_command, write_project


@pytest.fixture(autouse=True)
def _nothing_is_sent() -> Iterator[None]:
    with no_way_out():
        yield


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(write_project(tmp_path))
    return tmp_path


def typed(*words: str) -> Outcome:
    return type_command("--project", ".", *words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("setup", "--config", "none.py"), "none.py: there is no such file"),
        (("submitJob", "none.json"), "none.json: there is no such file; give the path of a job file"),
        (("startCluster", "none.json"), "none.json: there is no such file; give the path of a fleet file"),
        (("monitor", "none.json"), "none.json: there is no such file; give the path of a monitor file"),
        (("cleanup", "none.json"), "none.json: there is no such file; give the path of a monitor file"),
        (("why", "none.json"), "none.json: there is no such file; give the path of a monitor file"),
        (("check", "none.json"), "none.json: there is no such file; give the path of a fleet file"),
        (("runJob", "none.json", "--index", "1"), "none.json: there is no such file; give the path of a job file"),
        (("runJob", "files/job.json", "--index", "3"), "there is no job 3; give a number from 1 to 2"),
        (("interrupt", "--config", "none.py"), "none.py: there is no such file"),
    ],
)
def test_a_wrong_input_starts_no_local_cloud(project: Path, words: tuple[str, ...], said: str) -> None:
    before = sorted(project.rglob("*"))
    outcome = typed("--local", *words)
    assert (outcome.code, outcome.out, said in outcome.err) == (ExitCode.INPUT, "", True), outcome.err
    assert sorted(project.rglob("*")) == before


def test_a_dry_run_starts_no_local_cloud(project: Path) -> None:
    assert typed("--local", "submitJob", "files/job.json", "--dry-run").code == ExitCode.DONE


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each local cloud that is started shall run workers in containers; none of them starts."""
    asked: list[bool] = []

    def start(project: Path, *, containers: bool, **_: Any) -> None:
        asked.append(containers)
        raise UserFacingError("this is as far as it goes")

    monkeypatch.setattr("distributed_something.localcloud.start_local_cloud", start)
    return asked


@pytest.mark.parametrize("containers", [False, True])
def test_a_local_cloud_runs_its_workers_as_it_is_asked(project: Path, starts: list[bool], containers: bool) -> None:
    options = ["--local", "--containers"] if containers else ["--local"]
    assert typed(*options, "setup") == Outcome(ExitCode.CLOUD, "", "run.py: this is as far as it goes\n")
    assert starts == [containers]


def test_one_job_in_a_container_leaves_the_workers_of_a_local_cloud_as_they_are(
    project: Path, starts: list[bool]
) -> None:
    typed("--local", "--containers", "runJob", "files/job.json", "--index", "1")
    assert starts == [False]


def test_the_config_is_read_once(project: Path, starts: list[bool]) -> None:
    with (project / "config.py").open("a") as config:
        config.write("open('times', 'a').write('read\\n')\n")
    for words in (("setup",), ("runJob", "files/job.json", "--index", "1")):
        typed("--local", *words)
    assert (project / "times").read_text() == "read\n" * 2


# Where output goes


def test_results_are_printed_apart_from_progress(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.print_result("a result")
    console.print_progress("at work")
    assert console.screen.is_terminal is False
    console.print_progress("[bold]at work[/bold] :smile: " + "x" * 200)
    out, err = capsys.readouterr()
    assert (out, err) == ("a result\n", "at work\n[bold]at work[/bold] :smile: " + "x" * 200 + "\n")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KeyboardInterrupt(), ExitCode.INTERRUPTED, "\nrun.py: interrupted; type the same command again\n"),
        (ZeroDivisionError("two\nlines"), ExitCode.CLOUD, "run.py: two lines\n"),
        (ZeroDivisionError(), ExitCode.CLOUD, "run.py: ZeroDivisionError\n"),
        (UserFacingError("no", "try", action="testing"), ExitCode.CLOUD, "run.py: while testing: no — try\n"),
        (SystemExit(3), 3, ""),
    ],
)
def test_whatever_happens_a_user_reads_one_line_and_with_debug_the_traceback(
    project: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, line: str
) -> None:
    monkeypatch.setattr(Context, "settings", property(raising(error)))
    assert typed("setup") == Outcome(code, "", line)
    if isinstance(error, Exception):
        with pytest.raises(type(error)):
            main(["--debug", "--project", ".", "setup"])


def raising(error: BaseException) -> Callable[[Context], None]:
    def fail(_: Context) -> None:
        raise error

    return fail
