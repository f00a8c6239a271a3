"""Answers like AWS where AWS is difficult. LOCALCLOUD_AWS=strict switches it on.

Every request of a command or a worker passes through here before an emulator gets it. There are five difficulties; the
rules for each, with their sources, are in `strict_rules.py`.

- Aftereffects: a new resource is not found, a new role cannot be used, and a changed resource is busy.
- Stale reads: for a moment after a change, a read returns what it returned before.
- Throttling: each operation has a token bucket.
- Empty pages: the first page of a list is empty, and a later one is not.
- Partial failures: an entry of a batch fails inside a response with status 200.

The requests that the local cloud itself sends are not affected. All times are passed in, in seconds since the epoch.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatchcase

from distributed_something.localcloud.base.endpoints import DUMMY_CREDENTIALS
from distributed_something.localcloud.emulators.aws_requests import (
    Answer,
    AwsRequest,
    build_error,
    build_json_answer,
)
from distributed_something.localcloud.emulators.strict_batches import (
    add_failed_entry,
    build_failed_answer,
    count_entries,
    remove_first_entry,
)
from distributed_something.localcloud.emulators.strict_rules import (
    AFTEREFFECTS,
    DELAY_SECONDS,
    EMPTY_PAGES,
    PARTIAL_FAILURE_INTERVAL,
    RATES,
    STALE_READS,
    UNFILTERED_RATE,
    Aftereffect,
    Rate,
)

PAGE_TOKEN = "strict-first-page"
MAX_REMEMBERED_READS = 500
_NEVER = float("inf")
_THROTTLING_ERRORS = {"ec2": ("RequestLimitExceeded", 503), "monitoring": ("Throttling", 400)}


class TokenBucket:
    """A bucket that starts full and loses a token with each request."""

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate, self._tokens, self._updated = rate, float(rate.size), now

    def take_token(self, now: float) -> bool:
        """Take a token. Return False if there is none."""
        gained = (now - self._updated) * self._rate.per_second
        self._tokens, self._updated = min(self._rate.size, self._tokens + gained), now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


@dataclass
class _Read:
    """The answer to a read. After a change, it may be given again until `stale_until`."""

    answer: Answer
    stale_until: float = _NEVER


@dataclass(frozen=True)
class _ActiveEffect:
    """An aftereffect on the resource with this name, until a time. Resources of IAM have no region."""

    effect: Aftereffect
    region: str
    name: str
    until: float

    def applies_to(self, request: AwsRequest) -> bool:
        if self.region not in (request.region, "") or not _matches(request, self.effect.affected):
            return False
        is_repetition = request.operation == self.effect.cause and self.effect.find_name(request) == self.name
        return request.mentions(self.name) and not (is_repetition and self.effect.only_new)


class StrictAnswers:
    """The difficult answers of one emulator. Not thread-safe."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[str, ...], TokenBucket] = {}
        self._effects: list[_ActiveEffect] = []
        self._known_names: set[tuple[str, str, str]] = set()
        self._reads: dict[tuple[str, str, str, bytes], _Read] = {}
        self._counts: Counter[str] = Counter()

    def intercept(self, request: AwsRequest, now: float) -> Answer | AwsRequest:
        """Return a difficult answer, or the request that the emulator gets instead of this one."""
        if not _is_from_user(request):
            return request
        return (
            self._throttle(request, now)
            or self._find_effect(request, now)
            or self._find_stale_answer(request, now)
            or self._fail_partially(_remove_page_token(request))
        )

    def complete(self, request: AwsRequest, forwarded: AwsRequest, answer: Answer, now: float) -> Answer:
        """Return the answer to a request, given the emulator's answer to the request that it got instead."""
        if not _is_from_user(request) or not answer.is_success:
            return answer
        self._note_effects(request, answer, now)
        self._mark_reads_stale(request, now)
        if count_entries(forwarded) < count_entries(request):
            answer = add_failed_entry(request, answer)
        if request.operation in EMPTY_PAGES and "nextToken" not in request.parameters:
            answer = _build_empty_page(request)
        if _is_read(request):
            if len(self._reads) >= MAX_REMEMBERED_READS:
                self._reads.clear()
            self._reads[_get_read_key(request)] = _Read(answer)
        return answer

    # throttling

    def _throttle(self, request: AwsRequest, now: float) -> Answer | None:
        rate = _find_rate(request)
        if rate is None:
            return None
        own = request.operation if request.service == "ec2" else ""  # EC2 has a bucket for each operation
        bucket = self._buckets.setdefault((request.region, own, *rate.operations), TokenBucket(rate, now))
        if bucket.take_token(now):
            return None
        code, status = _THROTTLING_ERRORS.get(request.service, ("ThrottlingException", 400))
        return build_error(request, code, "Rate exceeded", status)

    # aftereffects

    def _find_effect(self, request: AwsRequest, now: float) -> Answer | None:
        active = next((active for active in self._effects if now < active.until and active.applies_to(request)), None)
        return active.effect.build_answer(request, active.name) if active else None

    def _note_effects(self, request: AwsRequest, answer: Answer, now: float) -> None:
        self._effects = [active for active in self._effects if now < active.until]
        region = "" if request.service == "iam" else request.region
        if ".Delete" in request.operation:
            creation = request.operation.replace(".Delete", ".Create")
            self._known_names -= {
                known for known in self._known_names if known[0] == creation and request.mentions(known[2])
            }
        caused = [effect for effect in AFTEREFFECTS if effect.cause == request.operation]
        names = {effect.find_name(request, answer) for effect in caused} - {""}
        new_names = {name for name in names if (request.operation, region, name) not in self._known_names}
        self._known_names |= {(request.operation, region, name) for name in names}
        for effect in caused:
            name = effect.find_name(request, answer)
            if name in new_names or (name and not effect.only_new):
                self._effects.append(_ActiveEffect(effect, region, name, now + effect.seconds))

    # stale reads

    def _find_stale_answer(self, request: AwsRequest, now: float) -> Answer | None:
        read = self._reads.get(_get_read_key(request)) if _is_read(request) else None
        return read.answer if read and now < read.stale_until < _NEVER else None

    def _mark_reads_stale(self, request: AwsRequest, now: float) -> None:
        if not _matches(request, STALE_READS[request.service].changes if request.service in STALE_READS else ()):
            return
        for (service, region, *_), read in self._reads.items():
            if (service, region) == (request.service, request.region):
                read.stale_until = min(read.stale_until, now + DELAY_SECONDS)

    # partial failures

    def _fail_partially(self, request: AwsRequest) -> Answer | AwsRequest:
        """Return the request without the entry that is to fail or, if no other entry remains, the answer."""
        if count_entries(request) == 0:
            return request
        self._counts[request.operation] += 1
        if self._counts[request.operation] % PARTIAL_FAILURE_INTERVAL != 1:
            return request
        reduced = remove_first_entry(request)
        return reduced if count_entries(reduced) else build_failed_answer(request)


