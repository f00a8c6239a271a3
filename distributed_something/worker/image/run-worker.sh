#!/bin/sh
# The entry point of the image. It uses exec so that the worker itself receives the signals from ECS and Docker. It uses
# python -E because PYTHONPATH and PYTHONHOME in the image are meant for the program, not for the worker. -X utf8: file
# names and text are UTF-8, whatever the image's locale is.
here=${0%/*}
if [ -x /opt/worker/lib/loader.so ]; then
    # The worker cannot use the image's LD_PRELOAD, because the preloaded library may need a different C library.
    # serve.py restores it for the program.
    if [ -n "${LD_PRELOAD:-}" ]; then export PROGRAM_LD_PRELOAD="$LD_PRELOAD"; fi
    unset LD_PRELOAD
    # Some images have no /tmp, or one that the container's user cannot write to.
    if [ -z "${WORK_DIR:-}" ] && [ ! -w "${TMPDIR:-/tmp}" ]; then export WORK_DIR=/opt/worker/tmp; fi
    exec /opt/worker/lib/loader.so --library-path /opt/worker/lib /opt/worker/bin/python3.11 -X utf8 -E -s "$here/generic-worker.py"
fi
exec python3 -X utf8 "$here/generic-worker.py"
