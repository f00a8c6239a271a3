"""What happens to a test that needs a program, an engine, or data that this computer does not have."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def skip_or_fail(reason: str) -> NoReturn:
    """Skip the test because something is missing; with CI=true, fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI needs what is missing here: {reason}")
    pytest.skip(reason)
