"""A slot: runs one program at a time while the previous job's results are being uploaded."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

from distributed_something.worker.attempt.attempt import Attempt
from distributed_something.worker.attempt.handler import JobHandler
from distributed_something.worker.container.intake import JobIntake
from distributed_something.worker.container.stop import StopRequest


class Slot:
    """Room for one program at a time in a container.

    `finish_soon` starts the last stage of an attempt in another thread. `delay`: seconds to wait before the first job.
    """

    def __init__(
        self,
        number: int,
        intake: JobIntake,
        handler: JobHandler,
        finish_soon: Callable[[Attempt], Future[None]],
        stop: StopRequest,
        delay: float,
    ) -> None:
        self._number, self._intake, self._handler = number, intake, handler
        self._finish_soon, self._stop, self._delay = finish_soon, stop, delay

    def run(self) -> None:
        """Run jobs until the container must stop, then wait until the last job's results are uploaded."""
        self._stop.wait(self._delay)
        upload: Future[None] | None = None
        while (attempt := self._intake.wait_for_attempt(self._number)) is not None:
            attempt.slot = self._number
            has_results = self._handler.run_attempt(attempt)
            self._intake.record_program_end(self._number)
            if upload is not None:
                upload.result()
            upload = self._finish_soon(attempt) if has_results else None
        if upload is not None:
            upload.result()
