"""The jobs of a chaos run, drawn from its seed, with their expected results."""

from __future__ import annotations

import json
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distributed_something.worker.job.job_id import job_id
from tests.support.chaos import program

APP = "App"
LARGE_BYTES = (200_000, 700_000)
HUGE_BYTES = 17 * 1024 * 1024  # large enough for a multipart upload
HUGE_SHARE, SLOW_SHARE, FAILING_SHARE = 0.02, 0.08, 0.2
HOPELESS_SHARE, BAD_SHARE, TWICE_SHARE = 0.01, 0.005, 0.03


@dataclass(frozen=True)
class Case:
    """A message. `fate` is its expected outcome: "done", "failed" (in all attempts), or "bad" (an unusable message)."""

    fate: str
    body: str
    source: bytes = b""
    size: int = 0
    sent_twice: bool = False

    @property
    def message(self) -> dict[str, Any]:
        return dict(json.loads(self.body))

    @property
    def id(self) -> str:
        return job_id(self.message)

    @property
    def input_key(self) -> str:
        return f"in/{self.message['group']['n']}.bin"

    def outputs(self) -> dict[str, bytes]:
        """Return the content of every expected output, keyed by object key, except the one unique to the attempt."""
        return {f"{APP}/{self.id}/{name}": body for name, body in program.outputs(self.source, self.size).items()}

    @property
    def nonce_key(self) -> str:
        return f"{APP}/{self.id}/{program.NONCE_FILE}"


def draw_cases(count: int, seconds: float, tallies: Path, rng: random.Random) -> list[Case]:
    """Draw `count` cases. Their programs take about `seconds` and write to `tallies`."""
    return [_draw_case(number, seconds, tallies, rng) for number in range(count)]


def _draw_case(number: int, seconds: float, tallies: Path, rng: random.Random) -> Case:
    fate = rng.choices(["failed", "bad", "done"], [HOPELESS_SHARE, BAD_SHARE, 1 - HOPELESS_SHARE - BAD_SHARE])[0]
    size = HUGE_BYTES if rng.random() < HUGE_SHARE else rng.randint(*LARGE_BYTES)
    source = rng.randbytes(rng.randint(1_000, 100_000))
    fails = rng.randint(1, 3) if rng.random() < FAILING_SHARE else 0
    pause = seconds * (rng.uniform(4, 12) if rng.random() < SLOW_SHARE else rng.uniform(0, 2))
    twice = rng.random() < TWICE_SHARE
    if fate == "bad":
        return Case(fate, f'{{"group": {number}')
    words = ["{input_dir}/{n}.bin", "{output_dir}", str(tallies / "{n}"), "{fails}", "{seconds}", "{bytes}"]
    name = f"{number:05d}"
    group = {"n": name, "fails": 10**6 if fate == "failed" else fails, "seconds": round(pause, 2), "bytes": size}
    message = {
        "group": group,
        "inputs": ["in/{n}.bin"],
        "command": [sys.executable, "-S", "-I", program.__file__, *words],
        "output_location": APP + "/{job}",
        "expected_files": 4,
        "timeout_minutes": 5,
    }
    return Case(fate, json.dumps(message), source, size, twice)
