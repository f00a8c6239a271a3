"""The jobs of `run.py testRun`: each waits for a second and copies its input, with the worker's own Python.

The program's image may contain no Python and no shell, and the project's hooks may need a real job. Therefore, neither
is used. Everything else is as in a real run: image, container, roles, network, bucket, and logs.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from distributed_something.worker.job.job import Folders, Job
from distributed_something.worker.job.message.job_template import job_from_message
from distributed_something.worker.job.worker_settings import Settings
from distributed_something.worker.program.launcher import UTF8_OPTIONS, get_loader_command

# The environment variable that `testRun` sets to "True". Its name is so long because a config's own constants become
# environment variables too.
TEST_RUN_VARIABLE = "DISTRIBUTED_SOMETHING_TEST_RUN"
_PROGRAM = """
import os, sys, time
print("testRun: this job waits for a second and copies its input", flush=True)
time.sleep(1)
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        with open(os.path.join(folder, name), "rb") as source, open(os.path.join(sys.argv[2], name), "wb") as copy:
            copy.write(source.read())
"""


def make_test_job(message: dict[str, Any], folders: Folders, settings: Settings) -> Job:
    """Return the job for a message of `testRun`. Its command is not the message's."""
    python = [*get_loader_command(), sys.executable, *UTF8_OPTIONS, "-E", "-s", "-S"]
    words = [*python, "-c", _PROGRAM, str(folders.input_dir), str(folders.output_dir)]
    return replace(job_from_message(message, folders, settings), command=words)
