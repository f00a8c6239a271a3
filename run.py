#!/usr/bin/env python3
"""Distribute a Dockerized program over AWS, or over this computer with --local: `python run.py --help`."""

import os
import sys
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent
PYTHON = ROOT / ".venv" / "bin" / "python"  # what `make venv` makes
STARTED_AGAIN = "RUN_PY_STARTED_AGAIN"  # in the environment: whatever .venv turns out to be, it is tried once

if __name__ == "__main__":
    again = os.environ.pop(STARTED_AGAIN, None)
    if sys.prefix == sys.base_prefix and again is None:
        with suppress(OSError):  # there is no .venv, or it is another computer's
            os.execve(PYTHON, [str(PYTHON), *sys.argv], {**os.environ, STARTED_AGAIN: "True"})
    sys.path.insert(0, str(ROOT))
    from distributed_something.cli.missing_package import explain_missing_package

    try:
        from distributed_something.cli.main import main
    except ImportError as error:
        sys.exit(explain_missing_package(error) or f"run.py: {error}")
    sys.exit(main())