def _is_from_user(request: AwsRequest) -> bool:
    """Return whether the request comes from a command or a worker, and not from the local cloud itself."""
    return request.access_key == DUMMY_CREDENTIALS["AWS_ACCESS_KEY_ID"]


def _matches(request: AwsRequest, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(request.operation, pattern) for pattern in patterns)


def _find_rate(request: AwsRequest) -> Rate | None:
    has_selection = any(name in request.text for name in ("Filter.", "MaxResults", "NextToken", "Id."))
    if request.operation in UNFILTERED_RATE.operations and not has_selection:
        return UNFILTERED_RATE
    return next((rate for rate in RATES if _matches(request, rate.operations)), None)


def _is_read(request: AwsRequest) -> bool:
    return request.service in STALE_READS and _matches(request, STALE_READS[request.service].reads)


def _get_read_key(request: AwsRequest) -> tuple[str, str, str, bytes]:
    return request.service, request.region, request.operation, request.body


def _build_empty_page(request: AwsRequest) -> Answer:
    items, tokens = EMPTY_PAGES[request.operation]
    return build_json_answer({items: [], **dict.fromkeys(tokens, PAGE_TOKEN)})


def _remove_page_token(request: AwsRequest) -> AwsRequest:
    """Return the request for a second page as a request for the emulator's first page."""
    if request.operation not in EMPTY_PAGES or request.parameters.get("nextToken") != PAGE_TOKEN:
        return request
    return request.replace_parameters(
        {name: value for name, value in request.parameters.items() if name != "nextToken"}
    )
