"""What run.py says when a package that it needs is not installed. This module imports none itself."""

from __future__ import annotations


def explain_missing_package(error: ImportError) -> str | None:
    """Return the line that a user reads; None if the error is about this project's own modules."""
    name = (error.name or "").partition(".")[0]
    if name in ("", "distributed_something"):
        return None
    problem = f"{name} is not installed" if isinstance(error, ModuleNotFoundError) else str(error)
    return f"run.py: {problem}: run make venv"
