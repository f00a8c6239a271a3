"""Bytes become lines that CloudWatch takes, whatever the bytes are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_something.worker.logs.job_log import LineSplitter
from distributed_something.worker.logs.log_stream import MAX_EVENT_CHARACTERS
from tests.worker.logs.desk import Desk

# pytest sets the filters of warnings anew for each test; that the worker's own holds is seen in a process of its own.
pytestmark = pytest.mark.filterwarnings("ignore::watchtower.WatchtowerWarning")


@given(st.lists(st.binary(max_size=30)), st.integers(1, 5))
def test_any_bytes_become_the_same_lines_however_they_are_cut_into_blocks(parts: list[bytes], size: int) -> None:
    whole = b"".join(parts)
    lines = LineSplitter()
    found = [line for at in range(0, len(whole), size) for line in lines.add_block(whole[at : at + size])] + [
        *lines.end()
    ]
    at_once = LineSplitter()
    assert found == [*at_once.add_block(whole), *at_once.end()]
    assert all(line and not set(map(ord, line)) & (set(range(9)) | set(range(10, 32)) | {127}) for line in found)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)))
def test_text_arrives_as_it_is(texts: list[str]) -> None:
    lines = LineSplitter()
    assert [*lines.add_block("".join(f"{text}\n" for text in texts).encode()), *lines.end()] == texts


def test_what_is_no_text_is_shown_and_harmless(desk: Desk) -> None:
    found = desk.run(b"\x00\x1b[31mred\tx\xff\xb5\r\n\n50%\r60%\r\nend\xe2\x82")
    assert found == ["␀␛[31mred\tx\ufffd\ufffd", " ", "50%␍60%", "end\ufffd"]


@pytest.mark.parametrize("character", ["a", "é", "€", "😀", "\0"])
def test_a_long_line_becomes_several_events_and_no_character_is_cut(desk: Desk, character: str) -> None:
    found = desk.run((character * 150_000 + "\nnext").encode())
    assert [len(event) for event in found] == [MAX_EVENT_CHARACTERS, MAX_EVENT_CHARACTERS, 22_000, 4]
    assert set("".join(found[:-1])) == set(character.replace("\0", "␀"))
