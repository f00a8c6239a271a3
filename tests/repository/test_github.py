"""The files for GitHub are consistent with the code. `make check-github` checks them against GitHub's schemas."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from distributed_something.worker import VERSION
from tests.support.paths import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
GITHUB_FILES = [
    *(path for folder in (".github", ".devcontainer") for path in (ROOT / folder).rglob("*") if path.is_file()),
    *(ROOT / name for name in ("CITATION.cff", "SECURITY.md")),
]
KNOWN_HOSTS = {"ghcr.io", "mcr.microsoft.com"}
CHANGE_TYPES = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
FAKE_DOCKER = '#!/bin/sh\n[ "$1" != login ] || cat >/dev/null\necho "$@" >> "$NOTES"\n'


def read_yaml(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    return content


def list_jobs(path: Path) -> list[dict[str, Any]]:
    return list(read_yaml(path)["jobs"].values())


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_only_read_and_its_jobs_ask_for_what_else_they_need(path: Path) -> None:
    assert read_yaml(path)["permissions"] == {"contents": "read"}
    written = {
        name for job in list_jobs(path) for name, right in job.get("permissions", {}).items() if right == "write"
    }
    assert written == {"image.yml": {"packages"}, "docs.yml": {"pages", "id-token"}}.get(path.name, set())
    assert all(job["timeout-minutes"] for job in list_jobs(path))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_uses_only_actions_of_github_and_no_secret_of_your_own(path: Path) -> None:
    used = [step["uses"] for job in list_jobs(path) for step in job["steps"] if "uses" in step]
    assert [action for action in used if not re.fullmatch(r"actions/[\w-]+@v\d+", action)] == []
    assert set(re.findall(r"secrets\.(\w+)", path.read_text())) <= {"GITHUB_TOKEN"}


@pytest.mark.parametrize("path", GITHUB_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_path_or_host_of_a_development_machine_is_in_a_file_for_github(path: Path) -> None:
    text = path.read_text()
    assert re.findall(r"(?<![\w.$}])/(?:home|root|work|tmp|opt|srv|Users)/", text) == []
    assert set(re.findall(r"\b((?:[a-z0-9-]+\.)+(?:io|com|org|net|internal|local))/", text)) <= KNOWN_HOSTS
    assert re.findall(r"\b\d+\.\d+\.\d+\.\d+\b|localhost|index-url|PIP_", text) == []


def push_image(tmp_path: Path, tag: str) -> list[str]:
    """Run the last step of the image's workflow in a project with this DOCKERHUB_TAG; return the calls of docker."""
    (job,) = list_jobs(ROOT / ".github" / "workflows" / "image.yml")
    (tmp_path / "config.py").write_text(f"DOCKERHUB_TAG = {tag!r}\n")
    for name, text in (("docker", FAKE_DOCKER), (".venv/bin/python", f'#!/bin/sh\nexec {sys.executable} "$@"\n')):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    env = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}", "NOTES": str(tmp_path / "notes"), "TOKEN": "secret",
        "GITHUB_REPOSITORY": "Ada-Lab/My-Reads", "GITHUB_ACTOR": "ada",
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
    }  # fmt: skip
    script = ["bash", "-e", "-o", "pipefail", "-c", job["steps"][-1]["run"]]
    completed = subprocess.run(script, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    assert "secret" not in completed.stdout + (tmp_path / "notes").read_text()
    return (tmp_path / "notes").read_text().splitlines()


@pytest.mark.parametrize(
    ("image", "tag"),
    [("ada/reads:1.4", "1.4"), ("ada/reads", "latest"), ("registry.example.org:5000/ada/reads", "latest")],
)
def test_the_image_is_pushed_to_githubs_registry_with_its_own_tag(tmp_path: Path, image: str, tag: str) -> None:
    pushed = f"ghcr.io/ada-lab/my-reads:{tag}"
    login = "login ghcr.io --username ada --password-stdin"
    assert push_image(tmp_path, image) == [login, f"tag {image} {pushed}", f"push {pushed}"]
    assert (tmp_path / "summary").read_text() == f"DOCKERHUB_TAG = '{pushed}'\n"


def test_the_form_for_problems_asks_for_what_explains_them() -> None:
    fields = read_yaml(ROOT / ".github" / "ISSUE_TEMPLATE" / "problem.yml")["body"]
    labels = [field["attributes"].get("label", "") for field in fields]
    for command in ("--version", "why --json", "status --json"):
        assert f"python run.py {command}" in labels
    assert "Operating system, and python --version" in labels


def test_the_image_is_built_only_if_something_that_it_contains_has_changed() -> None:
    paths = read_yaml(ROOT / ".github" / "workflows" / "image.yml")[True]["push"]["paths"]  # YAML reads `on` as true
    assert {"worker/**", "config.py", "requirements.txt", "vendor/**"} <= set(paths)
    assert [path for path in paths if path.startswith(("docs", "files", "README"))] == []


def test_links_in_the_forms_lead_to_files_that_exist() -> None:
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        for link in re.findall(r"\]\(\.\./blob/HEAD/([^)]+)\)", path.read_text()):
            assert (ROOT / link).is_file(), link


def test_the_citation_names_this_version_and_the_paper() -> None:
    citation = read_yaml(ROOT / "CITATION.cff")
    assert citation["version"] == VERSION
    assert citation["preferred-citation"]["doi"] == "10.1038/s41592-023-01918-8"


def test_the_devcontainer_is_valid_json_and_calls_make() -> None:
    content = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert content["postCreateCommand"] == "make venv"


def test_the_changelog_has_the_form_of_keep_a_changelog() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text().splitlines()
    headings = [line for line in lines if line.startswith("#")]
    assert headings[:2] == ["# Changelog", "## Unreleased"]
    versions = [heading for heading in headings if heading.startswith("## ")]
    release = re.compile(r"## \d+\.\d+\.\d+ - \d{4}-\d\d-\d\d")
    assert [version for version in versions[1:] if not release.fullmatch(version)] == []
    sections = "\n".join(headings).split("\n## ")[1:]
    for section in sections:
        types = re.findall(r"(?m)^### (.*)$", section)
        assert set(types) <= set(CHANGE_TYPES)
        assert len(set(types)) == len(types), "each type of change has one heading per version"
