"""For all tests: neither a busy computer nor how they were started is a fault."""

import signal

from hypothesis import settings

settings.register_profile("tests", settings.get_profile("default"), deadline=None)
settings.load_profile("tests")
# Who starts them in a shell's background has it ignored, and so would the commands that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
