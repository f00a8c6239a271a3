"""Tables as people and spreadsheets write them: what has one meaning is accepted, and the rest is refused by place."""

from __future__ import annotations

from pathlib import Path

import pytest

from distributed_something.worker.table import TableError, iter_table_rows, read_table_names

ROWS = [{"plate": "P1", "well": "A01"}, {"plate": "P1", "well": "A02"}]
PLAIN = "plate,well\nP1,A01\nP1,A02\n"


def read_rows(folder: Path, content: str | bytes, name: str = "t.csv") -> list[dict[str, str]]:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [row.cells for row in iter_table_rows(path)]


def find_problem(folder: Path, content: str | bytes, name: str = "t.csv") -> str:
    with pytest.raises(TableError) as caught:
        read_rows(folder, content, name)
    return str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        PLAIN.encode("utf-8-sig"),
        PLAIN.encode("utf-16"),
        "\ufeff".encode("utf-16-be") + PLAIN.encode("utf-16-be"),
        PLAIN.replace(",", "\t").encode("utf-16"),  # what Excel calls Unicode text
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        "sep=;\r\n" + PLAIN.replace(",", ";"),
        "sep=|\n" + PLAIN.replace(",", "|"),
        PLAIN.replace(",", ", "),
        " plate ,\twell \nP1,A01\nP1,A02",
        '"plate","well"\n"P1","A01"\n"P1","A02"\n',
        "\n\n" + PLAIN + "\n \n,\n, ,,\n",
        "plate,well,,\nP1,A01,,\nP1,A02\n",
        "plate,well\nP1,A01,\n,\nP1,A02,,\n",
    ],
)
def test_what_has_one_meaning_is_accepted(tmp_path: Path, content: str | bytes) -> None:
    assert read_rows(tmp_path, content) == ROWS


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ('well,note\nA01,"a\nb"\nA02,"c,d ""e"""\n', [("A01", "a\nb"), ("A02", 'c,d "e"')]),
        ("well;dose\nA01;0,5\nA02;1,5\n", [("A01", "0,5"), ("A02", "1,5")]),
        ("well;dose, uM\nA01;5\nA02;1\n", [("A01", "5"), ("A02", "1")]),
        ("well,dose (a;b)\nA01,5\nA02,1\n", [("A01", "5"), ("A02", "1")]),
        ('well, note\nA01, "a, b"\nA02, c d \n', [("A01", "a, b"), ("A02", "c d ")]),
        ("well,note\nA01, a\nA02,\n", [("A01", " a"), ("A02", "")]),
    ],
)
def test_values_are_kept_as_they_are(tmp_path: Path, content: str, rows: list[tuple[str, str]]) -> None:
    assert [tuple(row.values()) for row in read_rows(tmp_path, content)] == rows


def test_a_tsv_may_have_commas_and_semicolons_in_its_names(tmp_path: Path) -> None:
    assert read_rows(tmp_path, "a,b\tc;d\n1\t2\n", "t.tsv") == [{"a,b": "1", "c;d": "2"}]
    assert read_rows(tmp_path, "a,b\n1,2\n", "t.tsv") == [{"a": "1", "b": "2"}]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("\nsep=;\na;b\n", "line 3, column 2: the row has 2 cells"),
        ("a,b\n1,2\n1,2,3\n", "line 3, column 3: the row has 3 cells, but the header has 2; give the row as many"),
        ("a,b,,\n1,2,,3\n", "line 2, column 3: the row has 4 cells, but the header has 2"),
        ('a,b\n"1\n\n",2\n1\n', "line 5, column 2: the row has 1 cell, but the header has 2; there is none for 'b'"),
        ("a,b, a\n1,2,3\n", "line 1, column 3: 'a' is also the name of column 1; give each column a unique name"),
        ("\na,a \n1,2\n", "line 2, column 2: 'a' is also the name of column 1"),
        ("a,,b\n1,2,3\n", "line 1, column 2: the column has no name; give each column a unique name"),
        ("", "line 1: there is no header; write the columns' names in the first line"),
        (",,\n \n", "line 1: there is no header"),
        ('a,b\n1,"2\n3,4\n', "line 2, column 3: the quote is not closed; add the closing quote"),
        ('a,b\n1,"x\ny" z\n3,4\n', "line 3, column 3: text after the closing quote"),
        ('"a,b\n1,2\n', "line 1, column 1: the quote is not closed"),
        ("a;b,c\n1;2,3\n", "line 1, column 2: the header contains commas and semicolons, and either may separate"),
        ("a,b\n1,\0\n", "line 2, column 3: null character; the file may be UTF-16 without a byte order mark"),
        (PLAIN.encode("utf-16-le"), "line 1, column 2: null character"),
        ("a,b\r\n1,é\r\nü,x\xe9".encode("latin-1"), "line 2, column 3: this is not UTF-8 text; save the"),
        (PLAIN.encode("utf-16")[:-1], "line 3, column 7: this is not UTF-16 text"),
        ("a,b\n1," + "x" * 200_000 + "\n", "line 2, column 3: the cell has more than 131,072 characters; shorten it"),
        ('a,b\n1,"' + "x\n" * 100_000, "line 2, column 3: the quote is not closed, or the cell has more than 131,072"),
    ],
)  # fmt: skip
def test_anything_else_is_refused_with_its_line_and_column(tmp_path: Path, content: str | bytes, problem: str) -> None:
    assert find_problem(tmp_path, content).startswith(problem)


def test_reading_goes_on_after_a_row_with_a_wrong_number_of_cells(tmp_path: Path) -> None:
    path, errors = tmp_path / "t.csv", list[TableError]()
    path.write_text('a,b\n1\n"2\n",x\n3,4,5\n6,7\n')
    assert [(row.line, row.cells) for row in iter_table_rows(path, errors.append)] == [
        (3, {"a": "2\n", "b": "x"}), (6, {"a": "6", "b": "7"}),
    ]  # fmt: skip
    assert [error.place.line for error in errors] == [2, 5]


def test_the_names_can_be_read_alone(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("\ufeff well ; site\n")
    assert read_table_names(path) == ["well", "site"]
    path.write_bytes(b"\xff\xfea\0,\0a\0")
    with pytest.raises(TableError, match=r"line 1, column 2: 'a' is also the name of column 1"):
        read_table_names(path)
