"""AWS played on this computer, for `run.py --local`.

One daemon a project holds the emulators and plays what they lack: machines that join a cluster and are taken away,
tasks that really run. Importing this package costs only the standard library; the emulators live in the daemon.
"""

from .client import Cloud, start, stop
from .errors import LocalCloudError

__all__ = ["Cloud", "LocalCloudError", "start", "stop"]
