"""The screen of a run at 80 columns: every line fits, and numbers read as people expect."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from distributed_something.core.text import format_cost
from distributed_something.results.causes import FailureGroup, group_failures
from distributed_something.results.job_counter import FailedJob
from distributed_something.results.status.document import CostNumbers, JobNumbers, MachineNumbers, RunState, RunStatus
from distributed_something.results.status.forecast import Estimate, Speed
from distributed_something.results.status.progress import SlowJob
from distributed_something.run.screen.layout import ScreenSize, build_screen, format_failure_details, format_status_line
from distributed_something.run.screen.view import StatusView
from tests.support.fakes import RUN, START, FakeOutput

TERMINAL = ScreenSize(80, 24)
FOOTER = "Ctrl-C stops watching; machines keep costing money until monitor runs again"
STATUS = RunStatus(
    app="PlateScreen", run=RUN, region="us-east-1", state=RunState.RUNNING, at=START + 4320, started=START, ended=None,
    jobs=JobNumbers(10_000, done=6780, failed=56, running=384, waiting=2780),
    cost=CostNumbers(7.92, Estimate(12.1, 11.2, 13.9), 20.0), machines=MachineNumbers(48, 48, 384, 3),
    speed=Speed(94.0, tuple(map(float, range(12)))), remaining=Estimate(1860, 1440, 2820),
    slowest=[SlowJob(3660, "P09/A01"), SlowJob(3480, "P02/D05")], median_seconds=250,
)  # fmt: skip


def build_groups(count: int, jobs: int = 3, **fields: Any) -> list[FailureGroup]:
    failures = [
        FailedJob(f"job-{code}-{n}", START, "exit code", "program", exit_code=code, **fields)
        for code in range(1, count + 1)
        for n in range(jobs)
    ]
    return group_failures(failures)


def show(status: RunStatus, size: ScreenSize = TERMINAL, usd: float | None = 0.38) -> list[str]:
    return [line.plain for line in build_screen(status, [usd for _ in status.failures], FOOTER, size)]


def test_a_run_in_progress() -> None:
    lines = show(STATUS)
    assert lines[0].startswith(" PlateScreen  run ")
    assert lines[0].endswith("72 min elapsed")
    assert lines[1].endswith("  68 %")
    assert [" ".join(line.split()) for line in lines[2:6]] == [
        "jobs 6,780 done 384 running 2,780 waiting 56 failed of 10,000",
        "speed ▁▁▂▃▃▄▅▆▆▇██ 94 a minute about 31 min left (24 min to 47 min)",
        "cost 7.92 USD 12.10 at the end (11.20 to 13.90) of 20.00",
        "fleet 48 of 48 machines, 3 attempts interrupted 384 of 384 slots busy",
    ]
    assert " ".join(lines[6].split()) == "slow P09/A01 61 min, P02/D05 58 min (median 4 min)"
    assert lines[-1] == f" {FOOTER}"


def test_failures_are_listed_by_cause_with_jobs_and_cost() -> None:
    status = replace(STATUS, failures=build_groups(2))
    rows = [line for line in show(status) if line.startswith(" F")]
    assert len(rows) == 2
    assert all(row.split()[-2:] == ["3", "0.38"] for row in rows)


def test_many_causes_leave_room_for_the_rest_of_the_screen() -> None:
    status = replace(STATUS, failures=build_groups(40, 125), messages=["first event", "second event"])
    lines = show(status)
    assert len(lines) <= TERMINAL.height
    assert any("more causes; status --json lists all of them" in line for line in lines)
    assert lines[-1] == f" {FOOTER}"


@pytest.mark.parametrize(("state", "text"), [
    (RunState.STARTING, "waiting for the first container"), (RunState.ENDING, "the run is ending"),
])  # fmt: skip
def test_a_state_other_than_running_is_explained(state: RunState, text: str) -> None:
    assert any(text in line for line in show(replace(STATUS, state=state)))


@pytest.mark.parametrize(
    ("state", "jobs", "text"),
    [
        (RunState.FAILED, JobNumbers(3, done=2, failed=1), "the run has ended; some jobs failed"),
        (RunState.FAILED, JobNumbers(3, done=2), "the run has ended; not every job is done"),
        (RunState.STOPPED, JobNumbers(3, done=1, failed=1, waiting=1), "the run has ended with jobs left"),
        (RunState.STOPPED, JobNumbers(3, failed=3), "the run has ended"),
    ],
)
def test_the_end_of_a_run_is_described_as_its_numbers_are(state: RunState, jobs: JobNumbers, text: str) -> None:
    lines = show(replace(STATUS, state=state, jobs=jobs, ended=STATUS.at))
    assert [line.strip() for line in lines if line.startswith(" state")] == [f"state  {text}"]


@pytest.mark.parametrize(
    ("per_minute", "text"),
    [(1234.5, "1,234 a minute"), (94.4, "94 a minute"), (1.04, "1.0 a minute"), (0.5, "30 an hour"),
     (0.02, "1.2 an hour"), (0.01, "14 a day"), (0.0001, "0.1 a day")],
)  # fmt: skip
def test_the_speed_has_a_unit_in_which_it_is_not_0(per_minute: float, text: str) -> None:
    (row,) = (line for line in show(replace(STATUS, speed=Speed(per_minute))) if line.startswith(" speed"))
    assert row.startswith(f" speed  {text} ")


def test_a_speed_that_is_not_known_yet_is_unknown() -> None:
    (row,) = (line for line in show(replace(STATUS, speed=None, remaining=None)) if line.startswith(" speed"))
    assert row.split() == ["speed", "unknown", "until", "more", "jobs", "have", "ended", "end", "unknown"]


@pytest.mark.parametrize("state", [RunState.ENDING, RunState.DONE])
def test_after_the_end_the_speed_is_an_average(state: RunState) -> None:
    speed = Speed(94.0, (1.0, 2.0), is_average=True)
    lines = show(replace(STATUS, state=state, speed=speed, remaining=None))
    assert " speed  ▅█  94 a minute on average" in [line.rstrip() for line in lines]
    assert not any(line.startswith(" speed") for line in show(replace(STATUS, state=state, speed=None)))


def test_an_unknown_cost_is_unknown() -> None:
    assert " cost   unknown" in [line.rstrip() for line in show(replace(STATUS, cost=CostNumbers()))]


def test_no_count_is_cut_off() -> None:
    lines = show(replace(STATUS, jobs=replace(STATUS.jobs, already_there=1_200)))
    assert [line.strip() for line in lines[2:4]] == [
        "jobs   6,780 done   384 running   2,780 waiting   56 failed          of 10,000", "1,200 already there"
    ]  # fmt: skip
    small = show(replace(STATUS, jobs=JobNumbers(5, done=1, waiting=1, already_there=3)))
    assert small[2].split() == [
        "jobs",
        "1",
        "done",
        "0",
        "running",
        "1",
        "waiting",
        "0",
        "failed",
        "3",
        "already",
        "there",
        "of",
        "5",
    ]


@pytest.mark.parametrize(
    ("length", "shown"),
    [(4, "xxxx 60 min, xxxx 60 min, xxxx 60 min"), (18, f"{'x' * 18} 60 min, {'x' * 18} 60 min"),
     (80, f"{'x' * 48}… 60 min")],
)  # fmt: skip
def test_slow_jobs_are_named_as_far_as_they_fit(length: int, shown: str) -> None:
    slowest = [SlowJob(3600, "x" * length)] * 3
    (row,) = (line for line in show(replace(STATUS, slowest=slowest)) if line.startswith(" slow"))
    assert " ".join(row.split()) == f"slow {shown} (median 4 min)"


def test_a_cause_takes_two_lines_if_there_is_room() -> None:
    cause = "missing input: the input PATH does not exist, and neither does another one (NoSuchKey)"
    groups = [replace(group, cause=cause) for group in build_groups(12)]
    lines = show(replace(STATUS, failures=groups[:2]))
    first = next(number for number, line in enumerate(lines) if line.startswith(f" {groups[0].id}"))
    words = f"{lines[first][9:60].rstrip()} {lines[first + 1].strip()}"
    assert words == cause
    assert all("…" in line for line in show(replace(STATUS, failures=groups)) if line.startswith(" F"))


def test_the_screen_fits_the_terminal_with_everything_on_it() -> None:
    jobs = replace(STATUS.jobs, already_there=1_200)
    status = replace(STATUS, jobs=jobs, state=RunState.ENDING, failures=build_groups(40, 5), messages=["x" * 300] * 3)
    lines = show(status)
    assert len(lines) <= TERMINAL.height
    assert lines[-1] == f" {FOOTER}"


def test_a_finished_fleet_does_not_have_more_machines_than_its_target() -> None:
    status = replace(STATUS, machines=MachineNumbers(running=2, target=0))
    assert any("2 machines, 2 stopping" in line for line in show(status))
    assert "2/0" not in format_status_line(status)


def test_only_a_run_whose_jobs_have_all_ended_is_at_100_percent() -> None:
    jobs = JobNumbers(10_000, done=9_999, waiting=1)
    assert show(replace(STATUS, jobs=jobs))[1].endswith("  99 %")
    assert show(replace(STATUS, jobs=replace(jobs, done=10_000, waiting=0)))[1].endswith(" 100 %")


@pytest.mark.parametrize(
    ("jobs", "label"),
    [
        (JobNumbers(60, done=33, running=6, waiting=14, failed=7), "55 % done, 11 % failed"),
        (JobNumbers(60, done=40, already_there=8, failed=12), "80 % done, 20 % failed"),
        (JobNumbers(3, done=1, failed=2), "33 % done, 67 % failed"),
        (JobNumbers(3, failed=3), " 0 % done, 100 % failed"),
        (JobNumbers(10_000, done=9_999, failed=1), "  99 %"),
    ],
)
def test_failed_jobs_do_not_look_like_progress(jobs: JobNumbers, label: str) -> None:
    bar = show(replace(STATUS, jobs=jobs))[1]
    assert bar.endswith(label)
    assert len(bar) == TERMINAL.width - 1
    line = bar.partition("%")[0]
    assert line.count("━") <= 76 * (jobs.done + jobs.already_there) / (jobs.submitted or 1)
    assert bool(line.count("╍")) is True


def test_jobs_that_have_ended_in_an_unknown_way_do_not_look_done() -> None:
    status = replace(STATUS, state=RunState.ENDING, jobs=JobNumbers(4, failed=1, done=1))
    (bar,) = [line for line in build_screen(status, [], FOOTER, TERMINAL) if "━" in line.plain]
    green = [span for span in bar.spans if span.style == "green"]
    assert sum(span.end - span.start for span in green) <= len(bar.plain) / 4


@pytest.mark.parametrize(
    ("usd", "text"), [(0.0, "0"), (2.38e-8, "under 0.01"), (0.0099, "under 0.01"), (0.01, "0.01"), (1250, "1,250.00")]
)
def test_costs_read_like_money(usd: float, text: str) -> None:
    assert format_cost(usd) == text


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=120)
numbers = st.integers(0, 10**7)


@given(
    st.builds(
        RunStatus, app=names, run=st.just(RUN), region=st.just("ap-southeast-2"), state=st.sampled_from(RunState),
        at=st.just(START + 86400.0), started=st.just(START), ended=st.none() | st.just(START + 80000.0),
        jobs=st.builds(JobNumbers, st.none() | numbers, numbers, numbers, numbers, numbers, numbers),
        failures=st.builds(lambda count, line: build_groups(count, 1, telling_line=line), st.integers(0, 12), names),
        cost=st.builds(CostNumbers, st.none() | st.floats(0, 1e6), st.none() | st.just(Estimate(1e6, 9e5, 2e6))),
        machines=st.builds(MachineNumbers, numbers, numbers, numbers, numbers),
        speed=st.none() | st.just(Speed(1e6, (1.0,) * 12)), remaining=st.none() | st.just(Estimate(9e5, 8e5, 1e6)),
        slowest=st.lists(st.builds(SlowJob, st.floats(0, 1e6), names), max_size=3), median_seconds=st.just(5.0),
        reason=st.sampled_from(["", "nothing works"]), messages=st.lists(names, max_size=5),
    ),
    st.integers(60, 100),
)  # fmt: skip
def test_no_line_is_wider_than_the_terminal_whatever_it_contains(status: RunStatus, width: int) -> None:
    for line in show(status, ScreenSize(width, 24)):
        assert cell_len(line) < width
        assert line.isprintable()


def test_the_details_name_an_example_its_log_and_the_command_to_run_it_again() -> None:
    (group,) = build_groups(1, 3, telling_line="Error: no", log="s3://bucket/log.txt")
    lines = format_failure_details([group], "python run.py retry files/F.json")
    assert lines[1].startswith(f"{group.id}  ")
    assert {"    for example job-1-0", "    | Error: no", "    log: s3://bucket/log.txt",
            f"    python run.py retry files/F.json --only {group.id}"} <= set(lines)  # fmt: skip


def test_failed_jobs_whose_lines_were_not_read_yet_have_a_row_so_that_the_numbers_agree() -> None:
    groups = build_groups(2, 3)
    status = replace(STATUS, jobs=replace(STATUS.jobs, failed=10), failures=groups)
    rows = [line for line in show(status, ScreenSize(80, 24)) if "not grouped yet" in line]
    assert [row.split()[-1] for row in rows] == ["4"]
    status = replace(STATUS, jobs=replace(STATUS.jobs, failed=6), failures=groups)
    assert not any("not grouped yet" in line for line in show(status, ScreenSize(80, 24)))


def test_a_cause_without_output_is_explained_by_its_reason() -> None:
    failed = FailedJob("a", START, "make_job: KeyError: 'plate', which is not a key of the message", "worker code")
    lines = format_failure_details(group_failures([failed]), "python run.py retry files/F.json")
    assert f"    | {failed.reason}" in lines


def test_details_are_wrapped_and_not_cut() -> None:
    line = "word " * 40
    (group,) = build_groups(1, 3, telling_line=line, group={"plate": "P" * 90})
    options = "--local --project /tmp/a/rather/long/path/to/a/project"
    lines = format_failure_details([group], f"python run.py {options} retry files/F.json")
    assert max(map(len, lines)) <= 80
    assert " ".join(text.removeprefix("    | ") for text in lines if text.startswith("    | ")) == line.strip()
    assert lines[-2:] == [f"    python run.py {options} retry \\", f"        files/F.json --only {group.id}"]


# Without a terminal


def test_without_a_terminal_at_most_one_line_a_minute_is_printed_and_only_if_something_changed() -> None:
    output = FakeOutput()
    with StatusView(output, FOOTER, lambda status: []) as view:
        for second in range(0, 300, 10):
            done = 100 if second < 100 else 200
            jobs = replace(STATUS.jobs, done=done)
            fixed = replace(STATUS, jobs=jobs, at=START + second, remaining=None)
            view.show_status(fixed)
    assert [line.split()[0] for line in output.progress] == ["10:45:00", "10:46:40"]
    assert "100 done" in output.progress[0]
    assert "200 done" in output.progress[1]


def test_a_message_is_printed_once() -> None:
    output = FakeOutput()
    with StatusView(output, FOOTER, lambda status: []) as view:
        for _ in range(3):
            view.print_once("key", "i-1 takes no jobs")
    assert output.progress == ["i-1 takes no jobs"]


# The end of a live screen


@pytest.fixture
def terminal() -> FakeOutput:
    output = FakeOutput()
    output.screen = Console(file=StringIO(), force_terminal=True, width=80, height=24, color_system=None)
    return output


def read_screen(output: FakeOutput) -> str:
    """Return what was written to the terminal since the last call."""
    file: Any = output.screen.file
    text = str(file.getvalue())
    file.truncate(0)
    file.seek(0)
    return text


@pytest.mark.parametrize("is_removed", [False, True])
def test_the_screen_at_the_end_does_not_say_that_the_run_continues(terminal: FakeOutput, is_removed: bool) -> None:
    with StatusView(terminal, FOOTER, lambda status: [0.1], is_removed=is_removed) as view:
        view.show_status(STATUS)
        assert FOOTER in read_screen(terminal)
    last = read_screen(terminal)
    assert FOOTER not in last
    assert "PlateScreen" in last
    # A live screen that is removed is erased, line by line, after it was drawn for the last time.
    assert ("\x1b[2K" in last.rpartition("PlateScreen")[2]) == is_removed


def test_after_ctrl_c_the_screen_stays_as_it_was(terminal: FakeOutput) -> None:
    with suppress(KeyboardInterrupt), StatusView(terminal, FOOTER, lambda status: [0.1]) as view:
        view.show_status(STATUS)
        raise KeyboardInterrupt
    assert FOOTER in read_screen(terminal).split("PlateScreen")[-1]
