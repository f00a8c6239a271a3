"""AWS emulated on this computer, for `run.py --local`.

Each project has one daemon. It hosts two emulators and simulates what they do not emulate: machines that join a
cluster and are interrupted, and tasks that run real programs. Only `cli` imports this package. Importing it is fast,
because the emulators run in the daemon and boto3 is imported only when it is first needed. Start reading in
`client/cloud.py`.
"""

from .base.errors import LocalCloudError
from .client.cloud import LocalCloud, find_local_cloud, has_local_cloud, start_local_cloud, stop_local_cloud
from .client.former_cloud import describe_former_cloud

__all__ = [
    "LocalCloud",
    "LocalCloudError",
    "describe_former_cloud",
    "find_local_cloud",
    "has_local_cloud",
    "start_local_cloud",
    "stop_local_cloud",
]
