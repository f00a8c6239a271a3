#!/bin/sh
# The image's entry point. exec: the worker itself gets the signals that ECS and Docker send.
# -E: what the program's image says to Python (PYTHONPATH, PYTHONHOME) is for the program, not for the worker.
here=${0%/*}
if [ -x /opt/worker/lib/loader.so ]; then
    # What the image would load into its own programs may be none for this C library: serve.py puts it back for them.
    if [ -n "${LD_PRELOAD:-}" ]; then export PROGRAM_LD_PRELOAD="$LD_PRELOAD"; fi
    unset LD_PRELOAD
    # An image may have no /tmp, or none that its user may write to.
    if [ -z "${WORK_DIR:-}" ] && [ ! -w "${TMPDIR:-/tmp}" ]; then export WORK_DIR=/opt/worker/tmp; fi
    exec /opt/worker/lib/loader.so --library-path /opt/worker/lib /opt/worker/bin/python3.11 -E -s "$here/generic-worker.py"
fi
exec python3 "$here/generic-worker.py"
