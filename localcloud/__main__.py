"""`python -m localcloud PROJECT WORKER_ROOT`: the daemon. Started by `localcloud.start`, not by a user."""

import sys
from pathlib import Path

from .daemon import run

if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]))
