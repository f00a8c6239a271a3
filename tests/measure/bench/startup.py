"""Measures how long `run.py --help` takes, and whether it loads boto3, which would slow the start of every command."""

from __future__ import annotations

import statistics

from tests.measure.bench import child
from tests.measure.bench.report import Measurement

_REPORT_BOTO3_AFTER_HELP = (
    "import sys; from distributed_something.cli.main import main; main(['--help']);"
    " print('boto3' in sys.modules or 'botocore' in sys.modules)"
)


def measure_startup(runs: int) -> list[Measurement]:
    """Measure the median wall time of `runs` processes. Run one process first to fill the file cache."""
    env = child.build_environment()
    child.run_python(["run.py", "--help"], env)
    median = statistics.median(child.run_python(["run.py", "--help"], env).seconds for _ in range(runs))
    has_boto3 = child.run_python(["-c", _REPORT_BOTO3_AFTER_HELP], env).output.splitlines()[-1] == "True"
    return [
        Measurement(f"run.py --help, median of {runs}", f"{median:.2f} s", "< 0.30 s", median < 0.3),
        Measurement("boto3 loaded for --help", "yes" if has_boto3 else "no", "no", not has_boto3),
    ]
