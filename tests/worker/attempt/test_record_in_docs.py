"""The docs explain every field of a job's record, and no field that records do not have."""

from __future__ import annotations

import re
from typing import Any

from tests.support.pages import find_table_keys, read_docs
from tests.worker.attempt.attempt_harness import MESSAGE, AttemptHarness


def test_the_docs_explain_the_fields_of_a_record_and_no_others(harness: AttemptHarness, s3: Any) -> None:
    s3.put_object(Bucket="ours", Key="in/a.txt", Body=b"a")
    harness.handle(MESSAGE | {"inputs": ["in/a.txt"]})
    record = harness.read_record(harness.recorded[-1]["job"])
    assert record["state"] == "done", record["reason"]
    assert find_table_keys("worker_version", "telling_line", "earlier_attempts") == set(record)
    for field in ("inputs", "outputs"):
        rows = re.findall(rf"(?m)^\| [^|]*`{field}`[^|]* \|(.*)\|$", read_docs())
        assert record[field]
        assert any(all(f"`{key}`" in row for key in record[field][0]) for row in rows), field
