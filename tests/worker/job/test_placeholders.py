"""Tests for placeholders in a job file."""

from __future__ import annotations

import pytest

from distributed_something.worker.job.placeholders import TemplateError, fill_placeholders, list_placeholders


def test_placeholders_inside_a_value_are_not_replaced() -> None:
    assert fill_placeholders("{a}", {"a": "{b}", "b": "c"}) == "{b}"
    assert list_placeholders("{a} {{b}} {c d} {e.f}") == {"a", "e.f"}


def test_a_placeholder_without_a_value_is_reported_by_name() -> None:
    with pytest.raises(TemplateError, match=r"the placeholder \{plate\} has no value; available: well"):
        fill_placeholders("{plate}", {"well": "A01"})
