"""Placeholders in a Job file: a value goes where its placeholder stands and is never read again."""

from __future__ import annotations

import pytest

from distributed_something.worker.job.placeholders import TemplateError, fill_placeholders, list_placeholders


def test_a_value_is_never_read_again_as_a_template() -> None:
    assert fill_placeholders("{a}", {"a": "{b}", "b": "c"}) == "{b}"
    assert list_placeholders("{a} {{b}} {c d} {e.f}") == {"a", "e.f"}


def test_a_placeholder_that_nothing_fills_is_named() -> None:
    with pytest.raises(TemplateError, match=r"nothing fills \{plate\}; there are: well"):
        fill_placeholders("{plate}", {"well": "A01"})
