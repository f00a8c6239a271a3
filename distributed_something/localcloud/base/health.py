"""Whether ministack, the emulator of queues and buckets, responds."""

from __future__ import annotations

import http.client
import urllib.request

HEALTH_PATH = "/_ministack/health"
HEALTH_TIMEOUT_SECONDS = 5


def is_ministack_ready(url: str) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url + HEALTH_PATH, timeout=HEALTH_TIMEOUT_SECONDS) as response:
            return bool(response.status == 200)
    except (OSError, http.client.HTTPException):
        return False
