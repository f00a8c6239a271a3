"""The account's limit on spot machines, which counts virtual CPUs for each class of types on its own; and ECS's.

Codes and classes: Service Quotas, service ec2, «All … Spot Instance Requests», read in November 2026. Codes of ECS's
are not documented; defaults: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-quotas.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Quota:
    """One class of types: its code in Service Quotas, and what AWS calls it."""

    code: str
    name: str


ECS_DEFAULTS = {"Container instances per cluster": 5000, "Tasks per service": 5000}  # as AWS names them
_STANDARD = Quota("L-34B43A08", "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests")
_CLASSES = (  # the letters that a type begins with, before its generation; longer ones first
    (r"dl\d", Quota("L-85EED4F7", "All DL Spot Instance Requests")),
    (r"f\d", Quota("L-88CF9481", "All F Spot Instance Requests")),
    (r"(g|gr|vt)\d", Quota("L-3819A6DF", "All G and VT Spot Instance Requests")),
    (r"inf\d", Quota("L-B5D1601B", "All Inf Spot Instance Requests")),
    (r"p[2-4]", Quota("L-7212CCBC", "All P4, P3 and P2 Spot Instance Requests")),
    (r"p5", Quota("L-C4BD4855", "All P5 Spot Instance Requests")),
    (r"trn\d", Quota("L-6B0D517C", "All Trn Spot Instance Requests")),
    (r"x\d", Quota("L-E3A00192", "All X Spot Instance Requests")),
    (r"(a|c|d|h|i|m|r|t|z)\d|(im|is)\d", _STANDARD),
)


def class_of(machine_type: str) -> Quota | None:
    """The quota that a type such as 'm5.large' counts against; None where this project knows of none."""
    family = machine_type.partition(".")[0]
    return next((quota for pattern, quota in _CLASSES if re.match(pattern, family)), None)


def value(quotas: Any, quota: Quota) -> float:
    """How many virtual CPUs the account may have in that class. `quotas`: a client. Raises botocore's errors."""
    answer = quotas.get_service_quota(ServiceCode="ec2", QuotaCode=quota.code)
    return float(answer["Quota"]["Value"])
