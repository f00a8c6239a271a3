"""makeJobs: job lists from plates, tables, files and buckets, each of which submitJob takes."""

from __future__ import annotations

import json
import string
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as run_with
from hypothesis import strategies as st

from distributed_something.cli.context import ExitCode
from distributed_something.core.errors import InputError
from distributed_something.jobs.filename_pattern import NamePattern
from distributed_something.jobs.make_jobs import MakeJobsOptions, build_job_file, save_job_file
from distributed_something.jobs.plates import PLATE_SIZES, BadRange, expand_ranges, expand_wells
from distributed_something.worker.job.job import Folders, job_from_message
from distributed_something.worker.job.worker_settings import JobDefaults
from tests.support.offline import type_command, write_project

quick = run_with(derandomize=True, deadline=None, max_examples=100, database=None)
KEYS = ["raw/", "raw/P1/A01_s1.tif", "raw/P1/A01_s2.tif", "raw/P1/B02_s1.tif", "raw/P2/A01_s1.tif", "raw/notes.txt"]


def in_bucket(bucket: str, prefix: str) -> Iterable[str]:
    assert (bucket, prefix) == ("images", "raw/")
    return KEYS


def made(**asked: Any) -> dict[str, Any]:
    """The job file that these options make."""
    text, count = build_job_file(MakeJobsOptions(**asked), None, in_bucket)
    content: dict[str, Any] = json.loads(text)
    assert len(content["groups"]) == count
    return content


def groups(**asked: Any) -> list[Any]:
    found: list[Any] = made(**asked)["groups"]
    return found


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
def test_a_range_is_written_as_people_write_it(text: str, values: str) -> None:
    assert expand_ranges(text) == values.split()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("9-1", "runs backwards"),
        ("D-A", "runs backwards"),
        ("1,,2", "has an empty part"),
        ("", "has an empty part"),
        ("1-3,2", "'2' stands there twice"),
        ("1-999999999", "has more than 100,000 values"),
    ],
)
def test_a_range_that_is_a_slip_is_named(text: str, said: str) -> None:
    with pytest.raises(BadRange, match=said):
        expand_ranges(text)


@quick
@given(
    prefix=st.sampled_from(["", "P", "plate_"]),
    first=st.integers(0, 120),
    more=st.integers(0, 60),
    zeros=st.integers(0, 3),
)
def test_a_range_has_every_number_between_in_the_width_of_its_first(
    prefix: str, first: int, more: int, zeros: int
) -> None:
    start = "0" * zeros + str(first)
    found = [value.removeprefix(prefix) for value in expand_ranges(f"{prefix}{start}-{prefix}{first + more}")]
    numbers = range(first, first + more + 1)
    width = len(start) if start.startswith("0") else 0
    assert found == [str(number).rjust(width, "0") for number in numbers]


@pytest.mark.parametrize("count", PLATE_SIZES)
def test_a_whole_plate_has_its_wells_from_the_first_to_the_last(count: int) -> None:
    found = expand_wells(str(count), 2)
    assert len(set(found)) == len(found) == count
    assert found[0] == "A01"
    assert found[-1] == {6: "B03", 12: "C04", 24: "D06", 48: "F08", 96: "H12", 384: "P24", 1536: "AF48"}[count]


def test_wells_are_padded_and_a_range_of_them_is_a_block() -> None:
    assert expand_wells("A9-B11,h12", 2) == ["A09", "A10", "A11", "B09", "B10", "B11", "h12"]
    assert expand_wells("A09", 1) == ["A9"]


@pytest.mark.parametrize(
    ("text", "said"), [("97", "no plate of 97 wells"), ("A", "is no well"), ("B01-A02", "backwards")]
)
def test_what_is_no_well_is_named(text: str, said: str) -> None:
    with pytest.raises(BadRange, match=said):
        expand_wells(text, 2)


# Plates


def test_the_published_per_plate_per_well_and_per_site_groups() -> None:
    per_plate = groups(plates="P1,P2", metadata=True)
    assert per_plate == [{"Metadata": "Metadata_Plate=P1"}, {"Metadata": "Metadata_Plate=P2"}]
    per_well = groups(plates="P1", rows="A-B", columns="1-2", metadata=True)
    assert [one["Metadata"] for one in per_well] == [
        f"Metadata_Plate=P1,Metadata_Well={well}" for well in ("A01", "A02", "B01", "B02")
    ]
    per_site = groups(plates="P1", wells="384", sites="1-9", metadata=True)
    assert len(per_site) == 384 * 9
    assert per_site[-1] == {"Metadata": "Metadata_Plate=P1,Metadata_Well=P24,Metadata_Site=9"}


