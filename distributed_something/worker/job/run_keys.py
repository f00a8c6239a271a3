"""The S3 keys of an app's and a run's documents. Users' scripts rely on these keys, so they must not change."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass

RUNS_PREFIX = "runs"  # the top-level folder in the bucket
_MACHINE_KEY = re.compile(r"(?P<instance>i-[0-9a-f]{8,17})\.json")


@dataclass(frozen=True)
class AppKeys:
    """The keys of the documents that all runs of one app share."""

    app: str

    @property
    def prefix(self) -> str:
        return f"{RUNS_PREFIX}/{self.app}/"

    @property
    def submissions(self) -> str:
        """The prefix of the submission documents; `submitJob` writes one each time it runs."""
        return f"{self.prefix}submissions/"

    def submission(self, time: str) -> str:
        """Return the key of the document for the submission that began at `time`, such as `20261123T104500.123Z`."""
        return f"{self.submissions}{time}.json"

    def replacement(self, queue: str) -> str:
        """Return the key of the document that says when `submitJob --replace` last removed the queue's waiting jobs."""
        return f"{self.prefix}replaced/{queue}.json"

    @property
    def forecast(self) -> str:
        """The key of the document that says what the latest run measured, for the forecast of the next one."""
        return f"{self.prefix}forecast.json"

    def input_file(self, digest: str, path: str) -> str:
        """Return the key of the copy of a Job file or its table. `digest`: its SHA-256."""
        return f"{self.prefix}inputs/{digest}/{os.path.basename(path)}"

    def done(self, job: str) -> str:
        """Return the key of the document that says which run finished a job and where its results are.

        It exists only for jobs whose output location does not show whether they are done.
        """
        return f"{self.prefix}done/{job}.json"


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

    @property
    def journals(self) -> str:
        """The prefix of the containers' journals."""
        return f"{self.prefix}attempts/"

    def journal(self, container: str, number: int) -> str:
        """Return the key of a container's journal; `number` starts at 1."""
        return f"{self.journals}{container}-{number}.jsonl"

    @property
    def retries(self) -> str:
        """The prefix of the lists of jobs that `retry` sent again; each list has the time of its submission."""
        return f"{self.prefix}retries/"

    def retry(self, time: str) -> str:
        """Return the key of the list of jobs that the submission at `time` sent again."""
        return f"{self.retries}{time}.json"

    def failed_results(self, job: str) -> str:
        """Return the prefix for a failed attempt's files, which are uploaded only if the job sets `keep_failed`."""
        return f"{self.jobs}failed/{job}"

    def reservation(self, bucket: str, key: str) -> str:
        """Return the key of the document that says which job may replace a file in a shared output location.

        `bucket` and `key`: where the file is. The name is a hash, because the file's own key may be too long.
        """
        return f"{self.prefix}shared/{hashlib.sha256(f'{bucket}/{key}'.encode()).hexdigest()}.json"

    @property
    def machines(self) -> str:
        """The prefix of the machines' documents and of the containers' health documents."""
        return f"{self.prefix}machines/"

    def machine(self, instance: str) -> str:
        """Return the key of the document about a machine, which has this EC2 instance ID."""
        return f"{self.machines}{instance}.json"

    def find_machine(self, key: str) -> str | None:
        """Return the instance ID of the machine that a document with this key is about; None for any other key.

        A health document also has the container's name in its key.
        """
        match = _MACHINE_KEY.fullmatch(key.removeprefix(self.machines))
        return match["instance"] if match and key.startswith(self.machines) else None

    @property
    def report(self) -> str:
        """The key of the report that is written at the end of the run."""
        return f"{self.prefix}report.html"

    @property
    def closed(self) -> str:
        """The key that the monitor writes to when the run reaches MAX_COST. Workers then start no more jobs."""
        return f"{self.prefix}closed.json"

    @property
    def monitor_file(self) -> str:
        """The key of the copy of the run's monitor file."""
        return f"{self.prefix}monitor_file.json"

    @property
    def run_document(self) -> str:
        """The key of the document that says what the run was started with."""
        return f"{self.prefix}run.json"

    @property
    def history(self) -> str:
        """The key of the monitor's history."""
        return f"{self.prefix}monitor.json"

    def notification(self, kind: str) -> str:
        """Return the key of the document that exists once a monitor has sent, or tried to send, this notification."""
        return f"{self.prefix}notifications/{kind}.json"

    @property
    def exports(self) -> str:
        """The key of the list of log exports that the monitor has started."""
        return f"{self.prefix}exports.json"

    @property
    def summary(self) -> str:
        """The key of the human-readable summary that is written at the end of the run."""
        return f"{self.prefix}summary.txt"

    @property
    def summary_data(self) -> str:
        """The key of the summary's numbers, as JSON."""
        return f"{self.prefix}summary.json"

    @property
    def job_table(self) -> str:
        """The key of the table with one row per job that is written at the end of the run."""
        return f"{self.prefix}jobs.tsv"
