"""Only one module calls EC2's API for Spot Fleets, which AWS calls legacy, so that another API can replace it."""

from __future__ import annotations

import re

from tests.support.paths import ROOT

PACKAGE = ROOT / "distributed_something"
FLEET_MODULE = PACKAGE / "aws" / "ec2_fleet.py"
# RequestSpotFleet, ModifySpotFleetRequest, CancelSpotFleetRequests, DescribeSpotFleet…, and paginators.
FLEET_CALL = re.compile(r'(request|modify|cancel|describe)_spot_(fleet|instance)\w*["(]')


def test_only_one_module_calls_the_spot_fleet_api() -> None:
    """The local cloud is not a caller: it implements the API."""
    calls = {
        path.relative_to(ROOT).as_posix()
        for path in PACKAGE.rglob("*.py")
        if "localcloud" not in path.parts and FLEET_CALL.search(path.read_text())
    }
    assert calls == {FLEET_MODULE.relative_to(ROOT).as_posix()}


def test_the_architecture_says_what_another_api_would_change() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    assert "## Spot Fleet and EC2 Fleet" in text
    assert "aws/ec2_fleet.py" in text
