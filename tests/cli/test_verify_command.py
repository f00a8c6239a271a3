"""Tests that `verify` says how many requests it takes, and asks before it sends many."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import click
import pytest

from distributed_something.cli import diagnose_commands
from distributed_something.core.errors import InputError
from distributed_something.results.verify.listed_results import VerificationPlan
from tests.support.fakes import MONITOR_FILE, FakeOutput

MANY = VerificationPlan(records=100_000, results=2_400_000, is_exact=False)
TEXT = "this takes about 2,500,000 requests to S3, which cost 1.00 USD"


def confirm(plan: VerificationPlan, *, yes: bool = False, local: bool = False) -> list[str]:
    """Return what the command prints before it verifies anything."""
    context: Any = SimpleNamespace(local=local, console=FakeOutput())
    diagnose_commands._confirm_requests(context, MONITOR_FILE, plan, yes=yes)
    return context.console.progress


def set_terminal(patch: pytest.MonkeyPatch, *, answer: bool | None) -> None:
    """Make the command run in a terminal in which the user answers, or without one."""
    stream = SimpleNamespace(isatty=lambda: answer is not None)
    patch.setattr(diagnose_commands, "sys", SimpleNamespace(stdin=stream, stderr=stream))
    patch.setattr(click, "confirm", lambda *_, **__: answer)


def test_few_requests_are_sent_without_a_question(monkeypatch: pytest.MonkeyPatch) -> None:
    set_terminal(monkeypatch, answer=None)

    assert confirm(VerificationPlan(5_000, 5_000, is_exact=True)) == []


def test_without_a_terminal_many_requests_need_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    set_terminal(monkeypatch, answer=None)
    with pytest.raises(InputError) as raised:
        confirm(MANY)

    assert str(raised.value).endswith(f"{TEXT}; add --yes to send them")
    assert confirm(MANY, yes=True) == [TEXT]


def test_in_a_terminal_the_user_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    set_terminal(monkeypatch, answer=True)
    assert confirm(MANY) == [TEXT]

    set_terminal(monkeypatch, answer=False)
    with pytest.raises(SystemExit) as raised:
        confirm(MANY)
    assert raised.value.code == 2


def test_the_local_cloud_costs_nothing_and_does_not_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    set_terminal(monkeypatch, answer=None)

    (line,) = confirm(MANY, local=True)
    assert line.endswith("cost nothing in the local cloud")
