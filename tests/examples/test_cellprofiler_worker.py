"""The cellprofiler example's worker: published Job files produce exactly the published commands and locations."""

from __future__ import annotations

import csv
import re
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from distributed_something.worker.job.checks import find_failure
from tests.examples import example_hooks

JOB = {
    "pipeline": "projects/analysis.cppipe",
    "data_file": "projects/list_of_images.csv",
    "input": "projects/input/",
    "output": "projects/output/",
}
PLATE = {"Metadata": "Metadata_Plate=Plate1,Metadata_Well=A01,Metadata_Site=1"}
BUCKET = "/home/ubuntu/bucket"


@pytest.fixture
def cellprofiler(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    for name in ("SOURCE_BUCKET", "WORKSPACE_BUCKET", "DESTINATION_BUCKET", "UPLOAD_FLAGS", "DOWNLOAD_FILES"):
        monkeypatch.delenv(name, raising=False)
    return example_hooks.load_hooks("cellprofiler", monkeypatch)


def make_job(hooks: ModuleType, folder: Path, group: Any = PLATE, mount: str = "True", **more: Any) -> Any:
    return hooks.make_job(
        JOB | {"group": group} | more, hooks.Folders(folder), example_hooks.build_settings(folder, MOUNT_S3=mount)
    )


def build_published_command(
    output: Path, group: str, data: str = f"--data-file={BUCKET}/projects/list_of_images.csv", options: str = ""
) -> str:
    command = (
        f"cellprofiler -c -r -p {BUCKET}/projects/analysis.cppipe -i {BUCKET}/projects/input/ -o {output}"
        f" -d {output}/cp.is.done {data} -g {group}{options}"
    )
    return " ".join(command.split())


def test_with_a_mounted_bucket_the_command_is_the_published_command(cellprofiler: ModuleType, tmp_path: Path) -> None:
    job = make_job(cellprofiler, tmp_path)
    assert " ".join(job.command) == build_published_command(tmp_path / "output", PLATE["Metadata"])
    assert job.inputs == {}
    assert job.output_location == "projects/output/Plate1-A01-1"
    assert job.leave_out == ["cp.is.done"]


def test_a_file_list_and_a_batch_file_produce_the_published_commands(cellprofiler: ModuleType, tmp_path: Path) -> None:
    list_job = make_job(cellprofiler, tmp_path, data_file="projects/files.txt")
    option = f"--file-list={BUCKET}/projects/files.txt"
    assert " ".join(list_job.command) == build_published_command(tmp_path / "output", PLATE["Metadata"], option)
    batch_job = make_job(cellprofiler, tmp_path, data_file="projects/Batch_data.h5")
    assert " ".join(batch_job.command) == build_published_command(tmp_path / "output", PLATE["Metadata"], "")


def test_the_options_for_plugins_and_always_continue_are_the_last_options(
    cellprofiler: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USE_PLUGINS", "True")
    monkeypatch.setenv("ALWAYS_CONTINUE", "true")
    options = " --plugins-directory=/home/ubuntu/CellProfiler-plugins --always-continue"
    expected = build_published_command(tmp_path / "output", PLATE["Metadata"], options=options)
    assert " ".join(make_job(cellprofiler, tmp_path).command) == expected
    (tmp_path / "plugins" / "active_plugins").mkdir(parents=True)
    monkeypatch.setenv("PLUGINS_PATH", str(tmp_path / "plugins"))
    assert f"--plugins-directory={tmp_path}/plugins/active_plugins" in make_job(cellprofiler, tmp_path).command


@pytest.mark.parametrize(
    ("group", "structure", "argument", "folder"),
    [
        (PLATE, "Metadata_Plate-Metadata_Well-Metadata_Site", PLATE["Metadata"], "Plate1-A01-1"),
        (PLATE, "Metadata_Plate/analysis/Metadata_Well", PLATE["Metadata"], "Plate1/analysis/A01"),
        (PLATE, "", PLATE["Metadata"], "Plate1-A01-1"),
        ({"Metadata_Well": "A01", "Metadata_Site": "2"}, "Metadata_Well/Metadata_Site",
         "Metadata_Well=A01,Metadata_Site=2", "A01/2"),
        ({"Metadata_Well": "A01", "Metadata_Site": "2"}, "Metadata_Well", "Metadata_Well=A01,Metadata_Site=2", "A01"),
        ({"Metadata": {"Metadata_Well": "A01"}}, None, "Metadata_Well=A01", "A01"),
        ({"Well": "A01", "Site": 3}, None, "Well=A01,Site=3", "A01-3"),
        ({"Metadata_WellType": "T", "Metadata_Well": "B"}, "Metadata_WellType/Metadata_Well",
         "Metadata_WellType=T,Metadata_Well=B", "T/B"),
        # The published rule: keys are replaced one after the other, wherever they occur.
        ({"Metadata_Well": "B", "Metadata_WellType": "T"}, "Metadata_WellType/Metadata_Well",
         "Metadata_Well=B,Metadata_WellType=T", "BType/B"),
        (PLATE, "Metadata_Plate/analysis/Metadata_Plate-Metadata_Well-Metadata_Site", PLATE["Metadata"],
         "Plate1/analysis/Plate1-A01-1"),
        ({"Metadata": "Metadata_Plate=P1,Metadata_Well=A01"}, "plate_Metadata_Plate/Metadata_Well.results",
         "Metadata_Plate=P1,Metadata_Well=A01", "plate_P1/A01.results"),
        ({"Metadata": "Metadata_Plate=batch/P1"}, "Metadata_Plate", "Metadata_Plate=batch/P1", "batch/P1"),
    ],
)  # fmt: skip
def test_option_g_contains_all_keys_and_output_structure_names_the_results_folder(
    cellprofiler: ModuleType, tmp_path: Path, group: Any, structure: str | None, argument: str, folder: str
) -> None:
    job = make_job(cellprofiler, tmp_path, group, **({} if structure is None else {"output_structure": structure}))
    assert job.command[job.command.index("-g") + 1] == argument
    assert job.output_location == f"projects/output/{folder}"


@pytest.mark.parametrize(
    ("structure", "folder"), [("Metadata_Plate", "Plate1"), ("Metadata_Plate/", "Plate1"), ("all", "all")]
)
def test_jobs_share_a_folder_if_output_structure_lacks_one_of_their_keys(
    cellprofiler: ModuleType, tmp_path: Path, structure: str, folder: str
) -> None:
    wells = [f"Metadata_Plate=Plate1,Metadata_Well={well},Metadata_Site=1" for well in ("A01", "B02")]
    jobs = [make_job(cellprofiler, tmp_path, {"Metadata": well}, output_structure=structure) for well in wells]
    assert {job.output_location for job in jobs} == {f"projects/output/{folder}"}
    assert all(job.shared_location and job.may_replace for job in jobs)
    assert jobs[0].id != jobs[1].id


@pytest.mark.parametrize(
    ("structure", "word", "key"),
    [
        ("Metadata_Plate/Metadata_Wel", "Metadata_Wel", "Metadata_Well"),
        ("{batch}-Metadata_plate/Metadata_Well", "Metadata_plate", "Metadata_Plate"),
        ("results/Metadata_Plate-Wells", "Wells", "Metadata_Well"),
    ],
)
def test_submitjob_notes_a_name_in_output_structure_that_is_similar_to_a_key(
    cellprofiler: ModuleType, tmp_path: Path, structure: str, word: str, key: str
) -> None:
    group = {"Metadata": "Metadata_Plate=P1,Metadata_Well=A01"}
    job = make_job(
        cellprofiler, tmp_path, group, output_structure=structure, batch="B1", data_file="w/a.h5", mount="True"
    )
    with pytest.warns(UserWarning, match="`output_structure`") as caught:
        cellprofiler.check(job, cellprofiler.Folders(tmp_path))
    assert [str(warning.message) for warning in caught] == [
        f"`output_structure`: {word!r} is not a key of the group, so it stays in the names of the folders; did you mean"
        f" {key!r}?"
    ]


@pytest.mark.parametrize(
    "structure", ["Metadata_Plate/Metadata_Well", "all/Metadata_Plate-images", "Metadata_Plates", ""]
)
def test_submitjob_notes_nothing_about_other_names_in_output_structure(
    cellprofiler: ModuleType, tmp_path: Path, structure: str
) -> None:
    group = {"Metadata": "Metadata_Plate=P1,Metadata_Well=A01"}
    job = make_job(cellprofiler, tmp_path, group, output_structure=structure, data_file="w/a.h5", mount="True")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cellprofiler.check(job, cellprofiler.Folders(tmp_path))


def test_a_job_has_its_own_folder_if_output_structure_has_all_of_its_keys(
    cellprofiler: ModuleType, tmp_path: Path
) -> None:
    group = {"Metadata_WellType": "T", "Metadata_Well": "A01"}
    assert not make_job(cellprofiler, tmp_path, group).shared_location
    full = make_job(cellprofiler, tmp_path, group, output_structure="Metadata_WellType/Metadata_Well")
    assert not full.shared_location
    partial = make_job(cellprofiler, tmp_path, group, output_structure="Metadata_WellType")
    assert (partial.output_location, partial.shared_location) == ("projects/output/T", True)


# Placeholders


@pytest.mark.parametrize(
    "group",
    [
        {"Metadata": "Metadata_Plate=P1,Metadata_Well=A01"},
        {"Metadata": {"Metadata_Plate": "P1", "Metadata_Well": "A01"}},
        {"Metadata_Plate": "P1", "Metadata_Well": "A01"},
        "Metadata_Plate=P1,Metadata_Well=A01",
    ],
)
def test_placeholders_in_all_keys_stand_for_the_groups_values_and_shared_keys(
    cellprofiler: ModuleType, tmp_path: Path, group: Any
) -> None:
    job = make_job(
        cellprofiler, tmp_path, group, batch="B1", pipeline="pipes/{batch}/{Metadata_Plate}.cppipe",
        data_file="load/{Metadata_Plate}/load_data.csv", input="in/{batch}/", output="out/{batch}",
        output_structure="{batch}-Metadata_Plate/{Metadata_Well}",
    )  # fmt: skip
    assert job.command[4] == f"{BUCKET}/pipes/B1/P1.cppipe"
    assert job.command[6] == f"{BUCKET}/in/B1/"
    assert f"--data-file={BUCKET}/load/P1/load_data.csv" in job.command
    assert job.output_location == "out/B1/B1-P1/A01"
    assert not job.shared_location


@pytest.mark.parametrize(
    ("output", "structure", "location", "is_shared"),
    [
        ("out/{Metadata_Plate}", "Metadata_Well", "out/P1/A01", False),
        ("out/{Metadata_Plate}", "", "out/P1/P1-A01", False),
        ("out/{Metadata_Plate}", "all", "out/P1/all", True),
        ("out", "{Metadata_Well}", "out/A01", True),
        ("out/{{Metadata_Plate}}", "Metadata_Well", "out/{Metadata_Plate}/A01", True),
    ],
)
def test_a_placeholder_in_output_counts_like_a_key_in_output_structure(
    cellprofiler: ModuleType, tmp_path: Path, output: str, structure: str, location: str, is_shared: bool
) -> None:
    group = {"Metadata_Plate": "P1", "Metadata_Well": "A01"}
    job = make_job(cellprofiler, tmp_path, group, output=output, output_structure=structure)
    assert (job.output_location, job.shared_location) == (location, is_shared)


@pytest.mark.parametrize(
    ("key", "template", "problem"),
    [
        ("data_file", "load/{Plate}/l.csv", "`data_file`: the placeholder {Plate} has no value; available: .*Plate"),
        ("pipeline", "{batch}/a.cppipe", "`pipeline` is '{batch}/a.cppipe', but {batch} is blank"),
        ("output", "out/{site}", "`output`: the placeholder {site} has no value"),
        ("output_structure", "{site}", "`output_structure`: the placeholder {site} has no value"),
        ("data_file", "load/{Metadata_Plate}", "`data_file`: 'load/P1' is not a .csv, .txt, or .h5 file"),
    ],
)
def test_a_placeholder_without_a_value_is_rejected(
    cellprofiler: ModuleType, tmp_path: Path, key: str, template: str, problem: str
) -> None:
    with pytest.raises(cellprofiler.BadMessage, match=problem):
        make_job(cellprofiler, tmp_path, {"Metadata_Plate": "P1"}, batch="", **{key: template})


@pytest.mark.parametrize(
    "group",
    [
        {"Metadata": "A01"},
        {"Well": "A,1"},
        {"Well": ""},
        {"Metadata": "a=b=c"},
        "Well",
        {"Well": None},
        {"Well": ["A", 1]},
    ],
)
def test_a_group_that_option_g_cannot_express_is_rejected(cellprofiler: ModuleType, tmp_path: Path, group: Any) -> None:
    with pytest.raises(cellprofiler.BadMessage, match=r"`group`: .* is not K=V,K=V"):
        make_job(cellprofiler, tmp_path, group)


@pytest.mark.parametrize("values", [{"pipeline": ""}, {"data_file": "a.xlsx"}, {"output": 5}, {"output": "a/../b"}])
def test_an_invalid_key_is_rejected(cellprofiler: ModuleType, tmp_path: Path, values: dict[str, Any]) -> None:
    with pytest.raises(cellprofiler.BadMessage):
        make_job(cellprofiler, tmp_path, **values)


def test_a_job_uses_the_three_buckets_and_the_upload_flags(
    cellprofiler: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_BUCKET", "cellpainting-gallery")
    monkeypatch.setenv("WORKSPACE_BUCKET", "lab")
    monkeypatch.setenv("DESTINATION_BUCKET", "partner")
    monkeypatch.setenv("UPLOAD_FLAGS", "--acl bucket-owner-full-control --metadata-directive REPLACE")
    job = make_job(cellprofiler, tmp_path)  # other buckets are not mounted, so all inputs are fetched
    keys = ("projects/analysis.cppipe", "projects/list_of_images.csv")
    assert job.inputs == {f"s3://lab/{key}": f"lab/{key}" for key in keys}
    assert job.command[4] == f"{tmp_path}/input/lab/projects/analysis.cppipe"
    assert job.own["images"].bucket == "cellpainting-gallery"
    assert job.output_bucket == "partner"
    assert job.upload_arguments == {"ACL": "bucket-owner-full-control"}
    monkeypatch.setenv("UPLOAD_FLAGS", "--acl")
    with pytest.raises(cellprofiler.BadMessage, match="--acl has no value"):
        make_job(cellprofiler, tmp_path)


def test_a_batch_file_requires_a_mounted_bucket(cellprofiler: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(cellprofiler.BadMessage, match=r"`data_file`: 'Batch_data.h5' .*; set MOUNT_S3 = 'True'"):
        make_job(cellprofiler, tmp_path, mount="False", data_file="Batch_data.h5")


# Fetching only the images that a group needs


class RecordingFetch:
    """A replacement for `folders.fetch` that records the inputs and writes a one-byte file to each path."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.inputs = folder, {}

    def __call__(self, inputs: dict[str, str]) -> None:
        self.inputs |= inputs
        for name in inputs.values():
            path = self.folder / "input" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")


def prepare_job(
    hooks: ModuleType, folder: Path, data_file: str, group: Any, name: str = "list_of_images.csv"
) -> tuple[Any, Path]:
    """Run the `prepare` hook. Return the inputs that the hook fetched, and the path of the data file."""
    job = make_job(hooks, folder, group, mount="False", data_file=f"projects/{name}")
    path = job.own["data_file"].path
    path.parent.mkdir(parents=True)
    path.write_text(data_file)
    fetch = RecordingFetch(folder)
    hooks.prepare(job, hooks.Folders(folder, fetch))
    return fetch.inputs, path


TABLE = """Image_FileName_DNA,Image_PathName_DNA,FileName_Illum,PathName_Illum,Metadata_Well,Metadata_Site
a 1.tif,{0}/p/images/,illum.npy,{0}/p,A01,01
a2.tif,{0}/p/images/,illum.npy,{0}/p,A01,02
b1.tif,{0}/p/images/,,,B01,01
"""


@pytest.mark.parametrize("root", [BUCKET, "", "s3://ours"])
def test_only_the_groups_images_are_fetched(cellprofiler: ModuleType, tmp_path: Path, root: str) -> None:
    table, group = TABLE.format(root), {"Metadata": "Metadata_Well=A01,Metadata_Site=1"}
    inputs, path = prepare_job(cellprofiler, tmp_path, table, group)
    assert inputs == {
        "s3://ours/p/images/a 1.tif": "ours/p/images/a 1.tif",
        "s3://ours/p/illum.npy": "ours/p/illum.npy",
    }
    rows = list(csv.DictReader(path.open()))
    images = f"{tmp_path}/input/ours/p/images"
    # All rows are kept, so that images keep their numbers.
    assert [row["Image_PathName_DNA"] for row in rows] == [images] * 3
    assert [row["Image_FileName_DNA"] for row in rows] == ["a 1.tif", "a2.tif", "b1.tif"]
    assert [row["PathName_Illum"] for row in rows] == [f"{tmp_path}/input/ours/p"] * 2 + [""]


def test_relative_paths_start_at_input_and_path_columns_are_optional(cellprofiler: ModuleType, tmp_path: Path) -> None:
    inputs, path = prepare_job(cellprofiler, tmp_path, "FileName_DNA,Metadata_Well\nx/a.tif,A01\n", {"Well": "A01"})
    assert inputs == {"s3://ours/projects/input/x/a.tif": "ours/projects/input/x/a.tif"}
    (row,) = csv.DictReader(path.open())
    assert row["PathName_DNA"] == f"{tmp_path}/input/ours/projects/input/x"


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("FileName_DNA,Metadata_Well\na.tif,B01\n", "^projects/list_of_images.csv has no row with Metadata_Well=A01"),
        ("FileName_DNA,Metadata_Plate\na.tif,P1\n", "^projects/list_of_images.csv has no column Metadata_Well"),
        ("", "^projects/list_of_images.csv: line 1: there is no header"),
    ],
)
def test_a_job_fails_if_its_group_has_no_images(
    cellprofiler: ModuleType, tmp_path: Path, table: str, reason: str
) -> None:
    with pytest.raises(cellprofiler.Failed, match=reason):
        prepare_job(cellprofiler, tmp_path, table, {"Metadata": "Metadata_Well=A01"})


ROW = "P1,A01,a.tif,/home/ubuntu/bucket/x"


@pytest.mark.parametrize(
    "rows",
    [
        f"{ROW},\n",
        f"{ROW},,\r\n,,,\r\n\r\n",
        f"\n , \n{ROW}\n",
        f"{ROW.replace(',', ';')};\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_rewritten_table_has_only_its_own_columns(
    cellprofiler: ModuleType, tmp_path: Path, rows: str, encoding: str
) -> None:
    header = "Metadata_Plate, Metadata_Well ,FileName_DNA,PathName_DNA,\n"
    text = (header.replace(",", ";") if ";" in rows else header) + rows
    job = make_job(cellprofiler, tmp_path, {"Metadata_Well": "A01"}, mount="False")
    job.own["data_file"].path.parent.mkdir(parents=True)
    job.own["data_file"].path.write_bytes(text.encode(encoding))
    cellprofiler.prepare(job, cellprofiler.Folders(tmp_path, RecordingFetch(tmp_path)))
    assert job.own["data_file"].path.read_bytes().decode() == (
        f"Metadata_Plate,Metadata_Well,FileName_DNA,PathName_DNA\r\nP1,A01,a.tif,{tmp_path}/input/ours/x\r\n"
    )


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (f"{ROW},b\n", "line 2, column 5: the row has 5 cells, but the header has 4"),
        (
            f"{ROW}\nP1,A01\n",
            "line 3, column 3: the row has 2 cells, but the header has 4; there is none for 'FileName",
        ),
        (f'{ROW}\nP1,"A01\n', "line 3, column 4: the quote is not closed"),
    ],
)
def test_a_row_with_surplus_or_missing_cells_fails_the_job_with_its_line(
    cellprofiler: ModuleType, tmp_path: Path, rows: str, reason: str
) -> None:
    table = f"Metadata_Plate,Metadata_Well,FileName_DNA,PathName_DNA\n{rows}"
    with pytest.raises(cellprofiler.Failed, match=f"list_of_images.csv: {reason}") as caught:
        prepare_job(cellprofiler, tmp_path, table, {"Metadata_Well": "A01"})
    assert caught.value.reason_class == "bad input"


def test_all_images_in_a_file_list_are_fetched(cellprofiler: ModuleType, tmp_path: Path) -> None:
    text = f"{BUCKET}/p/a.tif\nfile:{BUCKET}/p/b%20c.tif\n\n"
    inputs, path = prepare_job(cellprofiler, tmp_path, text, {"Well": "A01"}, "files.txt")
    assert inputs == {"s3://ours/p/a.tif": "ours/p/a.tif", "s3://ours/p/b c.tif": "ours/p/b c.tif"}
    assert path.read_text() == f"{tmp_path}/input/ours/p/a.tif\n{tmp_path}/input/ours/p/b c.tif\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [("Complete\n", None), ("Failure\n", "cp.is.done contains 'Failure'"), (None, "cp.is.done does not exist")],
)
def test_the_done_file_shows_whether_a_job_failed(
    cellprofiler: ModuleType, tmp_path: Path, text: str | None, reason: str | None
) -> None:
    folders = cellprofiler.Folders(tmp_path)
    folders.output_dir.mkdir()
    if text is not None:
        (folders.output_dir / "cp.is.done").write_text(text)
    for exit_code in (0, 139):  # 139: it crashed after it wrote its results and the done file
        result = cellprofiler.Result(exit_code, 1.0, 0, 0.0)
        actual = find_failure(cellprofiler.failure(make_job(cellprofiler, tmp_path), folders, result), result)
        assert actual is None if reason is None else reason in str(actual)


@pytest.mark.parametrize("mount", ["True", "False"])
@pytest.mark.parametrize("start", [f"{BUCKET}/", "/", f"{BUCKET}//"])
def test_paths_in_the_mounted_bucket_are_keys(cellprofiler: ModuleType, tmp_path: Path, start: str, mount: str) -> None:
    keys = {name: f"{start}{key}" for name, key in JOB.items()}
    job, usual = (make_job(cellprofiler, tmp_path, mount=mount, **more) for more in (keys, {}))
    assert (job.command, job.inputs, job.output_location) == (usual.command, usual.inputs, usual.output_location)
    keys = {"pipeline": f"{BUCKET}s/a.cppipe"}  # not in this folder
    job = make_job(cellprofiler, tmp_path, mount="False", **keys)
    assert "s3://ours/home/ubuntu/buckets/a.cppipe" in job.inputs


@pytest.mark.parametrize("name", ["pipeline", "data_file", "output"])
@pytest.mark.parametrize(
    "value", ["s3://lab/w/a.csv", "https://lab.org/a.csv", "file:///w/a.csv", "{scheme}://w/a.csv"]
)
def test_addresses_in_place_of_keys_are_refused(
    cellprofiler: ModuleType, tmp_path: Path, name: str, value: str
) -> None:
    group = {"Metadata_Well": "A01"}
    with pytest.raises(cellprofiler.BadMessage, match=f"^`{name}`: .*://.* is an address; write only the key") as error:
        make_job(cellprofiler, tmp_path, group, scheme="s3", **{name: value})
    assert "_BUCKET" in str(error.value)


def test_a_group_with_a_misspelled_key_is_shown_as_json_with_the_right_key(
    cellprofiler: ModuleType, tmp_path: Path
) -> None:
    shown = re.escape("""'{"metadata": "Metadata_Plate=P1"}' is not K=V,K=V; the key is `Metadata`, not `metadata`""")
    with pytest.raises(cellprofiler.BadMessage, match=shown):
        make_job(cellprofiler, tmp_path, {"metadata": "Metadata_Plate=P1"})


@pytest.mark.parametrize("value", [BUCKET, f"{BUCKET}/", "/"])
def test_the_bucket_itself_is_not_a_key(cellprofiler: ModuleType, tmp_path: Path, value: str) -> None:
    with pytest.raises(cellprofiler.BadMessage, match=r"`pipeline`: .* is not a key"):
        make_job(cellprofiler, tmp_path, pipeline=value)


def test_the_default_input_folder_may_be_an_address(cellprofiler: ModuleType, tmp_path: Path) -> None:
    job = make_job(cellprofiler, tmp_path, mount="False", input="s3://screens/plate1/")
    job.own["data_file"].path.parent.mkdir(parents=True)
    job.own["data_file"].path.write_text("FileName_DNA,Metadata_Well\na.tif,A01\n")
    images = job.own["images"].collect_group_images(job.own["data_file"], {"Metadata_Well": "A01"})
    assert images == {"s3://screens/plate1/a.tif": "screens/plate1/a.tif"}


# What submitJob checks

PIPELINE = "CellProfiler Pipeline: http://www.cellprofiler.org\nVersion:5\n\nImages:[module_num:1|enabled:True]\n"
BATCH_MODULE = "CreateBatchFiles:[module_num:9|notes:['enabled:False']|batch_state:array([], dtype=uint8)|enabled:{}]\n"


def check_job(
    hooks: ModuleType, folder: Path, table: str, content: str = PIPELINE, group: Any = PLATE, **keys: Any
) -> None:
    """Run the hook `check` with these files."""
    job = make_job(hooks, folder, group, **keys)

    def fetch(inputs: dict[str, str]) -> None:
        for name in inputs.values():
            path = folder / "input" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content if name.endswith(("pipe", "proj")) else table)

    hooks.check(job, hooks.Folders(folder, fetch))


@pytest.mark.parametrize("mount", ["True", "False"])
def test_a_group_that_the_table_does_not_have_is_refused(cellprofiler: ModuleType, tmp_path: Path, mount: str) -> None:
    table = TABLE.format(BUCKET)
    check_job(cellprofiler, tmp_path, table, group={"Metadata": "Metadata_Well=A01,Metadata_Site=2"}, mount=mount)
    check_job(cellprofiler, tmp_path, table, group={"Well": "B01"}, mount=mount)
    for group, reason in [
        ({"Metadata": "Metadata_Well=A02,Metadata_Site=1"}, "has no row with Metadata_Well=A02,Metadata_Site=1"),
        ({"Metadata_Well": "B01", "Metadata_Site": "2"}, "has no row with Metadata_Well=B01,Metadata_Site=2"),
        ({"Metadata_Plate": "P1"}, "has no column Metadata_Plate"),
    ]:
        with pytest.raises(cellprofiler.Failed, match=f"^projects/list_of_images.csv {reason}; .*group$"):
            check_job(cellprofiler, tmp_path, table, group=group, mount=mount)


@pytest.mark.parametrize("module", [BATCH_MODULE.format("True"), "CreateBatchFiles:[module_num:3|show_window:True]"])
@pytest.mark.parametrize("name", ["a.cppipe", "a.cpproj"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_pipeline_with_create_batch_files_is_refused(
    cellprofiler: ModuleType, tmp_path: Path, module: str, name: str, line_end: str
) -> None:
    pipeline = (PIPELINE + module).replace("\n", line_end)
    with pytest.raises(cellprofiler.BadMessage, match=f"the pipeline w/P1/{name} contains the module CreateBatchFiles"):
        check_job(cellprofiler, tmp_path, "", pipeline, pipeline=f"w/P1/{name}", data_file="files.txt")


def test_a_pipeline_in_which_create_batch_files_is_turned_off_and_a_batch_file_are_accepted(
    cellprofiler: ModuleType, tmp_path: Path
) -> None:
    check_job(cellprofiler, tmp_path, "", PIPELINE + BATCH_MODULE.format("False"), data_file="files.txt")
    check_job(cellprofiler, tmp_path, "", PIPELINE + BATCH_MODULE.format("True"), data_file="Batch_data.h5")
