"""A slot: one program at a time. The last job's outputs go up while the next program runs, at most one behind."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

from distributed_something.worker.attempt.handler import JobHandler
from distributed_something.worker.container.intake import JobIntake
from distributed_something.worker.container.stop import StopRequest


class Slot:
    """`delay`: seconds before its first job. `uploads` has a thread for each slot."""

    def __init__(
        self,
        number: int,
        intake: JobIntake,
        handler: JobHandler,
        uploads: ThreadPoolExecutor,
        stop: StopRequest,
        delay: float,
    ) -> None:
        self._number, self._intake, self._handler = number, intake, handler
        self._uploads, self._stop, self._delay = uploads, stop, delay

    def run(self) -> None:
        """Works until the container is told to end, and its last job is through."""
        self._stop.wait(self._delay)
        behind: Future[None] | None = None
        while (attempt := self._intake.wait_for_attempt(self._number)) is not None:
            goes_on = self._handler.run_attempt(attempt)
            self._intake.record_program_end(self._number)
            if behind is not None:
                behind.result()
            behind = self._uploads.submit(self._handler.finish_attempt, attempt) if goes_on else None
        if behind is not None:
            behind.result()
