"""The reports of a whole local run with failures, an interruption, and jobs already there, and of its retry."""

from __future__ import annotations

import csv
import json
import re
import shlex
import subprocess
from collections import Counter
from datetime import datetime
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from distributed_something.jobs.job_file import load_job_file
from tests.support.browser import open_browser, visit_page
from tests.support.project import MONITOR_FILE, Project, create_project, wait_until

SCRIPT = (
    'case $2 in bad) echo "ValueError: no well $1, password=hunter2"; exit 1 ;;'
    ' flaky) test -e "$4/$1" || { touch "$4/$1"; exit 3; } ;;'
    ' crash) test -e "$4/fixed" || exit 139 ;; slow) sleep 12 ;; esac; echo well > "$3/out.txt"'
)
KINDS = ["slow"] * 6 + ["good", "good", "bad", "flaky", "there", "good", "crash", "missing"] * 3
FAILED = {"bad": 3, "crash": 3, "missing": 3}
INPUT = "inputs/plate.txt"


def create_job_file(project: Project, marks: Path) -> Path:
    """Write the Job file, an input, and the results of the jobs that are already there."""
    marks.mkdir()
    s3 = project.build_client("s3")
    s3.put_object(Bucket="tryout-bucket", Key=INPUT, Body=b"plate")
    groups = [
        {"n": f"{number:02}", "kind": kind, "input": "inputs/none.txt" if kind == "missing" else INPUT}
        for number, kind in enumerate(KINDS)
    ]
    command = ["sh", "-c", SCRIPT, "x", "{n}", "{kind}", "{output_dir}", str(marks)]
    path = project.write_job_file(command=command, inputs=["{input}"], output_location="results/{job}", groups=groups)
    for kind, message in zip(KINDS, load_job_file(path, lambda *_: []).iter_checked_messages(), strict=True):
        if kind == "there":
            s3.put_object(Bucket="tryout-bucket", Key=f"results/{message.id}/out.txt", Body=b"well")
    return path


def find_run_folder(project: Project) -> Path:
    """Return the folder of the newest run in the local results."""
    return max((project.folder / "local/tryout-bucket/runs/Tryout").glob("2*Z"))


def read_table(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "jobs.tsv").open() as file:
        return {row["job"]: row for row in csv.DictReader(file, delimiter="\t")}


def read_page_data(page: str) -> dict[str, Any]:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    data: dict[str, Any] = json.loads(text)
    return data


def read_page_text(page: str) -> str:
    body = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", "", body)).split())


def parse_summary(folder: Path) -> dict[str, str]:
    lines = (folder / "summary.txt").read_text().splitlines()
    return {line[:16].strip(): line[16:].strip() for line in lines if line[:16].strip() and line[15:16] == " "}


def read_number(text: str) -> int:
    match = re.match(r"[\d,]+", text)
    return int(match[0].replace(",", "")) if match else 0


def compare_counts(page: str, folder: Path, status: dict[str, Any]) -> None:
    """Check that the page, summary.txt, jobs.tsv, and `status --json` have the same counts and causes."""
    summary, rows, text, jobs = parse_summary(folder), read_table(folder), read_page_text(page), status["jobs"]
    states = Counter(row["state"] for row in rows.values())
    done, there, failed = (jobs[name] for name in ("done", "already_there", "failed"))
    assert [read_number(summary.get(name, "")) for name in ("jobs done", "already there", "jobs failed")] == [
        done, there, failed
    ]  # fmt: skip
    assert states == +Counter({"done": done, "skipped": there, "failed": failed})
    assert f"{done} of {jobs['submitted']} jobs are done{f', {there} were already there' if there else ''}." in text
    assert f"{failed} failed." in text
    assert f"{failed} jobs failed, for {len(status['failures'])} reasons" in text
    assert "under 0.01 USD" in text
    assert summary["cost"].startswith("under 0.01 USD")
    for failure in status["failures"]:
        assert sum(row["cause"] == failure["id"] for row in rows.values()) == failure["jobs"]
        assert f"--only {failure['id']}" in text
        assert all(job in text for job in failure["job_ids"])


def compare_rows(page: str, folder: Path) -> None:
    """Check that the page's table has the same jobs with the same values as jobs.tsv."""
    data, table = read_page_data(page), read_table(folder)
    jobs, strings = data["jobs"], data["strings"]
    assert sorted(jobs["name"]) == sorted(table)
    for number, name in enumerate(jobs["name"]):
        row = table[name]
        assert strings[jobs["state"][number]].replace("already there", "skipped") == row["state"]
        assert str(jobs["attempts"][number]) == row["attempts"]
        assert strings[jobs["machine"][number]] == row["machine"]
        assert strings[jobs["cause"][number]] == row["cause"]
        assert str(jobs["exit"][number] if jobs["exit"][number] is not None else "") == row["exit_code"]
        if row["state"] != "skipped":
            assert jobs["seconds"][number] == pytest.approx(float(row["seconds"]), abs=0.051)


