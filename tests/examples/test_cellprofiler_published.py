"""The cellprofiler example's worker with what users of the published implementation have: messages, buckets, switches,
and `input` folders that do not exist or hold all images.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from distributed_something.worker.admission.health import UNRELATED_REASON_CLASSES
from distributed_something.worker.attempt.outcomes import FINAL_REASON_CLASSES
from distributed_something.worker.job.message.job_template import parse_message
from tests.examples import example_hooks

SHARED = {"pipeline": "w/a.cppipe", "data_file": "w/l.csv", "input": "w/in", "output": "w/out"}
GROUP = "Metadata_Plate=P1,Metadata_Well=A01,Metadata_Site=1"
BUCKETS = ("SOURCE_BUCKET", "WORKSPACE_BUCKET", "DESTINATION_BUCKET")
SWITCHES = ("USE_PLUGINS", "UPDATE_PLUGINS", "PLUGINS_COMMIT", "INSTALL_REQUIREMENTS", "REQUIREMENTS")
REPOSITORY = "https://github.com/CellProfiler/CellProfiler-plugins.git"
PLUGINS = "/home/ubuntu/CellProfiler-plugins"


@pytest.fixture
def cellprofiler(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    for name in (
        *BUCKETS,
        *SWITCHES,
        "REQUIREMENTS_FILE",
        "PLUGINS_PATH",
        "UPLOAD_FLAGS",
        "DOWNLOAD_FILES",
        "ALWAYS_CONTINUE",
    ):
        monkeypatch.delenv(name, raising=False)
    return example_hooks.load_hooks("cellprofiler", monkeypatch)


def make_job(hooks: ModuleType, folder: Path, message: dict[str, Any], **variables: str) -> Any:
    """Return the job for this message, as a worker reads it from the queue."""
    parsed = parse_message(json.dumps(message))
    return hooks.make_job(parsed, hooks.Folders(folder), example_hooks.build_settings(folder, **variables))


# Messages


@pytest.mark.parametrize(
    ("published", "group"),
    [
        ({"Metadata": GROUP}, {"Metadata": GROUP}),
        ({"Metadata": GROUP}, GROUP),
        ({"Metadata": {"Metadata_Plate": "P1", "Metadata_Well": "A01"}},
         {"Metadata_Plate": "P1", "Metadata_Well": "A01"}),
        ({"Metadata": {"Plate": "P1", "Site": 3}}, {"Metadata": {"Plate": "P1", "Site": 3}}),
        ({"Metadata": GROUP, "output_structure": "Metadata_Plate"}, GROUP),
        ({"Metadata": GROUP, "output_structure": ""}, GROUP),
        ({"Metadata": GROUP, "_comment": "sent by a script of ours"}, {"Metadata": GROUP}),
    ],
)  # fmt: skip
def test_a_published_message_is_the_same_job_as_its_group(
    cellprofiler: ModuleType, tmp_path: Path, published: dict[str, Any], group: Any
) -> None:
    shared = {name: value for name, value in published.items() if name == "output_structure"}
    first = make_job(cellprofiler, tmp_path, SHARED | published)
    second = make_job(cellprofiler, tmp_path, SHARED | shared | {"group": group})
    assert (first.id, first.command, first.output_location) == (second.id, second.command, second.output_location)


# The default input folder


@pytest.mark.parametrize("value", ["w/none", "w/in/", "", None, False])
def test_input_is_never_fetched_and_may_be_empty(cellprofiler: ModuleType, tmp_path: Path, value: object) -> None:
    job = make_job(cellprofiler, tmp_path, SHARED | {"input": value, "Metadata": GROUP})
    assert job.inputs == {"s3://ours/w/a.cppipe": "ours/w/a.cppipe", "s3://ours/w/l.csv": "ours/w/l.csv"}


@pytest.mark.parametrize("keys", [{}, {"input": "w/none"}, {"input": "w/"}])
def test_the_program_gets_an_existing_default_folder_and_only_the_images_of_its_group(
    cellprofiler: ModuleType, tmp_path: Path, keys: dict[str, Any]
) -> None:
    """P9: the images of all groups are below `input`, but each job fetches only its own two."""
    shared = {name: value for name, value in SHARED.items() if name != "input"}
    job = make_job(cellprofiler, tmp_path, shared | keys | {"Metadata": "Metadata_Plate=P7"})
    rows = [f"P{number},/home/ubuntu/bucket/w/in,{number}_{site}.tif" for number in range(20) for site in "ab"]
    job.own["data_file"].path.parent.mkdir(parents=True)
    job.own["data_file"].path.write_text("\n".join(["Metadata_Plate,PathName_DNA,FileName_DNA", *rows, ""]))
    fetched: dict[str, str] = {}

    def fetch(inputs: dict[str, str]) -> None:
        fetched.update(inputs)
        for name in inputs.values():
            (tmp_path / "input" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "input" / name).write_bytes(b"x")

    cellprofiler.prepare(job, cellprofiler.Folders(tmp_path, fetch))
    assert sorted(fetched) == ["s3://ours/w/in/7_a.tif", "s3://ours/w/in/7_b.tif"]
    default_input = Path(job.command[job.command.index("-i") + 1])
    assert default_input.is_dir()
    assert default_input.is_relative_to(tmp_path / "input")


def test_inputs_are_fetched_into_the_default_folder(cellprofiler: ModuleType, tmp_path: Path) -> None:
    """Pipelines read, for example, rules for quality control from there."""
    message = SHARED | {"Metadata": GROUP, "inputs": ["w/rules/", "s3://other/x.txt"]}
    inputs = make_job(cellprofiler, tmp_path, message).inputs
    assert {name: inputs[name] for name in ("w/rules/", "s3://other/x.txt")} == {
        "w/rules/": "default_input/", "s3://other/x.txt": "default_input/",
    }  # fmt: skip
    message = {name: value for name, value in message.items() if name != "input"} | {"inputs": {"w/r.txt": "sub/r.txt"}}
    assert make_job(cellprofiler, tmp_path, message).inputs["w/r.txt"] == "default_input/sub/r.txt"


@pytest.mark.parametrize("value", [7, ["w/in"], {"a": "b"}])
def test_an_invalid_input_is_refused(cellprofiler: ModuleType, tmp_path: Path, value: object) -> None:
    with pytest.raises(cellprofiler.BadMessage, match="`input`"):
        make_job(cellprofiler, tmp_path, SHARED | {"input": value, "Metadata": GROUP})


# Buckets


@pytest.mark.parametrize(
    ("constants", "pipeline", "images", "results"),
    [
        ({}, "ours", "ours", "ours"),
        ({"SOURCE_BUCKET": "src"}, "src", "src", "ours"),
        ({"SOURCE_BUCKET": "src", "WORKSPACE_BUCKET": "False"}, "src", "src", "ours"),
        ({"SOURCE_BUCKET": "src", "WORKSPACE_BUCKET": "", "DESTINATION_BUCKET": "dst"}, "src", "src", "dst"),
        ({"SOURCE_BUCKET": "src", "WORKSPACE_BUCKET": "lab", "DESTINATION_BUCKET": "false"}, "lab", "src", "ours"),
        (
            {"SOURCE_BUCKET": "False", "WORKSPACE_BUCKET": "False", "DESTINATION_BUCKET": "FALSE"},
            "ours",
            "ours",
            "ours",
        ),
        ({"WORKSPACE_BUCKET": "lab"}, "lab", "ours", "ours"),
    ],
)
def test_buckets_that_are_not_set_have_the_published_defaults(
    cellprofiler: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, constants: dict[str, str],
    pipeline: str, images: str, results: str,
) -> None:  # fmt: skip
    for name, value in constants.items():
        monkeypatch.setenv(name, value)
    job = make_job(cellprofiler, tmp_path, SHARED | {"Metadata": GROUP})
    assert set(job.inputs) == {f"s3://{pipeline}/w/a.cppipe", f"s3://{pipeline}/w/l.csv"}
    assert job.own["images"].bucket == images
    assert (job.output_bucket, job.output_location) == (results, "w/out/P1-A01-1")


# Values that only the program would have noticed


@pytest.mark.parametrize(
    "group",
    [
        "Metadata_Plate=P1, Metadata_Well=A01",
        "Metadata_Plate= P1",
        "Metadata_Plate =P1",
        "Metadata_Plate=P1,",
        "Metadata_Plate=P1;Metadata_Well=A01",
        {"Metadata_Plate": "P1 "},
    ],
)
def test_a_group_with_spaces_or_other_separators_is_refused(
    cellprofiler: ModuleType, tmp_path: Path, group: Any
) -> None:
    with pytest.raises(cellprofiler.BadMessage, match="is not K=V,K=V"):
        make_job(cellprofiler, tmp_path, SHARED | {"Metadata": group})


def test_a_value_may_contain_spaces(cellprofiler: ModuleType, tmp_path: Path) -> None:
    job = make_job(cellprofiler, tmp_path, SHARED | {"Metadata": "Metadata_Plate=Plate 1"})
    assert job.command[job.command.index("-g") + 1] == "Metadata_Plate=Plate 1"


@pytest.mark.parametrize("flags", ["--storage-class WARM", "--acl everyone", "--grants read", "--sse 'aws:kms"])
def test_invalid_upload_flags_are_refused_with_their_constant(
    cellprofiler: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str
) -> None:
    monkeypatch.setenv("UPLOAD_FLAGS", flags)
    with pytest.raises(cellprofiler.BadMessage, match=r"^config\.py: UPLOAD_FLAGS: "):
        make_job(cellprofiler, tmp_path, SHARED | {"Metadata": GROUP})


# Published switches


@pytest.mark.parametrize(
    ("switches", "lines"),
    [
        ({"UPDATE_PLUGINS": "True"}, f"`ADD {REPOSITORY}#COMMIT {PLUGINS}`"),
        ({"UPDATE_PLUGINS": "True", "PLUGINS_COMMIT": "2b1d5f3"}, f"`ADD {REPOSITORY}#2b1d5f3 {PLUGINS}`"),
        ({"PLUGINS_COMMIT": "v1.1"}, f"`ADD {REPOSITORY}#v1.1 {PLUGINS}`"),
        (
            {"INSTALL_REQUIREMENTS": "True", "REQUIREMENTS": "cellpose", "PLUGINS_COMMIT": "2b1d5f3"},
            f"`ADD {REPOSITORY}#2b1d5f3 {PLUGINS}` and "
            f"`RUN python3 -m pip install --no-cache-dir '{PLUGINS}[cellpose]'`",
        ),
        (
            {"INSTALL_REQUIREMENTS": "True", "REQUIREMENTS_FILE": "requirements.txt"},
            f"`ADD {REPOSITORY}#COMMIT {PLUGINS}` and "
            f"`RUN python3 -m pip install --no-cache-dir -r {PLUGINS}/requirements.txt`",
        ),
        (
            {"INSTALL_REQUIREMENTS": "TRUE"},
            f"`ADD {REPOSITORY}#COMMIT {PLUGINS}` and `RUN python3 -m pip install --no-cache-dir {PLUGINS}`",
        ),
    ],
)
@pytest.mark.parametrize("use", ["True", "False"])
def test_a_switch_that_changes_the_program_is_refused_with_the_lines_for_the_dockerfile(
    cellprofiler: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, switches: dict[str, str], lines: str,
    use: str,
) -> None:  # fmt: skip
    for name, value in (switches | {"USE_PLUGINS": use}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(cellprofiler.BadMessage) as caught:
        make_job(cellprofiler, tmp_path, SHARED | {"Metadata": GROUP})
    text = str(caught.value)
    assert all(name in text for name in switches)
    assert f"; write {lines} in worker/Dockerfile, run make push, and set each of these constants to 'False'" in text


def test_switches_that_are_off_as_in_the_published_config_change_nothing(
    cellprofiler: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = make_job(cellprofiler, tmp_path, SHARED | {"Metadata": GROUP}).command
    for name, value in zip(SWITCHES, ("False", "False", "False", "False", ""), strict=True):
        monkeypatch.setenv(name, value)
    assert make_job(cellprofiler, tmp_path, SHARED | {"Metadata": GROUP}).command == expected


@pytest.mark.parametrize("name", ["USE_PLUGINS", "DOWNLOAD_FILES", "ALWAYS_CONTINUE"])
def test_a_switch_that_is_neither_on_nor_off_is_refused(
    cellprofiler: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "yes")
    with pytest.raises(cellprofiler.BadMessage, match=f"^config.py: {name}: 'yes' is neither 'True' nor 'False'"):
        make_job(cellprofiler, tmp_path, SHARED | {"Metadata": GROUP}, MOUNT_S3="True")


def test_a_key_whose_name_is_misspelled_is_missing(cellprofiler: ModuleType, tmp_path: Path) -> None:
    message = {"pipline" if name == "pipeline" else name: value for name, value in SHARED.items()}
    with pytest.raises(cellprofiler.BadMessage, match=r"^`pipeline` is missing; write a path in the bucket, such as "):
        make_job(cellprofiler, tmp_path, message | {"Metadata": GROUP})


@pytest.mark.parametrize(
    ("scripts", "reason"),
    [
        (None, r"the image has no folder .*/plugins; add it in worker/Dockerfile: ADD "),
        ("scripts", r"this computer has no folder .*/plugins; without an image, set PLUGINS_PATH to a folder "),
    ],
)
def test_a_job_that_needs_plugins_fails_with_a_reason_that_fits_the_place_and_is_not_retried(
    cellprofiler: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scripts: str | None, reason: str
) -> None:
    monkeypatch.setenv("USE_PLUGINS", "True")
    monkeypatch.setenv("PLUGINS_PATH", str(tmp_path / "plugins"))
    monkeypatch.delenv("WORKER_SCRIPTS_DIR", raising=False)
    if scripts:
        monkeypatch.setenv("WORKER_SCRIPTS_DIR", scripts)  # as the local cloud does
    job = make_job(cellprofiler, tmp_path, SHARED | {"Metadata": GROUP})
    with pytest.raises(cellprofiler.Failed, match=f"^USE_PLUGINS is 'True', but {reason}") as caught:
        cellprofiler.prepare(job, cellprofiler.Folders(tmp_path))
    assert caught.value.reason_class in FINAL_REASON_CLASSES & UNRELATED_REASON_CLASSES


def test_plugins_that_this_computer_lacks_are_found_before_jobs_that_will_run_here_are_sent(
    cellprofiler: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USE_PLUGINS", "True")
    monkeypatch.setenv("PLUGINS_PATH", str(tmp_path / "plugins"))
    job = make_job(cellprofiler, tmp_path, SHARED | {"Metadata": GROUP})
    folders = cellprofiler.Folders(tmp_path, lambda inputs: 1 / 0)
    monkeypatch.setenv("WORKER_SCRIPTS_DIR", "scripts")
    with pytest.raises(cellprofiler.Failed, match=r"^USE_PLUGINS is 'True', but this computer has no folder"):
        cellprofiler.check(job, folders)
    monkeypatch.delenv("WORKER_SCRIPTS_DIR")
    with pytest.raises(ZeroDivisionError):  # the image may have them, so it goes on with the files
        cellprofiler.check(job, folders)
