"""The example biocontainer: bwa and samtools by Job files alone, in an image that has nothing but these programs."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from tests.examples.clone import Clone
from tests.examples.example import Example, ask, example, program_of
from tests.support.engine import build, docker, require_engine
from tests.support.project import ROOT, processes_of

# In place of the image from BioContainers: the same programs in the same versions, and as little beside them.
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


def aligned_and_merged(made: Example, *options: str) -> str:
    """Both Job files, one after the other; samtools' counts of what they made."""
    assert "jobs done       24" in made.four_commands("files/exampleJob.json", *options)
    assert "jobs done       1\n" in made.four_commands("files/mergeJob.json", *options)
    assert len(made.files("biocontainer/aligned/")) == 24
    (counts,) = [path for key, path in made.files("biocontainer/merged/").items() if key.endswith("/lambda.txt")]
    return counts.read_text()


def test_24_jobs_align_the_reads_of_the_phage_lambda_and_one_merges_them(tmp_path: Path) -> None:
    program_of("biocontainer")
    clone = Clone(tmp_path / "clone")
    ask(clone.home / "examples" / "biocontainer" / "get-data.sh")
    demo = clone.demo("biocontainer")
    out, err = demo.communicate(timeout=150)
    assert demo.returncode == 0, out + err
    assert "jobs done       24\n" in out
    assert "20052 + 0 in total" in out
    assert "19572 + 0 mapped" in out
    assert processes_of(clone.home) == []


@pytest.mark.containers
def test_its_image_on_a_base_that_has_only_the_programs_counts_the_same(tmp_path: Path) -> None:
    require_engine()
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "Dockerfile").write_text(ONLY_PROGRAMS)
    with example("biocontainer", tmp_path / "clone") as made:
        image = made.build(build(tmp_path / "base", "tests/bwa-samtools-only:1"))
        counts = aligned_and_merged(made, "--containers")
        assert {record["image"] for record in made.records()} == {image}
    assert "20052 + 0 in total" in counts
    assert "19572 + 0 mapped" in counts
    assert "example-biocontainer" not in docker("ps", "--all", "--format", "{{.Image}}")


def test_one_line_names_the_image_from_biocontainers_with_the_versions_that_the_readme_tells() -> None:
    folder = ROOT / "examples" / "biocontainer"
    (line,) = (folder / "worker" / "Dockerfile").read_text().splitlines()
    # How BioContainers names an image of several packages: a hash of their names, and one of their versions.
    names, versions = (hashlib.sha1(text.encode()).hexdigest() for text in ("bwa\nsamtools", "0.7.17\n1.16.1"))
    assert line == f"FROM quay.io/biocontainers/mulled-v2-{names}:{versions}-0"
    assert "bwa 0.7.17 and samtools 1.16.1" in (folder / "README.md").read_text()


SCRIPT = str(ROOT / "examples" / "biocontainer" / "get-program.sh")


def without(tmp_path: Path, *programs: str) -> dict[str, str]:
    """The environment of a computer that lacks these programs, with a cache of its own."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in (one for folder in ("/usr/bin", "/bin") for one in Path(folder).iterdir()):
        if tool.name not in programs and not (tools / tool.name).is_symlink():
            (tools / tool.name).symlink_to(tool)
    return os.environ | {"PATH": str(tools), "XDG_CACHE_HOME": str(tmp_path / "cache")}


def test_where_they_cannot_be_fetched_it_is_said_what_is_missing(tmp_path: Path) -> None:
    env = without(tmp_path, "bwa", "samtools", "apt-get")
    done = subprocess.run([SCRIPT], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert done.stdout == ""
    assert done.stderr == "please install by hand: bwa samtools (this computer has no apt-get to get them with)\n"


def test_a_computer_without_the_programs_gets_them_once_whoever_asks_at_the_same_time(tmp_path: Path) -> None:
    env = without(tmp_path, "bwa", "samtools")
    both = [subprocess.Popen([SCRIPT], env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = {one.communicate(timeout=120)[0].strip() for one in both}
    assert [one.returncode for one in both] == [0, 0]
    (folder,) = said
    for program in ("bwa", "samtools"):
        done = subprocess.run([f"{folder}/{program}"], env=env, capture_output=True, text=True, check=False)
        assert "Usage:" in done.stderr
