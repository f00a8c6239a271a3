"""How jobs that failed on this machine did on other machines, according to their records."""

from __future__ import annotations

import json
from typing import Any

from distributed_something.worker.admission.elsewhere import EndsElsewhere, find_ends_elsewhere
from distributed_something.worker.job.run_keys import RunKeys

KEYS = RunKeys("App", "RUN")


def write_record(s3: Any, job: str, *attempts: tuple[str, str | None]) -> None:
    """Write the record of a job with these attempts, each a state and a machine; the last one is the latest."""
    entries = [{"state": state, "machine": machine} for state, machine in attempts]
    body = json.dumps(entries[-1] | {"earlier_attempts": entries[:-1]}).encode()
    s3.put_object(Bucket="ours", Key=KEYS.record(job), Body=body)


def test_jobs_that_ended_on_another_machine_are_found(s3: Any) -> None:
    write_record(s3, "here", ("failed", "i-1"), ("failed", "i-1"))
    write_record(s3, "done", ("failed", "i-1"), ("done", "i-2"))
    write_record(s3, "failed", ("failed", "i-2"), ("failed", "i-1"))
    write_record(s3, "both", ("failed", "i-2"), ("done", "i-3"))
    write_record(s3, "unknown", ("unknown", None), ("interrupted", "i-2"), ("failed", "i-1"))
    s3.put_object(Bucket="ours", Key=KEYS.record("broken"), Body=b"[]")
    jobs = ["here", "done", "failed", "both", "unknown", "broken", "missing"]
    ends = find_ends_elsewhere(s3, "ours", KEYS, "i-1", jobs)
    assert ends == EndsElsewhere(done=frozenset({"done", "both"}), failed=frozenset({"failed", "both"}))
