"""A whole run in containers with the real image, which is built from worker/Dockerfile."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.engine import build_worker_image, run_docker
from tests.support.project import MONITOR_FILE, ROOT, create_project, list_project_processes, wait_until

IMAGE = "tests/tryout:1"


@pytest.fixture(scope="module")
def image() -> str:
    return build_worker_image(ROOT / "worker", IMAGE, BASE_IMAGE="debian:bookworm-slim")


@pytest.mark.long
@pytest.mark.containers
def test_the_four_commands_run_every_job_in_containers_with_the_image(image: str, tmp_path: Path) -> None:
    with create_project(tmp_path / "p", DOCKERHUB_TAG=image, GREETING="hello") as test_project:
        job_file = test_project.write_job_file(
            command='echo "$GREETING" {name} > {output_dir}/out.txt; head -1 /etc/os-release >> {output_dir}/out.txt',
            shell=True,
            output_location="results/{job}",
            groups=[{"name": f"o'brien {number}; $(id)"} for number in range(10)],
        )
        test_project.run("setup")
        test_project.run("submitJob", str(job_file))
        test_project.run("--containers", "startCluster", "files/fleet.json")
        monitor = test_project.start("monitor", MONITOR_FILE)
        wait_until(lambda: "tryout" in run_docker("ps", "--format", "{{.Image}}"))
        stdout, stderr = monitor.communicate(timeout=120)
        assert monitor.returncode == 0, stdout + stderr
        assert "jobs done       10" in stdout
        first_lines = sorted(text.splitlines()[0] for text in test_project.read_results().values())
        assert first_lines == [f"hello o'brien {number}; $(id)" for number in range(10)]
        assert all("Debian" in text for text in test_project.read_results().values())
        assert {record["image"] for record in test_project.read_records()} == {image}
    assert list_project_processes(test_project.folder) == []
    assert "tryout" not in run_docker("ps", "--all", "--format", "{{.Image}}")
