"""Settings for all tests: a slow computer or a start in the background must not make a test fail."""

import os
import signal

from hypothesis import settings

settings.register_profile("tests", settings.get_profile("default"), deadline=None)
settings.load_profile("tests")
# A shell's background jobs ignore SIGINT, and the commands that a test starts would inherit this.
signal.signal(signal.SIGINT, signal.default_int_handler)
# As in the worker, boto3 does not use awscrt, which only the tests have installed beside it.
os.environ["BOTO_DISABLE_CRT"] = "true"
