"""`verify` in a whole run: during it, after it, after one byte of a result changed, and after a result was deleted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.project import MONITOR_FILE, create_project

BUCKET = "tryout-bucket"
LARGE = 17_000_000  # bytes; uploaded in two parts


@pytest.mark.long
def test_verify_finds_what_happened_to_results(tmp_path: Path) -> None:
    with create_project(tmp_path / "p") as app:
        app.run("setup")
        app.write_job_file(
            command="echo {n} > {output_dir}/out.txt; head -c {size} /dev/zero > {output_dir}/zero", shell=True,
            output_location="results/{n}", expected_files=2,
            groups=[{"n": str(number), "size": LARGE if number == 0 else 5} for number in range(3)],
        )  # fmt: skip
        app.run("submitJob", "files/job.json")
        app.run("startCluster", "files/fleet.json")
        during = app.run("verify", MONITOR_FILE, check=False)
        assert "nothing is missing or changed" in during.stdout or "no results to verify" in during.stdout
        app.run("monitor", MONITOR_FILE)
        untouched = app.run("verify")
        assert "results         6 in the records, 6 intact" in untouched.stdout

        s3 = app.build_client("s3")
        listed = sorted(item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET, Prefix="results/")["Contents"])
        _, large, text, _, _, last = listed  # out.txt and zero of each job
        for key in (large, text):
            body = bytearray(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
            body[0] ^= 1
            s3.put_object(Bucket=BUCKET, Key=key, Body=bytes(body))
        s3.delete_object(Bucket=BUCKET, Key=last)

        damaged = app.run("verify", check=False)
        assert damaged.returncode == 1
        assert "verdict         1 missing, 2 changed" in damaged.stdout
        assert "submitJob files/job.json" in damaged.stdout
        found = json.loads(app.run("verify", "--json", check=False).stdout)
        assert found["intact"] == 3
        assert [entry["key"] for entry in found["missing"]["results"]] == [last]
        changed = [(entry["key"], entry["differs"]) for entry in found["changed"]["results"]]
        assert changed == [(large, "checksum"), (text, "checksum")]

        path = app.folder / MONITOR_FILE
        path.write_text(json.dumps(json.loads(path.read_text()) | {"MONITOR_START_TIME": 1_600_000_000_000}))
        other = app.run("verify", MONITOR_FILE, check=False)
        assert other.returncode == 2
        assert "there is no such run of" in other.stderr
