"""The examples' container images contain the example's worker files, and the worker's Python can load them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.examples.example import open_example
from tests.support.engine import require_engine, run_docker
from tests.support.project import ROOT

pytestmark = pytest.mark.containers

EXAMPLES = sorted(path.parent.name for path in ROOT.glob("examples/*/config.py"))
PYTHON = ("--library-path", "/opt/worker/lib", "/opt/worker/bin/python3.11", "-E", "-s", "-c")
LOAD = (
    "import runpy, sys; sys.path.insert(0, '/opt/worker'); "
    "own = runpy.run_path('/opt/worker/generic-worker.py', run_name='worker'); print(own['make_job'].__doc__)"
)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_image_contains_the_examples_worker_files_and_can_import_them(name: str, tmp_path: Path) -> None:
    require_engine()
    with open_example(name, tmp_path) as example:
        image = example.build_image("debian:bookworm-slim", image=f"tests/example-{name}-loaded:1")
    run = ("run", "--rm", "--network", "host", "--entrypoint")
    loaded = run_docker(*run, "/opt/worker/lib/loader.so", image, *PYTHON, LOAD)
    example_worker = ROOT / "examples" / name / "worker"
    worker = example_worker if (example_worker / "generic-worker.py").exists() else ROOT / "worker"
    first_line = loaded.strip().splitlines()[0]
    assert first_line in (worker / "generic-worker.py").read_text()
    files = run_docker(*run, "/usr/bin/find", image, "/opt/worker", "-maxdepth", "2").split()
    for path in example_worker.rglob("*"):
        if path.is_file() and path.name not in ("Dockerfile", "requirements-own.txt") and path.suffix != ".pyc":
            assert f"/opt/worker/{path.relative_to(example_worker)}" in files


def test_the_omezarr_image_can_be_built_on_debian_12_and_adds_a_level(tmp_path: Path) -> None:
    """The base of the example's image is Debian 12, whose pip refuses to change the system's Python."""
    require_engine()
    with open_example("omezarr", tmp_path) as example:
        dockerfile = example.folder / "worker" / "Dockerfile"
        dockerfile.write_text(re.sub("^FROM .*", "FROM debian:bookworm-slim", dockerfile.read_text(), count=1))
        image = example.build_image(image="tests/example-omezarr-debian:1")
        plate = example.folder / "data" / "PLATE_A" / "Images" / "plate.companion.ome"
        standin = ROOT / "examples" / "omezarr" / "standin" / "bioformats2raw"
        zarr = example.folder / "plate.ome.zarr"
        subprocess.run([sys.executable, standin, plate, zarr, "-w", "64", "-h", "64", "-s", "0,1"], check=True)
    run = ("run", "--rm", "--network", "host", "--volume", f"{zarr}:/plate", "--entrypoint", "python3")
    output = run_docker(*run, image, "/opt/worker/scripts/add_downsampling.py", "/plate", "4")
    assert output.strip() == "/plate: 2 images have a new level that is 4 times smaller"
    attributes = json.loads((zarr / "A" / "1" / "0" / ".zattrs").read_text())
    assert [level["path"] for level in attributes["multiscales"][0]["datasets"]] == ["0", "1"]
