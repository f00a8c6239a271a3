"""The CellProfiler example's Job files for the steps of a Cell Painting experiment, compared with the published rules.

The rules are those by which the published system's script for batches chooses the keys of a step: the pipeline, the
data file, CellProfiler's input folder, and the folder for the results.
"""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from distributed_something.jobs.job_file import load_job_file
from distributed_something.worker.job.job_id import job_id
from distributed_something.worker.job.message.job_template import parse_message
from tests.examples import example, example_hooks
from tests.support.offline import run_command
from tests.support.project import ROOT

STEP_FILES = ROOT / "examples" / "cellprofiler" / "files" / "gallery"
PLATES = ["BR00117035", "BR00117036", "P-1", "P_4"]
PROJECT, SOURCE, BATCH = "cpg0000-jump-pilot", "source_4", "2020_11_04_CPJUMP1"
WORKSPACE, IMAGES = f"{PROJECT}/{SOURCE}/workspace", f"{PROJECT}/{SOURCE}/images/{BATCH}"
SHARED_OPTIONS = ("--set", f"project={PROJECT}", "--set", f"source={SOURCE}", "--set", f"batch={BATCH}")


@dataclass(frozen=True)
class Step:
    """What the published rules say about one step.

    `level`: what one job processes: `plate`, `well`, or `site`. `folder`: where a job's results go, below `output`.
    """

    file: str
    level: str
    pipeline: str
    table: str
    output: str
    structure: str
    folder: str


ANALYSIS = "Metadata_Plate/analysis/Metadata_Plate-Metadata_Well-Metadata_Site"
STEPS = [
    Step("zproj", "site", "Zproj.cppipe", "load_data_unprojected.csv", f"{IMAGES}/images_projected",
         "Metadata_Plate", "{plate}"),
    Step("illum", "plate", "illum.cppipe", "load_data.csv", f"{IMAGES}/illum", "", "{plate}"),
    Step("qc", "well", "qc.cppipe", "load_data.csv", f"{WORKSPACE}/qc/{BATCH}/results", "", "{plate}-{well}"),
    Step("qc", "site", "qc.cppipe", "load_data.csv", f"{WORKSPACE}/qc/{BATCH}/results", "", "{plate}-{well}-{site}"),
    Step("assaydev", "well", "assaydev.cppipe", "load_data_with_illum.csv", f"{WORKSPACE}/assaydev/{BATCH}",
         "", "{plate}-{well}"),
    Step("analysis", "site", "analysis.cppipe", "load_data_with_illum.csv", f"{WORKSPACE}/analysis/{BATCH}",
         ANALYSIS, "{plate}/analysis/{plate}-{well}-{site}"),
]  # fmt: skip


def list_groups(level: str, rows: str, columns: int, sites: int, digits: int = 2) -> Iterator[dict[str, str]]:
    """Yield the plate, well, and site of each job, in the order of the published script."""
    wells = [f"{row}{column:0{digits}}" for row in rows for column in range(1, columns + 1)]
    for plate in PLATES:
        if level == "plate":
            yield {"plate": plate}
        elif level == "well":
            yield from ({"plate": plate, "well": well} for well in wells)
        else:
            pairs = itertools.product(wells, range(1, sites + 1))
            yield from ({"plate": plate, "well": well, "site": str(site)} for well, site in pairs)


def build_published_message(step: Step, group: dict[str, str], workspace: str = WORKSPACE) -> dict[str, str]:
    """Return the message that the published script sends for a job."""
    structure = {"output_structure": step.structure} if step.structure else {}
    return {
        "Metadata": ",".join(f"Metadata_{name.capitalize()}={value}" for name, value in group.items()),
        "pipeline": f"{workspace}/pipelines/{BATCH}/{step.pipeline}",
        "output": step.output,
        **structure,
        "input": f"{workspace}/qc/{BATCH}/rules",
        "data_file": f"{workspace}/load_data_csv/{BATCH}/{group['plate']}/{step.table}",
    }


