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
