"""A slot runs one program at a time, and uploads behind it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

from distributed_something.worker.container.slot import Slot
from distributed_something.worker.container.stop import StopRequest


def test_a_jobs_outputs_go_up_while_the_next_program_runs_and_at_most_one_jobs() -> None:
    jobs, finished = list("abc"), list[str]()
    begun = {job: threading.Event() for job in jobs}

    def run(job: str) -> bool:
        begun[job].set()
        return True

    def finish(job: str) -> None:
        assert begun["b"].wait(10), "the next program does not start before these outputs are up"
        assert job != "a" or not begun["c"].wait(0.2), "a second job's outputs wait behind these"
        finished.append(job)

    intake: Any = SimpleNamespace(
        wait_for_attempt=lambda _: jobs.pop(0) if jobs else None, record_program_end=lambda _: None
    )
    handler: Any = SimpleNamespace(run_attempt=run, finish_attempt=finish)
    with ThreadPoolExecutor(8) as uploads:
        Slot(0, intake, handler, uploads, StopRequest(lambda: 0.0), 0.0).run()
    assert finished == ["a", "b", "c"]
