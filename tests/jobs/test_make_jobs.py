"""makeJobs: creates Job files from plates, tables, files, and buckets, and submitJob accepts them."""

from __future__ import annotations

import json
import string
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from distributed_something.cli.context import ExitCode
from distributed_something.core.errors import InputError
from distributed_something.core.text import format_count
from distributed_something.jobs.filename_pattern import NamePattern
from distributed_something.jobs.make_jobs import MakeJobsOptions, build_job_file, save_job_file
from distributed_something.jobs.plates import PLATE_SIZES, BadRange, expand_ranges, expand_wells
from distributed_something.worker.job.job import Folders
from distributed_something.worker.job.message.job_template import job_from_message
from distributed_something.worker.job.worker_settings import JobDefaults
from tests.support.offline import run_command, write_project

quick = hypothesis_settings(derandomize=True, deadline=None, max_examples=100, database=None)
KEYS = ["raw/", "raw/P1/A01_s1.tif", "raw/P1/A01_s2.tif", "raw/P1/B02_s1.tif", "raw/P2/A01_s1.tif", "raw/notes.txt"]


def list_images(bucket: str, prefix: str) -> Iterable[str]:
    assert (bucket, prefix) == ("images", "raw/")
    return KEYS


def build_content(**options: Any) -> dict[str, Any]:
    """Return the content of the job file that makeJobs creates with these options."""
    text, count = build_job_file(MakeJobsOptions(**options), None, list_images)
    content: dict[str, Any] = json.loads(text)
    assert len(content["groups"]) == count
    return content


def build_groups(**options: Any) -> list[Any]:
    groups: list[Any] = build_content(**options)["groups"]
    return groups


# Ranges


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("A-D", "A B C D"),
        ("Y-AB", "Y Z AA AB"),
        ("c-e", "c d e"),
        ("8-11", "8 9 10 11"),
        ("08-11", "08 09 10 11"),
        ("P1-P3,X", "P1 P2 P3 X"),
        ("P08-P10", "P08 P09 P10"),
        ("BR00117035-1,2024-11-05,a-b-c", "BR00117035-1 2024-11-05 a-b-c"),
        ("7", "7"),
        (" 1 , 3 ", "1 3"),
    ],
)
def test_a_range_is_expanded(text: str, values: str) -> None:
    assert expand_ranges(text) == values.split()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("9-1", "runs backward"),
        ("D-A", "runs backward"),
        ("1,,2", "has an empty part"),
        ("", "has an empty part"),
        ("1-3,2", "'2' is listed twice"),
        ("1-999999999", "has more than 100,000 values"),
    ],
)
def test_an_invalid_range_is_reported(text: str, problem: str) -> None:
    with pytest.raises(BadRange, match=problem):
        expand_ranges(text)


@quick
@given(
    prefix=st.sampled_from(["", "P", "plate_"]),
    first=st.integers(0, 120),
    more=st.integers(0, 60),
    zeros=st.integers(0, 3),
)
def test_the_numbers_in_a_range_all_have_the_width_of_the_first_number(
    prefix: str, first: int, more: int, zeros: int
) -> None:
    start = "0" * zeros + str(first)
    values = [value.removeprefix(prefix) for value in expand_ranges(f"{prefix}{start}-{prefix}{first + more}")]
    numbers = range(first, first + more + 1)
    width = len(start) if start.startswith("0") else 0
    assert values == [str(number).rjust(width, "0") for number in numbers]


@pytest.mark.parametrize("count", PLATE_SIZES)
def test_a_full_plate_has_all_its_wells_in_order(count: int) -> None:
    wells = expand_wells(str(count), 2)
    assert len(set(wells)) == len(wells) == count
    assert wells[0] == "A01"
    assert wells[-1] == {6: "B03", 12: "C04", 24: "D06", 48: "F08", 96: "H12", 384: "P24", 1536: "AF48"}[count]


