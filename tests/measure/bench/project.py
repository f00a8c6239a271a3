"""A project for the benchmarks: a config, a table of jobs, and a job file that refers to the table."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

QUEUE, BUCKET = "BenchQueue", "bench-bucket"
_CONFIG = {
    "APP_NAME": "Bench",
    "DOCKERHUB_TAG": "tests/bench:1",
    "AWS_BUCKET": BUCKET,
    "CLUSTER_MACHINES": 1,
    "TASKS_PER_MACHINE": 1,
    "MACHINE_TYPE": ["m5.large"],
    "MACHINE_PRICE": 0.1,
    "CPU_SHARES": 1024,
    "MEMORY": 2000,
    "SQS_QUEUE_NAME": QUEUE,
    "SQS_DEAD_LETTER_QUEUE": "BenchDead",
    "LOG_GROUP_NAME": "Bench",
}
_JOB_FILE = {
    "command": "python3 {input_dir}/count.py {input_dir}/{well}.png {output_dir}",
    "inputs": ["images/{plate}/{well}_{site}.png", "program/count.py"],
    "output_location": "results/{plate}/{job}",
    "expected_files": 2,
    "groups": "jobs.csv",
}


@dataclass(frozen=True)
class ProjectFiles:
    """The paths of a project's files."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "config.py"

    @property
    def job_file(self) -> Path:
        return self.folder / "job.json"


def write_project(folder: Path, jobs: int) -> ProjectFiles:
    """Write the three files into a new folder. The table has `jobs` rows, and each row is a different job."""
    files = ProjectFiles(folder)
    folder.mkdir(parents=True)
    files.config.write_text("".join(f"{name} = {value!r}\n" for name, value in _CONFIG.items()))
    files.job_file.write_text(json.dumps(_JOB_FILE))
    with (folder / "jobs.csv").open("w") as file:
        file.write("plate,well,site\n")
        for number in range(jobs):
            well, site = divmod(number, 9)
            file.write(f"P{well // 384:05},{chr(65 + well // 24 % 16)}{well % 24 + 1:02},{site}\n")
    return files
