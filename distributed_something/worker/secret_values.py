"""Recognizes secrets in the values of a config or a Fleet file, and masks them before the values are kept or shown.

Secrets do not belong there, because everyone who may read task definitions can see them, but some users have no other
place. A value is a secret if its name says so, or if it looks like one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

MASK = "***"
_SECRET_NAME = re.compile(
    r"SECRET|TOKEN(?!IZ)|PASSWORD|PASSWD|PASSPHRASE|PASSCODE|CREDENTIAL|AUTH(?!OR)|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|(?<!PRIMARY)(?<!FOREIGN)(?<!PUBLIC)(?<!SORT)_KEY$"
    r"|(?-i:^KEY$)|(^|_)(PWD|PASS|PAT|PIN)$|CONNECTION_?STRING|WEBHOOK|^UserData$",
    re.IGNORECASE,
)
_NO_SECRETS = {"HttpTokens"}  # a setting of machines: whether IMDSv2 is required
_SECRET_FORM = re.compile(
    r"""
    \b(AKIA|ASIA)[A-Z0-9]{16}\b                                # an access key ID of AWS
    | -----BEGIN\ [A-Z ]*PRIVATE\ KEY
    | \b(gh[pousr]_|github_pat_|glpat-|xox[abeprs]-|sk-|hf_|dckr_pat_|npm_|pypi-|AIza)[A-Za-z0-9_-]{16,}
    | \beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.              # a JSON web token
    | \bhooks\.slack\.com/(services|workflows|triggers)/\w         # whoever knows the address can write to the channel
    | ://[^/\s:@]*:[^/\s@]+@                                   # https://user:password@host
    | (?<![A-Za-z0-9/+=_.-])(?=[A-Z0-9/+]{0,39}[a-z])(?=[a-z0-9/+]{0,39}[A-Z])(?=[A-Za-z/+]{0,39}\d)
      [A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=_.-])                   # a secret access key of AWS
    """,
    re.VERBOSE,
)
_SECRET_WORD = re.compile(
    r"(?<!unexpected )(password|passwd|passphrase|token|secret|api[_-]?key)[\"']?(?:\s*[=:]\s*|\s+)[\"']?\S",
    re.IGNORECASE,
)
_KEY_BEGIN, _KEY_END = (re.compile(f"-----{word} [A-Z ]*PRIVATE KEY") for word in ("BEGIN", "END"))
# The name and the beginning of the value, anywhere in a line; the name of an exception is not that of a secret.
_NAMED_VALUE = re.compile(
    r"\b(?P<name>\w[\w.-]*)(?<!Error)(?<!Exception)(?<!Warning)[\"']?\s*[=:]\s*[\"']?(?=(?P<value>[^\s\"',;]+))"
)
# What makes a name with hyphens or dots that of a secret, such as an option's; its last part may do so, too.
_SECRET_PART = re.compile(r"SECRET|PASSWORD|PASSWD|PASSPHRASE|(ACCESS|API|PRIVATE)[.-]?KEY|\bTOKEN\b", re.IGNORECASE)
_COUNT_NAME = re.compile(r"TOKEN", re.IGNORECASE)  # of these, a number is a count
_ASSIGNMENT = re.compile(r"[\"']?(?P<name>\w+)[\"']?\s*[=:]\s*(?P<value>[\"'].+|\S+$)")


def has_secret(value: Any, name: str = "") -> bool:
    """Return whether `mask_secrets` would mask the value or a part of it."""
    if _is_secret_name(name) and value not in ("", None):
        return True
    if isinstance(value, dict):
        return any(has_secret(item, str(key)) for key, item in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return any(map(has_secret, value))
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if not isinstance(value, str):
        return False
    if value.startswith(("{", "[")):
        try:
            return has_secret(json.loads(value))
        except (ValueError, RecursionError):
            pass
    return _is_secret_text(value)


def has_secret_in_prose(text: str) -> bool:
    """Return whether a text for people contains a secret; that it mentions passwords is not enough."""
    assignments = ((match["name"], match["value"].strip("\"' ,")) for match in _ASSIGNMENT.finditer(text))
    return bool(_SECRET_FORM.search(text)) or any(value and _is_secret_name(name) for name, value in assignments)


def mask_secrets(value: Any, name: str = "") -> Any:
    """Return the value, which is from a JSON file or a config, with MASK in the place of secrets.

    `name`: the value's key. The text of a constant may itself be JSON.
    """
    if _is_secret_name(name) and value not in ("", None):
        return MASK
    if isinstance(value, dict):
        return {str(key): mask_secrets(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [mask_secrets(item) for item in value]
    if not isinstance(value, str):
        return value
    if value.startswith(("{", "[")):
        try:
            return json.dumps(mask_secrets(json.loads(value)))
        except (ValueError, RecursionError):
            pass
    return MASK if _is_secret_text(value) else value


def mask_text(text: str) -> str:
    """Return a text, such as the lines of a log, with MASK in the place of each line's secret and what follows it."""
    lines, is_key = [], _KEY_END.search(text) is not None and _KEY_BEGIN.search(text) is None
    for line in text.split("\n"):
        begins, ends = _KEY_BEGIN.search(line) is not None, _KEY_END.search(line) is not None
        lines.append(MASK if is_key or begins or ends else _mask_line(line))
        is_key = (is_key or begins) and not ends
    return "\n".join(lines)


def mask_lines(lines: Iterable[object]) -> tuple[str, ...]:
    """Return the lines of a log with MASK in the place of each line's secret and what follows it."""
    text = "\n".join(map(str, lines))
    return tuple(mask_text(text).split("\n")) if text else ()


def _mask_line(line: str) -> str:
    if line.lstrip().startswith(("{", "[")):  # it may be JSON, in which the names of keys count
        return str(mask_secrets(line.strip()))
    found = [match.start() for match in (_SECRET_FORM.search(line), _SECRET_WORD.search(line)) if match]
    found += [match.start() for match in _NAMED_VALUE.finditer(line) if _is_named_secret(match["name"], match["value"])]
    return f"{line[: min(found)]}{MASK}" if found else line


def _is_named_secret(name: str, value: str) -> bool:
    """Return whether the value that a line of a log gives to this name is a secret."""
    if _COUNT_NAME.search(name) and re.fullmatch(r"[\d.,]+", value):
        return False
    return bool(_SECRET_PART.search(name)) or _is_secret_name(re.split(r"[.-]", name)[-1])


def _is_secret_name(name: str) -> bool:
    return name not in _NO_SECRETS and bool(_SECRET_NAME.search(name))


def _is_secret_text(text: str) -> bool:
    return bool(_SECRET_FORM.search(text) or _SECRET_WORD.search(text))
