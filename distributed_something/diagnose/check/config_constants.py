"""Checks the config for constants that are probably misspelled. Their values are valid, or the config is not loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from distributed_something.core.config_settings import find_misspelled_constants
from distributed_something.diagnose.check.findings import Finding, build_ok_finding, build_warning_finding
from distributed_something.diagnose.check.lookups import Lookups


def check_constants(lookups: Lookups) -> Iterator[Finding]:
    """Check the names of the user's own constants, without calling AWS."""
    return judge_constants(find_misspelled_constants(lookups.settings))


def judge_constants(misspelled: Mapping[str, str]) -> Iterator[Finding]:
    """Warn about each constant whose name is similar to a known one. `misspelled`: the known name for each of them."""
    for name, known in misspelled.items():
        yield build_warning_finding(
            "config", f"{name} is not a known constant, but its name is similar to {known}",
            f"write {known}; if {name} is a constant of your own, nothing needs to be changed",
            details={"constant": name, "similar": known},
        )  # fmt: skip
    if not misspelled:
        yield build_ok_finding("config", "its constants are known, or are your own")
