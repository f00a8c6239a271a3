#!/usr/bin/env bash
# demo.sh [NAME]: runs and explains the four commands of a run on this computer, for an example (default: cellcount).
# Type `make demo` or `make demo EXAMPLE=NAME`, which first sets up the virtual environment. The local cloud is always
# stopped at the end, even after an error.
set -euo pipefail
cd "$(dirname "$0")/.."
example=examples/${1:-cellcount}

say() { printf '\n%s\n' "$*" >&2; }

# Shows a command as a user would type it, then runs it.
run() {
  printf '  $ %s\n' "$*" >&2
  "$@"
}

if [[ ! -f $example/config.py ]]; then
  names=(examples/*/config.py)
  names=("${names[@]#examples/}")
  echo "$example does not exist; use one of these examples: ${names[*]%/config.py}" >&2
  exit 2
fi
project=$example/
command=(python run.py --local --project "$example")
if [[ $example == examples/cellcount ]]; then
  project='' # this example uses config.py and files/ at the root, so its commands need no --project
  command=(python run.py --local)
fi

constant() { python -c 'import runpy, sys; print(runpy.run_path(sys.argv[1])[sys.argv[2]])' "${project}config.py" "$1"; }
name=$(constant APP_NAME)
results=${project}local/$(constant AWS_BUCKET)

stop() {
  local status=$?
  trap - EXIT INT TERM
  trap '' PIPE
  set +e # stop the local cloud even if a message cannot be printed
  say "Stopping the local cloud."
  run "${command[@]}" stop
  if ((status == 0)); then
    goodbye
  else
    say "The demo did not finish (exit code $status). The lines before \"Stopping\" show the error."
  fi
  exit "$status"
}

show_entry() { printf '  %-45s %s\n' "$1" "$2" >&2; }

goodbye() {
  say "Done in $SECONDS seconds."
  show_entry "$results/" "the results, one folder per job"
  show_entry "$results/runs/" "what happened to each job, and its log"
  if [[ -f ${project}local/plate.png ]]; then
    show_entry "${project}local/plate.png" "the plate; open it with any picture viewer"
  fi
  say "Next steps: type the same commands yourself, after 'source .venv/bin/activate'. You can edit:"
  show_entry "${project}config.py" "number and type of machines, jobs at a time"
  show_entry "${project}files/exampleJob.json" "the jobs: inputs, command, results"
  say "$example/README.md describes this example.
Without --local, the same commands use AWS. README.md explains how to prepare an account."
}

four_commands() {
  say "1. Create a queue for the jobs, log groups, and a cluster, as named in ${project}config.py."
  run "${command[@]}" setup

  say "2. Upload the input files to the bucket and send the jobs to the queue."
  run "${command[@]}" submitJob "$1"

  say "3. Request machines. They take jobs from the queue as soon as they have started."
  run "${command[@]}" startCluster files/exampleFleet.json

  say "4. Watch the run until all jobs have ended, then stop the machines and clean up."
  run "${command[@]}" monitor "${project}files/${name}SpotFleetRequestId.json"
}

# The first paragraph of the example's README describes it.
awk 'NR > 1 && NF { started = 1; print } started && !NF { exit }' "$example/README.md" >&2

if [[ -x $example/get-program.sh ]]; then
  say "Get the program for this computer. (On AWS, it is in the image that $example/worker/Dockerfile builds.)"
  # shellcheck disable=SC2016 # printed as a user would type it
  printf '  $ export PATH="$(%s/get-program.sh):$PATH"\n' "$example" >&2
  program=$("$example/get-program.sh")
  export PATH="$program:$PATH"
fi
if [[ -x $example/get-data.sh ]]; then
  say "Get the example's data, which are not in this repository. They are fetched once."
  run "$example/get-data.sh"
fi

trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 141' PIPE

four_commands "${project}files/exampleJob.json"
if [[ -f $example/files/mergeJob.json ]]; then
  say "Each job has uploaded its result. A second Job file merges them, with the same four commands."
  four_commands "${project}files/mergeJob.json"
fi
if [[ -x $example/show-results.sh ]]; then
  say "5. The results are ordinary files now. Show them all together."
  run "$example/show-results.sh" "$results"
fi
