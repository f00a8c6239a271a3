"""What is probably wrong with a failed job, or with a run."""

from __future__ import annotations

from enum import Enum

from distributed_something.results.job_counter import FailedJob

MISSING_PROGRAM_EXIT_CODE = 127
NO_PROGRAM_EXIT_CODES = (126, MISSING_PROGRAM_EXIT_CODE)  # of a shell: the program is not executable, or does not exist
# Of a program that could not be started: it does not exist, or is not executable.
_NO_PROGRAM_ERRORS = {"ENOENT", "EACCES", "ENOEXEC", "ENOTDIR", "EISDIR", "EPERM", "ELOOP", "ENAMETOOLONG"}
CRASH_CLASS = "crash"  # the reason class of jobs whose worker died, or whose program's launcher did
_KILLED_EXIT_CODES = (137, -9)  # SIGKILL, which the kernel sends if memory runs out


class AdviceCause(Enum):
    """What is probably wrong."""

    NO_MACHINE = "machines do not join the cluster"
    NO_CONTAINER = "no container has finished a job"
    NO_PROGRAM = "the program does not exist, or is not executable"
    PROGRAM = "the program fails"
    CONFIG = "the config does not fit the image"
    MESSAGE = "the messages are not valid"
    MISSING_INPUT = "inputs are missing"
    MEMORY = "the program needs more memory"
    TIME = "the program needs more time"
    DISK = "the disk is full"
    ACCESS = "a bucket cannot be read or written"
    DELIVERY = "results cannot be delivered"
    WEB = "a web server does not give an input"
    HOOK = "worker/generic-worker.py fails"
    REFUSED = "worker/generic-worker.py gives a reason not to run the program"
    CRASH = "workers die while they run the jobs"
    MACHINE = "machines were lost"
    LOST = "jobs have neither ended nor are they in the queue"
    WAITING = "jobs are still in the queue"
    REPLACED = "the jobs in the queue have been replaced since"
    SENT_AGAIN = "failed jobs have been sent again since"
    NEXT_BATCH = "other jobs have been sent since"
    CANARY = "only some jobs of the Job file were sent"


_CAUSES_BY_REASON_CLASS = {
    "bad message": AdviceCause.MESSAGE,
    "bad config": AdviceCause.CONFIG,
    "bad data": AdviceCause.MESSAGE,
    "shared file": AdviceCause.MESSAGE,
    "missing input": AdviceCause.MISSING_INPUT,
    "out of memory": AdviceCause.MEMORY,
    "time-out": AdviceCause.TIME,
    "disk": AdviceCause.DISK,
    "aws": AdviceCause.ACCESS,
    "web": AdviceCause.WEB,
    "upload": AdviceCause.ACCESS,
    "delivery": AdviceCause.DELIVERY,
    "worker code": AdviceCause.HOOK,
    "machine": AdviceCause.MACHINE,
    CRASH_CLASS: AdviceCause.CRASH,
    "interrupted": AdviceCause.MACHINE,
    "lost lease": AdviceCause.MACHINE,
}


def classify_failure(failed: FailedJob) -> AdviceCause:
    """Return what is probably wrong with this job."""
    if failed.reason_class in _CAUSES_BY_REASON_CLASS:
        return _CAUSES_BY_REASON_CLASS[failed.reason_class]
    if failed.exit_code in _KILLED_EXIT_CODES:
        return AdviceCause.MEMORY
    if failed.exit_code in NO_PROGRAM_EXIT_CODES or failed.start_error in _NO_PROGRAM_ERRORS:
        return AdviceCause.NO_PROGRAM
    # Without an exit code and without an error at its start, the program was not even tried: a hook raised `Failed`.
    is_refused = failed.reason_class == "program" and failed.exit_code is None and not failed.start_error
    return AdviceCause.REFUSED if is_refused else AdviceCause.PROGRAM
