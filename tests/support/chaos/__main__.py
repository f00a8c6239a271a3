"""Runs it long, by hand: prints what was done to the workers and what came of it; exit code 1 on a violation."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.support import emulator
from tests.support.chaos.run import Outcome, Size, chaos

EMULATORS = {"ministack": emulator.ministack, "roto": emulator.roto}
WIDTH = 80


def main() -> int:
    options = _options()
    size = Size(options.jobs, options.workers, options.minutes * 60, options.seed)
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        outcome = chaos(size, EMULATORS[options.emulator], Path(name))
    if options.log:
        options.log.write_text(outcome.log)
    print(table(outcome, options.emulator))
    return 0 if outcome.ok else 1


def table(outcome: Outcome, name: str) -> str:
    """The whole run on a screen of 80 columns."""
    size, found = outcome.size, outcome.verdict
    lines = [f"{size.jobs} jobs, {size.workers} workers of {size.slots} slots, lease {size.lease} s, {name}"]
    lines += _pairs("Requests, and what befell them", outcome.requests)
    lines += _pairs("What befell workers and messages", outcome.havoc)
    if not outcome.disks:
        lines += ["  (no full disk: only root on Linux may mount one)"]
    lines += _pairs("What came of it", found.counts)
    lines += [f"  {'uploads in parts that nobody ended':<66}{outcome.uploads_left:>10}"]
    lines += [f"  {'seconds':<66}{outcome.seconds:>10.0f}", ""]
    lines += [line[: 2 * WIDTH] for line in found.lines()]
    verdict = "nothing lost, nothing wrong" if outcome.ok else f"VIOLATIONS: {len(found.violations)} kinds"
    return "\n".join([*lines, f"{verdict}; seed {size.seed}"])


def _pairs(title: str, counts: dict[str, int]) -> list[str]:
    return [title, *(f"  {key:<66}{counts[key]:>10,}" for key in sorted(counts))]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.support.chaos", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--emulator", choices=EMULATORS, default="ministack")
    parser.add_argument("--log", type=Path, help="keep the workers' log here")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