def make_step_jobs(
    step: Step, path: Path, wells: str, sites: str, *more: str, folder: Path = STEP_FILES
) -> list[dict[str, Any]]:
    """Write the step's Job file for all plates with makeJobs, and return its messages. `more`: options."""
    options = ["--plates", ",".join(PLATES), "--metadata", "--like", str(folder / f"{step.file}.json"), *more]
    options += ["--wells", wells] if step.level != "plate" else []
    options += ["--sites", sites] if step.level == "site" else []
    outcome = run_command("makeJobs", *options, *SHARED_OPTIONS, "-o", str(path))
    assert outcome.code == 0, outcome.err
    return [parse_message(body) for body in load_job_file(path, lambda *_: []).iter_bodies()]


def describe_job(hooks: ModuleType, folder: Path, message: dict[str, Any]) -> dict[str, Any]:
    """Return everything about a job that a user can observe, except its ID."""
    job = hooks.make_job(message, hooks.Folders(folder), example_hooks.build_settings(folder, MOUNT_S3="True"))
    return {
        "command": job.commands, "output": f"s3://{job.output_bucket}/{job.output_location}",
        "shared": (job.shared_location, job.may_replace), "left out": job.leave_out,
        "data file": job.own["data_file"].path, "metadata": job.own["metadata"],
    }  # fmt: skip


@pytest.fixture
def cellprofiler(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return example_hooks.load_hooks("cellprofiler", monkeypatch)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: f"{step.file}-{step.level}")
def test_a_steps_one_job_file_does_for_four_plates_what_the_published_messages_do(
    cellprofiler: ModuleType, tmp_path: Path, step: Step
) -> None:
    messages = make_step_jobs(step, tmp_path / "step.json", "384", "1-9")
    groups = list(list_groups(step.level, "ABCDEFGHIJKLMNOP", 24, 9))
    assert len(messages) == len(groups) == 4 * {"plate": 1, "well": 384, "site": 384 * 9}[step.level]
    assert len({job_id(message) for message in messages}) == len(messages)
    # Of very many jobs, every 11th: all sites, columns, and rows occur, because 11 divides neither 9 nor 24.
    stride = 11 if len(messages) > 1000 else 1
    for message, group in list(zip(messages, groups, strict=True))[::stride]:
        published = build_published_message(step, group)
        description = describe_job(cellprofiler, tmp_path, message)
        assert description == describe_job(cellprofiler, tmp_path, parse_message(json.dumps(published)))
        keys = {key: f"/home/ubuntu/bucket/{published[key]}" for key in ("pipeline", "input", "data_file")}
        out = f"{tmp_path}/output"
        assert description["command"] == [
            ["cellprofiler", "-c", "-r", "-p", keys["pipeline"], "-i", keys["input"], "-o", out,
             "-d", f"{out}/cp.is.done", f"--data-file={keys['data_file']}", "-g", published["Metadata"]]
        ]  # fmt: skip
        assert description["output"] == f"s3://ours/{step.output}/{step.folder.format(**group)}"
        assert description["shared"] == (step.file == "zproj", step.file == "zproj")


def read_default_layout() -> list[tuple[str, str]]:
    """Return the texts that docs/cell-painting.md tells users of the default layout to replace, with the new ones."""
    text = (ROOT / "docs" / "cell-painting.md").read_text()
    (table,) = re.findall(r"(?m)^\| in the files \|.*\n\| --- .*\n((?:\|.*\n)+)", text)
    return re.findall(r"\| `(.*?)` \| `(.*?)` \|", table)


DEFAULT = f"projects/{PROJECT}"
DEFAULT_OUTPUTS = {
    "zproj": f"{DEFAULT}/{BATCH}/images", "illum": f"{DEFAULT}/{BATCH}/illum",
    "qc": f"{DEFAULT}/workspace/qc/{BATCH}/results", "assaydev": f"{DEFAULT}/workspace/assaydev/{BATCH}",
    "analysis": f"{DEFAULT}/workspace/analysis/{BATCH}",
}  # fmt: skip


