#!/usr/bin/env bash
# `make demo` and `make demo EXAMPLE=NAME`: the four commands of a run, on this computer, one after the other, explained.
# Needs the environment that make makes. Whatever happens, the local cloud is stopped at the end.
set -euo pipefail
cd "$(dirname "$0")/.."
example=examples/${1:-cellcount}

say() { printf '\n%s\n' "$*" >&2; }

# Show a command as a user would type it, then run it.
run() {
  printf '  $ %s\n' "$*" >&2
  "$@"
}

if [[ ! -f $example/config.py ]]; then
  names=(examples/*/config.py)
  names=("${names[@]#examples/}")
  echo "there is no $example; the examples are: ${names[*]%/config.py}" >&2
  exit 2
fi
project=$example/
command=(python run.py --local --project "$example")
if [[ $example == examples/cellcount ]]; then
  project='' # config.py and files/ at the root are its own: a newcomer types the commands without --project
  command=(python run.py --local)
fi

constant() { python -c 'import runpy, sys; print(runpy.run_path(sys.argv[1])[sys.argv[2]])' "${project}config.py" "$1"; }
name=$(constant APP_NAME)
results=${project}local/$(constant AWS_BUCKET)

stop() {
  local status=$?
  trap - EXIT INT TERM
  trap '' PIPE
  set +e # whatever cannot be said any more, the cloud is stopped
  say "Stopping the cloud on this computer."
  run "${command[@]}" stop
  if ((status == 0)); then
    goodbye
  else
    say "The demo did not finish (exit code $status): the lines before \"Stopping\" say why."
  fi
  exit "$status"
}

goodbye() {
  say "Done in $SECONDS seconds.
  the results     $results/, one folder a job
  the records     $results/runs/, what happened to each job, and its log

To go on:
  source .venv/bin/activate, then the same commands work as you type them
  ${project}config.py says how many machines, of which kind, how many jobs at once
  ${project}files/exampleJob.json says what a job is: its inputs, its command, its results
  $example/README.md says more about this example
Without --local, the same four commands use AWS: README.md says what an account needs first."
}

four_commands() {
  say "1. Make what a run needs: a queue for the jobs, a place for logs, a cluster. ${project}config.py names them."
  run "${command[@]}" setup

  say "2. Bring what the jobs need to the bucket, and send the jobs to the queue."
  run "${command[@]}" submitJob "$1"

  say "3. Ask for machines. They take jobs from the queue as soon as they are there."
  run "${command[@]}" startCluster files/exampleFleet.json

  say "4. Watch until all jobs are through, then end the machines and clean up."
  run "${command[@]}" monitor "${project}files/${name}SpotFleetRequestId.json"
}

# The first paragraph of the example's README says what it does.
awk 'NR > 1 && NF { seen = 1; print } seen && !NF { exit }' "$example/README.md" >&2

if [[ -x $example/get-program.sh ]]; then
  say "The program must be on this computer. (On AWS, it is in the image that $example/worker/Dockerfile names.)"
  # shellcheck disable=SC2016 # shown as a user would type it
  printf '  $ export PATH="$(%s/get-program.sh):$PATH"\n' "$example" >&2
  program=$("$example/get-program.sh")
  export PATH="$program:$PATH"
fi
if [[ -x $example/get-data.sh ]]; then
  say "The data are too large for this repository: they are fetched once."
  run "$example/get-data.sh"
fi

trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 141' PIPE

four_commands "${project}files/exampleJob.json"
if [[ -f $example/files/mergeJob.json ]]; then
  say "The results are there, one a job. A second Job file puts them together, with the same four commands."
  four_commands "${project}files/mergeJob.json"
fi
if [[ -x $example/show-results.sh ]]; then
  say "5. The results are ordinary files now. Look at them together."
  run "$example/show-results.sh" "$results"
fi
