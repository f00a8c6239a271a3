"""Text from a program, made safe for any terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_something.worker.visible_text import make_visible, split_lines

UNSAFE = {*range(9), *range(10, 32), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A)}


@pytest.mark.parametrize(
    ("line", "visible"),
    [
        ("plain text\tand é💡", "plain text\tand é💡"),
        ("\x1b[31;1mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text\x1b]8;;http://x\x1b\\link", "textlink"),
        ("\x1bPq#0\x1b\\after", "after"),
        ("a\x00b\x08c\x7f", "a␀b␈c␡"),
        ("\x1b", "␛"),
        ("\x9b31m \u202egpj.exe", "\ufffd31m \ufffdgpj.exe"),
        ("\ud800", "\ufffd"),
    ],
)
def test_escape_sequences_are_removed_and_control_characters_become_visible(line: str, visible: str) -> None:
    assert make_visible(line) == visible


@given(st.text(st.characters() | st.sampled_from("\x1b[]m\x9b\r\b\x00\ud800")))
def test_no_control_character_remains(line: str) -> None:
    visible = make_visible(line)
    assert not UNSAFE & set(map(ord, visible))
    visible.encode()


def test_a_carriage_return_ends_a_line() -> None:
    assert split_lines("a\r\nb\rc\n\nd") == ["a", "b", "c", "", "d"]
    assert split_lines("a\n") == ["a"]
    assert split_lines("") == []
