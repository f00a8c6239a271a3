"""Every command that needs AWS ends with the command that logs in again when an SSO login has expired or is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from distributed_something.cli.main import main
from tests.support.offline import CONFIG, MONITOR, format_config

SSO_CONFIG = """\
[profile lab]
sso_session = institute
sso_account_id = 123456789012
sso_role_name = Researcher
region = us-east-1
[sso-session institute]
sso_start_url = https://login.example.org/start
sso_region = us-east-1
sso_registration_scopes = sso:account:access
"""


@pytest.mark.parametrize("command", ["setup", "check", "monitor", "setupAWS"])
def test_a_command_without_a_valid_sso_login_says_how_to_log_in_again(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config").write_text(SSO_CONFIG)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))  # no cached token
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    config, monitor = tmp_path / "config.py", tmp_path / "monitor.json"
    config.write_text(format_config(CONFIG | {"AWS_PROFILE": "lab"}))
    monitor.write_text(json.dumps(dict(MONITOR)))
    code = main(["--config", str(config), command, *([str(monitor)] if command == "monitor" else [])])
    captured = capsys.readouterr()
    assert code == 1
    assert "log in again: aws sso login --profile lab" in captured.out + captured.err
    assert "Traceback" not in captured.err