def test_wells_are_padded_and_a_range_of_wells_is_a_rectangular_block() -> None:
    assert expand_wells("A9-B11,h12", 2) == ["A09", "A10", "A11", "B09", "B10", "B11", "h12"]
    assert expand_wells("A09", 1) == ["A9"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [("97", "there is no 97-well plate"), ("A", "is not a well"), ("B01-A02", "runs backward")],
)
def test_an_invalid_well_is_reported(text: str, problem: str) -> None:
    with pytest.raises(BadRange, match=problem):
        expand_wells(text, 2)


# Plates


def test_groups_per_plate_per_well_and_per_site_match_the_published_format() -> None:
    per_plate = build_groups(plates="P1,P2", metadata=True)
    assert per_plate == [{"Metadata": "Metadata_Plate=P1"}, {"Metadata": "Metadata_Plate=P2"}]
    per_well = build_groups(plates="P1", rows="A-B", columns="1-2", metadata=True)
    assert [group["Metadata"] for group in per_well] == [
        f"Metadata_Plate=P1,Metadata_Well={well}" for well in ("A01", "A02", "B01", "B02")
    ]
    per_site = build_groups(plates="P1", wells="384", sites="1-9", metadata=True)
    assert len(per_site) == 384 * 9
    assert per_site[-1] == {"Metadata": "Metadata_Plate=P1,Metadata_Well=P24,Metadata_Site=9"}


def test_wells_and_sites_may_be_used_without_plates() -> None:
    assert build_groups(sites="01-03") == [{"site": "01"}, {"site": "02"}, {"site": "03"}]
    assert build_groups(wells="A1", pad=1) == [{"well": "A1"}]


def test_a_batch_contains_several_sites_from_one_well() -> None:
    groups = build_groups(plates="P1", wells="A01-A02", sites="1-5", batch=2)
    assert [(group["well"], group["sites"]) for group in groups] == [
        ("A01", "1,2"), ("A01", "3,4"), ("A01", "5"), ("A02", "1,2"), ("A02", "3,4"), ("A02", "5"),
    ]  # fmt: skip
    assert build_groups(plates="P1", wells="A01-A03", batch=3) == [{"plate": "P1", "wells": "A01,A02,A03"}]


def test_excluded_jobs_are_left_out() -> None:
    groups = build_groups(plates="P1-P2", wells="A01-B02", exclude=("A1", "P2/B*"))
    assert [f"{group['plate']}/{group['well']}" for group in groups] == ["P1/A02", "P1/B01", "P1/B02", "P2/A02"]
    groups = build_groups(plates="P1", wells="A01-A02", sites="1-2", exclude=("P1/A01/2,A02",))
    assert groups == [{"plate": "P1", "well": "A01", "site": "1"}]


