"""Measures the speed of the worker's S3 transfers, compared with s5cmd and the AWS CLI, for many small files, several
larger ones, and one very large file. Processor seconds are given too, because they vary less on a busy computer.

The emulator is roto, because it is the faster of our two emulators and leaves more processor time for the programs
being measured. The three programs take turns. Each one is a process that starts, transfers the files, and exits. The
time that starting takes is left out, because a container starts once for all its jobs. The worker's process, `python -m
tests.measure.bench.transfer up|down FOLDER PREFIX`, prints the seconds of the whole fetch or upload, with all listings.

All files are in memory if there is room, because how long a disk takes varies more than what is measured. The larger
files are then transferred on disk, too.
"""

from __future__ import annotations

import filecmp
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import boto3
import psutil

from distributed_something.worker.machine.worker_clients import Clients
from distributed_something.worker.processors import on_one_processor
from distributed_something.worker.transfer.inputs import InputSource, fetch_inputs
from distributed_something.worker.transfer.results import ResultDestination, upload_results
from tests.measure.bench import child
from tests.measure.bench.report import Measurement
from tests.support.emulator import KEYS, run_roto

BUCKET = "bench-bucket"
SMALL_BYTES = 100_000
BLOCK_BYTES = 16 * 1024 * 1024
MEDIUM_FILES, MEDIUM_BYTES = 20, 50_000_000
# Goals: the worker's wall time as a multiple of s5cmd's or, for one large file up, of the faster tool's.
MAX_DOWN_RATIO, MAX_UP_RATIO, MAX_LARGE_UP_RATIO = 1.3, 1.5, 1.1
START_ROUNDS = 3
MEMORY_FOLDER = Path("/dev/shm")  # Linux keeps its files in memory
_TOOL_FOLDER = Path(sysconfig.get_path("scripts"))


def measure_transfers(folder: Path, files: int, large_bytes: int, rounds: int) -> list[Measurement]:
    """Measure the seconds that all three programs take, and the ratios of the worker's time to the time of a tool."""
    medium = {f"{MEDIUM_FILES} x 50 MB": (MEDIUM_FILES, MEDIUM_BYTES)}
    sources = {
        f"{files:,} x 100 kB": (files, SMALL_BYTES),
        **medium,
        f"1 x {large_bytes / 2**30:g} GiB": (1, large_bytes),
    }
    # The emulator keeps each program's upload, and the largest files are in two folders besides.
    needed = (len(_COMMANDS) + 2) * sum(count * size for count, size in sources.values())
    if not _has_memory(needed):
        return _measure_sources(folder, "on disk", sources, rounds)
    in_memory = _measure_sources(MEMORY_FOLDER, "in memory", sources, rounds)
    return in_memory + _measure_sources(folder, "on disk", medium, rounds)


def _has_memory(size: int) -> bool:
    """Return whether there is room for files of `size` bytes in memory."""
    if not MEMORY_FOLDER.is_dir():
        return False
    return size < min(shutil.disk_usage(MEMORY_FOLDER).free, psutil.virtual_memory().available)


def _measure_sources(
    folder: Path, where: str, sources: Mapping[str, tuple[int, int]], rounds: int
) -> list[Measurement]:
    """Measure the transfers of files in `folder`. `sources`: the number of files, and the bytes of each."""
    measurements = [Measurement(f"transfers, wall/processor seconds, files {where}", "")]
    with tempfile.TemporaryDirectory(prefix="bench-", dir=folder) as name, run_roto(data := Path(name)) as url:
        env = child.build_environment(
            **KEYS, AWS_ENDPOINT_URL=url, S3_ENDPOINT_URL=url, AWS_EC2_METADATA_DISABLED="true", BOTO_DISABLE_CRT="true"
        )
        session = boto3.Session("test", "test", region_name="us-east-1")
        session.client("s3", endpoint_url=url).create_bucket(Bucket=BUCKET)
        for title, (count, size) in sources.items():
            source = data / f"{count}-files"
            _write_files(source, count, size)
            measurements += _compare_tools(title, source, data / "down", env, rounds)
            shutil.rmtree(source)
    return measurements


def _compare_tools(name: str, source: Path, down: Path, env: Mapping[str, str], rounds: int) -> list[Measurement]:
    seconds: dict[tuple[str, str], list[tuple[float, float]]] = {}
    starts = {tool: _measure_start(command, env) for tool, command in _START_COMMANDS.items()}

    def time_transfer(tool: str, direction: str, folder: Path, prefix: str) -> None:
        wall, processor = _time_command(_COMMANDS[tool](direction, folder, prefix), env)
        start_wall, start_processor = starts.get(tool, (0.0, 0.0))
        seconds.setdefault((tool, direction), []).append((wall - start_wall, processor - start_processor))

    for number in range(rounds):
        tools = list(_COMMANDS)
        # Alternate the order, because the first program has the advantage of an idle disk.
        for tool in tools[:: -1 if number % 2 else 1]:
            prefix = f"{tool}/{source.name}/"
            time_transfer(tool, "up", source, prefix)
            shutil.rmtree(down, ignore_errors=True)
            down.mkdir()
            time_transfer(tool, "down", down, prefix)
            _check_files(source, down)
    shutil.rmtree(down)
    return [_build_measurement(name, direction, seconds) for direction in ("up", "down")]


