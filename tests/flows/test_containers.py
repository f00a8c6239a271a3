"""A whole run in containers of the real image, built from worker/Dockerfile."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.engine import build_worker, docker
from tests.support.project import MONITOR_FILE, ROOT, processes_of, project, wait_for

IMAGE = "tests/tryout:1"


@pytest.fixture(scope="module")
def image() -> str:
    return build_worker(ROOT / "worker", IMAGE)


@pytest.mark.containers
def test_the_four_commands_run_every_job_in_containers_of_the_image(image: str, tmp_path: Path) -> None:
    with project(tmp_path / "p", DOCKERHUB_TAG=image, GREETING="hello") as made:
        job = made.job_file(
            command='echo "$GREETING" {name} > {output_dir}/said.txt; head -1 /etc/os-release >> {output_dir}/said.txt',
            shell=True,
            output_location="results/{job}",
            groups=[{"name": f"o'brien {number}; $(id)"} for number in range(10)],
        )
        made.run("setup")
        made.run("submitJob", str(job))
        made.run("--containers", "startCluster", "files/fleet.json")
        monitor = made.start("monitor", MONITOR_FILE)
        wait_for(lambda: "tryout" in docker("ps", "--format", "{{.Image}}"))
        out, err = monitor.communicate(timeout=120)
        assert monitor.returncode == 0, out + err
        assert "jobs done       10" in out
        said = sorted(text.splitlines()[0] for text in made.results().values())
        assert said == [f"hello o'brien {number}; $(id)" for number in range(10)]
        assert all("Debian" in text for text in made.results().values())
        assert {record["image"] for record in made.records()} == {image}
    assert processes_of(made.folder) == []
    assert "tryout" not in docker("ps", "--all", "--format", "{{.Image}}")