def parse_time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def compare_shares(page: str, folder: Path) -> None:
    """Check the share of work against the journals and the machines' documents."""
    lines = [json.loads(line) for path in folder.rglob("*.jsonl") for line in path.read_text().splitlines()]
    worked = sum(
        parse_time(line["program_ended"]) - parse_time(line["program_started"])
        for line in lines if line.get("state") == "done" and line["program_started"]
    )  # fmt: skip
    data = read_page_data(page)
    slots = Counter(data["strings"][lane[0]].split(",")[0] for line in data["lines"] for lane in line)
    paths = [path for path in (folder / "machines").glob("i-*.json") if "-paused" not in path.name]
    documents = [document for path in paths if "type" in (document := json.loads(path.read_text()))]
    assert set(slots) == {document["machine"] for document in documents}
    paid = sum(
        (parse_time(document["ended"]) - max(parse_time(document["launched"]), parse_start(folder)))
        * slots[document["machine"]]
        for document in documents
    )
    (share,) = re.findall(r'data-use="work">([\d.]+) %', page)
    assert float(share) == pytest.approx(100 * worked / paid, abs=1.5)


def parse_start(folder: Path) -> float:
    return parse_time(
        f"{folder.name[:4]}-{folder.name[4:6]}-{folder.name[6:11]}:{folder.name[11:13]}:{folder.name[13:]}"
    )


def check_in_browser(path: Path, counts: list[str]) -> None:
    """Check that the page makes one request, has no error, and fits, and that its filters have these counts."""
    with open_browser() as browser:
        for width in (1280, 420):
            with visit_page(browser, path, width) as visit:
                assert (len(visit.requests), visit.messages) == (1, [])
                content, window = visit.get_widths()
                assert content <= window
                assert visit.page.locator(".filter").all_inner_texts() == counts


@pytest.mark.long
def test_a_run_and_its_retry_have_reports_with_the_numbers_of_the_other_documents(tmp_path: Path) -> None:
    marks, bad = tmp_path / "marks", sum(FAILED.values())
    config = {"JOB_RETRIES": 2, "DOCKER_CORES": 2, "CLUSTER_MACHINES": 2, "API_TOKEN": "s3cr3t-token"}
    with create_project(tmp_path / "p", **config) as project:
        project.run("setup")
        jobs = create_job_file(project, marks)
        project.run("submitJob", str(jobs))
        project.run("startCluster", "files/fleet.json")
        wait_until(lambda: read_status(project)["jobs"]["running"] > 0)
        project.run("report", "-o", str(tmp_path / "during"))
        assert "report made during the run" in (tmp_path / "during/report.html").read_text()
        project.run("interrupt")
        assert project.run("monitor", MONITOR_FILE, check=False).returncode == 3

        folder = find_run_folder(project)
        page = (folder / "report.html").read_text()
        status = read_status(project, folder.name)
        assert (status["jobs"]["already_there"], status["jobs"]["failed"]) == (3, bad)
        compare_counts(page, folder, status)
        compare_rows(page, folder)
        compare_shares(page, folder)
        assert "3 jobs failed at first and succeeded on a later attempt." in read_page_text(page)
        assert "1 interrupted" in read_page_text(page)
        assert "hunter2" not in page
        assert "s3cr3t" not in page
        project.run("report", folder.name, "-o", str(tmp_path / "after"))
        after = (tmp_path / "after/report.html").read_text()
        assert read_page_data(after)["jobs"] == read_page_data(page)["jobs"]
        check_command(project, read_page_data(after)["command"], after)

        (marks / "fixed").touch()
        project.run("retry", folder.name)
        project.run("startCluster", "files/fleet.json")
        assert project.run("monitor", MONITOR_FILE, check=False).returncode == 3
        second = find_run_folder(project)
        page = (second / "report.html").read_text()
        status = read_status(project, second.name)
        assert (status["jobs"]["submitted"], status["jobs"]["done"], status["jobs"]["failed"]) == (bad, 3, bad - 3)
        compare_counts(page, second, status)
        compare_rows(page, second)
        assert f"failed jobs of run {folder.name}" in read_page_text(page)
        assert read_page_data(page)["command"].endswith("runJob files/job.json --id")
        check_in_browser(second / "report.html", ["all 9", "failed 6", "retried 3", "already there 0"])
        check_in_browser(
            folder / "report.html", [f"all {len(KINDS)}", "failed 9", count_retried(folder), "already there 3"]
        )


def read_status(project: Project, run: str = "") -> dict[str, Any]:
    status: dict[str, Any] = json.loads(project.run("status", *filter(None, [run]), "--json", check=False).stdout)
    return status


def count_retried(folder: Path) -> str:
    return f"retried {sum(int(row['attempts']) > 1 for row in read_table(folder).values())}"


def check_command(project: Project, command: str, page: str) -> None:
    """Type the line that the page shows for a failed job, and check that the job fails in the same way."""
    data = read_page_data(page)
    job = next(name for name in data["jobs"]["name"] if "bad" in name)
    _, *words = shlex.split(f"{command} {job}")
    interpreter = project.build_command()[0]
    result = subprocess.run(
        [interpreter, *words], cwd=project.folder, env=project.build_environment({}), capture_output=True, text=True,
        timeout=project.command_seconds, check=False,
    )  # fmt: skip
    assert "ValueError: no well" in result.stdout, result.stdout + result.stderr
