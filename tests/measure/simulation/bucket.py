"""The token bucket that AWS uses to throttle calls: a burst is allowed at once, and then a fixed rate."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class TokenBucket:
    """A bucket that is full at time 0. It holds up to `size` tokens and gains `refill` tokens per second."""

    size: float
    refill: float
    _tokens: float = field(init=False)
    _updated_at: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._tokens = self.size

    def take_tokens(self, count: int, now: float) -> float:
        """Take `count` tokens, even if the bucket contains fewer.

        Return the seconds until the missing tokens are refilled.
        """
        self._tokens = min(self.size, self._tokens + (now - self._updated_at) * self.refill) - count
        self._updated_at = now
        return max(0.0, -self._tokens / self.refill)
