"""AWS emulated on this computer, for `run.py --local`.

One daemon per project holds the emulators and simulates what they lack: machines that join a cluster and are
interrupted, tasks that really run. Only `cli` imports this package, and what it imports here costs little: the
emulators live in the daemon, and boto3 is imported by the first call that needs it. Start reading in `client/cloud.py`.
"""

from .base.errors import LocalCloudError
from .client.cloud import LocalCloud, start_local_cloud, stop_local_cloud

__all__ = ["LocalCloud", "LocalCloudError", "start_local_cloud", "stop_local_cloud"]
