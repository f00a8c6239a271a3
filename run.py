#!/usr/bin/env python3
"""Run a Dockerized program over thousands of inputs on AWS, or on this computer with --local. See --help."""

import os
import sys
from contextlib import suppress
from pathlib import Path

PROJECT = Path(__file__).resolve().parent
PYTHON = PROJECT / ".venv" / "bin" / "python"  # created by `make venv`
STARTED_AGAIN = "RUN_PY_STARTED_AGAIN"  # environment variable that prevents a second attempt to use .venv

if __name__ == "__main__":
    was_started_again = os.environ.pop(STARTED_AGAIN, None)
    if sys.prefix == sys.base_prefix and was_started_again is None:
        with suppress(OSError):  # there is no .venv, or it was copied from another computer
            os.execve(PYTHON, [str(PYTHON), *sys.argv], {**os.environ, STARTED_AGAIN: "True"})
    sys.path.insert(0, str(PROJECT))
    try:
        from distributed_something.cli.missing_package import explain_missing_package
    except ModuleNotFoundError:
        sys.exit("run.py: distributed_something is not installed: run make venv")
    try:
        from distributed_something.cli.main import main
    except ImportError as error:
        sys.exit(explain_missing_package(error) or f"run.py: {error}")
    except KeyboardInterrupt:  # loading takes up to a second, before `main` can report this
        print("run.py: interrupted; to continue, run the same command again", file=sys.stderr)
        sys.exit(130)
    sys.exit(main(project=PROJECT))
