#!/usr/bin/env bash
# `make demo`: the four commands of a run, on this computer, one after the other, explained. Needs the environment that
# `make demo` makes. Whatever happens, the local cloud is stopped at the end.
set -euo pipefail
cd "$(dirname "$0")/../.."

say() { printf '\n%s\n' "$*" >&2; }

# Show a command as a user would type it, then run it.
run() {
  printf '  $ %s\n' "$*" >&2
  "$@"
}

stop() {
  local status=$?
  trap - EXIT INT TERM
  say "Stopping the cloud on this computer."
  run python run.py --local stop || true
  if ((status == 0)); then
    goodbye
  else
    say "The demo did not finish (exit code $status): the lines before \"Stopping\" say why."
  fi
  exit "$status"
}

goodbye() {
  say "Done in $SECONDS seconds.
  the plate     local/plate.png
  the results   local/your-bucket-name/cellcount/results/, one folder a job
  the records   local/your-bucket-name/runs/, what happened to each job, and its log

To go on:
  source .venv/bin/activate       then the same commands work as you type them
  config.py                       how many machines, of which kind, how many jobs at once
  files/exampleJob.json           what a job is: its inputs, its command, its results
Without --local, the same four commands use AWS: README.md says what an account needs first."
}

trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say "This counts the cells in the 96 wells of a plate. Each well is a job, in a cloud that this computer plays."

say "1. Make what a run needs: a queue for the jobs, a place for logs, a cluster. config.py names them."
run python run.py --local setup

say "2. Bring the pictures to the bucket and send the 96 jobs to the queue."
run python run.py --local submitJob files/exampleJob.json

say "3. Ask for machines. They take jobs from the queue as soon as they are there."
run python run.py --local startCluster files/exampleFleet.json

say "4. Watch until all jobs are through, then end the machines and clean up."
run python run.py --local monitor files/DistributedSomethingSpotFleetRequestId.json

say "5. The results are ordinary files now. Draw the plate from them."
run python examples/cellcount/program/draw_plate.py local/your-bucket-name/cellcount/results local/plate.png
