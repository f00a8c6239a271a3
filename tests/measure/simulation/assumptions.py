"""The numbers that the model assumes about AWS and about the timing of the worker and the monitor.

Comments name the numbers that AWS documents. The others are estimates. Times are in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Assumptions:
    """Assumptions about AWS, and about the worker and the monitor when they use it."""

    boot_min: float = 60.0  # from the launch, when billing starts, until the machine registers with ECS
    boot_usual: float = 100.0
    boot_max: float = 180.0
    task_start: float = 10.0  # from the placement of a container to its first poll
    task_stop: float = 5.0  # from ECS's SIGTERM to the exit of an idle worker, which finishes its poll first
    tasks_per_minute: float = 500.0  # ECS: containers that a service starts, by default quota
    service_interval: float = 5.0  # between two checks of the service by ECS's scheduler
    fleet_interval: float = 15.0  # between two checks of the fleet's size by EC2
    launches_per_minute: float = 4000.0  # machines that EC2 starts for one fleet
    interruptions_per_hour: float = 0.01  # for each machine
    notice_share: float = 0.95  # interruptions that are announced two minutes ahead
    shortage: float = 120.0  # mean time until EC2 can replace a lost machine
    count_lag: float = 60.0  # SQS: maximum age of its counts
    count_noise: float = 0.01  # standard deviation, as a share of the count
    fetch: float = 3.0  # receiving one job and downloading its inputs
    call: float = 0.05  # one API call of the monitor; ECS sustains 20 a second of the kinds that it makes most
    termination_burst: float = 1000.0  # EC2: machines that TerminateInstances ends at once (documented bucket size)
    terminations_per_second: float = 20.0  # EC2: refill rate of that bucket


NOTICE = 120.0  # EC2: from the notice to the end of the machine
PROGRAM_SECONDS_AFTER_NOTICE = 110.0  # worker/container/stop.py: how long programs may still run
LEASE = 120.0  # SQS_MESSAGE_VISIBILITY in config.py; the worker extends the lease after each third of it
IDLE_PROTECTION = 10.0  # worker/machine/scale_in_protection.py: how long an idle container stays protected
