"""The S3 keys of a run's records, logs, and documents. Users' scripts rely on these keys, so they must not change."""

from __future__ import annotations

from dataclasses import dataclass

RUNS_PREFIX = "runs"  # the top-level folder in the bucket


@dataclass(frozen=True)
class RunKeys:
    """The keys of one run. `run` is the time when the run started, such as `20261123T104500Z`."""

    app: str
    run: str

    @property
    def prefix(self) -> str:
        return f"{RUNS_PREFIX}/{self.app}/{self.run}/"

    @property
    def jobs(self) -> str:
        """The prefix of the job records and logs."""
        return f"{self.prefix}jobs/"

    def record(self, job: str) -> str:
        """Return the key of a job's record."""
        return f"{self.jobs}{job}.json"

    def log(self, job: str, attempt: str) -> str:
        """Return the key of the log of one attempt."""
        return f"{self.jobs}{job}.{attempt}.log.txt"

    def failed_results(self, job: str) -> str:
        """Return the prefix for a failed attempt's files, which are uploaded only if the job sets `keep_failed`."""
        return f"{self.jobs}failed/{job}"

    @property
    def machines(self) -> str:
        """The prefix of the containers' health documents."""
        return f"{self.prefix}machines/"

    @property
    def closed(self) -> str:
        """The key that the monitor writes to when the run reaches MAX_COST. Workers then start no more jobs."""
        return f"{self.prefix}closed.json"

    @property
    def history(self) -> str:
        """The key of the monitor's history."""
        return f"{self.prefix}monitor.json"

    @property
    def exports(self) -> str:
        """The key of the list of log exports that the monitor has started."""
        return f"{self.prefix}exports.json"

    @property
    def summary(self) -> str:
        """The key of the human-readable summary that is written at the end of the run."""
        return f"{self.prefix}summary.txt"
