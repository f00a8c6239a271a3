"""Which files of a job's folder are results: its own, wherever a link leads, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from distributed_something.worker.job.failures import Failed
from distributed_something.worker.transfer.result_files import list_result_files


def test_a_link_to_a_file_of_the_job_counts_as_that_file(out: Path) -> None:
    (out.parent / "input").mkdir()
    (out.parent / "input" / "raw").write_text("raw")
    (out / "real").mkdir()
    (out / "real" / "a").write_text("a")
    (out / "again").symlink_to("real/a")
    (out / "latest").symlink_to("real")
    (out / "raw").symlink_to(out.parent / "input" / "raw")
    (out / "empty").mkdir()
    files = list_result_files(out, "here")
    assert {key: path.read_text() for key, path in files.items()} == {
        "here/again": "a", "here/raw": "raw", "here/real/a": "a",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("../../secret", "'l' is a link out of the job's folder"),
        ("../..", "'l' is a link out of the job's folder"),
        ("gone", "'l' is a link to nothing"),
        ("l", "'l' is a link to nothing"),
        ("../input", "'l' is a link to a folder outside"),
    ],
)
def test_a_link_that_is_no_output_is_refused_with_its_name(out: Path, target: str, told: str) -> None:
    (out.parent.parent / "secret").touch()
    (out.parent / "input").mkdir()
    (out / "l").symlink_to(target)
    with pytest.raises(Failed, match=told):
        list_result_files(out, "here")


def test_a_name_that_is_too_long_for_a_key_is_refused(out: Path) -> None:
    (out / ("ä" * 120)).touch()
    with pytest.raises(Failed, match="1,141 bytes, S3 allows 1,024"):
        list_result_files(out, "x" * 900)


def test_an_output_whose_name_is_not_utf8_is_named(out: Path) -> None:
    (out / "a\udcff").touch()
    with pytest.raises(Failed, match="not UTF-8"):
        list_result_files(out, "here")
