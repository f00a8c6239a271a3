"""Runs a long chaos test, prints the disturbances and the results, and exits with code 1 if there is a violation."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.support import emulator
from tests.support.chaos.run import Outcome, Size, run_chaos

EMULATORS = {"ministack": emulator.run_ministack, "roto": emulator.run_roto}
WIDTH = 80


def main() -> int:
    options = _parse_options()
    size = Size(options.jobs, options.workers, options.minutes * 60, options.seed)
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        outcome = run_chaos(size, EMULATORS[options.emulator], Path(name))
    if options.log:
        options.log.write_text(outcome.log)
    print(format_outcome(outcome, options.emulator))
    return 0 if outcome.is_ok else 1


def format_outcome(outcome: Outcome, name: str) -> str:
    """Return a summary of a run, 80 columns wide."""
    size, verdict = outcome.size, outcome.verdict
    lines = [f"{size.jobs} jobs, {size.workers} workers with {size.slots} slots each, lease {size.lease} s, {name}"]
    lines += _format_counts("Requests and their faults", outcome.requests)
    lines += _format_counts("Disturbances of workers and messages", outcome.havoc)
    if not outcome.disks:
        lines += ["  (disks were never filled: only root on Linux can mount a small disk)"]
    lines += _format_counts("Results", verdict.counts)
    lines += [f"  {'unfinished multipart uploads':<66}{outcome.unfinished_uploads:>10}"]
    lines += [f"  {'seconds':<66}{outcome.seconds:>10.0f}", ""]
    lines += [line[: 2 * WIDTH] for line in verdict.lines()]
    conclusion = "no violations" if outcome.is_ok else f"VIOLATIONS: {len(verdict.violations)} kinds"
    return "\n".join([*lines, f"{conclusion}; seed {size.seed}"])


def _format_counts(title: str, counts: dict[str, int]) -> list[str]:
    return [title, *(f"  {key:<66}{counts[key]:>10,}" for key in sorted(counts))]


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.support.chaos", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--emulator", choices=EMULATORS, default="ministack")
    parser.add_argument("--log", type=Path, help="save the workers' log to this file")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
