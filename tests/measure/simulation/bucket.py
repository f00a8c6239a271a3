"""AWS's token bucket, by which it throttles: so many at once, and then so many a second."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Bucket:
    """Full at time 0. `size`: what it holds at most; `refill`: a second."""

    size: float
    refill: float
    _tokens: float = field(init=False)
    _at: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._tokens = self.size

    def take(self, count: int, now: float) -> float:
        """Takes `count` tokens, at most `size`; how many seconds pass until they are there."""
        self._tokens = min(self.size, self._tokens + (now - self._at) * self.refill) - count
        self._at = now
        return max(0.0, -self._tokens / self.refill)
