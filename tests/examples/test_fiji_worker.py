"""The fiji example's worker: published Job files produce the published command, and all parameter values are quoted
correctly.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_something.worker.job.checks import find_failure
from distributed_something.worker.job.message.job_template import parse_message
from tests.examples import example_hooks
from tests.support.paths import ROOT

JOB = {
    "output_file_location": "projects/output/",
    "shared_metadata": {
        "input_file_location": "/home/ubuntu/bucket/projects/input", "image_size": "1024", "rows": "2", "columns": "2",
    },
}  # fmt: skip
URL = "https://some/url/with/a/script.py"
SCRIPTS_FOLDER = ROOT / "examples" / "fiji" / "worker" / "scripts"


@pytest.fixture
def fiji(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("SCRIPT_DOWNLOAD_URL", URL)
    return example_hooks.load_hooks("fiji", monkeypatch)


def make_job(hooks: ModuleType, folder: Path, group: Any = None, mount: str = "True", **more: Any) -> Any:
    message = JOB | {"group": group or {"Well": "A1", "Plate": "Plate_1"}} | more
    return hooks.make_job(
        message, hooks.Folders(folder), example_hooks.build_settings(folder, MOUNT_S3=mount, EXPECTED_NUMBER_FILES="7")
    )


def test_the_command_is_the_published_command(fiji: ModuleType, tmp_path: Path) -> None:
    job = make_job(fiji, tmp_path)
    assert job.command == [
        "ImageJ-linux64", "--ij2", "--headless", "--console", "--run", f"{tmp_path}/input/script/script.py",
        "input_file_location='/home/ubuntu/bucket/projects/input', image_size='1024', rows='2', columns='2', "
        "Well='A1', Plate='Plate_1'",
    ]  # fmt: skip
    assert job.inputs == {URL: "script/"}
    assert job.output_location == f"projects/output/{job.id}"
    assert job.expected_files == 7


def test_placeholders_in_the_output_location_stand_for_the_groups_values(fiji: ModuleType, tmp_path: Path) -> None:
    job = make_job(fiji, tmp_path, output_file_location="projects/{Plate}/{batch}", batch="B1")
    assert job.output_location == f"projects/Plate_1/B1/{job.id}"
    with pytest.raises(fiji.BadMessage, match=r"`output_file_location`: the placeholder {plate} has no value"):
        make_job(fiji, tmp_path, output_file_location="projects/{plate}")


@pytest.mark.parametrize("mount", ["True", "False"])
def test_an_output_location_in_the_mounted_bucket_is_a_prefix_in_the_bucket(
    fiji: ModuleType, tmp_path: Path, mount: str
) -> None:
    location = "/home/ubuntu/bucket/projects/{Plate}/"
    job = make_job(fiji, tmp_path, mount=mount, output_file_location=location, shared_metadata={})
    assert job.output_location == f"projects/Plate_1/{job.id}"
    job = make_job(fiji, tmp_path, mount=mount, output_file_location="/home/ubuntu/bucket", shared_metadata={})
    assert job.output_location == job.id


@pytest.mark.parametrize(
    "published",
    [
        {"Metadata": {"Well": "A1", "Plate": "Plate_1"}},
        {"group": {"Metadata": {"Well": "A1", "Plate": "Plate_1"}}},
        {"Metadata": {"Well": "A1", "Plate": "Plate_1"}, "_comment": "from our script"},
    ],
)
def test_a_published_message_is_the_same_job_as_its_group(
    fiji: ModuleType, tmp_path: Path, published: dict[str, Any]
) -> None:
    settings = example_hooks.build_settings(tmp_path, MOUNT_S3="True", EXPECTED_NUMBER_FILES="7")
    message = parse_message(json.dumps(JOB | published))
    job, expected = fiji.make_job(message, fiji.Folders(tmp_path), settings), make_job(fiji, tmp_path)
    assert (job.id, job.command, job.output_location) == (expected.id, expected.command, expected.output_location)


@pytest.mark.parametrize(
    ("script", "inputs", "path"),
    [
        ("projects/script.ijm", {"projects/script.ijm": "script/"}, "input/script/script.ijm"),
        ("s3://lab/a/script.groovy", {"s3://lab/a/script.groovy": "script/"}, "input/script/script.groovy"),
        (f"{URL}?raw=true", {f"{URL}?raw=true": "script/"}, "input/script/script.py"),
        ("measure_nuclei.py", {}, None),
    ],
)
def test_a_script_is_fetched_unless_it_is_in_the_image(
    fiji: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    inputs: dict[str, str],
    path: str | None,
) -> None:
    monkeypatch.setenv("SCRIPT_DOWNLOAD_URL", script)
    job = make_job(fiji, tmp_path, inputs=["projects/input/{Well}.tif"])
    assert job.inputs == {"projects/input/A1.tif": "/"} | inputs if inputs else ["projects/input/A1.tif"]
    assert job.command[5] == (f"{tmp_path}/{path}" if path else str(SCRIPTS_FOLDER / script))


@pytest.mark.parametrize("script", ["", "https://somewhere/", "."])
def test_a_job_without_a_script_is_rejected(
    fiji: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setenv("SCRIPT_DOWNLOAD_URL", script)
    with pytest.raises(fiji.BadMessage, match=r"SCRIPT_DOWNLOAD_URL: .* does not name a script"):
        make_job(fiji, tmp_path)


def test_a_path_in_the_mounted_bucket_is_rejected_if_the_bucket_is_not_mounted(
    fiji: ModuleType, tmp_path: Path
) -> None:
    with pytest.raises(fiji.BadMessage, match=r"input_file_location: .* is in the bucket, which is not mounted"):
        make_job(fiji, tmp_path, mount="False")
    parameters = {"input_file_location": "{input_dir}/a", "out": "{output_dir}", "n": 3, "braces": "{x}", "yes": True}
    job = make_job(fiji, tmp_path, mount="False", shared_metadata=parameters)
    assert job.command[-1].startswith(
        f"input_file_location='{tmp_path}/input/a', out='{tmp_path}/output', n='3', braces='{{x}}', yes='true', Well="
    )


@pytest.mark.parametrize(
    ("value", "argument"),
    [
        ("a, b='c'", r'''p="a, b='c'"'''),
        ('say "hi"', """p='say "hi"'"""),
        ("C:\\dir\\", "p='C:\\dir\\'"),
        ('it\'s C:\\ "x"', 'p="it\'s C:\\\\ \\"x\\""'),
        ("", "p=''"),
    ],
)
def test_values_with_quotes_commas_or_backslashes_are_quoted(
    fiji: ModuleType, tmp_path: Path, value: str, argument: str
) -> None:
    assert make_job(fiji, tmp_path, {"p": value}, shared_metadata={}).command[-1] == argument


def parse_like_scijava(argument: str) -> list[tuple[str, str]]:
    """Parse parameters like SciJava's parser (org.scijava.sjep), based on observations of its behavior."""
    parameters, text = [], argument
    while text:
        name, _, text = text.partition("=")
        quote, value, position = text[0], "", 1
        while text[position] != quote:
            position += quote == '"' and text[position] == "\\"
            value, position = value + text[position], position + 1
        parameters.append((name, value))
        text = text[position + 1 :].removeprefix(", ")
    return parameters


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=1, max_size=4))
def test_scijava_reads_all_values_unchanged(values: list[str]) -> None:
    parameters = {f"p{number}": value for number, value in enumerate(values)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCRIPT_DOWNLOAD_URL", URL)
        job = make_job(example_hooks.load_hooks("fiji", patch), Path("/job"), parameters, shared_metadata={})
    assert parse_like_scijava(job.command[-1]) == list(parameters.items())


@pytest.mark.parametrize(
    "values",
    [{"shared_metadata": []}, {"output_file_location": 1}, {"output_file_location": "../x"}, {"group": "A1"},
     {"group": {"a-b": "x"}}, {"group": {"é": "x"}}],
)  # fmt: skip
def test_an_invalid_message_is_rejected(fiji: ModuleType, tmp_path: Path, values: dict[str, Any]) -> None:
    with pytest.raises(fiji.BadMessage):
        make_job(fiji, tmp_path, **values)


def test_a_job_fails_if_result_files_are_missing(fiji: ModuleType, tmp_path: Path) -> None:
    job, folders = make_job(fiji, tmp_path, expected_files=2), fiji.Folders(tmp_path)
    folders.output_dir.mkdir()
    (folders.output_dir / "a.csv").write_text("a")
    (folders.output_dir / "b.csv").touch()
    result = fiji.Result(1, 1.0, 0, 0.0)  # Fiji's exit code says nothing
    assert fiji.failure(job, folders, result) == "1 of 2 expected files match '*' and are not empty"
    (folders.output_dir / "b.csv").write_text("b")
    assert find_failure(fiji.failure(job, folders, result), result) is None