@hypothesis_settings(quick, max_examples=30)  # each one runs two commands
@given(
    plates=st.lists(st.sampled_from(["P1", "P2", "x-1", "2024-11-05"]), min_size=1, unique=True),
    row=st.integers(0, 15), column=st.integers(1, 24), sites=st.integers(1, 4), pad=st.integers(1, 3),
    batch=st.integers(1, 3), metadata=st.booleans(), excluded=st.integers(0, 2),
)  # fmt: skip
def test_submit_job_accepts_the_job_file_for_any_layout(
    tmp_path_factory: pytest.TempPathFactory, plates: list[str], row: int, column: int, sites: int, pad: int,
    batch: int, metadata: bool, excluded: int,
) -> None:  # fmt: skip
    folder = tmp_path_factory.mktemp("made")
    write_project(folder)
    letter = string.ascii_uppercase[row]
    arguments = [
        "--plates",
        ",".join(plates),
        "--rows",
        f"A-{letter}",
        "--columns",
        f"1-{column}",
        "--sites",
        f"1-{sites}",
    ]
    for site in range(1, min(excluded, sites) + 1):
        arguments += ["--exclude", f"{plates[0]}/*/{site}"]
    arguments += ["--metadata"] if metadata else ["--batch", str(batch)]
    arguments += ["--pad", str(pad), "--set", "command=work {job}", "-o", str(folder / "made.json")]
    outcome = run_command("makeJobs", *arguments)
    wells = (row + 1) * column
    remaining = sites - min(excluded, sites)
    size = 1 if metadata else batch
    expected = wells * ((len(plates) - 1) * -(-sites // size) + -(-remaining // size))
    if expected == 0:
        assert (outcome.code, "it contains no jobs" in outcome.err) == (ExitCode.INPUT, True)
        return
    assert outcome.code == 0, outcome.err
    submission = run_command("--config", str(folder / "config.py"), "submitJob", str(folder / "made.json"), "--dry-run")
    assert submission.code == 0, submission.err
    assert submission.out.startswith(f"{format_count(expected, 'job')}; the first message:")
    message = json.loads(submission.out.splitlines()[1])
    assert f"A{1:0{pad}d}" in str(message["group"])


# Tables


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "load_data.csv"
    path.write_text("Metadata_Plate,Metadata_Well,FileName\nP1,A01,a\nP1,A01,b\nP2,A01,c\n")
    return path


def test_a_table_produces_one_job_per_row(table: Path) -> None:
    assert build_groups(table=table)[1] == {"Metadata_Plate": "P1", "Metadata_Well": "A01", "FileName": "b"}


def test_rows_with_the_same_values_in_the_by_columns_become_one_job(table: Path) -> None:
    groups = build_groups(table=table, by="Metadata_Plate,Metadata_Well", metadata=True)
    assert [group["Metadata"] for group in groups] == [
        "Metadata_Plate=P1,Metadata_Well=A01",
        "Metadata_Plate=P2,Metadata_Well=A01",
    ]


def test_a_table_may_be_separated_by_tabs(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("plate\twell\nP1\tA01\n")
    assert build_groups(table=tmp_path / "t.tsv", by="well") == [{"well": "A01"}]


# Files and objects


def test_each_file_in_a_folder_becomes_a_job(tmp_path: Path) -> None:
    for name in ("b.fastq", "a.fastq", ".hidden", "deep/c.fastq"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert build_groups(files=tmp_path) == [{"file": "a.fastq"}, {"file": "b.fastq"}]
    assert build_groups(files=tmp_path, match="{sample}.fastq") == [{"sample": "a"}, {"sample": "b"}]
    assert build_groups(files=tmp_path, match="{folder}/{sample}.fastq") == [{"folder": "deep", "sample": "c"}]


def test_linked_folders_become_jobs_as_they_are_uploaded_and_hidden_files_of_macos_do_not(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "images").mkdir()
    for name in ("a.tif", "._a.tif", ".DS_Store"):
        (tmp_path / "disk" / name).touch()
    (tmp_path / "images" / "plate").symlink_to(tmp_path / "disk")
    (tmp_path / "images" / "plate" / "up").symlink_to(tmp_path / "images")
    assert build_groups(files=tmp_path / "images", match="{plate}/{name}.tif") == [{"plate": "plate", "name": "a"}]
    options = MakeJobsOptions(objects="s3://images/raw/", match="{name}.tif", put=("command=echo {name}",))
    keys = ["raw/a.tif", "raw/._a.tif", "raw/__MACOSX/a.tif"]
    text, count = build_job_file(options, None, lambda *_, **__: keys)
    assert count == 1
    assert "._a" not in text


def test_files_that_belong_together_become_one_job(tmp_path: Path) -> None:
    for name in ("x_R1.fq", "x_R2.fq", "y_R1.fq"):
        (tmp_path / name).touch()
    assert build_groups(files=tmp_path, match="{sample}_R{read}.fq", by="sample") == [{"sample": "x"}, {"sample": "y"}]


def test_objects_in_a_bucket_are_grouped_by_parts_of_their_names() -> None:
    groups = build_groups(objects="s3://images/raw/", match="{plate}/{well}_s{site}.tif", by="plate,well")
    assert groups[0] == {
        "plate": "P1", "well": "A01",
        "objects": ["s3://images/raw/P1/A01_s1.tif", "s3://images/raw/P1/A01_s2.tif"],
    }  # fmt: skip
    assert [(group["plate"], group["well"]) for group in groups] == [("P1", "A01"), ("P1", "B02"), ("P2", "A01")]
    assert len(build_groups(objects="s3://images/raw/", match="{plate}/{well}_s{site}.tif")) == 4


def test_a_worker_fetches_all_objects_for_a_job() -> None:
    content = build_content(objects="s3://images/raw/", match="{plate}/{well}_s{site}.tif", by="plate,well",
                   put=('inputs=["{objects}", "ref/{plate}.fa"]', "command=work {well}"))  # fmt: skip
    message = {key: value for key, value in content.items() if key != "groups"} | {"group": content["groups"][0]}
    job = job_from_message(message, Folders(Path("job")), JobDefaults(aws_bucket="bucket", app_name="a"))
    assert job.inputs == ["s3://images/raw/P1/A01_s1.tif", "s3://images/raw/P1/A01_s2.tif", "ref/P1.fa"]


PART = st.text(st.sampled_from("ab1 (.é"), min_size=1, max_size=4)


@quick
@given(plate=PART, well=PART, site=PART)
def test_a_pattern_extracts_the_parts_of_a_name(plate: str, well: str, site: str) -> None:
    pattern = NamePattern("{plate}/x+{well}_s{site}-{plate}.tif")
    parts = pattern.read(f"{plate}/x+{well}_s{site}-{plate}.tif")
    assert parts == {"plate": plate, "well": well, "site": site}
    assert pattern.read(f"{plate}/x+{well}_s{site}-{plate}!.tif") is None


def test_an_asterisk_matches_anything_except_a_slash() -> None:
    assert NamePattern("{well}*.tif").read("A01_x.tif") == {"well": "A"}
    assert NamePattern("*/{well}.tif").read("a/b/A01.tif") is None


# What all jobs share


def test_shared_keys_can_be_copied_from_another_job_file_and_changed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    like = tmp_path / "like.json"
    like.write_text(json.dumps({"_comment": "c", "upload": {"data": "d"}, "command": "a", "plates": ["x"], "n": 1}))
    content = build_content(plates="P1", like=like, put=("n=2", "name=a=b", "list=[1]"))
    assert list(content) == ["_comment", "upload", "command", "n", "name", "list", "groups"]
    assert (content["n"], content["name"], content["list"]) == (2, "a=b", [1])


def test_upload_folders_are_made_relative_to_the_new_file(tmp_path: Path) -> None:
    for folder in ("files/data", "jobs/deep"):
        (tmp_path / folder).mkdir(parents=True)
    like = tmp_path / "files" / "like.json"
    like.write_text(json.dumps({"upload": {"data": "d", "../files": "f"}, "command": "a", "groups": ["x"]}))
    output = tmp_path / "jobs" / "deep" / "made.json"
    text, _ = build_job_file(MakeJobsOptions(plates="P1", like=like), output, list_images)
    assert json.loads(text)["upload"] == {"../../files/data": "d", "../../files": "f"}
    save_job_file(text, output, force=False)
    config = write_project(tmp_path / "p") / "config.py"
    assert run_command("submitJob", str(output), "--dry-run", "--config", str(config)).code == 0


def test_upload_folders_that_set_gives_are_relative_to_the_new_file(tmp_path: Path) -> None:
    for folder in ("files/data", "jobs/data"):
        (tmp_path / folder).mkdir(parents=True)
    like = tmp_path / "files" / "like.json"
    like.write_text(json.dumps({"upload": {"data": "d"}, "command": "a", "groups": ["x"]}))
    options = MakeJobsOptions(plates="P1", like=like, put=('upload={"data": "e"}',))
    text, _ = build_job_file(options, tmp_path / "jobs" / "made.json", list_images)
    assert json.loads(text)["upload"] == {"data": "e"}


def test_a_job_file_lists_one_job_per_line(tmp_path: Path) -> None:
    text, _ = build_job_file(MakeJobsOptions(plates="P1-P3", put=("a=b",)), None, list_images)
    assert text.splitlines() == [
        "{", '    "a": "b",', '    "groups": [', '        {"plate": "P1"},', '        {"plate": "P2"},',
        '        {"plate": "P3"}', "    ]", "}",
    ]  # fmt: skip


def test_without_an_output_only_the_job_file_is_printed() -> None:
    outcome = run_command("makeJobs", "--plates", "P1")
    assert (outcome.code, outcome.err) == (0, "")
    assert json.loads(outcome.out) == {"groups": [{"plate": "P1"}]}


def test_an_existing_file_is_overwritten_only_with_force(tmp_path: Path) -> None:
    path = tmp_path / "made.json"
    path.write_text("old")
    outcome = run_command("makeJobs", "--plates", "P1", "-o", str(path))
    assert (outcome.code, path.read_text()) == (ExitCode.INPUT, "old")
    assert "this file already exists; choose another path, or add --force to overwrite it" in outcome.err
    assert run_command("makeJobs", "--plates", "P1", "-o", str(path), "--force").code == 0
    assert '"plate": "P1"' in path.read_text()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "makeJobs: no source of jobs given; use --plates, --wells, --sites, --table, --files, or --objects"),
        ({"plates": "P1", "table": Path("x.csv")}, "plates and table are different sources of jobs; use only one"),
        ({"rows": "A-B"}, "--rows: it needs --columns; add --columns, or use --wells instead"),
        ({"plates": "P", "columns": "1-2"}, "--columns: it needs --rows; add --rows, or use --wells instead"),
        ({"wells": "96", "columns": "1"}, "--wells: it cannot be combined with --rows and --columns; use either"),
        ({"rows": "A", "columns": "a-c"}, "--columns: 'a-c' is not a range of numbers"),
        ({"plates": "9-1"}, "--plates: '9-1' runs backward"),
        ({"wells": "96", "exclude": ("I01",)}, "--exclude: 'I01' matches no job"),
        ({"plates": "P1", "batch": 0}, "--batch: 0 is not a batch size; write 2 or more"),
        ({"plates": "P1", "batch": 2, "metadata": True}, "--batch: with --metadata each name has only one value"),
        ({"plates": "P1", "match": "{a}"}, "--match: this option does not apply to jobs from plates"),
        ({"objects": "s3://images/raw/", "exclude": ("A",)}, "--exclude: this option does not apply to jobs from obj"),
        ({"table": Path("none.csv")}, "there is no table none.csv"),
        ({"files": Path("none")}, "--files: there is no folder none"),
        ({"objects": "images/raw"}, "--objects: 'images/raw' is not the address of a bucket"),
        ({"objects": "s3://images/raw/", "match": "*.tif"}, "--match: '*.tif' has no named part"),
        ({"objects": "s3://images/raw/", "match": "{a b}.tif"}, "has a '{' that does not belong to a part"),
        ({"objects": "s3://images/raw/", "match": "{a}.png"}, "matches nothing in s3://images/raw/"),
        ({"objects": "s3://images/raw/", "match": "{a}.txt", "by": "b"}, "'b' is not a part of --match; use one of: a"),
        ({"plates": "a,b=c", "metadata": True}, "--metadata: 'b=c' cannot be the value of Metadata_Plate"),
        ({"plates": "P1", "put": ("x",)}, "--set: 'x' does not set a key"),
        ({"plates": "P1", "put": ("groups=x",)}, "--set: groups: this key lists the jobs, which makeJobs writes"),
        ({"plates": "P1", "put": ('plates=["P2"]',)}, "--set: plates: this key lists the jobs"),
        ({"plates": "P1", "put": ("a=1", "a=2")}, "--set: a: this key is set twice"),
        ({"plates": "P1", "put": ("comand=x",)}, "nothing uses this key, whose name is similar to 'command'"),
        (
            {"plates": "P1", "put": ("output_location={source}/{plate}", "sorce=x")},
            "--set: sorce: nothing uses this key, whose name is similar to 'source'",
        ),
        (
            {"plates": "P1", "put": ("output_location={source}/{plate}", "source=")},
            "--set: source: it is empty, but {source} needs a value",
        ),
        ({"plates": "P1", "put": ("command=a {well}",)}, "nothing fills the placeholder {well}"),
        ({"plates": "P1", "put": ("timeout_minutes=-1",)}, "timeout_minutes: -1 is too small; write a number greater"),
        ({"plates": "P1", "like": Path("none.json")}, "none.json: there is no such file"),
    ],
)  # fmt: skip
def test_an_invalid_option_is_reported_in_one_line(options: dict[str, Any], problem: str) -> None:
    (line,) = find_problems(**options)
    assert problem in line


def find_problems(**options: Any) -> list[str]:
    """Return the lines of the error for these options."""
    with pytest.raises(InputError) as caught:
        build_job_file(MakeJobsOptions(**options), None, list_images)
    return str(caught.value).splitlines()


def test_all_invalid_options_are_reported_together() -> None:
    lines = find_problems(
        plates="9-1", rows="D-A", columns="x", sites="1,1", batch=0, match="{a}", by="a", put=("a", "=b"),
        like=Path("none.json"),
    )  # fmt: skip
    assert [line.partition("; ")[0] for line in lines] == [
        "--match: this option does not apply to jobs from plates",
        "--by: this option does not apply to jobs from plates",
        "--plates: '9-1' runs backward",
        "--rows: 'D-A' runs backward",
        "--columns: 'x' is not a range of numbers",
        "--sites: '1' is listed twice",
        "--batch: 0 is not a batch size",
        "none.json: there is no such file",
        "--set: 'a' does not set a key",
        "--set: '=b' does not set a key",
    ]


def test_all_exclusions_that_match_no_job_are_reported_together() -> None:
    lines = find_problems(plates="P1", wells="96", exclude=("I01,A01", "P2/*"))
    assert [line.partition("; ")[0] for line in lines] == [
        "--exclude: 'I01' matches no job",
        "--exclude: 'P2/*' matches no job",
    ]


def test_all_invalid_names_in_the_by_option_are_reported_together(table: Path) -> None:
    lines = find_problems(objects="s3://images/raw/", match="{a}.txt", by="b,a,c")
    assert [line.partition("; ")[0] for line in lines] == [
        "--by: 'b' is not a part of --match", "--by: 'c' is not a part of --match",
    ]  # fmt: skip
    lines = find_problems(table=table, by="Site,Metadata_Well,Row")
    assert [line.split(": ")[1] for line in lines] == ["Site", "Row"]


def test_all_invalid_rows_in_a_table_are_reported_together(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1\n2,3\n4,5,6\n")
    for options in ({}, {"by": "a"}):
        lines = find_problems(table=tmp_path / "t.csv", **options)
        assert [line.split(": ")[1] for line in lines] == ["line 2, column 2", "line 4, column 3"]


def test_invalid_options_are_reported_with_one_line_each_and_exit_code_2(tmp_path: Path) -> None:
    outcome = run_command("makeJobs", "--plates", "2-1", "--set", "x", "-o", str(tmp_path / "made.json"))
    assert (outcome.code, outcome.out, len(outcome.err.splitlines())) == (ExitCode.INPUT, "", 2)
    assert not (tmp_path / "made.json").exists()


def test_a_file_name_that_is_not_utf8_is_reported(tmp_path: Path) -> None:
    (tmp_path / "caf\udce9.tif").touch()  # é in Latin-1, as Python represents this byte in a file name
    with pytest.raises(InputError, match="has bytes that are not UTF-8; rename the file"):
        build_groups(files=tmp_path)


def test_a_missing_column_is_reported(table: Path) -> None:
    message = r"load_data\.csv: Site: the table does not have this column; use one of its columns: Metadata_Plate"
    with pytest.raises(InputError, match=message):
        build_groups(table=table, by="Metadata_Plate,Site")


def test_duplicate_rows_are_reported(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a\n1\n1\n")
    with pytest.raises(InputError, match="jobs 1 and 2 are the same job"):
        build_groups(table=tmp_path / "t.csv")


def test_the_next_command_can_be_typed_as_it_is_printed(tmp_path: Path) -> None:
    made = tmp_path / "made.json"
    outcome = run_command("--local", "makeJobs", "--plates", "P1", "--set", "command=a", "-o", str(made))
    assert outcome.code == 0, outcome.err
    text = " ".join(outcome.err.partition("next: ")[2].replace("\\\n", "").split())
    assert text.endswith(f"run.py --local submitJob {made}")
