"""What `why` sees of a healthy run with one machine, and of one whose queue is full but that does nothing."""

from __future__ import annotations

from dataclasses import replace

from distributed_something.aws.ec2_fleet import FleetState
from distributed_something.observe.containers import LogTail
from distributed_something.observe.evidence import ClusterMachine, Evidence, build_subject_from_run
from distributed_something.observe.machines import ObservedMachine
from distributed_something.observe.queue import QueueCounts
from distributed_something.observe.service import ServiceState
from tests.support.fakes import MONITOR_FILE, START

NOW = START + 3600
RUNNING_MACHINE = ObservedMachine("i-1", "running", NOW - 3000)
HEALTHY = Evidence(
    at=NOW,
    subject=build_subject_from_run(MONITOR_FILE),
    counts=QueueCounts(100, 4),
    fleet=FleetState("active", 1, ("i-1",)),
    machines=(RUNNING_MACHINE,),
    registered_count=1,
    cluster_machines=(ClusterMachine("i-1", True, 2),),
    service=ServiceState(2, 2, 0),
    log_tail=LogTail(NOW - 30, ("a line",)),
)
IDLE = replace(HEALTHY, counts=QueueCounts(100, 0), service=ServiceState(2, 0, 0))
NO_MACHINE = replace(IDLE, fleet=FleetState("active", 3, ()), machines=(), registered_count=0, cluster_machines=())
