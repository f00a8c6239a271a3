"""Masks secrets in the values of a config or a Fleet file before they are kept.

Secrets do not belong there, because everyone who may read task definitions can see them, but some users have no other
place. A value is masked if its name says that it is a secret, or if it looks like one.
"""

from __future__ import annotations

import json
import re
from typing import Any

MASK = "***"
_SECRET_NAME = re.compile(
    r"SECRET|TOKEN|PASSWORD|PASSWD|PASSPHRASE|PASSCODE|CREDENTIAL|AUTH(?!OR)|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|_KEY$"
    r"|(?-i:^KEY$)|(^|_)(PWD|PASS|PAT|PIN)$|CONNECTION_?STRING|WEBHOOK|^UserData$",
    re.IGNORECASE,
)
_NO_SECRETS = {"HttpTokens"}  # a setting of machines: whether IMDSv2 is required
_KEY_BEGIN, _KEY_END = (re.compile(f"-----{word} [A-Z ]*PRIVATE KEY") for word in ("BEGIN", "END"))
_SECRET_VALUE = re.compile(
    r"""
    \b(AKIA|ASIA)[A-Z0-9]{16}\b                                # an access key ID of AWS
    | -----BEGIN\ [A-Z ]*PRIVATE\ KEY
    | \b(gh[pousr]_|github_pat_|glpat-|xox[abeprs]-|sk-|hf_|dckr_pat_|npm_|pypi-|AIza)[A-Za-z0-9_-]{16,}
    | \beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.              # a JSON web token
    | ://[^/\s:@]*:[^/\s@]+@                                   # https://user:password@host
    | (?<![A-Za-z0-9/+=_.-])(?=[^\s]*[a-z])(?=[^\s]*[A-Z])(?=[^\s]*\d)[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=_.-])   # AWS's
    | (?i:(password|passwd|passphrase|token|secret|api[_-]?key)["']?\s*[=:\s]\s*["']?\S)
    """,
    re.VERBOSE,
)


def mask_text(text: str) -> str:
    """Return a text, such as the lines of a log, with MASK in the place of each line's secret and what follows it."""
    lines, is_key = [], _KEY_END.search(text) is not None and _KEY_BEGIN.search(text) is None
    for line in text.split("\n"):
        begins, ends = _KEY_BEGIN.search(line) is not None, _KEY_END.search(line) is not None
        lines.append(MASK if is_key or begins or ends else _mask_line(line))
        is_key = (is_key or begins) and not ends
    return "\n".join(lines)


def _mask_line(line: str) -> str:
    if line.lstrip().startswith(("{", "[")):  # it may be JSON, in which the names of keys count
        return str(mask_secrets(line.strip()))
    found = _SECRET_VALUE.search(line)
    return line if found is None else f"{line[: found.start()]}{MASK}"


def mask_secrets(value: Any, name: str = "") -> Any:
    """Return the value, which is from a JSON file or a config, with MASK in the place of secrets.

    `name`: the value's key. The text of a constant may itself be JSON.
    """
    if name not in _NO_SECRETS and _SECRET_NAME.search(name) and value not in ("", None):
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
    return MASK if _SECRET_VALUE.search(value) else value
