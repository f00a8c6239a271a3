"""Where everything of a run lies in its bucket. These keys are read by users' scripts: they do not change."""

from __future__ import annotations

from dataclasses import dataclass

RUNS_PREFIX = "runs"  # the top folder in the bucket


@dataclass(frozen=True)
class RunKeys:
    """The keys of one run. `run`: its start, as `20261123T104500Z`."""

    app: str
    run: str

    @property
    def prefix(self) -> str:
        return f"{RUNS_PREFIX}/{self.app}/{self.run}/"

    @property
    def jobs(self) -> str:
        """The prefix of the jobs' records and logs."""
        return f"{self.prefix}jobs/"

    def record(self, job: str) -> str:
        """A job's record."""
        return f"{self.jobs}{job}.json"

    def log(self, job: str, attempt: str) -> str:
        """The log of one attempt at a job."""
        return f"{self.jobs}{job}.{attempt}.log.txt"

    def failed_results(self, job: str) -> str:
        """The prefix of what a failed attempt wrote (`keep_failed`)."""
        return f"{self.jobs}failed/{job}"

    @property
    def machines(self) -> str:
        """The prefix of what containers say about their health."""
        return f"{self.prefix}machines/"

    @property
    def closed(self) -> str:
        """The monitor writes it when the run has cost MAX_COST: workers start no further job."""
        return f"{self.prefix}closed.json"

    @property
    def history(self) -> str:
        """What the monitor saw so far."""
        return f"{self.prefix}monitor.json"

    @property
    def exports(self) -> str:
        """Which log exports were started."""
        return f"{self.prefix}exports.json"

    @property
    def summary(self) -> str:
        """How the run ended, for people."""
        return f"{self.prefix}summary.txt"
