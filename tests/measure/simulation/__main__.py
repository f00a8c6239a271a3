"""Compare this project's monitor with the published system's monitor in a simulation.

Without options, the table has a row for each scenario in docs/scaling.md. With --machines, it has the standard set of
scenarios for that number of machines. Simulating a million jobs takes several minutes.
"""

from __future__ import annotations

import argparse

from tests.measure.simulation import report
from tests.measure.simulation.scenarios import compare_policies, list_all_scenarios, list_scenarios_of_size


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.measure.simulation", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1_000_000, help="number of jobs; only used with --machines")
    parser.add_argument("--machines", type=int, help="simulate only runs with this number of machines")
    parser.add_argument("--write-docs", action="store_true", help="write the complete table to docs/scaling.md")
    options = parser.parse_args()
    if options.machines and options.write_docs:
        parser.error("--write-docs writes the complete table; remove --machines")
    scenarios = list_scenarios_of_size(options.jobs, options.machines) if options.machines else list_all_scenarios()
    table = report.format_table(compare_policies(scenarios))
    print(table, end="")
    if options.write_docs:
        report.write_table(table)


if __name__ == "__main__":
    main()
