"""One run of one policy, from the request of the fleet to the end of its last machine, and what it came to."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random

import simpy

from distributed_something.run.monitor.policy import Pace
from tests.measure.simulation.assumptions import Assumptions
from tests.measure.simulation.clock import Process
from tests.measure.simulation.cloud import Cloud
from tests.measure.simulation.policies import Monitor, Ours, Published
from tests.measure.simulation.queue import Queue
from tests.measure.simulation.worker import Work

VISIBILITY_MEANS = 1.5  # of the published worker: what its manual advises


@dataclass(frozen=True)
class Outcome:
    """Ratios are over the lower bounds: of the machine-hours, work / slots a machine; of the makespan, work / slots, or
    the longest job where that is longer. `twice`: program time that came to nothing, as a share of the work.
    `tail_hours`: machine-hours without a job from when nothing waited any more. `longest_idle`: seconds that a machine
    lived on after its last job, at most. `calls`: the monitor's, an hour."""

    makespan: float
    machine_hours: float
    bound_hours: float
    tail_hours: float
    longest_idle: float
    twice: float
    calls: float
    undone: int
    seconds: float

    @property
    def hours_ratio(self) -> float:
        return self.machine_hours / self.bound_hours


@dataclass
class Run:
    """A run to be, of jobs that were submitted a while before the fleet was asked for. `later`: jobs that are submitted
    at those seconds after. `look`: seconds between two looks of this project's monitor."""

    lengths: array[float]
    machines: int
    published: bool = False
    tasks_per_machine: int = 1
    jobs_per_task: int = 2
    assumed: Assumptions = field(default_factory=Assumptions)
    seed: int = 1
    look: float = Pace().look
    later: Sequence[tuple[float, array[float]]] = ()
    env: simpy.Environment = field(init=False)
    work: Work = field(init=False)
    queue: Queue = field(init=False)
    cloud: Cloud = field(init=False)
    monitor: Monitor = field(init=False)

    def __post_init__(self) -> None:
        random, assumed = Random(self.seed), self.assumed
        self.env = simpy.Environment()
        mean = sum(self.lengths) / len(self.lengths)
        self.work = Work(array("d", self.lengths), VISIBILITY_MEANS * mean if self.published else None)
        self.queue = Queue(self.env, random, assumed.count_lag, assumed.count_noise)
        self.cloud = Cloud(
            self.env, random, self.queue, self.work, assumed, machines=self.machines,
            tasks_per_machine=self.tasks_per_machine, jobs_per_task=self.jobs_per_task,
            hears_notice=not self.published,
        )  # fmt: skip
        self.monitor = Published(self.cloud) if self.published else Ours(self.cloud, replace(Pace(), look=self.look))

    def play(self) -> Outcome:
        """To the end."""
        self.queue.submit(len(self.lengths))
        self.queue.settle()
        for at, lengths in self.later:
            self.env.process(self._submit(at, lengths))
        self.env.process(self._mark_tail())
        self.env.run(until=self.env.process(self.monitor.run()))
        self.cloud.end_all()
        return self._outcome()

    def _submit(self, at: float, lengths: array[float]) -> Process:
        yield self.env.timeout(at)
        self.work.add(lengths)
        self.queue.submit(len(lengths))

    def _mark_tail(self) -> Process:
        yield self.env.timeout(max((at for at, _ in self.later), default=0.0))
        while self.queue.waiting:
            yield self.env.timeout(1.0)
        self.cloud.count_idle_from_now()

    def _outcome(self) -> Outcome:
        work, slots = sum(self.work.lengths), self.tasks_per_machine * self.jobs_per_task
        undone = self.work.left
        useful = sum(length for length, times in zip(self.work.lengths, self.work.times_done, strict=True) if times)
        bound = max(work / slots / self.machines, max(self.work.lengths))
        return Outcome(
            makespan=self.work.last / bound,
            machine_hours=self.cloud.machine_seconds / 3600,
            bound_hours=work / slots / 3600,
            tail_hours=self.cloud.idle_seconds / 3600,
            longest_idle=self.cloud.longest_idle,
            twice=(self.work.spent - useful) / work,
            calls=self.monitor.calls / (self.env.now / 3600),
            undone=undone,
            seconds=self.env.now,
        )
