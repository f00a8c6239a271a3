"""Compares the objects and messages after a chaos run with the expected ones."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from distributed_something.results.outcome import load_run_outcome
from distributed_something.worker.job.job_id import HASH_CHARACTERS
from tests.support.chaos.cases import APP, Case
from tests.support.emulator import WorkerLab
from tests.support.fakes import MONITOR_FILE

RECORDS = "runs/App/20261123T104500Z/jobs/"
LOG = re.compile(re.escape(RECORDS) + r"[^/]+\.\d+-[0-9a-f]{6}\.log\.txt")
MACHINES = "runs/App/20261123T104500Z/machines/"
JOURNALS = "runs/App/20261123T104500Z/attempts/"
EXAMPLES = 5  # examples shown for each kind of violation


@dataclass
class Verdict:
    """Violations, keyed by kind, and counts of notable events that are not violations."""

    violations: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    counts: Counter[str] = field(default_factory=Counter)

    def lines(self) -> list[str]:
        """Return readable lines: each kind of violation with its count and some examples."""
        return [
            line
            for kind, cases in sorted(self.violations.items())
            for line in [f"{len(cases)} × {kind}", *(f"    {case}" for case in cases[:EXAMPLES])]
        ]


@dataclass
class End:
    """State after a run: object sizes, keyed by object key, and the messages in the dead-letter queue."""

    lab: WorkerLab
    sizes: dict[str, int]
    dead: list[dict[str, Any]]

    def body(self, key: str) -> bytes | None:
        return self.lab.read_object(key) if key in self.sizes else None

    def record(self, case: Case) -> dict[str, Any] | None:
        content = self.body(f"{RECORDS}{case.id}.json")
        return json.loads(content) if content else None


def read_end(lab: WorkerLab) -> End:
    """List the objects in the bucket, and read and delete the messages in the dead-letter queue."""
    pages = lab.s3.get_paginator("list_objects_v2").paginate(Bucket=lab.name)
    sizes = {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", [])}
    return End(lab, sizes, list(_receive_dead_letters(lab)))


def _receive_dead_letters(lab: WorkerLab) -> Iterator[dict[str, Any]]:
    while messages := lab.receive_dead_letters():
        for message in messages:
            yield message
            lab.sqs.delete_message(QueueUrl=lab.dead_url, ReceiptHandle=message["ReceiptHandle"])


def check_cases(cases: list[Case], end: End, tallies: Path) -> Verdict:
    """Check the outcome of every case."""
    verdict = Verdict()
    dead = defaultdict(list)
    for message in end.dead:
        dead[message["Body"]].append(message)
    for case in cases:
        if case.fate == "bad":
            _check_bad_case(case, dead[case.body], verdict)
        elif case.fate == "failed":
            _check_failing_case(case, dead[case.body], end, verdict)
        else:
            _check_good_case(case, dead[case.body], end, verdict)
    _check_unexpected_objects(cases, end, verdict)
    _count_attempts(cases, tallies, verdict)
    return verdict


def check_counts(cases: list[Case], sent: Counter[str], lab: WorkerLab, verdict: Verdict) -> None:
    """Check that the counts that users see, from journals and records, equal the truth. `sent`: copies by body."""
    file = replace(MONITOR_FILE, MONITOR_BUCKET_NAME=lab.name)
    outcome = load_run_outcome(lab.s3, file, submitted=sent.total(), left=0)
    counts = outcome.counts
    good = [case for case in cases if case.fate == "done"]
    truth = {
        "jobs that failed": (counts.failed, len(cases) - len(good)),
        "submissions that succeeded": (
            counts.done + counts.already_there + counts.repeated_done,
            sum(sent[case.body] for case in good),
        ),
        "submissions without a record": (outcome.unrecorded, 0),
    }
    for name, (shown, expected) in truth.items():
        if shown != expected:
            verdict.violations["a count is wrong"].append(f"{name}: {shown} instead of {expected}; {counts}")


def _build_record_key(case: Case) -> str:
    if case.fate != "bad":
        return f"{RECORDS}{case.id}.json"
    return f"{RECORDS}message-{hashlib.sha256(case.body.encode()).hexdigest()[:HASH_CHARACTERS]}.json"


def _check_bad_case(case: Case, dead: list[dict[str, Any]], verdict: Verdict) -> None:
    if not dead:
        verdict.violations["a bad message was lost"].append(case.body)
    elif not any(message.get("MessageAttributes") for message in dead):
        verdict.violations["a bad message is in the dead-letter queue without a reason"].append(case.body)
    verdict.counts["copies of bad messages in the dead-letter queue"] += len(dead)


def _check_failing_case(case: Case, dead: list[dict[str, Any]], end: End, verdict: Verdict) -> None:
    record = end.record(case)
    if not dead:
        verdict.violations["a failing job is not in the dead-letter queue"].append(case.id)
    if record is None:
        verdict.violations["a failing job has no record"].append(case.id)
    elif record["state"] != "failed" or record["outputs"]:
        verdict.violations["the record of a failing job is incorrect"].append(case.id)
    verdict.counts["failed as planned"] += bool(dead)


def _check_good_case(case: Case, dead: list[dict[str, Any]], end: End, verdict: Verdict) -> None:
    record = end.record(case)
    is_done = record is not None and record["state"] == "done"
    if not is_done:
        problem = (
            "a job failed although attempts remained" if dead else "a job is neither done nor in the dead-letter queue"
        )
        details = record and (record["attempts"], record["reason"])
        verdict.violations[problem].append(f"{case.id} {details}")
        return
    verdict.counts["done"] += 1
    for message in dead:
        if message.get("MessageAttributes"):
            verdict.violations["a worker moved a done job to the dead-letter queue"].append(case.id)
        else:
            verdict.counts["done, but moved to the dead-letter queue by SQS"] += 1
    _check_outputs(case, end, verdict)
    _check_record(case, record or {}, end, verdict)


def _check_outputs(case: Case, end: End, verdict: Verdict) -> None:
    for key, expected in case.outputs().items():
        body = end.body(key)
        if body != expected:
            verdict.violations["an output is missing or incomplete"].append(
                f"{key}: {None if body is None else len(body)} of {len(expected)} bytes"
            )


def _check_record(case: Case, record: dict[str, Any], end: End, verdict: Verdict) -> None:
    outputs = {output["key"]: output for output in record["outputs"]}
    if len(outputs) != len(record["outputs"]) or set(outputs) != {*case.outputs(), case.nonce_key}:
        verdict.violations["a record does not list the job's outputs"].append(f"{case.id}: {sorted(outputs)}")
    for key, output in outputs.items():
        body = end.body(key)
        if body is None or output["size"] != len(body):
            verdict.violations["a record contains an incorrect size"].append(key)
        elif output["checksum_sha256"] not in list_digests(body):
            is_mixed = key == case.nonce_key
            problem = "an output is from a different attempt than its record" if is_mixed else "a checksum is incorrect"
            verdict.violations[problem].append(key)
    if record["message"] != case.message or record["exit_code"] != 0 or record["reason"] is not None:
        details = {key: record[key] for key in ("exit_code", "reason", "attempts", "started")}
        verdict.violations["the record of a done job is incorrect"].append(f"{case.id}: {details}")
    if record["bytes_out"] != sum(output["size"] for output in record["outputs"]):
        verdict.violations["a record's bytes_out is not the sum of its outputs"].append(case.id)
    log = end.body(str(record["log"]).removeprefix(f"s3://{end.lab.name}/"))
    if log is None or (end.body(case.nonce_key) or b"?") not in log:
        verdict.violations["a log is not from the published attempt"].append(case.id)


def list_digests(body: bytes) -> set[str]:
    """Return the SHA-256 digest of a body in hexadecimal and in base64, the two forms that records use."""
    digest = hashlib.sha256(body)
    return {digest.hexdigest(), base64.b64encode(digest.digest()).decode()}


def _check_unexpected_objects(cases: list[Case], end: End, verdict: Verdict) -> None:
    """Report objects that should not exist, because they are outside the app's prefixes or from failed attempts."""
    good_cases = [case for case in cases if case.fate == "done"]
    expected = {key for case in good_cases for key in [*case.outputs(), case.nonce_key]}
    expected |= {case.input_key for case in cases if case.fate != "bad"}
    expected |= {_build_record_key(case) for case in cases}
    expected |= {key for key in end.sizes if LOG.fullmatch(key)}  # every attempt has its own log
    for key in sorted(key for key in end.sizes.keys() - expected if not key.startswith((MACHINES, JOURNALS))):
        location = "within" if key.startswith((f"{APP}/", RECORDS)) else "outside"
        verdict.violations[f"an unexpected object {location} the app's prefixes"].append(key)


def _count_attempts(cases: list[Case], tallies: Path, verdict: Verdict) -> None:
    """Use the tallies to count how often programs ran, ended successfully, and failed as planned."""
    for case in cases:
        path = tallies / case.message["group"]["n"] if case.fate == "done" else tallies / "none"
        lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        starts = [float(line[2]) for line in lines if line[0] == "start"]
        ends = [float(line[2]) for line in lines if line[0] == "end"]
        planned = case.message["group"]["fails"] if case.fate == "done" else 0
        verdict.counts["programs run"] += len(starts)
        verdict.counts["programs ended successfully"] += len(ends)
        verdict.counts["planned failures"] += min(planned, len(starts))
