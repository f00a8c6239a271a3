"""The worker's transfers beside s5cmd and the AWS CLI: many small files and a large one, up and down.

On roto, because it is the faster emulator here and leaves more of the processor to whom is measured. All three
take turns, each a process of its own that starts, transfers and ends. Ours is
`python -m tests.measure.bench.transfer …`.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import boto3

from distributed_something.worker.machine.worker_clients import Clients
from distributed_something.worker.transfer.inputs import fetch_inputs
from distributed_something.worker.transfer.results import ResultDestination, upload_results
from tests.measure.bench import child
from tests.measure.bench.report import Line
from tests.support.emulator import KEYS, roto

BUCKET = "bench-bucket"
SMALL_BYTES = 100_000
BLOCK_BYTES = 16 * 1024 * 1024
WITHIN = 1.1  # of the faster one's seconds
_TOOLS = Path(sysconfig.get_path("scripts"))


def lines(folder: Path, files: int, large_bytes: int, rounds: int) -> list[Line]:
    """Seconds of each of the three, and ours as a multiple of the faster of the other two."""
    made = folder / "transfer"
    sets = {f"{files:,} x 100 kB": made / "many", f"1 x {large_bytes / 2**30:g} GiB": made / "one"}
    _write(made / "many", files, SMALL_BYTES)
    _write(made / "one", 1, large_bytes)
    found = []
    with roto(made) as url:
        env = child.environment(**KEYS, AWS_ENDPOINT_URL=url, S3_ENDPOINT_URL=url, AWS_EC2_METADATA_DISABLED="true")
        boto3.Session("test", "test", region_name="us-east-1").client("s3", endpoint_url=url).create_bucket(
            Bucket=BUCKET
        )
        for what, source in sets.items():
            found += _compared(what, source, made / "down", env, rounds)
    shutil.rmtree(made)
    return found


def _compared(what: str, source: Path, down: Path, env: Mapping[str, str], rounds: int) -> list[Line]:
    seconds: dict[tuple[str, str], list[float]] = {}
    for turn in range(rounds):
        order = list(_COMMANDS.items())
        for tool, command in order[:: -1 if turn % 2 else 1]:  # who is first finds the disk idle
            place = f"{tool}/{source.name}/"
            seconds.setdefault((tool, "up"), []).append(_timed(command("up", source, place), env))
            shutil.rmtree(down, ignore_errors=True)
            down.mkdir()
            seconds.setdefault((tool, "down"), []).append(_timed(command("down", down, place), env))
            _must_be_equal(source, down)
    shutil.rmtree(down)
    return [line for way in ("up", "down") for line in _told(what, way, seconds)]


def _told(what: str, way: str, seconds: Mapping[tuple[str, str], list[float]]) -> list[Line]:
    took = {tool: statistics.median(seconds[tool, way]) for tool in _COMMANDS}
    share = took["worker"] / min(took["s5cmd"], took["aws"])
    each = ", ".join(f"{tool} {one:.1f}" for tool, one in took.items())
    return [
        Line(f"{what} {way}: {each} s", f"x {share:.2f}", f"<= {WITHIN:.2f}", share <= WITHIN),
    ]


def _ours(way: str, folder: Path, place: str) -> list[str]:
    return [sys.executable, "-m", "tests.measure.bench.transfer", way, str(folder), place]


def _s5cmd(way: str, folder: Path, place: str) -> list[str]:
    there = f"s3://{BUCKET}/{place}"
    ends = [f"{folder}/", there] if way == "up" else [f"{there}*", f"{folder}/"]
    return [str(_TOOLS / "s5cmd"), "--log", "error", "cp", *ends]


def _aws(way: str, folder: Path, place: str) -> list[str]:
    ends = [str(folder), f"s3://{BUCKET}/{place}"]
    return [
        str(_TOOLS / "aws"), "s3", "cp", "--quiet", "--recursive", *(ends if way == "up" else reversed(ends)),
    ]  # fmt: skip


_COMMANDS: dict[str, Callable[[str, Path, str], list[str]]] = {"worker": _ours, "s5cmd": _s5cmd, "aws": _aws}


def _timed(command: list[str], env: Mapping[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, env=dict(env), cwd=child.ROOT, check=True, capture_output=True)
    return time.perf_counter() - start


def _write(folder: Path, files: int, size: int) -> None:
    folder.mkdir(parents=True)
    for number in range(files):
        with (folder / f"{number:05}").open("wb") as file:
            for first in range(0, size, BLOCK_BYTES):
                file.write(os.urandom(min(BLOCK_BYTES, size - first)))


def _must_be_equal(source: Path, down: Path) -> None:
    sizes = [{path.name: path.stat().st_size for path in folder.iterdir()} for folder in (source, down)]
    assert sizes[0] == sizes[1], "files are missing or short"


def main(way: str, folder: str, place: str) -> None:
    """What the worker does, with its own client."""
    s3 = Clients(1, "us-east-1")("s3")
    if way == "up":
        upload_results(s3, Path(folder), ResultDestination(BUCKET, place.rstrip("/")))
    else:
        fetch_inputs(s3, [place], BUCKET, Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
