"""What run.py says when a package that it needs is not installed. This module imports none itself."""

from __future__ import annotations

import os
import sys


def explain_missing_package(error: ImportError) -> str | None:
    """Return the line that a user reads; None if the error is about this project's own modules."""
    name = (error.name or "").partition(".")[0]
    if name in ("", "distributed_something"):
        return None
    problem = f"{name} is not installed" if isinstance(error, ModuleNotFoundError) else str(error)
    other = sys.prefix != sys.base_prefix and os.path.basename(sys.prefix) != ".venv"
    leave = "leave this virtual environment with deactivate, then " if other else ""
    return f"run.py: {problem}: {leave}run make venv"
