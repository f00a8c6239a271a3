"""Settings for all tests: a slow computer or a start in the background must not make a test fail."""

import gc
import os
import signal
from functools import lru_cache

import pytest
from hypothesis import settings

settings.register_profile("tests", settings.get_profile("default"), deadline=None)
settings.load_profile("tests")
# A shell's background jobs ignore SIGINT, and the commands that a test starts would inherit this.
signal.signal(signal.SIGINT, signal.default_int_handler)
# As in the worker, boto3 does not use awscrt, which only the tests have installed beside it.
os.environ["BOTO_DISABLE_CRT"] = "true"

import botocore.session  # noqa: E402  which looks at this variable

# All sessions share the descriptions of AWS's services. Reading them took half of the time of all tests.
botocore.session.create_loader = lru_cache(botocore.session.create_loader)

# The imported modules stay in memory in any case, and searching them for garbage takes a tenth of the processor time.
gc.set_threshold(50_000)


def pytest_collection_finish() -> None:
    """Leave everything that exists before the first test out of garbage collection."""
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests record as their property `summary`, also if they run in other processes."""
    for report in terminalreporter.getreports("passed"):
        for name, text in report.user_properties:
            if name == "summary":
                terminalreporter.write_line(str(text))
