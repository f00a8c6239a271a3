"""How soon `run.py --help` is there, and that boto3 is not loaded for it."""

from __future__ import annotations

import statistics

from tests.measure.bench import child
from tests.measure.bench.report import Line

_MODULES_OF_HELP = (
    "import sys; from distributed_something.cli.main import main; main(['--help']);"
    " print('boto3' in sys.modules or 'botocore' in sys.modules)"
)


def lines(runs: int) -> list[Line]:
    """Median wall time of `runs` processes, after one that warms the file cache."""
    env = child.environment()
    child.run(["run.py", "--help"], env)
    median = statistics.median(child.run(["run.py", "--help"], env).seconds for _ in range(runs))
    loaded = child.run(["-c", _MODULES_OF_HELP], env).output.splitlines()[-1] == "True"
    return [
        Line(f"run.py --help, median of {runs}", f"{median:.2f} s", "< 0.30 s", median < 0.3),
        Line("boto3 loaded for --help", "yes" if loaded else "no", "no", not loaded),
    ]
