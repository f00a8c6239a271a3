"""The machine's usage, as its containers report it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distributed_something.worker.machine.usage import UsageReporter
from tests.support.fakes import ANY, START, ExactClients
from tests.support.metadata_server import INSTANCE

STREAM = {"logGroupName": "AppLogs_perInstance", "logStreamName": INSTANCE}


def write_proc_files(folder: Path, *, idle: int = 100, busy: int = 100, free: int = 250) -> Path:
    folder.mkdir(exist_ok=True)
    folder.joinpath("stat").write_text(f"cpu  0 0 0 50 {idle} 0 0 {busy} 7 7\ncpu0 1 2 3 4 5 6 7 8 9 10\nintr 1 2\n")
    folder.joinpath("meminfo").write_text(f"MemTotal:   1000 kB\nMemFree:   1 kB\nMemAvailable:  {free} kB\nHuge: 0\n")
    return folder


def build_reporter(aws: ExactClients, tmp_path: Path, **ticks: int) -> UsageReporter:
    return UsageReporter(
        aws.clients.logs, "AppLogs", INSTANCE, "box", tmp_path, write_proc_files(tmp_path / "proc", **ticks)
    )


def send_line(aws: ExactClients, reporter: UsageReporter, now: float = START) -> dict[str, Any]:
    """Run one tick, and return the line that the reporter sends."""
    requests: list[dict[str, Any]] = []
    aws.clients.logs.meta.events.register_first(
        "before-parameter-build.logs.PutLogEvents", lambda params, **_: requests.append(params), unique_id="sent"
    )
    aws.expect_call("logs.put_log_events", STREAM | {"logEvents": ANY})
    reporter.tick(now)
    aws.clients.logs.meta.events.unregister("before-parameter-build.logs.PutLogEvents", unique_id="sent")
    [event] = requests[0]["logEvents"]
    assert event["timestamp"] == int(now * 1000)
    line = json.loads(event["message"])
    assert isinstance(line, dict)
    return line


def test_a_line_contains_disk_memory_cpu_container_and_machine(aws: ExactClients, tmp_path: Path) -> None:
    reporter = build_reporter(aws, tmp_path)
    write_proc_files(tmp_path / "proc", idle=175, busy=125)
    line = send_line(aws, reporter)
    assert (line["container"], line["machine"]) == ("box", INSTANCE)
    assert (line["memory_total_bytes"], line["memory_available_bytes"], line["memory_percent"]) == (1024000, 256000, 75)
    assert 0 < line["disk_free_bytes"] < line["disk_total_bytes"]
    assert 0 < line["disk_percent"] <= 100
    assert line["cpu_percent"] == 25


def test_cpu_usage_is_measured_from_one_line_to_the_next(aws: ExactClients, tmp_path: Path) -> None:
    reporter = build_reporter(aws, tmp_path)
    percentages = []
    for idle, busy in ((100, 200), (200, 200), (150, 250)):  # the kernel's idle time may decrease
        write_proc_files(tmp_path / "proc", idle=idle, busy=busy)
        percentages.append(send_line(aws, reporter).get("cpu_percent"))
    assert percentages == [100, 0, None]


@pytest.mark.parametrize("text", [None, "", "cpu  one two", "cpu  1 2", "MemTotal: 5 kB"])
def test_values_that_the_system_does_not_provide_are_omitted(
    aws: ExactClients, tmp_path: Path, text: str | None
) -> None:
    folder = write_proc_files(tmp_path / "proc")
    reporter = build_reporter(aws, tmp_path)
    for name in ("stat", "meminfo"):
        folder.joinpath(name).unlink() if text is None else folder.joinpath(name).write_text(text)
    assert set(send_line(aws, reporter)) == {
        "container", "machine", "disk_total_bytes", "disk_free_bytes", "disk_percent"
    }  # fmt: skip


def test_a_line_is_sent_even_without_disk_usage(aws: ExactClients, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert send_line(aws, UsageReporter(aws.clients.logs, "AppLogs", INSTANCE, "box", missing, missing)) == {
        "container": "box", "machine": INSTANCE,
    }  # fmt: skip


@pytest.mark.parametrize("exists_meanwhile", [False, True])
def test_a_missing_stream_is_created(
    aws: ExactClients, tmp_path: Path, warnings: list[str], *, exists_meanwhile: bool
) -> None:
    aws.expect_error("logs.put_log_events", "ResourceNotFoundException")
    if exists_meanwhile:
        aws.expect_error("logs.create_log_stream", "ResourceAlreadyExistsException", request=STREAM)
    else:
        aws.expect_call("logs.create_log_stream", STREAM)
    aws.expect_call("logs.put_log_events", STREAM | {"logEvents": ANY})
    build_reporter(aws, tmp_path).tick(START)
    assert warnings == []


def test_a_failed_call_is_logged_once_and_the_next_line_is_still_sent(
    aws: ExactClients, tmp_path: Path, warnings: list[str]
) -> None:
    reporter = build_reporter(aws, tmp_path)
    aws.expect_error("logs.put_log_events", "ResourceNotFoundException")
    aws.expect_error("logs.create_log_stream", "ResourceNotFoundException", "no\ngroup", request=STREAM)
    reporter.tick(START)
    aws.expect_error("logs.put_log_events", "ThrottlingException")
    reporter.tick(START + 60)
    assert len(warnings) == 1
    assert "no group" in warnings[0]
    assert send_line(aws, reporter, START + 120)["container"] == "box"


def test_any_machine_name_becomes_a_valid_stream_name(aws: ExactClients, tmp_path: Path) -> None:
    aws.expect_call(
        "logs.put_log_events", {"logGroupName": "AppLogs_perInstance", "logStreamName": "a-b-c", "logEvents": ANY}
    )
    UsageReporter(aws.clients.logs, "AppLogs", "a:b*c", "box", tmp_path).tick(START)


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="only Linux has /proc/stat")
def test_linux_provides_all_values(aws: ExactClients, tmp_path: Path) -> None:
    line = send_line(aws, UsageReporter(aws.clients.logs, "AppLogs", INSTANCE, "box", tmp_path))
    assert 0 < line["memory_available_bytes"] < line["memory_total_bytes"]
    assert 0 <= line.get("cpu_percent", 0) <= 100
