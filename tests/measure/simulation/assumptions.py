"""Every number of the model that is not the system's own. What AWS documents is named; the rest is assumed.

Times in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Assumptions:
    """The cloud, and how the worker and the monitor do in it."""

    boot_least: float = 60.0  # from the launch, which is billed, to the registration in ECS
    boot_usual: float = 100.0
    boot_most: float = 180.0
    task_start: float = 10.0  # from placement to the first poll
    task_stop: float = 5.0  # from ECS's SIGTERM to the end of an idle worker: it polls for so long
    placed_a_minute: float = 500.0  # ECS: tasks a service starts, the default quota
    service_look: float = 5.0  # between two looks of ECS's scheduler at the service
    fleet_look: float = 15.0  # between two looks of the fleet at its target
    launched_a_minute: float = 4000.0  # machines that EC2 starts for one fleet
    interruptions_an_hour: float = 0.01  # of each machine
    noticed: float = 0.95  # share of interruptions with the two minutes' notice
    shortage: float = 120.0  # mean time until a lost machine's capacity is there again
    count_lag: float = 60.0  # SQS: its counts are of a moment so long ago at most
    count_noise: float = 0.01  # standard deviation, share of the count
    fetch: float = 3.0  # inputs of one job, the receive call included
    call: float = 0.05  # one API call of the monitor: 20 a second, what ECS sustains of the kinds that it makes most
    ended_at_once: float = 1000.0  # EC2: machines that TerminateInstances ends, its documented bucket of resources …
    ended_a_second: float = 20.0  # … and how it is refilled


NOTICE = 120.0  # EC2: between notice and end
LAST_OF_NOTICE = 110.0  # worker/container/stop.py: programs may run so long of it
LEASE = 120.0  # SQS_MESSAGE_VISIBILITY of config.py; the worker extends it every third
PROTECTION_REST = 10.0  # worker/machine/scale_in_protection.py
