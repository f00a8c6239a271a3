"""Published job files give the published command, and any value survives the word that all parameters share."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import hooks_of
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
    return hooks_of.load("fiji", monkeypatch)


def job(hooks: ModuleType, folder: Path, group: Any = None, mount: str = "True", **more: Any) -> Any:
    message = JOB | {"group": group or {"Well": "A1", "Plate": "Plate_1"}} | more
    return hooks.make_job(
        message, hooks.Folders(folder), hooks_of.settings(folder, MOUNT_S3=mount, EXPECTED_NUMBER_FILES="7")
    )


def test_the_command_is_the_published_one(fiji: ModuleType, tmp_path: Path) -> None:
    made = job(fiji, tmp_path)
    assert made.command == [
        "ImageJ-linux64", "--ij2", "--headless", "--console", "--run", f"{tmp_path}/input/script/script.py",
        "input_file_location='/home/ubuntu/bucket/projects/input', image_size='1024', rows='2', columns='2', "
        "Well='A1', Plate='Plate_1'",
    ]  # fmt: skip
    assert made.inputs == {URL: "script/"}
    assert made.output_location == f"projects/output/{made.id}"
    assert made.expected_files == 7


@pytest.mark.parametrize(
    ("script", "inputs", "word"),
    [
        ("projects/script.ijm", {"projects/script.ijm": "script/"}, "input/script/script.ijm"),
        ("s3://theirs/a/script.groovy", {"s3://theirs/a/script.groovy": "script/"}, "input/script/script.groovy"),
        (f"{URL}?raw=true", {f"{URL}?raw=true": "script/"}, "input/script/script.py"),
        ("measure_nuclei.py", {}, None),
    ],
)
def test_a_script_is_fetched_or_shipped(
    fiji: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    inputs: dict[str, str],
    word: str | None,
) -> None:
    monkeypatch.setenv("SCRIPT_DOWNLOAD_URL", script)
    made = job(fiji, tmp_path, inputs=["projects/input/{Well}.tif"])
    assert made.inputs == {"projects/input/A1.tif": "/"} | inputs if inputs else ["projects/input/A1.tif"]
    assert made.command[5] == (f"{tmp_path}/{word}" if word else str(SCRIPTS_FOLDER / script))


@pytest.mark.parametrize("script", ["", "https://somewhere/", "."])
def test_no_script_is_a_bad_message(
    fiji: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setenv("SCRIPT_DOWNLOAD_URL", script)
    with pytest.raises(fiji.BadMessage, match="names no script"):
        job(fiji, tmp_path)


def test_a_place_in_the_bucket_is_refused_where_it_is_not_mounted(fiji: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(fiji.BadMessage, match=r"input_file_location .* the bucket is not mounted"):
        job(fiji, tmp_path, mount="False")
    here = {"input_file_location": "{input_dir}/a", "out": "{output_dir}", "n": 3, "braces": "{x}", "yes": True}
    made = job(fiji, tmp_path, mount="False", shared_metadata=here)
    assert made.command[-1].startswith(
        f"input_file_location='{tmp_path}/input/a', out='{tmp_path}/output', n='3', braces='{{x}}', yes='true', Well="
    )


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("a, b='c'", r'''p="a, b='c'"'''),
        ('say "hi"', """p='say "hi"'"""),
        ("C:\\dir\\", "p='C:\\dir\\'"),
        ('it\'s C:\\ "x"', 'p="it\'s C:\\\\ \\"x\\""'),
        ("", "p=''"),
    ],
)
def test_quotes_and_commas_survive(fiji: ModuleType, tmp_path: Path, value: str, word: str) -> None:
    assert job(fiji, tmp_path, {"p": value}, shared_metadata={}).command[-1] == word


def as_scijava_reads(word: str) -> list[tuple[str, str]]:
    """The parser of SciJava (org.scijava.sjep), as far as it was seen to read such texts."""
    found, rest = [], word
    while rest:
        name, _, rest = rest.partition("=")
        quote, value, at = rest[0], "", 1
        while rest[at] != quote:
            at += quote == '"' and rest[at] == "\\"
            value, at = value + rest[at], at + 1
        found.append((name, value))
        rest = rest[at + 1 :].removeprefix(", ")
    return found


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=1, max_size=4))
def test_any_values_are_read_as_they_were_written(values: list[str]) -> None:
    parameters = {f"p{number}": value for number, value in enumerate(values)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCRIPT_DOWNLOAD_URL", URL)
        word = job(hooks_of.load("fiji", patch), Path("/job"), parameters, shared_metadata={}).command[-1]
    assert as_scijava_reads(word) == list(parameters.items())


@pytest.mark.parametrize(
    "wrong",
    [{"shared_metadata": []}, {"output_file_location": 1}, {"output_file_location": "../x"}, {"group": "A1"},
     {"group": {"a-b": "x"}}, {"group": {"é": "x"}}],
)  # fmt: skip
def test_what_fiji_cannot_be_told_is_a_bad_message(fiji: ModuleType, tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(fiji.BadMessage):
        job(fiji, tmp_path, **wrong)


def test_files_say_whether_it_succeeded(fiji: ModuleType, tmp_path: Path) -> None:
    made, folders = job(fiji, tmp_path, expected_files=2), fiji.Folders(tmp_path)
    folders.output_dir.mkdir()
    (folders.output_dir / "a.csv").write_text("a")
    (folders.output_dir / "b.csv").touch()
    result = fiji.Result(0, 1.0, 0, 0.0)
    assert fiji.failure(made, folders, result) == "1 files match '*' and have 1 bytes or more, 2 expected"
    (folders.output_dir / "b.csv").write_text("b")
    assert fiji.failure(made, folders, result) is None
