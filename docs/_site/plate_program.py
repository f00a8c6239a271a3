"""The program of the run in docs/when-jobs-fail.md: `plate_program.py KIND WELL OUTPUT`. KIND says how it ends."""

import os
import signal
import sys
import time

kind, well, output = sys.argv[1:]
number = int(well[1:])
time.sleep(1 + number % 4 * 0.6)
if kind == "crash":
    os.kill(os.getpid(), signal.SIGSEGV)
if kind == "shape":
    raise ValueError(f"shape mismatch ({60 + number}, 8)")
if kind == "slow":
    time.sleep(60)
with open(os.path.join(output, "cells.csv"), "w") as file:
    file.write(f"well,cells\n{well},{number}\n")
