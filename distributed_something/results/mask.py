"""Masks what differs between jobs in a line of text, so that lines about the same problem become equal."""

from __future__ import annotations

import re
from collections.abc import Iterable

from distributed_something.core.text import format_one_line

NUMBER, PATH = "#", "PATH"
# A name in quotes is that of a file if it has one of these endings. Others may be names in code: 'scipy.io'.
_FILE_ENDINGS = (
    "bam|bed|bin|bmp|bz2|cppipe|cpproj|cram|csv|czi|dat|db|dcm|fa|fasta|fastq|feather|flex|fq|gif|gz|h5|hdf5|html|ijm|"
    "ims|jpeg|jpg|json|jsonl|lif|log|mat|nd2|nii|npy|npz|parquet|pdf|pickle|pkl|png|rda|rds|sam|sqlite|svg|tar|tif|"
    "tiff|tmp|tsv|txt|vcf|xls|xlsx|xml|xz|yaml|yml|zarr|zip"
)
_QUOTED_FILE = re.compile(
    rf"""(?<!\w)(?P<quote>['"`‘“])(?:[^'"`‘’“”]*[/\\][^'"`‘’“”]*|[^'"`‘’“”]*\.(?:{_FILE_ENDINGS}))(?P<end>['"`’”])(?!\w)""",
    re.IGNORECASE,
)
_PATHS = re.compile(
    rf"""
    \b[a-z][a-z0-9+.-]*://[^\s'"`<>|;,()\[\]{{}}]+                 # s3://bucket/key, https://host/path
    | (?<![\w\\])(?:[A-Za-z]:\\|\\\\)[^\s'"`<>|;,()\[\]{{}}]+       # C:\folder\file, \\server\folder
    | (?<![\w/.~])(?:~|\.{{1,2}})?/[^\s'"`<>|;,:()\[\]{{}}=*]+        # /folder/file, ./file, ~/file
    | (?<![\w/.])[\w.#-]+(?:/[\w.#-]+){{2,}}/?                       # folder/folder/file
    | (?<![\w/.])[\w.#-]+/[\w.#-]+\.(?:{_FILE_ENDINGS})\b                       # folder/file.tif
    """,
    re.VERBOSE | re.IGNORECASE,
)
_IDS_AND_NUMBERS = re.compile(
    r"""
    (?P<program>                                                           # one that cannot be started
        (?<=program\ ')[^\W\d][\w.+-]*(?='\ cannot\ be\ started)
        | (?<=:\ )[^\W\d][\w.+-]*(?=:\ (?:command\ )?not\ found\b)
        | (?<=\[Errno\ )\d+(?=\])
    )
    |
    (?P<term>(?<![^\W_])(?:
        utf-?(?:8|16|32) | iso-?8859-\d+ | latin-?1 | (?-i:S3|EC2) | md5 | sha-?(?:1|256|512) | ipv[46]
        | u?int(?:8|16|32|64) | float(?:16|32|64) | x86_64 | python[23]
    )(?![^\W_]))                                                          # words that contain digits
    |
    \b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b     # UUID
    | \b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?   # date and time
    | \b0x[0-9a-f]+\b
    | \b(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{7,}\b                           # hexadecimal id
    | (?<![\w.)\]-])[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[-+]?\d+)?(?![\w.]*\w)
    | (?<![\w.])\.\d+
    | \d+(?:\.\d+)*
    """,
    re.VERBOSE | re.IGNORECASE,
)
_CAPITAL_ID = re.compile(r"\b(?=[A-Z]*\d)(?=\d*[A-Z])[A-Z0-9]{8,}\b")  # such as a request ID of AWS
_PLAIN_NUMBER = re.compile(r"[\d.,+-]*")
# A dotted name in code, such as java.io.FileNotFoundException: it has no ending that a file may have. Its parts are
# ordinary words, also if a job's group has such a value.
_CODE_NAME = re.compile(r"(?<![\w./\\-])(?:[^\W\d]\w*\.)+(?:[^\W\d]\w{5,}|[A-Z][a-z]\w*)(?![\w./\\-]*[\w/\\-])")
# `_` separates words in file names, although it is a word character in regular expressions.
_NO_WORD_BEFORE, _NO_WORD_AFTER = r"(?<![^\W_])", r"(?![^\W_])"


def mask_line(line: str, values: Iterable[str] = ()) -> str:
    """Return the line with `#` for numbers, IDs, and `values`, and PATH for paths, addresses, and quoted file names.

    `values`: the job's ID and the values of its group, which count where they are whole words. A value with a single
    character counts only in quotes, because `a` is also a word.
    """
    text = _mask_values(format_one_line(line), values)
    text = _QUOTED_FILE.sub(rf"\g<quote>{PATH}\g<end>", text)
    text = _PATHS.sub(_mask_path, text)
    text = _CAPITAL_ID.sub(NUMBER, text)
    return _IDS_AND_NUMBERS.sub(lambda match: match["term"] or match["program"] or NUMBER, text)


def _mask_values(text: str, values: Iterable[str]) -> str:
    """Mask the values, except in names in code, if the value is an ordinary word."""
    parts, end = list[str](), 0
    values = list(values)
    words = [value for value in values if not value.isalpha()]
    for name in _CODE_NAME.finditer(text):
        parts += [_mask_words(text[end : name.start()], values), _mask_words(name[0], words)]
        end = name.end()
    return "".join([*parts, _mask_words(text[end:], values)])


def _mask_words(text: str, values: Iterable[str]) -> str:
    present = {value for value in values if value in text and not _PLAIN_NUMBER.fullmatch(value)}
    for value in sorted(present, key=lambda value: (-len(value), value)):
        escaped = re.escape(value)
        if len(value) == 1:
            text = re.sub(rf"""(?<=['"`‘“]){escaped}(?=['"`’”])""", NUMBER, text)
        else:
            text = re.sub(f"{_NO_WORD_BEFORE}{escaped}{_NO_WORD_AFTER}", NUMBER, text)
    return text


def _mask_path(match: re.Match[str]) -> str:
    """Return the mask and the punctuation that ends the sentence, which is not part of the path."""
    path = match[0]
    return PATH + path[len(path.rstrip(".:!?")) :]
