"""A slot runs one program at a time while the previous job's results are uploaded."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace
from typing import Any

from distributed_something.worker.container.slot import Slot
from distributed_something.worker.container.stop import StopRequest


def build_slot(number: int, intake: Any, handler: Any, uploads: ThreadPoolExecutor) -> Slot:
    finish_soon = partial(uploads.submit, handler.finish_attempt)
    return Slot(number, intake, handler, finish_soon, StopRequest(lambda: 0.0), 0.0)


def test_a_slot_uploads_one_jobs_results_while_the_next_program_runs() -> None:
    jobs, finished = [SimpleNamespace(name=name) for name in "abc"], list[str]()
    started = {job.name: threading.Event() for job in jobs}

    def run(attempt: Any) -> bool:
        started[attempt.name].set()
        return True

    def finish(attempt: Any) -> None:
        job = attempt.name
        assert started["b"].wait(10), "the next program did not start during the upload"
        assert job != "a" or not started["c"].wait(0.2), (
            "a third program started while two jobs were waiting for their uploads"
        )
        finished.append(job)

    intake: Any = SimpleNamespace(
        wait_for_attempt=lambda _: jobs.pop(0) if jobs else None, record_program_end=lambda _: None
    )
    handler: Any = SimpleNamespace(run_attempt=run, finish_attempt=finish)
    with ThreadPoolExecutor(8) as uploads:
        build_slot(0, intake, handler, uploads).run()
    assert finished == ["a", "b", "c"]


def test_an_attempt_knows_the_number_of_the_slot_that_took_it() -> None:
    attempts, slots = [SimpleNamespace(slot=None)], list[int]()
    intake: Any = SimpleNamespace(
        wait_for_attempt=lambda _: attempts.pop() if attempts else None, record_program_end=lambda _: None
    )
    handler: Any = SimpleNamespace(run_attempt=lambda attempt: slots.append(attempt.slot), finish_attempt=None)
    with ThreadPoolExecutor(1) as uploads:
        build_slot(3, intake, handler, uploads).run()
    assert slots == [3]
