"""What lies in S3 and in the queues after a run, held against what must be there."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.chaos.cases import APP, Case
from tests.support.emulator import Lab

RECORDS = "runs/App/20261123T104500Z/jobs/"
LOG = re.compile(re.escape(RECORDS) + r"[^/]+\.\d+-[0-9a-f]{6}\.log\.txt")
MACHINES = "runs/App/20261123T104500Z/machines/"
EXAMPLES = 5  # shown of each kind of violation


@dataclass
class Verdict:
    """Violations by kind, and counts that are no violations but worth knowing."""

    violations: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    counts: Counter[str] = field(default_factory=Counter)

    def lines(self) -> list[str]:
        """For people: each kind with its number and some examples."""
        return [
            line
            for kind, found in sorted(self.violations.items())
            for line in [f"{len(found)} × {kind}", *(f"    {one}" for one in found[:EXAMPLES])]
        ]


@dataclass
class End:
    """Everything that a run left: objects by key, and the dead-letter queue."""

    lab: Lab
    sizes: dict[str, int]
    dead: list[dict[str, Any]]

    def body(self, key: str) -> bytes | None:
        return self.lab.text(key) if key in self.sizes else None

    def record(self, case: Case) -> dict[str, Any] | None:
        found = self.body(f"{RECORDS}{case.id}.json")
        return json.loads(found) if found else None


def gather(lab: Lab) -> End:
    """Lists the bucket and empties the dead-letter queue."""
    pages = lab.s3.get_paginator("list_objects_v2").paginate(Bucket=lab.name)
    sizes = {found["Key"]: found["Size"] for page in pages for found in page.get("Contents", [])}
    return End(lab, sizes, list(_dead(lab)))


def _dead(lab: Lab) -> Iterator[dict[str, Any]]:
    while found := lab.dead():
        for message in found:
            yield message
            lab.sqs.delete_message(QueueUrl=lab.dead_url, ReceiptHandle=message["ReceiptHandle"])


def judge(cases: list[Case], end: End, tallies: Path) -> Verdict:
    """Holds every case to its end."""
    verdict = Verdict()
    dead = defaultdict(list)
    for message in end.dead:
        dead[message["Body"]].append(message)
    for case in cases:
        if case.fate == "bad":
            _bad(case, dead[case.body], verdict)
        elif case.fate == "failed":
            _hopeless(case, dead[case.body], end, verdict)
        else:
            _good(case, dead[case.body], end, verdict)
    _foreign(cases, end, verdict)
    _tell_attempts(cases, tallies, verdict)
    return verdict


def _bad(case: Case, dead: list[dict[str, Any]], verdict: Verdict) -> None:
    if not dead:
        verdict.violations["a bad message is lost"].append(case.body)
    elif not any(message.get("MessageAttributes") for message in dead):
        verdict.violations["a bad message is in the dead-letter queue without a reason"].append(case.body)
    verdict.counts["bad messages in the dead-letter queue, copies"] += len(dead)


def _hopeless(case: Case, dead: list[dict[str, Any]], end: End, verdict: Verdict) -> None:
    record = end.record(case)
    if not dead:
        verdict.violations["a job without hope is not in the dead-letter queue"].append(case.id)
    if record is None:
        verdict.violations["a job without hope has no record"].append(case.id)
    elif record["state"] != "failed" or record["outputs"]:
        verdict.violations["the record of a job without hope is not true"].append(case.id)
    verdict.counts["failed as planned"] += bool(dead)


def _good(case: Case, dead: list[dict[str, Any]], end: End, verdict: Verdict) -> None:
    record = end.record(case)
    done = record is not None and record["state"] == "done"
    if not done:
        kind = "failed for good though tries were left" if dead else "neither done by its record nor dead-lettered"
        told = record and (record["attempts"], record["reason"])
        verdict.violations[f"a job is {kind}"].append(f"{case.id} {told}")
        return
    verdict.counts["done"] += 1
    for message in dead:
        if message.get("MessageAttributes"):
            verdict.violations["a done job was put into the dead-letter queue by a worker"].append(case.id)
        else:
            verdict.counts["done, and moved by SQS's redrive"] += 1
    _outputs(case, end, verdict)
    _record(case, record or {}, end, verdict)


def _outputs(case: Case, end: End, verdict: Verdict) -> None:
    for key, wanted in case.outputs().items():
        found = end.body(key)
        if found != wanted:
            verdict.violations["an output is missing or not whole"].append(
                f"{key}: {None if found is None else len(found)} of {len(wanted)} bytes"
            )


def _record(case: Case, record: dict[str, Any], end: End, verdict: Verdict) -> None:
    listed = {output["key"]: output for output in record["outputs"]}
    if len(listed) != len(record["outputs"]) or set(listed) != {*case.outputs(), case.nonce_key}:
        verdict.violations["a record's outputs are not the job's"].append(f"{case.id}: {sorted(listed)}")
    for key, output in listed.items():
        body = end.body(key)
        if body is None or output["size"] != len(body):
            verdict.violations["a record tells a wrong size"].append(key)
        elif output["checksum_sha256"] not in list_digests(body):
            kind = "the bytes of another attempt than the record's" if key == case.nonce_key else "a wrong checksum"
            verdict.violations[f"under an output's key lie {kind}"].append(key)
    if record["message"] != case.message or record["exit_code"] != 0 or record["reason"] is not None:
        told = {key: record[key] for key in ("exit_code", "reason", "attempts", "started")}
        verdict.violations["a record of a done job is not true"].append(f"{case.id}: {told}")
    if record["bytes_out"] != sum(output["size"] for output in record["outputs"]):
        verdict.violations["a record's bytes are not the sum of its outputs"].append(case.id)
    log = end.body(str(record["log"]).removeprefix(f"s3://{end.lab.name}/"))
    if log is None or (end.body(case.nonce_key) or b"?") not in log:
        verdict.violations["a log is not the one of the attempt that is published"].append(case.id)


def list_digests(body: bytes) -> set[str]:
    digest = hashlib.sha256(body)
    return {digest.hexdigest(), base64.b64encode(digest.digest()).decode()}


def _foreign(cases: list[Case], end: End, verdict: Verdict) -> None:
    """Keys that no job may write: foreign prefixes, and what failed attempts have left."""
    good = [case for case in cases if case.fate == "done"]
    known = {key for case in good for key in [*case.outputs(), case.nonce_key]}
    known |= {case.input_key for case in cases if case.fate != "bad"}
    known |= {f"{RECORDS}{case.id}.json" for case in cases if case.fate != "bad"}
    known |= {key for key in end.sizes if LOG.fullmatch(key)}  # every attempt has one of its own
    for key in sorted(key for key in end.sizes.keys() - known if not key.startswith(MACHINES)):
        place = "within" if key.startswith((f"{APP}/", RECORDS)) else "outside"
        verdict.violations[f"an object that nobody should have written, {place} the app's prefixes"].append(key)


def _tell_attempts(cases: list[Case], tallies: Path, verdict: Verdict) -> None:
    """How often programs ran, and how often two of the same job at a time, from the files that they wrote to."""
    for case in cases:
        path = tallies / case.message["group"]["n"] if case.fate == "done" else tallies / "none"
        lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        starts = [float(line[2]) for line in lines if line[0] == "start"]
        ends = [float(line[2]) for line in lines if line[0] == "end"]
        planned = case.message["group"]["fails"] if case.fate == "done" else 0
        verdict.counts["programs run"] += len(starts)
        verdict.counts["programs run to a good end"] += len(ends)
        verdict.counts["failures by plan"] += min(planned, len(starts))
