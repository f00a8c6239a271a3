#!/bin/sh
# The image's entry point. exec: the worker itself gets the signals that ECS and Docker send.
exec python3 "$(dirname "$0")/generic-worker.py"
