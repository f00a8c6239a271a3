"""The daemon's entry point: `python -m distributed_something.localcloud PROJECT DEFAULT_WORKER`.

`start_local_cloud` runs it.
"""

import sys
from pathlib import Path

from distributed_something.localcloud.daemon.daemon import run_daemon

if __name__ == "__main__":
    run_daemon(Path(sys.argv[1]), Path(sys.argv[2]))
