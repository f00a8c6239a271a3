"""Injected faults that imitate AWS under load. With LOCALCLOUD_FAULT_RATE=0.1, one call in ten fails.

A fault is either a rejected call (it is throttled or the service is unavailable, and nothing happens) or a lost
response (the call succeeds, but the caller gets status 503). Lost responses show whether a call can be repeated safely.
The sequence of faults depends only on LOCALCLOUD_FAULT_SEED.

Two other variables switch on what AWS does without any failed call. LOCALCLOUD_REFUSED_PROTECTION=0.3: ECS refuses 30%
of the requests for scale-in protection, inside a response with status 200; with LOCALCLOUD_AWS=strict, it refuses 10%
unless this variable is set. LOCALCLOUD_NOT_JOINING=2: the first two machines run, but never join the cluster.
"""

from __future__ import annotations

import json
import os
import random
import threading
from collections.abc import Mapping
from enum import Enum

from distributed_something.localcloud.base.mode import is_strict
from distributed_something.localcloud.emulators.strict_rules import REFUSED_PROTECTION_RATE

RATE_VARIABLE, SEED_VARIABLE = "LOCALCLOUD_FAULT_RATE", "LOCALCLOUD_FAULT_SEED"
REFUSAL_RATE_VARIABLE, NOT_JOINING_VARIABLE = "LOCALCLOUD_REFUSED_PROTECTION", "LOCALCLOUD_NOT_JOINING"
LOST_RESPONSE_SHARE = 0.25  # of all faults

FaultResponse = tuple[int, str, bytes]  # status, content type, body


class Fault(Enum):
    """What happens to a call."""

    NONE = "none"
    REJECTED = "rejected"
    RESPONSE_LOST = "response lost"


class FaultGenerator:
    """Draws a random fault, or none, for each call."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._rate = float(environment.get(RATE_VARIABLE) or 0)
        self._random = random.Random(environment.get(SEED_VARIABLE, "1"))
        self._lock = threading.Lock()

    def draw_fault(self) -> Fault:
        with self._lock:
            if self._random.random() >= self._rate:
                return Fault.NONE
            return Fault.RESPONSE_LOST if self._random.random() < LOST_RESPONSE_SHARE else Fault.REJECTED

    def build_error_response(self, *, is_json: bool) -> FaultResponse:
        """Return a throttling error or a service unavailable error in the caller's protocol."""
        with self._lock:
            is_throttled = self._random.random() < 0.5
        code = ("ThrottlingException" if is_json else "SlowDown") if is_throttled else "ServiceUnavailable"
        if is_json:
            body = json.dumps({"__type": code, "message": "injected fault"})
            return 400 if is_throttled else 503, "application/x-amz-json-1.0", body.encode()
        body = f"<Error><Code>{code}</Code><Message>injected fault</Message></Error>"
        return 503, "application/xml", body.encode()


class DifficultAnswers:
    """Decides which requests for protection ECS refuses, and which machines never join the cluster."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        usual_rate = REFUSED_PROTECTION_RATE if is_strict(environment) else 0
        self._rate = float(environment.get(REFUSAL_RATE_VARIABLE) or usual_rate)
        self._random = random.Random(environment.get(SEED_VARIABLE, "1"))
        self._machines = int(environment.get(NOT_JOINING_VARIABLE) or 0)

    def refuse_protection(self) -> bool:
        """Return whether ECS refuses the next request for scale-in protection."""
        return self._random.random() < self._rate

    def lose_machine(self) -> bool:
        """Return whether the next machine never joins its cluster."""
        self._machines -= 1
        return self._machines >= 0
