"""How full a machine is, as its containers report it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distributed_something.worker.machine.usage import UsageReporter
from tests.support.fakes import ANY, START, Exact
from tests.support.metadata_server import INSTANCE

STREAM = {"logGroupName": "AppLogs_perInstance", "logStreamName": INSTANCE}


def proc(folder: Path, *, idle: int = 100, busy: int = 100, free: int = 250) -> Path:
    folder.mkdir(exist_ok=True)
    folder.joinpath("stat").write_text(f"cpu  0 0 0 50 {idle} 0 0 {busy} 7 7\ncpu0 1 2 3 4 5 6 7 8 9 10\nintr 1 2\n")
    folder.joinpath("meminfo").write_text(f"MemTotal:   1000 kB\nMemFree:   1 kB\nMemAvailable:  {free} kB\nHuge: 0\n")
    return folder


def usage(aws: Exact, tmp_path: Path, **ticks: int) -> UsageReporter:
    return UsageReporter(aws.clients.logs, "AppLogs", INSTANCE, "box", tmp_path, proc(tmp_path / "proc", **ticks))


def sent(aws: Exact, reporter: UsageReporter, now: float = START) -> dict[str, Any]:
    """The line of one tick."""
    seen: list[dict[str, Any]] = []
    aws.clients.logs.meta.events.register_first(
        "before-parameter-build.logs.PutLogEvents", lambda params, **_: seen.append(params), unique_id="sent"
    )
    aws.answer("logs.put_log_events", STREAM | {"logEvents": ANY})
    reporter.tick(now)
    aws.clients.logs.meta.events.unregister("before-parameter-build.logs.PutLogEvents", unique_id="sent")
    [event] = seen[0]["logEvents"]
    assert event["timestamp"] == int(now * 1000)
    line = json.loads(event["message"])
    assert isinstance(line, dict)
    return line


def test_a_line_tells_disk_memory_and_cpu_and_who_tells_it(aws: Exact, tmp_path: Path) -> None:
    reporter = usage(aws, tmp_path)
    proc(tmp_path / "proc", idle=175, busy=125)
    line = sent(aws, reporter)
    assert (line["container"], line["machine"]) == ("box", INSTANCE)
    assert (line["memory_total_bytes"], line["memory_available_bytes"], line["memory_percent"]) == (1024000, 256000, 75)
    assert 0 < line["disk_free_bytes"] < line["disk_total_bytes"]
    assert 0 < line["disk_percent"] <= 100
    assert line["cpu_percent"] == 25


def test_cpu_is_counted_from_line_to_line(aws: Exact, tmp_path: Path) -> None:
    reporter = usage(aws, tmp_path)
    seen = []
    for idle, busy in ((100, 200), (200, 200), (150, 250)):  # the kernel's idle time may go back
        proc(tmp_path / "proc", idle=idle, busy=busy)
        seen.append(sent(aws, reporter).get("cpu_percent"))
    assert seen == [100, 0, None]


@pytest.mark.parametrize("text", [None, "", "cpu  one two", "cpu  1 2", "MemTotal: 5 kB"])
def test_what_the_system_does_not_tell_is_left_out(aws: Exact, tmp_path: Path, text: str | None) -> None:
    folder = proc(tmp_path / "proc")
    reporter = usage(aws, tmp_path)
    for name in ("stat", "meminfo"):
        folder.joinpath(name).unlink() if text is None else folder.joinpath(name).write_text(text)
    assert set(sent(aws, reporter)) == {
        "container", "machine", "disk_total_bytes", "disk_free_bytes", "disk_percent"
    }  # fmt: skip


def test_a_line_is_made_where_even_the_disk_is_gone(aws: Exact, tmp_path: Path) -> None:
    nowhere = tmp_path / "gone"
    assert sent(aws, UsageReporter(aws.clients.logs, "AppLogs", INSTANCE, "box", nowhere, nowhere)) == {
        "container": "box", "machine": INSTANCE,
    }  # fmt: skip


@pytest.mark.parametrize("faster", [False, True])
def test_a_stream_that_is_missing_is_made_once(
    aws: Exact, tmp_path: Path, warnings: list[str], *, faster: bool
) -> None:
    aws.refuse("logs.put_log_events", "ResourceNotFoundException")
    if faster:
        aws.refuse("logs.create_log_stream", "ResourceAlreadyExistsException", wanted=STREAM)
    else:
        aws.answer("logs.create_log_stream", STREAM)
    aws.answer("logs.put_log_events", STREAM | {"logEvents": ANY})
    usage(aws, tmp_path).tick(START)
    assert warnings == []


def test_a_refusal_is_said_once_and_the_next_line_is_tried(aws: Exact, tmp_path: Path, warnings: list[str]) -> None:
    reporter = usage(aws, tmp_path)
    aws.refuse("logs.put_log_events", "ResourceNotFoundException")
    aws.refuse("logs.create_log_stream", "ResourceNotFoundException", "no\ngroup", wanted=STREAM)
    reporter.tick(START)
    aws.refuse("logs.put_log_events", "ThrottlingException")
    reporter.tick(START + 60)
    assert len(warnings) == 1
    assert "no group" in warnings[0]
    assert sent(aws, reporter, START + 120)["container"] == "box"


def test_a_machine_of_any_name_has_a_stream(aws: Exact, tmp_path: Path) -> None:
    aws.answer(
        "logs.put_log_events", {"logGroupName": "AppLogs_perInstance", "logStreamName": "a-b-c", "logEvents": ANY}
    )
    UsageReporter(aws.clients.logs, "AppLogs", "a:b*c", "box", tmp_path).tick(START)


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="only Linux tells")
def test_this_linux_tells_everything(aws: Exact, tmp_path: Path) -> None:
    line = sent(aws, UsageReporter(aws.clients.logs, "AppLogs", INSTANCE, "box", tmp_path))
    assert 0 < line["memory_available_bytes"] < line["memory_total_bytes"]
    assert 0 <= line.get("cpu_percent", 0) <= 100
