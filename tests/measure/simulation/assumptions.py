"""The numbers that the model assumes for AWS and for the timing of the worker and the monitor.

A comment that begins with a service's name marks a number that AWS documents. The others are estimates. Times are in
seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from distributed_something.worker.machine.scale_in_protection import PROTECTION_MINUTES


@dataclass(frozen=True)
class Assumptions:
    """Assumptions about AWS, and about how the worker and the monitor use it."""

    boot_min: float = 60.0  # from the launch (when billing starts) until the machine registers with ECS
    boot_usual: float = 100.0
    boot_max: float = 180.0
    task_start: float = 10.0  # from the time a container is placed to its first poll
    task_stop: float = 5.0  # from ECS's SIGTERM until an idle worker, which finishes its poll first, exits
    tasks_per_minute: float = 500.0  # ECS: containers that a service can start, by default
    service_interval: float = 5.0  # time between two checks of the service by the ECS scheduler
    fleet_interval: float = 15.0  # time between two checks of the fleet's size by EC2
    launches_per_minute: float = 4000.0  # how many machines EC2 can start for one fleet
    interruptions_per_hour: float = 0.01  # per machine
    notice_share: float = 0.95  # share of interruptions that are announced two minutes in advance
    shortage: float = 120.0  # mean time until EC2 can replace a lost machine
    count_lag: float = 60.0  # SQS: maximum age of its counts
    count_noise: float = 0.01  # standard deviation as a fraction of the count
    fetch: float = 3.0  # time to receive one job and download its inputs
    call: float = 0.05  # time for one API call by the monitor; ECS allows 20 per second of the most frequent calls
    termination_burst: float = 1000.0  # EC2: machines that TerminateInstances can end in one burst (bucket size)
    terminations_per_second: float = 20.0  # EC2: refill rate of that bucket
    protection_seconds: float = PROTECTION_MINUTES * 60.0  # how long the worker asks ECS to protect its container
    never_joining_share: float = 0.0  # share of machines that do not join the cluster


NOTICE = 120.0  # EC2: time from the notice to the end of the machine
PROGRAM_SECONDS_AFTER_NOTICE = 110.0  # worker/container/stop.py: how long programs may continue to run
LEASE = 120.0  # SQS_MESSAGE_VISIBILITY in config.py; the worker extends the lease after each third of it
PRICE = 1.0  # USD per machine-hour; only used with a cost limit
