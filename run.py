#!/usr/bin/env python3
"""Distribute a Dockerized program over AWS, or over this computer with --local: `python run.py --help`."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
PYTHON = ROOT / ".venv" / "bin" / "python"  # what `make venv` makes

if __name__ == "__main__":
    if sys.prefix == sys.base_prefix and PYTHON.exists():
        os.execv(PYTHON, [str(PYTHON), *sys.argv])
    sys.path.insert(0, str(ROOT))
    try:
        from distributed_something.cli.main import main
    except ImportError as error:
        sys.exit(f"run.py: {error.name} is not installed: run make venv")
    sys.exit(main())