def test_wells_and_sites_may_stand_alone() -> None:
    assert groups(sites="01-03") == [{"site": "01"}, {"site": "02"}, {"site": "03"}]
    assert groups(wells="A1", pad=1) == [{"well": "A1"}]


def test_a_batch_holds_so_many_sites_of_one_well() -> None:
    found = groups(plates="P1", wells="A01-A02", sites="1-5", batch=2)
    assert [(one["well"], one["sites"]) for one in found] == [
        ("A01", "1,2"), ("A01", "3,4"), ("A01", "5"), ("A02", "1,2"), ("A02", "3,4"), ("A02", "5"),
    ]  # fmt: skip
    assert groups(plates="P1", wells="A01-A03", batch=3) == [{"plate": "P1", "wells": "A01,A02,A03"}]


def test_what_is_excluded_is_left_out() -> None:
    left = groups(plates="P1-P2", wells="A01-B02", exclude=("A1", "P2/B*"))
    assert [f"{one['plate']}/{one['well']}" for one in left] == ["P1/A02", "P1/B01", "P1/B02", "P2/A02"]
    left = groups(plates="P1", wells="A01-A02", sites="1-2", exclude=("P1/A01/2,A02",))
    assert left == [{"plate": "P1", "well": "A01", "site": "1"}]


