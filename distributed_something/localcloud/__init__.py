"""AWS emulated on this computer, for `run.py --local`.

One daemon per project holds the emulators and simulates what they lack: machines that join a cluster and are
interrupted, tasks that really run. Importing this package costs only the standard library; the emulators live in the
daemon. Start reading in `client/cloud.py`.
"""

from .base.errors import LocalCloudError
from .client.cloud import LocalCloud, start_local_cloud, stop_local_cloud

__all__ = ["LocalCloud", "LocalCloudError", "start_local_cloud", "stop_local_cloud"]