def _build_measurement(
    name: str, direction: str, seconds: Mapping[tuple[str, str], list[tuple[float, float]]]
) -> Measurement:
    medians = {tool: tuple(map(statistics.median, zip(*seconds[tool, direction], strict=True))) for tool in _COMMANDS}
    times = ", ".join(f"{tool} {wall:.1f}/{processor:.1f}" for tool, (wall, processor) in medians.items())
    is_one_up = direction == "up" and name.startswith("1 x")
    base = min(medians["s5cmd"][0], medians["aws"][0]) if is_one_up else medians["s5cmd"][0]
    goal = MAX_DOWN_RATIO if direction == "down" else MAX_LARGE_UP_RATIO if is_one_up else MAX_UP_RATIO
    ratio = medians["worker"][0] / base
    return Measurement(f"{name} {direction}: {times} s", f"x {ratio:.2f}", f"<= {goal:.2f}", ratio <= goal)


def _build_worker_command(direction: str, folder: Path, prefix: str) -> list[str]:
    return [sys.executable, "-m", "tests.measure.bench.transfer", direction, str(folder), prefix]


def _build_s5cmd_command(direction: str, folder: Path, prefix: str) -> list[str]:
    url = f"s3://{BUCKET}/{prefix}"
    paths = [f"{folder}/", url] if direction == "up" else [f"{url}*", f"{folder}/"]
    return [str(_TOOL_FOLDER / "s5cmd"), "--log", "error", "cp", *paths]


def _build_aws_command(direction: str, folder: Path, prefix: str) -> list[str]:
    paths = [str(folder), f"s3://{BUCKET}/{prefix}"]
    return [
        str(_TOOL_FOLDER / "aws"), "s3", "cp", "--quiet", "--recursive",
        *(paths if direction == "up" else reversed(paths)),
    ]  # fmt: skip


_COMMANDS: dict[str, Callable[[str, Path, str], list[str]]] = {
    "worker": _build_worker_command,
    "s5cmd": _build_s5cmd_command,
    "aws": _build_aws_command,
}


_START_COMMANDS = {"s5cmd": [str(_TOOL_FOLDER / "s5cmd"), "version"], "aws": [str(_TOOL_FOLDER / "aws"), "--version"]}


def _measure_start(command: list[str], env: Mapping[str, str]) -> tuple[float, float]:
    """Return the medians of the seconds that a program takes to start, once its files are in memory."""
    seconds = [_time_command(command, env) for _ in range(1 + START_ROUNDS)][1:]
    wall, processor = zip(*seconds, strict=True)
    return statistics.median(wall), statistics.median(processor)


def _time_command(command: list[str], env: Mapping[str, str]) -> tuple[float, float]:
    """Return the wall seconds and the processor seconds that the program prints, or else those of its process."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    output = subprocess.run(command, env=dict(env), cwd=child.ROOT, check=True, capture_output=True).stdout
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if output.startswith(b"["):
        wall, processor = json.loads(output)
        return wall, processor
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _write_files(folder: Path, files: int, size: int) -> None:
    folder.mkdir(parents=True)
    for number in range(files):
        with (folder / f"{number:05}").open("wb") as file:
            for first in range(0, size, BLOCK_BYTES):
                file.write(os.urandom(min(BLOCK_BYTES, size - first)))


def _check_files(source: Path, down: Path) -> None:
    names = os.listdir(source)
    assert sorted(names) == sorted(os.listdir(down)), "there are other files"
    equal, _, _ = filecmp.cmpfiles(source, down, names, shallow=False)
    assert len(equal) == len(names), "files have other bytes"


def main(direction: str, folder: str, prefix: str) -> None:
    """Transfer files as a slot of the worker does, and print the seconds. `direction` is "up" or "down"."""
    clients = Clients(1, "us-east-1")
    s3 = clients("s3")
    wall, processor = time.perf_counter(), time.process_time()
    with on_one_processor():
        if direction == "up":
            destination = ResultDestination(BUCKET, prefix.rstrip("/"))
            upload_results(s3, Path(folder), destination, transfers=clients.create_transfers(s3))
        else:
            source = InputSource(s3, BUCKET, transfers=clients.create_transfers(s3))
            fetch_inputs(source, [prefix], Path(folder))
    print(json.dumps([time.perf_counter() - wall, time.process_time() - processor]))


if __name__ == "__main__":
    main(*sys.argv[1:])
