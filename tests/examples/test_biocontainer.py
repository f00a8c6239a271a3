"""The biocontainer example: its Job files run bwa and samtools in an image that contains only these programs."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from tests.examples.clone import Clone
from tests.examples.example import Example, find_program, open_example, run_script
from tests.support.engine import build_image, require_engine, run_docker
from tests.support.project import ROOT, list_project_processes

# Replaces the image from BioContainers. It has the same programs in the same versions, and only a few other files.
ONLY_PROGRAMS = r"""
FROM debian:bookworm-slim AS programs
RUN apt-get update && apt-get install -y --no-install-recommends busybox-static bwa samtools
RUN mkdir -p /only/bin /only/tmp && cp /bin/busybox /usr/bin/bwa /usr/bin/samtools /only/bin/ \
    && ln -s busybox /only/bin/sh \
    && ldd /usr/bin/bwa /usr/bin/samtools | grep -o '/[^ ]*\.so[^ ]*' | sort -u | xargs cp -L --parents -t /only \
    && cp -L --parents /lib/*-linux-gnu/libgcc_s.so.1 /only
FROM scratch
COPY --from=programs /only /
"""


def run_both_job_files(example: Example, *options: str) -> str:
    """Run both Job files and return the statistics that samtools wrote."""
    assert "jobs done       24" in example.run_four_commands("files/exampleJob.json", *options)
    assert "jobs done       1\n" in example.run_four_commands("files/mergeJob.json", *options)
    assert len(example.list_result_files("biocontainer/aligned/")) == 24
    merged_files = example.list_result_files("biocontainer/merged/")
    (statistics,) = [path for key, path in merged_files.items() if key.endswith("/lambda.txt")]
    return statistics.read_text()


def test_24_jobs_align_the_reads_of_phage_lambda_and_one_job_merges_the_alignments(tmp_path: Path) -> None:
    find_program("biocontainer")
    clone = Clone(tmp_path / "clone")
    run_script(clone.home / "examples" / "biocontainer" / "get-data.sh")
    demo = clone.start_demo("biocontainer")
    out, err = demo.communicate(timeout=150)
    assert demo.returncode == 0, out + err
    assert "jobs done       24\n" in out
    assert "20052 + 0 in total" in out
    assert "19572 + 0 mapped" in out
    assert list_project_processes(clone.home) == []


@pytest.mark.long
@pytest.mark.containers
def test_an_image_that_contains_only_the_programs_produces_the_same_counts(tmp_path: Path) -> None:
    require_engine()
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "Dockerfile").write_text(ONLY_PROGRAMS)
    with open_example("biocontainer", tmp_path / "clone") as example:
        image = example.build_image(build_image(tmp_path / "base", "tests/bwa-samtools-only:1"))
        statistics = run_both_job_files(example, "--containers")
        assert {record["image"] for record in example.read_records()} == {image}
    assert "20052 + 0 in total" in statistics
    assert "19572 + 0 mapped" in statistics
    assert "example-biocontainer" not in run_docker("ps", "--all", "--format", "{{.Image}}")


def test_the_dockerfile_uses_the_biocontainers_image_with_the_versions_in_the_readme() -> None:
    folder = ROOT / "examples" / "biocontainer"
    (line,) = (folder / "worker" / "Dockerfile").read_text().splitlines()
    # BioContainers names an image that contains several packages after a hash of their names and a hash of their
    # versions.
    names, versions = (hashlib.sha1(text.encode()).hexdigest() for text in ("bwa\nsamtools", "0.7.17\n1.16.1"))
    assert line == f"FROM quay.io/biocontainers/mulled-v2-{names}:{versions}-0"
    assert "bwa 0.7.17 and samtools 1.16.1" in (folder / "README.md").read_text()


SCRIPT = str(ROOT / "examples" / "biocontainer" / "get-program.sh")


def build_environment_without(tmp_path: Path, *programs: str) -> dict[str, str]:
    """Return an environment with an empty cache and a PATH without these programs."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in (path for folder in ("/usr/bin", "/bin") for path in Path(folder).iterdir()):
        if tool.name not in programs and not (tools / tool.name).is_symlink():
            (tools / tool.name).symlink_to(tool)
    return os.environ | {"PATH": str(tools), "XDG_CACHE_HOME": str(tmp_path / "cache")}


def test_if_the_programs_cannot_be_fetched_the_error_lists_the_programs_to_install(tmp_path: Path) -> None:
    env = build_environment_without(tmp_path, "bwa", "samtools", "apt-get")
    completed = subprocess.run([SCRIPT], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert completed.returncode != 0
    assert completed.stdout == ""
    assert completed.stderr == "apt-get does not exist on this computer; install these yourself: bwa samtools\n"


def test_two_simultaneous_calls_fetch_the_programs_only_once(tmp_path: Path) -> None:
    env = build_environment_without(tmp_path, "bwa", "samtools")
    processes = [subprocess.Popen([SCRIPT], env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = {process.communicate(timeout=120)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    (folder,) = outputs
    for program in ("bwa", "samtools"):
        completed = subprocess.run([f"{folder}/{program}"], env=env, capture_output=True, text=True, check=False)
        assert "Usage:" in completed.stderr
