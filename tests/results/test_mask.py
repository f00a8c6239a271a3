"""Masks for what differs between the lines of jobs that failed for the same reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_something.results.mask import mask_line


@pytest.mark.parametrize(("line", "masked"), [
    ("ValueError: shape mismatch (-3, 4.5e-3)", "ValueError: shape mismatch (#, #)"),
    ("1,234,567 bytes, 12ms, 1e5, +4 .5", "# bytes, #ms, #, # #"),
    ("at 0x7fe1, commit 0123abcd, 550e8400-e29b-41d4-a716-446655440000", "at #, commit #, #"),
    ("2026-11-23 10:45:00,123 ERROR", "# ERROR"),
    ("No such file or directory: '/tmp/a b/c.tif'", "No such file or directory: 'PATH'"),
    ("cannot open image.tif or 'image.tif'", "cannot open image.tif or 'PATH'"),
    ("/data/a.c:12:5: error, see ~/log or ./x/y.", "PATH:#:#: error, see PATH or PATH."),
    (r"C:\data\a.tif and \\server\share are missing", "PATH and PATH are missing"),
    ("s3://bucket/a/b.tif, https://host/x?y=1", "PATH, PATH"),
    ("images/plate/a and images/a.tif", "PATH and PATH"),
    ("and/or I/O 3/4 km/h", "and/or I/O #/# km/h"),
    ("No module named 'scipy.io'; can't open it", "No module named 'scipy.io'; can't open it"),
    ("the name 'PATH' is not UTF-8, but S3 allows only 1,024", "the name 'PATH' is not UTF-8, but S3 allows only #"),
    ("cannot cast float32 to int64 (sha256 of EC2-7, S31)", "cannot cast float32 to int64 (sha256 of EC2-#, S#)"),
    ("RequestId J2V1B3XQ89ZZ", "RequestId #"),
    ("/bin/sh: 1: pythn3: not found", "PATH: #: pythn3: not found"),
    ("bash: line 12: samtools-1.2: command not found", "bash: line #: samtools-1.2: command not found"),
    ("the program 'python3.14' cannot be started: [Errno 2] No such file or directory: 'python3.14'",
     "the program 'python3.14' cannot be started: [Errno 2] No such file or directory: 'python3.#'"),
    ("plate 12: well7 not found", "plate #: well# not found"),
    ("Segmentation fault (core dumped)", "Segmentation fault (core dumped)"),
    ("two\nlines\x07", "two lines\\x#"),
    ("", ""),
])  # fmt: skip
def test_numbers_ids_and_paths_are_masked(line: str, masked: str) -> None:
    assert mask_line(line) == masked


@pytest.mark.parametrize(("line", "values", "masked"), [
    ("no well A01 in P7_s3 (P77)", ["P7", "A01"], "no well # in #_s# (P#)"),
    ("job P7-A01-0123456789 failed", ["P7-A01-0123456789", "P7", "A01"], "job # failed"),
    ("a row: KeyError: 'a'", ["a"], "a row: KeyError: '#'"),
    ("0.10 of 10", ["10"], "# of #"),
    ("no treatment DMSO", ["DMSO", ""], "no treatment #"),
])  # fmt: skip
def test_the_jobs_own_values_are_masked(line: str, values: list[str], masked: str) -> None:
    assert mask_line(line, values) == masked


@given(st.text(max_size=300), st.lists(st.text(max_size=5), max_size=5))
def test_the_mask_of_any_line_is_one_line_and_does_not_depend_on_the_order_of_the_values(
    line: str, values: list[str]
) -> None:
    masked = mask_line(line, values)
    assert masked.isprintable()
    assert masked == mask_line(line, values[::-1])


@pytest.mark.parametrize(("line", "value", "masked"), [
    ("Caused by: java.io.FileNotFoundException: no java", "java", "Caused by: java.io.FileNotFoundException: no #"),
    ("sklearn.exceptions.NotFittedError: fit first", "exceptions", "sklearn.exceptions.NotFittedError: fit first"),
    ("numpy.linalg.LinAlgError: Singular matrix", "linalg", "numpy.linalg.LinAlgError: Singular matrix"),
    ("cannot read liver.tif", "liver", "cannot read #.tif"),
    ("cannot read liver.ndpi of liver.", "liver", "cannot read #.ndpi of #."),
    ("no P7.io.FileNotFoundException", "P7", "no #.io.FileNotFoundException"),
])  # fmt: skip
def test_an_ordinary_word_in_a_name_in_code_is_not_a_value(line: str, value: str, masked: str) -> None:
    assert mask_line(line, [value]) == masked
