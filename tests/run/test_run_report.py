"""The report that is made from a bucket: during a run, after it, and of runs of older versions."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from distributed_something.observe.documents.machine_documents import parse_machine_document
from distributed_something.results.command_line import CommandLine
from distributed_something.results.outcome import load_run_outcome
from distributed_something.results.report.data import USES, Report, UseAmounts
from distributed_something.results.report.numbers import job_rows
from distributed_something.results.report.numbers.attempts import AttemptTable
from distributed_something.results.report.numbers.build_report import build_report
from distributed_something.results.status.document import RunState
from distributed_something.run.report.make_report import render_page
from distributed_something.run.report.run_facts import RunMoment, gather_run_facts
from distributed_something.worker import RunKeys
from tests.support.fakes import MONITOR_FILE, START
from tests.support.run_documents import RunDocuments, build_program_line, emulated_run

MACHINE = {
    "machine": "i-0000000a", "type": "m5.large", "zone": "us-east-1a", "spot": True, "slots": 2,
    "launched": "2026-11-23T10:45:00Z", "ended": "2026-11-23T11:45:00Z", "end_code": "x", "price": 0.5,
}  # fmt: skip
CONFIG = {"APP_NAME": "App", "MEMORY": 2000, "MY_TOKEN": "abc", "NOTE": "password=hunter2"}

EARLIER = "20261122T000000Z"  # an earlier run


@pytest.fixture
def run() -> Iterator[RunDocuments]:
    with emulated_run(MONITOR_FILE) as documents:
        yield documents


def end_job(run: RunDocuments, job: str, start: float, state: str = "done", **more: Any) -> dict[str, Any]:
    line = build_program_line(job, START + start, 60, state, **more)
    return run.end_job(
        job, state, **{key: value for key, value in line.items() if key not in ("job", "state", "final")}
    )


class CountingTable(AttemptTable):
    """A table that counts the rows that are read from its file."""

    read = 0

    def iter_rows(self, is_wanted: Callable[[int], bool]) -> Iterator[tuple[int, dict[str, Any]]]:
        for row in super().iter_rows(is_wanted):
            self.read += 1
            yield row


def make_report(
    run: RunDocuments, submitted: int, left: int = 0, state: RunState = RunState.FAILED,
    table: AttemptTable | None = None,
) -> Report:  # fmt: skip
    table = CountingTable(START, START + 3700) if table is None else table
    clients = SimpleNamespace(s3=run.s3)
    outcome = load_run_outcome(run.s3, MONITOR_FILE, submitted, left, attempts=table)
    ended = START + 3600 if state.has_ended else None
    moment = RunMoment(state, START + 3700, ended, 0, 2.0, has_waiting=bool(left))
    facts = gather_run_facts(clients, MONITOR_FILE, moment, CommandLine(monitor_file="M"))  # type: ignore[arg-type]
    return build_report(facts, outcome, table)


def write_machine(run: RunDocuments, **more: Any) -> None:
    name = str(more.get("machine", MACHINE["machine"]))
    run.put_object(MONITOR_FILE.keys.machine(name), json.dumps(MACHINE | more).encode())


def test_the_report_of_a_run_has_its_counts_costs_causes_and_inputs(run: RunDocuments) -> None:
    place = {"machine": "i-0000000a"}
    secret = {"last_lines": ["start", "token = s3cr3t"], "telling_line": "token = s3cr3t", "exit_code": 1,
              "reason": "exit code 1", "reason_class": "program"}  # fmt: skip
    lines = [end_job(run, f"j{n}", 100 + 100 * n, **place) for n in range(5)]
    lines += [end_job(run, "bad", 800, "failed", **place, **secret), end_job(run, "there", 900, "skipped", **place)]
    run.write_journal("c-1", *lines, machine="i-0000000a", slots=2)
    write_machine(run)
    job_file = {"path": "files/job.json", "jobs": 7, "files": {"files/job.json": {"sha256": "ab"}}}
    config_file = {"values": CONFIG, "path": "config.py", "sha256": "00"}
    document = {"config": config_file, "image": {"name": "lab/app:1"}, "job_files": [job_file]}
    run.put_object(MONITOR_FILE.keys.run_document, json.dumps(document).encode())
    report = make_report(run, 7)

    verdict = report.verdict
    assert (verdict.submitted, verdict.done, verdict.already_there, verdict.failed, verdict.left) == (7, 5, 1, 1, 0)
    # An hour of the machine, whose containers have two slots each: the settings have two containers per machine.
    assert (verdict.cost, verdict.machines, verdict.is_cost_estimated) == (0.5, 1, False)
    assert sum(round(100 * getattr(verdict.uses, use)) for use in USES) == 50
    (cause,) = report.failures
    assert (cause.attempts, cause.machines, cause.jobs) == (1, 1, ("bad",))
    assert cause.cost == pytest.approx(0.5 / 3600 / 4 * 60)
    assert cause.retry_command == f"python run.py retry {MONITOR_FILE.run} --only {cause.group.id}"
    assert cause.group.example.last_lines == ("start", "***")
    assert sorted(row.job for row in report.jobs.rows) == ["bad", "j0", "j1", "j2", "j3", "j4", "there"]
    facts, config = dict(report.provenance.facts), dict(report.provenance.config)
    assert (facts["image"], facts["Job file"]) == ("lab/app:1", "files/job.json (SHA-256 ab), 7 jobs")
    assert config == {"APP_NAME": "App", "MEMORY": "2000", "MY_TOKEN": "***", "NOTE": "***"}
    shown = (report.jobs, report.provenance, [(item.group.cause, item.group.example) for item in report.failures])
    assert "s3cr3t" not in repr(shown)


def test_programs_that_run_count_as_work_in_a_report_during_the_run(run: RunDocuments) -> None:
    starts = [[0, "2026-11-23T10:46:40.000Z"], [1, "2026-11-23T10:46:40.000Z"], "x", [1], None]
    run.write_journal("c-1", machine="i-0000000a", slots=2, ended=False, running=2, program_starts=starts)
    run.write_journal("c-2", machine="i-0000000a", slots=2, ended=False, running=1, program_starts=5)
    write_machine(run, ended=None, end_code=None)
    report = make_report(run, 9, left=9, state=RunState.RUNNING)
    assert report.timeline is not None
    assert [[piece.state for piece in lane.pieces] for lane in report.timeline.lanes] == [["running"]] * 2 + [[]] * 2
    assert report.verdict.uses is not None
    assert report.verdict.cost == pytest.approx(0.51)
    assert report.verdict.uses.work == pytest.approx(0.5 * 2 * 3600 / 4 / 3600, abs=0.01)
    text = render_page(report).decode()
    assert "Programs that run now count as work" in text
    assert "programs of jobs that are done, or run now" in text
    assert "Programs that run now" not in render_page(make_report(run, 9, left=9)).decode()


def test_a_job_began_when_its_program_did_not_when_a_worker_took_it(run: RunDocuments) -> None:
    taken = {"started": "2026-11-23T10:45:05.000Z", "machine": "i-0000000a"}
    earlier = build_program_line("b", START + 31, 4, "interrupted", **taken)
    lines = [end_job(run, "a", 74, **taken), end_job(run, "b", 90, attempts=2, **taken)]
    lines += [
        end_job(run, "there", 5, "skipped", **taken, program_started=None, program_ended=None),
        end_job(run, "bad", 6, "failed", **taken, program_started=None, program_ended=None),
    ]
    run.write_journal("c-1", earlier, *lines, machine="i-0000000a", slots=2)
    report = make_report(run, 4)
    shown = {row.job: (row.started, row.is_program_start) for row in report.jobs.rows}
    assert shown == {"a": (74.0, True), "b": (90.0, True), "there": (5.0, False), "bad": (5.0, False)}
    assert [attempt.started for row in report.jobs.rows for attempt in row.earlier] == [31.0]
    page = render_page(report).decode()
    assert '<td class="number">5 s*</td>' in page
    assert "* when a worker took the job: no program began." in page
    assert '"taken":[0,0,1,1]' in page


LOST = {"machine": None, "container": None, "slot": None, "program_started": None, "program_ended": None,
        "reason_class": "crash", "reason": "the worker of the last attempt was lost"}  # fmt: skip


def test_a_job_whose_last_worker_was_lost_is_on_no_machine_and_did_not_return_to_the_queue(run: RunDocuments) -> None:
    first = build_program_line("lost", START + 10, 5, "failed", machine="i-0000000a", **{"final": False})
    lines = [end_job(run, "lost", 300, "failed", attempts=2, **LOST), end_job(run, "a", 100, machine="i-0000000b")]
    run.write_journal("c-1", first, machine="i-0000000a", slots=2)
    run.write_journal("c-2", *lines, machine="i-0000000b", slots=2)
    write_machine(run, ended="2026-11-23T10:46:00Z", end_code="Server.SpotInstanceTermination")
    write_machine(run, machine="i-0000000b")
    report = make_report(run, 2)
    (row,) = (row for row in report.jobs.rows if row.job == "lost")
    assert (row.seconds, row.started, row.machine, row.is_lost) == (None, None, "", True)
    (cause,) = report.failures
    assert (cause.attempts, cause.machines, cause.lost) == (2, 1, 1)
    assert (report.verdict.machines, report.verdict.interruptions, report.lost) == (2, 1, 1)
    page = render_page(report).decode()
    assert "1 machine was interrupted; its jobs returned to the queue, unless they had no attempts left. " in page
    assert "1 job failed for good because the worker of its last attempt was lost." in page
    assert "2 attempts: 1 on a worker that was lost, the others on 1 machine. " in page
    assert '<td class="machine">lost</td>' in page


def test_jobs_that_returned_to_the_queue_were_not_lost(run: RunDocuments) -> None:
    lines = [
        build_program_line("a", START + 10, 5, "failed", **LOST),
        build_program_line("a", START + 100, 5, "done", message_id="again", machine="i-0000000a"),
    ]
    run.write_journal("c-1", *lines, machine="i-0000000a", slots=2)
    write_machine(run, ended="2026-11-23T10:46:00Z", end_code="Server.SpotInstanceTermination")
    report = make_report(run, 2, state=RunState.DONE)
    assert report.lost == 0
    assert "1 machine was interrupted; its jobs returned to the queue. " in render_page(report).decode()


def test_a_large_run_says_how_many_of_its_failed_and_retried_jobs_are_listed(
    run: RunDocuments, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = {"MAX_ALL_ROWS": 20, "MAX_SAMPLED_ROWS": 12, "MAX_FAILED_ROWS": 3, "MAX_RETRIED_ROWS": 20,
              "SLOWEST_ROWS": 1}  # fmt: skip
    for name, value in limits.items():
        monkeypatch.setattr(job_rows, name, value)
    lines = [end_job(run, f"j{n}", 100 + n) for n in range(30)]
    lines += [end_job(run, f"bad{n}", 200 + n, "failed") for n in range(7)]
    lines += [end_job(run, f"again{n}", 300 + n, attempts=2) for n in range(2)]
    run.write_journal("c-1", *lines, machine="i-0000000a", slots=2)
    report = make_report(run, 39)
    listed = Counter(row.state + str(row.attempts) for row in report.jobs.rows)
    assert (report.jobs.total, report.jobs.retried, report.jobs.recovered) == (39, 2, 2)
    assert 3 <= listed["failed1"] < 7
    assert (
        f"The table has {len(report.jobs.rows)} of 39 jobs: {listed['failed1']} of the 7 that failed, all 2 that were"
        f" done on a later attempt, and {listed['done1']} others: the slowest and an even sample. "
    ) in render_page(report).decode()


def test_a_large_run_with_few_programs_reads_the_names_of_those_only(
    run: RunDocuments, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"MAX_ALL_ROWS": 20, "MAX_SAMPLED_ROWS": 5, "SLOWEST_ROWS": 1}.items():
        monkeypatch.setattr(job_rows, name, value)
    place = {"machine": "i-0000000a"}
    lines = [end_job(run, f"j{n}", n, "skipped", **place, program_started=None, program_ended=None) for n in range(60)]
    run.write_journal("c-1", end_job(run, "a", 100, **place), *lines, slots=2, **place)
    table = CountingTable(START, START + 3700)
    report = make_report(run, 61, table=table)
    assert report.jobs.is_sample
    assert report.timeline is not None
    assert [piece.job for lane in report.timeline.lanes for piece in lane.pieces] == ["a"]
    assert table.read == len(report.jobs.rows) + 1


def test_a_line_that_cannot_be_read_is_named_in_the_page(run: RunDocuments) -> None:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    table = CountingTable(START, START + 3700)
    table.add_line({"job": "a", "state": "done", "group": {"x": nested}})
    page = render_page(make_report(run, 1, table=table)).decode()
    assert "1 record could not be read, so the numbers may be too low." in page


def test_paused_machines_are_named_where_idle_time_is_explained(run: RunDocuments) -> None:
    run.write_journal("c-1", end_job(run, "a", 100, machine="i-0000000a"), machine="i-0000000a", slots=2)
    write_machine(run)
    earlier = [{"since": "2026-11-23T10:50:00Z", "until": "2026-11-23T10:50:20Z", "reason": "password=hunter2"}]
    documents: dict[str, object] = {
        "i-0000000a-c-1": {"machine": "i-0000000a", "state": "working", "since": "2026-11-23T10:50:20Z",
                           "earlier_pauses": [*earlier, "x", {"since": 5}]},
        "i-0000000b-c-2": {"machine": "i-0000000b", "state": "paused", "since": "2026-11-23T11:44:00Z",
                           "until": "2026-11-23T12:04:00Z", "reason": "5 different jobs failed in a row"},
        "i-0000000c-c-3": {"machine": "i-0000000c", "state": "working", "since": "2026-11-23T11:44:00Z"},
        "i-0000000d-c-4": [],
    }  # fmt: skip
    for name, document in documents.items():
        run.put_object(f"{MONITOR_FILE.keys.machines}{name}.json", json.dumps(document).encode())
    report = make_report(run, 1)
    assert [(paused.machine, paused.seconds) for paused in report.paused] == [("i-0000000b", 60), ("i-0000000a", 20)]
    assert (
        "Part of the idle time may be pauses: i-0000000b took no jobs for 60 s (5 different jobs failed in a row)"
        " and i-0000000a took no jobs for 20 s (***)."
    ) in render_page(report).decode()


def test_a_run_of_an_older_version_has_an_estimate_and_says_so(run: RunDocuments) -> None:
    run.write_journal("c-1", end_job(run, "a", 100), machine="i-1")
    report = make_report(run, 1, state=RunState.DONE)
    assert (report.verdict.cost, report.verdict.is_cost_estimated) == (2.0, True)
    assert report.provenance.left_out[-1].startswith("The price or the times of 1 machine of 1 are not known")
    assert report.provenance.config == ()
    assert report.type_costs == ()


def test_a_run_without_attempts_and_one_without_machines_have_reports(run: RunDocuments) -> None:
    report = make_report(run, 3, left=3, state=RunState.STARTING)
    assert (report.verdict.left, report.verdict.ended, report.timeline, report.jobs.rows) == (3, None, None, ())
    assert (report.verdict.cost, report.verdict.uses) == (None, None)


def test_lines_that_no_journal_has_come_from_records(run: RunDocuments) -> None:
    end_job(run, "lost", 100, machine="i-0000000a", container="c-1")
    write_machine(run)
    report = make_report(run, 1)
    assert report.timeline is not None
    assert [piece.job for lane in report.timeline.lanes for piece in lane.pieces] == ["lost"]


def test_a_failure_of_a_job_whose_message_was_delivered_again_after_it_was_done_is_an_earlier_attempt(
    run: RunDocuments,
) -> None:
    lines = [
        build_program_line("a", START + 100, 60, "done", message_id="m", machine="i-1"),
        build_program_line("a", START + 300, 60, "failed", message_id="m", machine="i-1", reason="late"),
    ]
    run.write_journal("c-1", *lines, machine="i-1")
    report = make_report(run, 1, state=RunState.DONE)
    (row,) = report.jobs.rows
    assert (row.state, [attempt.state for attempt in row.earlier]) == ("done", ["failed"])


def test_a_run_that_only_skipped_jobs_has_a_report(run: RunDocuments) -> None:
    lines = [end_job(run, f"j{n}", 10 * n, "skipped", machine="i-0000000a", program_started=None, program_ended=None)
             for n in range(3)]  # fmt: skip
    run.write_journal("c-1", *lines, machine="i-0000000a")
    write_machine(run)
    report = make_report(run, 3, state=RunState.DONE)
    verdict = report.verdict
    assert (verdict.submitted, verdict.done, verdict.already_there, verdict.failed) == (3, 0, 3, 0)
    assert (verdict.cost, verdict.uses) == (0.5, UseAmounts(startup=0.0, idle=0.5))
    assert (report.program_seconds, report.type_costs, report.suggestions) == (None, (), ())
    page = render_page(report).decode()
    assert "All results were already there." in page


def test_nothing_in_a_runs_documents_becomes_part_of_the_page(run: RunDocuments) -> None:
    hostile = "</script><img src=x onerror=alert(1)>"
    lines = [end_job(run, "a", 100, "failed", machine="i-0000000a", reason=hostile, telling_line=hostile,
                     last_lines=[hostile], exit_code=1, output_location=hostile)]  # fmt: skip
    run.write_journal("c-1", *lines, machine="i-0000000a")
    write_machine(run, type=hostile, zone=hostile, end_reason=hostile)
    job_files = [{"path": hostile, "jobs": 1, "files": {hostile: {"sha256": hostile}}, "retry_of": hostile}]
    document = {"config": {"values": {hostile: hostile}}, "image": {"name": hostile}, "job_files": job_files}
    run.put_object(MONITOR_FILE.keys.run_document, json.dumps(document).encode())
    page = render_page(replace(make_report(run, 1), app=hostile, run=hostile)).decode()
    assert "&lt;/script&gt;&lt;img" in page
    assert "<img" not in page
    assert page.count("</script>") == 2


@pytest.mark.parametrize("value", [None, 5, "x", [], [5, None, "x"], {}, {"path": []}, [{"path": 5, "files": 7}]])
def test_a_document_of_a_run_with_other_values_than_expected_is_read_as_far_as_possible(
    run: RunDocuments, value: object
) -> None:
    document = dict.fromkeys(("config", "image", "versions", "job_files", "fleet_file", "owner"), value)
    run.put_object(MONITOR_FILE.keys.run_document, json.dumps(document).encode())
    run.write_journal("c-1", end_job(run, "a", 100, machine="i-1"), machine="i-1")
    assert b"The job is done." in render_page(make_report(run, 1, state=RunState.DONE))


def describe_file(path: str, **more: object) -> dict[str, object]:
    return {"path": path, "jobs": 1, "files": {}, **more}


@pytest.mark.parametrize(
    ("entries", "earlier", "expected"),
    [
        ([describe_file("files/my job.json")], [], "python run.py runJob 'files/my job.json' --id"),
        ([describe_file("a.json"), describe_file("a.json")], [], "python run.py runJob a.json --id"),
        ([describe_file("a.json"), describe_file("b.json")], [], ""),
        ([describe_file("", retry_of=EARLIER)], [describe_file("a.json")], "python run.py runJob a.json --id"),
        ([describe_file("", retry_of=EARLIER)], [describe_file("a.json"), describe_file("b.json")], ""),
        ([describe_file("", retry_of=EARLIER)], [describe_file("", retry_of=EARLIER)], ""),
        ([], [], ""),
    ],
)  # fmt: skip
def test_a_job_can_be_run_alone_if_it_is_known_which_job_file_it_is_in(
    run: RunDocuments, entries: list[dict[str, object]], earlier: list[dict[str, object]], expected: str
) -> None:
    run.put_object(MONITOR_FILE.keys.run_document, json.dumps({"job_files": entries}).encode())
    key = RunKeys(MONITOR_FILE.MONITOR_APP_NAME, EARLIER).run_document
    run.put_object(key, json.dumps({"job_files": earlier}).encode())
    assert make_report(run, 0).run_job_command == expected


@pytest.mark.parametrize(
    "content", [{}, {"price": "1"}, {"price": -1, "slots": 0, "spot": 1, "launched": "soon", "type": 5}]
)
def test_values_of_a_machine_that_are_not_valid_are_unknown(content: dict[str, Any]) -> None:
    document = parse_machine_document("i-1", content)
    values = (document.price, document.slots, document.is_spot, document.launched, document.type)
    assert values == (None,) * 5
