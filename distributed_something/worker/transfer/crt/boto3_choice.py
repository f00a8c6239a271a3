"""Keeps awscrt out of boto3 in this process. Import this module before boto3, which decides when it is imported.

With awscrt, botocore would sign every request in another way. Only the downloads in this package use it.
"""

from __future__ import annotations

import os
from importlib import import_module

DISABLE_VARIABLE = "BOTO_DISABLE_CRT"


def import_without_crt() -> None:
    """Import the part of botocore that decides, with the variable set. The worker's program does not inherit it."""
    before = os.environ.get(DISABLE_VARIABLE)
    os.environ[DISABLE_VARIABLE] = "true"
    try:
        import_module("botocore.compat")
    finally:
        if before is None:
            del os.environ[DISABLE_VARIABLE]
        else:
            os.environ[DISABLE_VARIABLE] = before


import_without_crt()
