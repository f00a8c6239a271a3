"""The message about a package that is not installed. This module imports only the standard library."""

from __future__ import annotations

import os
import sys


def explain_missing_package(error: ImportError) -> str | None:
    """Return the message for the user, or None if the missing module is one of our own."""
    name = (error.name or "").partition(".")[0]
    if name in ("", "distributed_something"):
        return None
    problem = f"{name} is not installed" if isinstance(error, ModuleNotFoundError) else str(error)
    is_foreign_venv = sys.prefix != sys.base_prefix and os.path.basename(sys.prefix) != ".venv"
    first_step = "leave this virtual environment with deactivate, then " if is_foreign_venv else ""
    if not os.path.exists("Makefile"):  # an installed package, used outside of a project
        return f"run.py: {problem}: run pip install 'distributed-something[local]'"
    return f"run.py: {problem}: {first_step}run make venv"
