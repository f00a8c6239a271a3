"""Prints the comparison: the whole table, or every shape of jobs at one size. Minutes at a million jobs."""

from __future__ import annotations

import argparse

from tests.measure.simulation import report
from tests.measure.simulation.scenarios import compare, of_size, whole


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.measure.simulation", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1_000_000, help="with --machines: this size only")
    parser.add_argument("--machines", type=int)
    parser.add_argument("--write-docs", action="store_true", help="put the whole table into docs/scaling.md")
    asked = parser.parse_args()
    shown = report.table(compare(of_size(asked.jobs, asked.machines) if asked.machines else whole()))
    print(shown, end="")
    if asked.write_docs:
        if asked.machines:
            parser.error("--write-docs writes the whole table: leave --jobs and --machines away")
        report.write(shown)


if __name__ == "__main__":
    main()
