"""Secrets in a config or a Fleet file are not kept; everything else is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_something.worker.secret_values import (
    MASK,
    has_secret,
    has_secret_in_prose,
    mask_secrets,
    mask_text,
)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DB_PASSWORD", "x"),
        ("OMERO_PASS", "x"),
        ("GITHUB_TOKEN", "x"),
        ("MY_API_KEY", "x"),
        ("KEY", "x"),
        ("CLIENT_SECRET", 5),
        ("BASIC_AUTH", "x"),
        ("SLACK_WEBHOOK", "https://hooks.example.org/x"),
        ("UserData", "IyEvYmluL2Jhc2g="),
        ("CHANNEL", "https://hooks.slack.com/services/T0/B0/x"),
        ("SERVER", "https://me:hunter2@example.org/x"),
        ("ARGUMENTS", "--user me --password hunter2"),
        ("ARGUMENTS", "token=abc"),
        ("HEADER", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc"),
        ("NOTE", "AKIA" + "A1" * 8),
        ("NOTE", "aB3" + "d/" * 18 + "x"),
        ("FILE", "-----BEGIN RSA PRIVATE KEY-----\nabc"),
        ("CODE", "ghp_" + "a1" * 18),
    ],
)
def test_a_value_whose_name_or_form_shows_a_secret_is_masked(name: str, value: object) -> None:
    assert mask_secrets({name: value}) == {name: MASK}
    assert has_secret(value, name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SSH_KEY_NAME", "my-key.pem"),
        ("AUTHOR", "me"),
        ("KeyName", "my-key"),
        ("Key", "app"),
        ("HttpTokens", "required"),
        ("DB_PASSWORD", ""),
        ("KmsKeyId", "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"),
        ("GIT_COMMIT", "0123456789abcdef0123456789abcdef01234567"),
        ("FOLDER", "projects/2026_11_30_Batch1/images/Plate_A_0001/analysis"),
        ("UPLOAD_FLAGS", "--acl bucket-owner-full-control"),
        ("MACHINE_PRICE", 0.1),
        ("CHECK_IF_DONE_BOOL", True),
        ("SITE", "https://example.org/a@b"),
    ],
)
def test_other_values_are_kept(name: str, value: object) -> None:
    assert mask_secrets({name: value}) == {name: value}
    assert not has_secret(value, name)


def test_secrets_are_masked_at_any_depth_and_in_constants_that_are_json() -> None:
    value: Any = {"servers": [{"host": "a", "password": "x"}, ["https://u:p@h"]]}
    expected = {"servers": [{"host": "a", "password": MASK}, [MASK]]}
    assert mask_secrets(value) == expected
    assert json.loads(mask_secrets(json.dumps(value))) == expected
    assert has_secret(value)
    assert has_secret(json.dumps(value))
    assert not has_secret({"servers": [{"host": "a"}, ("b",)]})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ValueError: no well A01", "ValueError: no well A01"),
        ("run-7.DB_PASS=geheim", MASK),
        ("no well A01, token=abc123 and more", f"no well A01, {MASK}"),
        ("start\npassword: hunter2\nend", f"start\n{MASK}\nend"),
        ('  {"well": "A01", "db_password": "x"}', json.dumps({"well": "A01", "db_password": MASK})),
        (
            "a\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\nAB==\n-----END RSA PRIVATE KEY-----\nb",
            "\n".join(["a", *[MASK] * 4, "b"]),
        ),
        ("MIIE\nAB==\n-----END PRIVATE KEY-----\nb", "\n".join([*[MASK] * 3, "b"])),
        ("a\n-----BEGIN PRIVATE KEY-----\nMIIE", "\n".join(["a", *[MASK] * 2])),
        ("SyntaxError: Unexpected token < in JSON", "SyntaxError: Unexpected token < in JSON"),
        ("TokenError: EOF in line 3", "TokenError: EOF in line 3"),
        ("export AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMIK7MDENG/x", f"export {MASK}"),
        ("at S000: SecretAccessKey: wJalr", f"at S000: {MASK}"),
        ("DB_PWD=hunter2", MASK),
        (f"token{' ' * 100_000}", f"token{' ' * 100_000}"),  # not in quadratic time
        (",a" * 100_000, ",a" * 100_000),
        ("a: KEY = b", f"a: {MASK}"),
        ("", ""),
    ],
)  # fmt: skip
def test_a_text_keeps_what_precedes_a_secret_in_its_line(text: str, expected: str) -> None:
    assert mask_text(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("DB_PASSWORD = 'geheim'", True),
        ("password: geheim", True),
        ("was xoxb-" + "1a" * 10, True),
        ("the password must not be in a config; ask Ada for the token", False),
        ("AWS_SECRET_ACCESS_KEY = ''", False),
        ("SSH_KEY_NAME = 'ada.pem'", False),
    ],
)
def test_a_text_that_only_mentions_secrets_contains_none(text: str, expected: bool) -> None:
    assert has_secret_in_prose(text) is expected


SECRET_NAMES = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["", "MY_", "aws_", "DB_"]),
        st.sampled_from(["SECRET", "secret_key", "PASSWORD", "token", "AWS_SECRET_ACCESS_KEY"]),
        st.sampled_from(["", "_FILE", "_2", "_access_key", "_FOR_ME"]),
    ),
)
SECRET_VALUES = st.from_regex(r"[A-Za-z][A-Za-z0-9/+]{5,39}", fullmatch=True)


@given(SECRET_NAMES, SECRET_VALUES, st.sampled_from(["{}={}", "{} = {}", "export {}='{}'", "{}: {}", "{}: \"{}\"",
                                                     "x: {{'{}': '{}', 'b': 1}}", '{{"{}": "{}"}}',
                                                     "ValueError: at S000: {}={}", "--{}={}"]))  # fmt: skip
def test_a_value_with_a_secret_name_is_masked_however_it_is_assigned(name: str, value: str, form: str) -> None:
    for written in (name, name.replace("_", "-")):
        masked = mask_text(form.format(written, value))
        assert value not in masked.replace(written, "")
        assert MASK in masked


@pytest.mark.parametrize(
    "line",
    ["max_tokens: 12", "token_count=5", "tokenizer=bert", "primary_key = id", "sort-key: well", "keyboard: x",
     "KeyError: 'secret'", "author: Ada", "the access key is missing", "plate.key=3", "passwordless login: yes"],
)  # fmt: skip
def test_harmless_words_are_not_masked(line: str) -> None:
    assert mask_text(line) == line