@quick
@given(
    plates=st.lists(st.sampled_from(["P1", "P2", "x-1", "2024-11-05"]), min_size=1, unique=True),
    row=st.integers(0, 15), column=st.integers(1, 24), sites=st.integers(1, 4), pad=st.integers(1, 3),
    batch=st.integers(1, 3), metadata=st.booleans(), gone=st.integers(0, 2),
)  # fmt: skip
def test_whatever_the_layout_submit_job_takes_what_is_written(
    tmp_path_factory: pytest.TempPathFactory, plates: list[str], row: int, column: int, sites: int, pad: int,
    batch: int, metadata: bool, gone: int,
) -> None:  # fmt: skip
    folder = tmp_path_factory.mktemp("made")
    write_project(folder)
    letter = string.ascii_uppercase[row]
    words = ["--plates", ",".join(plates), "--rows", f"A-{letter}", "--columns", f"1-{column}", "--sites", f"1-{sites}"]
    for site in range(1, min(gone, sites) + 1):
        words += ["--exclude", f"{plates[0]}/*/{site}"]
    words += ["--metadata"] if metadata else ["--batch", str(batch)]
    words += ["--pad", str(pad), "--set", "command=work {job}", "-o", str(folder / "made.json")]
    outcome = type_command("makeJobs", *words)
    wells = (row + 1) * column
    left = sites - min(gone, sites)
    size = 1 if metadata else batch
    expected = wells * ((len(plates) - 1) * -(-sites // size) + -(-left // size))
    if expected == 0:
        assert (outcome.code, "there is no job in it" in outcome.err) == (ExitCode.INPUT, True)
        return
    assert outcome.code == 0, outcome.err
    taken = type_command("--config", str(folder / "config.py"), "submitJob", str(folder / "made.json"), "--dry-run")
    assert taken.code == 0, taken.err
    assert taken.out.startswith(f"{expected} jobs; the first message:")
    message = json.loads(taken.out.splitlines()[1])
    assert f"A{1:0{pad}d}" in str(message["group"])


# Tables


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "load_data.csv"
    path.write_text("Metadata_Plate,Metadata_Well,FileName\nP1,A01,a\nP1,A01,b\nP2,A01,c\n")
    return path


def test_a_table_gives_a_job_a_row(table: Path) -> None:
    assert groups(table=table)[1] == {"Metadata_Plate": "P1", "Metadata_Well": "A01", "FileName": "b"}


def test_rows_that_agree_in_some_columns_are_one_job(table: Path) -> None:
    found = groups(table=table, by="Metadata_Plate,Metadata_Well", metadata=True)
    assert [one["Metadata"] for one in found] == [
        "Metadata_Plate=P1,Metadata_Well=A01",
        "Metadata_Plate=P2,Metadata_Well=A01",
    ]


def test_a_table_may_hold_tabs(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("plate\twell\nP1\tA01\n")
    assert groups(table=tmp_path / "t.tsv", by="well") == [{"well": "A01"}]


# Files and objects


def test_files_of_a_folder_give_a_job_each(tmp_path: Path) -> None:
    for name in ("b.fastq", "a.fastq", ".hidden", "deep/c.fastq"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert groups(files=tmp_path) == [{"file": "a.fastq"}, {"file": "b.fastq"}]
    assert groups(files=tmp_path, match="{sample}.fastq") == [{"sample": "a"}, {"sample": "b"}]
    assert groups(files=tmp_path, match="{folder}/{sample}.fastq") == [{"folder": "deep", "sample": "c"}]


def test_files_that_belong_together_are_one_job(tmp_path: Path) -> None:
    for name in ("x_R1.fq", "x_R2.fq", "y_R1.fq"):
        (tmp_path / name).touch()
    assert groups(files=tmp_path, match="{sample}_R{read}.fq", by="sample") == [{"sample": "x"}, {"sample": "y"}]


def test_objects_of_a_bucket_are_grouped_by_parts_of_their_names() -> None:
    found = groups(objects="s3://images/raw/", match="{plate}/{well}_s{site}.tif", by="plate,well")
    assert found[0] == {
        "plate": "P1", "well": "A01",
        "objects": ["s3://images/raw/P1/A01_s1.tif", "s3://images/raw/P1/A01_s2.tif"],
    }  # fmt: skip
    assert [(one["plate"], one["well"]) for one in found] == [("P1", "A01"), ("P1", "B02"), ("P2", "A01")]
    assert len(groups(objects="s3://images/raw/", match="{plate}/{well}_s{site}.tif")) == 4


def test_a_worker_fetches_all_objects_of_a_job() -> None:
    content = made(objects="s3://images/raw/", match="{plate}/{well}_s{site}.tif", by="plate,well",
                   put=('inputs=["{objects}", "ref/{plate}.fa"]', "command=work {well}"))  # fmt: skip
    message = {key: value for key, value in content.items() if key != "groups"} | {"group": content["groups"][0]}
    job = job_from_message(message, Folders(Path("job")), JobDefaults(aws_bucket="bucket", app_name="a"))
    assert job.inputs == ["s3://images/raw/P1/A01_s1.tif", "s3://images/raw/P1/A01_s2.tif", "ref/P1.fa"]


PART = st.text(st.sampled_from("ab1 (.é"), min_size=1, max_size=4)


@quick
@given(plate=PART, well=PART, site=PART)
def test_a_name_is_read_as_it_was_built(plate: str, well: str, site: str) -> None:
    read = NamePattern("{plate}/x+{well}_s{site}-{plate}.tif").read(f"{plate}/x+{well}_s{site}-{plate}.tif")
    assert read == {"plate": plate, "well": well, "site": site}
    assert NamePattern("{plate}/x+{well}_s{site}-{plate}.tif").read(f"{plate}/x+{well}_s{site}-{plate}!.tif") is None


def test_a_star_is_anything_but_a_slash() -> None:
    assert NamePattern("{well}*.tif").read("A01_x.tif") == {"well": "A"}
    assert NamePattern("*/{well}.tif").read("a/b/A01.tif") is None


# What all jobs share


def test_shared_keys_come_from_another_job_file_and_may_be_set(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    like = tmp_path / "like.json"
    like.write_text(json.dumps({"_comment": "c", "upload": {"data": "d"}, "command": "a", "plates": ["x"], "n": 1}))
    content = made(plates="P1", like=like, put=("n=2", "name=a=b", "list=[1]"))
    assert list(content) == ["_comment", "upload", "command", "n", "name", "list", "groups"]
    assert (content["n"], content["name"], content["list"]) == (2, "a=b", [1])


def test_the_folders_to_upload_are_the_same_seen_from_another_place(tmp_path: Path) -> None:
    for folder in ("files/data", "jobs/deep"):
        (tmp_path / folder).mkdir(parents=True)
    like = tmp_path / "files" / "like.json"
    like.write_text(json.dumps({"upload": {"data": "d", "../files": "f"}, "command": "a", "groups": ["x"]}))
    output = tmp_path / "jobs" / "deep" / "made.json"
    text, _ = build_job_file(MakeJobsOptions(plates="P1", like=like), output, in_bucket)
    assert json.loads(text)["upload"] == {"../../files/data": "d", "../../files": "f"}
    save_job_file(text, output, force=False)
    config = write_project(tmp_path / "p") / "config.py"
    assert type_command("submitJob", str(output), "--dry-run", "--config", str(config)).code == 0


def test_a_job_file_has_one_job_a_line_and_no_other_form_than_its_content(tmp_path: Path) -> None:
    text, _ = build_job_file(MakeJobsOptions(plates="P1-P3", put=("a=b",)), None, in_bucket)
    assert text.splitlines() == [
        "{", '    "a": "b",', '    "groups": [', '        {"plate": "P1"},', '        {"plate": "P2"},',
        '        {"plate": "P3"}', "    ]", "}",
    ]  # fmt: skip


def test_without_an_output_it_is_printed_and_nothing_else() -> None:
    outcome = type_command("makeJobs", "--plates", "P1")
    assert (outcome.code, outcome.err) == (0, "")
    assert json.loads(outcome.out) == {"groups": [{"plate": "P1"}]}


def test_a_file_that_is_there_stays_unless_it_is_forced(tmp_path: Path) -> None:
    path = tmp_path / "made.json"
    path.write_text("mine")
    outcome = type_command("makeJobs", "--plates", "P1", "-o", str(path))
    assert (outcome.code, path.read_text()) == (ExitCode.INPUT, "mine")
    assert "there is a file already; add --force to overwrite it" in outcome.err
    assert type_command("makeJobs", "--plates", "P1", "-o", str(path), "--force").code == 0
    assert '"plate": "P1"' in path.read_text()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "nothing says which jobs"),
        ({"plates": "P1", "table": Path("x.csv")}, "plates and table are two lists of jobs"),
        ({"rows": "A-B"}, "--rows: rows and columns belong together"),
        ({"wells": "96", "columns": "1"}, "rows and columns say the same"),
        ({"rows": "A", "columns": "a-c"}, "--columns: 'a-c' are no numbers"),
        ({"plates": "9-1"}, "--plates: '9-1' runs backwards"),
        ({"wells": "96", "exclude": ("I01",)}, "--exclude: 'I01' is no job of these"),
        ({"plates": "P1", "batch": 0}, "--batch: 0 is no batch"),
        ({"plates": "P1", "batch": 2, "metadata": True}, "one value a name"),
        ({"plates": "P1", "match": "{a}"}, "--match: it says nothing about a list from plates"),
        ({"objects": "s3://images/raw/", "exclude": ("A",)}, "--exclude: it says nothing about a list from objects"),
        ({"table": Path("none.csv")}, "there is no table none.csv"),
        ({"files": Path("none")}, "--files: there is no folder none"),
        ({"objects": "images/raw"}, "--objects: 'images/raw' is no address"),
        ({"objects": "s3://images/raw/", "match": "*.tif"}, "--match: '*.tif' names no part"),
        ({"objects": "s3://images/raw/", "match": "{a b}.tif"}, "has a '{' of no part"),
        ({"objects": "s3://images/raw/", "match": "{a}.png"}, "fits nothing in s3://images/raw/"),
        ({"objects": "s3://images/raw/", "match": "{a}.txt", "by": "b"}, "'b' is no part of a name; --match has: a"),
        ({"plates": "a,b=c", "metadata": True}, "--metadata: Metadata_Plate would be 'b=c'"),
        ({"plates": "P1", "put": ("x",)}, "--set: 'x' sets no key"),
        ({"plates": "P1", "put": ("command=a {well}",)}, "nothing fills the placeholder {well}"),
        ({"plates": "P1", "put": ("timeout_minutes=-1",)}, "timeout_minutes: -1 does not fit"),
        ({"plates": "P1", "like": Path("none.json")}, "none.json: there is no such file"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_in_one_line(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        build_job_file(MakeJobsOptions(**asked), None, in_bucket)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_whose_name_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "caf\udce9.tif").touch()  # Latin-1's é, as Python shows such a byte
    with pytest.raises(InputError, match="has bytes that are no UTF-8; rename the file"):
        groups(files=tmp_path)


def test_a_column_that_a_table_lacks_is_named(table: Path) -> None:
    with pytest.raises(
        InputError, match=r"load_data\.csv: Site: it has no such column; its columns are: Metadata_Plate"
    ):
        groups(table=table, by="Metadata_Plate,Site")


def test_rows_that_are_the_same_are_no_two_jobs(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a\n1\n1\n")
    with pytest.raises(InputError, match="jobs 1 and 2 are the same job"):
        groups(table=tmp_path / "t.csv")
