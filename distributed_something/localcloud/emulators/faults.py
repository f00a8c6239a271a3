"""Faults on purpose, to rehearse what AWS does under load: LOCALCLOUD_FAULT_RATE=0.1 fails one call in ten.

A fault is a refusal (throttled or out of service, nothing done) or a lost answer (all done, the caller is told 503),
which is the one that shows whether calls may be repeated. The sequence depends on LOCALCLOUD_FAULT_SEED alone.
"""

from __future__ import annotations

import json
import os
import random
import threading
from collections.abc import Mapping
from enum import Enum

RATE_VARIABLE, SEED_VARIABLE = "LOCALCLOUD_FAULT_RATE", "LOCALCLOUD_FAULT_SEED"
LOST_ANSWER_SHARE = 0.25  # of the faults

FaultAnswer = tuple[int, str, bytes]  # status, content type, body


class Fault(Enum):
    """What happens to a call."""

    NONE = "none"
    REFUSED = "refused"
    ANSWER_LOST = "answer lost"


class FaultGenerator:
    """Draws a fault for each call."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._rate = float(environment.get(RATE_VARIABLE) or 0)
        self._random = random.Random(environment.get(SEED_VARIABLE, "1"))
        self._lock = threading.Lock()

    def draw_fault(self) -> Fault:
        with self._lock:
            if self._random.random() >= self._rate:
                return Fault.NONE
            return Fault.ANSWER_LOST if self._random.random() < LOST_ANSWER_SHARE else Fault.REFUSED

    def build_refusal(self, *, is_json: bool) -> FaultAnswer:
        """A refusal in the caller's protocol: throttled, or out of service."""
        with self._lock:
            throttled = self._random.random() < 0.5
        code = ("ThrottlingException" if is_json else "SlowDown") if throttled else "ServiceUnavailable"
        if is_json:
            body = json.dumps({"__type": code, "message": "a fault on purpose"})
            return 400 if throttled else 503, "application/x-amz-json-1.0", body.encode()
        body = f"<Error><Code>{code}</Code><Message>a fault on purpose</Message></Error>"
        return 503, "application/xml", body.encode()
