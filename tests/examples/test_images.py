"""Every example's worker as it is in an image: its own files over the template's, loaded by the worker's own Python."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.examples.example import example
from tests.support.engine import docker, require_engine
from tests.support.project import ROOT

pytestmark = pytest.mark.containers

EXAMPLES = sorted(path.parent.name for path in ROOT.glob("examples/*/config.py"))
PYTHON = ("--library-path", "/opt/worker/lib", "/opt/worker/bin/python3.11", "-E", "-s", "-c")
LOAD = (
    "import runpy, sys; sys.path.insert(0, '/opt/worker'); "
    "own = runpy.run_path('/opt/worker/generic-worker.py', run_name='worker'); print(own['make_job'].__doc__)"
)


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_is_an_examples_own_is_in_its_image_and_can_be_imported_there(name: str, tmp_path: Path) -> None:
    require_engine()
    with example(name, tmp_path) as made:
        image = made.build("debian:bookworm-slim", image=f"tests/example-{name}-loaded:1")
    run = ("run", "--rm", "--network", "host", "--entrypoint")
    loaded = docker(*run, "/opt/worker/lib/loader.so", image, *PYTHON, LOAD)
    own = ROOT / "examples" / name / "worker"
    worker = own if (own / "generic-worker.py").exists() else ROOT / "worker"
    first_line = loaded.strip().splitlines()[0]
    assert first_line in (worker / "generic-worker.py").read_text()
    there = docker(*run, "/usr/bin/find", image, "/opt/worker", "-maxdepth", "2").split()
    for path in own.rglob("*"):
        if path.is_file() and path.name not in ("Dockerfile", "requirements-own.txt") and path.suffix != ".pyc":
            assert f"/opt/worker/{path.relative_to(own)}" in there