@pytest.mark.parametrize("step", STEPS, ids=lambda step: f"{step.file}-{step.level}")
def test_with_the_replacements_in_the_docs_the_files_have_the_default_layout(
    cellprofiler: ModuleType, tmp_path: Path, step: Step
) -> None:
    text = (STEP_FILES / f"{step.file}.json").read_text()
    for old, new in read_default_layout():
        text = text.replace(old, new)
    (tmp_path / f"{step.file}.json").write_text(text)
    messages = make_step_jobs(step, tmp_path / "step.json", "A1-B12", "1-2", "--pad", "1", folder=tmp_path)
    groups = list(list_groups(step.level, "AB", 12, 2, digits=1))
    for message, group in zip(messages, groups, strict=True):
        default = replace(step, output=DEFAULT_OUTPUTS[step.file])
        published = build_published_message(default, group, f"{DEFAULT}/workspace")
        description = describe_job(cellprofiler, tmp_path, message)
        assert description == describe_job(cellprofiler, tmp_path, parse_message(json.dumps(published)))
        assert description["output"] == f"s3://ours/{default.output}/{step.folder.format(**group)}"


@pytest.mark.parametrize("path", sorted(STEP_FILES.glob("*.json")), ids=lambda path: path.stem)
def test_a_step_needs_its_project_source_and_batch(cellprofiler: ModuleType, tmp_path: Path, path: Path) -> None:
    message = json.loads(path.read_text()) | {"group": {"Metadata": "Metadata_Plate=P1,Metadata_Well=A01"}}
    with pytest.raises(cellprofiler.BadMessage, match=r"(is|are) blank"):
        describe_job(cellprofiler, tmp_path, message)


# Whole runs. The program only says what it was called with.

PROGRAM = f"""#!{sys.executable}
import pathlib, sys
words = sys.argv[1:]
values = dict(zip(words, words[1:])) | dict(word.split("=", 1) for word in words if word.startswith("--data-file="))
table = pathlib.Path(values["--data-file"]).read_text()
assert pathlib.Path(values["-p"]).is_file() and pathlib.Path(values["-i"]).is_dir()
(plate,) = [pair.split("=")[1] for pair in values["-g"].split(",") if pair.startswith("Metadata_Plate=")]
assert plate in table, table
pathlib.Path(values["-o"], values["-g"] + ".csv").write_text(pathlib.Path(values["-p"]).name)
pathlib.Path(values["-d"]).write_text("Complete")
"""


@pytest.mark.long
def test_the_results_of_all_steps_of_four_plates_are_at_the_published_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "cellprofiler").write_text(PROGRAM)
    (tmp_path / "bin" / "cellprofiler").chmod(0o755)
    monkeypatch.setattr(example, "find_program", lambda name: (str(tmp_path / "bin"),))
    monkeypatch.setattr(example, "run_script", lambda path: "")
    for step in STEPS:
        with example.open_example("cellprofiler", tmp_path / step.file / step.level) as project:
            write_workspace(project.folder / "files" / "bucket", step)
            path = project.folder / "files" / "step.json"
            make_step_jobs(step, path, "A01-B01", "1-2")
            path.write_text(json.dumps(json.loads(path.read_text()) | {"upload": {"bucket": PROJECT}}))
            assert "jobs failed     0\n" in project.run_four_commands("files/step.json")
            expected = {
                f"{step.output}/{step.folder.format(**group)}/{build_published_message(step, group)['Metadata']}.csv"
                for group in list_groups(step.level, "AB", 1, 2)
            }
            inputs = (f"{WORKSPACE}/pipelines/", f"{WORKSPACE}/load_data_csv/", f"{WORKSPACE}/qc/{BATCH}/rules/")
            assert {key for key in project.list_result_files(PROJECT) if not key.startswith(inputs)} == expected


def write_workspace(bucket: Path, step: Step) -> None:
    """Write the pipeline, the rules, and each plate's data file to the folder for PROJECT."""
    texts = {f"pipelines/{BATCH}/{step.pipeline}": "pipeline", f"qc/{BATCH}/rules/rules.txt": "rules"}
    for plate in PLATES:
        rows = [f"{plate},{well},{site}" for well in ("A01", "B01") for site in (1, 2)]
        table = "\n".join(["Metadata_Plate,Metadata_Well,Metadata_Site", *rows])
        texts[f"load_data_csv/{BATCH}/{plate}/{step.table}"] = table
    for name, text in texts.items():
        path = bucket / SOURCE / "workspace" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
