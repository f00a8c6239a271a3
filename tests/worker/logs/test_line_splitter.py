"""Lines that CloudWatch accepts, made from any bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_something.worker.logs.job_log import LineSplitter
from distributed_something.worker.logs.log_stream import MAX_EVENT_CHARACTERS
from tests.worker.logs.job_logs_harness import JobLogsHarness

# pytest resets warning filters for each test; test_logs_on_emulator.py tests the worker's own filter.
pytestmark = pytest.mark.filterwarnings("ignore::watchtower.WatchtowerWarning")


@given(st.lists(st.binary(max_size=30)), st.integers(1, 5))
def test_the_lines_do_not_depend_on_how_the_bytes_are_divided_into_blocks(parts: list[bytes], size: int) -> None:
    content = b"".join(parts)
    splitter = LineSplitter()
    lines = [
        line for start in range(0, len(content), size) for line in splitter.add_block(content[start : start + size])
    ] + [*splitter.end()]
    other_splitter = LineSplitter()
    assert lines == [*other_splitter.add_block(content), *other_splitter.end()]
    assert all(line and not set(map(ord, line)) & (set(range(9)) | set(range(10, 32)) | {127}) for line in lines)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)))
def test_text_is_not_changed(texts: list[str]) -> None:
    splitter = LineSplitter()
    assert [*splitter.add_block("".join(f"{text}\n" for text in texts).encode()), *splitter.end()] == texts


def test_bytes_that_are_not_text_become_harmless_characters(harness: JobLogsHarness) -> None:
    events = harness.run_job(b"\x00\x1b[31mred\tx\xff\xb5\r\n\n50%\r60%\r\nend\xe2\x82")
    assert events == ["␀red\tx\ufffd\ufffd", " ", "60%", "end\ufffd"]


@pytest.mark.parametrize("character", ["a", "é", "€", "😀", "\0"])
def test_a_long_line_becomes_several_events_without_cutting_a_character_in_half(
    harness: JobLogsHarness, character: str
) -> None:
    events = harness.run_job((character * 150_000 + "\nnext").encode())
    assert [len(event) for event in events] == [MAX_EVENT_CHARACTERS, MAX_EVENT_CHARACTERS, 22_000, 4]
    assert set("".join(events[:-1])) == set(character.replace("\0", "␀"))


def test_of_lines_that_end_in_a_carriage_return_only_the_latest_is_kept_until_the_next_line_replaces_it() -> None:
    splitter = LineSplitter()
    assert [*splitter.add_block(b"start\r\n\r 1%\r 2%\r 3%")] == ["start"]
    assert splitter.progress == " 2%"  # the third update may not be complete
    assert [*splitter.take_progress(), *splitter.take_progress()] == [" 2%"]
    assert [*splitter.add_block(b"\rdone\nnext")] == ["done"]
    assert [*splitter.end()] == ["next"]


@pytest.mark.parametrize("content", [b"1%\r99%\r", b"\r1%\r99%", b"1%\r99%\r\r\n", b"1%\r\r99%\n", b"1%\r99%\r\n"])
def test_the_last_update_of_a_progress_bar_is_shown_however_it_ends(content: bytes) -> None:
    for size in (1, 2, 100):
        splitter = LineSplitter()
        blocks = [content[start : start + size] for start in range(0, len(content), size)]
        assert [line for block in blocks for line in splitter.add_block(block)] + [*splitter.end()] == ["99%"]
