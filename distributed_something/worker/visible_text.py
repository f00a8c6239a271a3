"""Text that a program wrote, in a form that is safe in any terminal.

A log may contain anything: colors, progress bars, binary data. Sent to a terminal, its control characters could clear
the screen, change the title, or hide text.
"""

from __future__ import annotations

import re

_ESCAPE_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")
# Control characters become Unicode symbols (such as ␀). What has no symbol becomes the replacement character: C1
# controls, line separators, characters that change the direction of text, and halves of surrogate pairs.
_SYMBOLS = {code: 0x2400 + code for code in range(32) if chr(code) != "\t"} | {0x7F: 0x2421}
_HIDDEN = [*range(0x80, 0xA0), 0x2028, 0x2029, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_SYMBOLS |= dict.fromkeys(_HIDDEN, 0xFFFD)
_NEEDS_CHANGE = re.compile(r"[^\t\x20-\x7e\xa0-\u200d\u2010-\u2027\u202f-\u2065\u206a-\ud7ff\ue000-\U0010ffff]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def make_visible(line: str) -> str:
    """Return one line of text without escape sequences, and with its control characters replaced by symbols.

    Tabs are kept.
    """
    if not _NEEDS_CHANGE.search(line):  # true for most lines
        return line
    return _SURROGATE.sub("\ufffd", remove_escape_sequences(line).translate(_SYMBOLS))


def show_name(name: str) -> str:
    r"""Return the name of a file with an escape sequence, such as `\xe9`, for each byte that is not UTF-8."""
    try:
        encoded = name.encode(errors="surrogateescape")
    except UnicodeEncodeError:  # it does not come from a disk
        encoded = name.encode(errors="backslashreplace")
    return make_visible(encoded.decode(errors="backslashreplace"))


def remove_escape_sequences(line: str) -> str:
    """Return the line without ANSI escape sequences, such as those for colors."""
    return _ESCAPE_SEQUENCE.sub("", line) if "\x1b" in line else line


def split_lines(text: str) -> list[str]:
    r"""Return the lines of a log: `\n`, `\r\n`, and `\r` alone end a line, as in a terminal."""
    lines = re.split(r"\r\n|\n|\r", text)
    return lines if lines[-1] else lines[:-1]
