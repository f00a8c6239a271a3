"""Print the table of forecasts and runs, or write it to docs/planning.md."""

from __future__ import annotations

import argparse
import re

from tests.measure.forecast.canaries import HEADINGS, format_row, simulate_trial
from tests.measure.simulation.lengths import DISTRIBUTIONS
from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "planning.md"
TABLE_PATTERN = re.compile(r"(?<=<!-- forecasts -->\n).*?(?=<!-- end -->)", re.S)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.measure.forecast", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many runs to simulate for each kind of length")
    parser.add_argument("--write-docs", action="store_true", help="write the table to docs/planning.md")
    options = parser.parse_args()
    rows = [HEADINGS, tuple("---" for _ in HEADINGS)]
    for distribution in DISTRIBUTIONS:
        trials = [simulate_trial(distribution, seed) for seed in range(1, options.seeds + 1)]
        rows.append(format_row(distribution, trials))
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    print(table, end="")
    if options.write_docs:
        PAGE.write_text(TABLE_PATTERN.sub(lambda _: table, PAGE.read_text()))


if __name__ == "__main__":
    main()
