#!/usr/bin/env bash
# demo.sh [NAME]: runs and explains the four commands on this computer, for one of the examples (default: cellcount).
# Run it with `make demo` or `make demo EXAMPLE=NAME`, which first sets up the virtual environment. The local cloud is
# always stopped at the end, even after an error.
set -euo pipefail
cd "$(dirname "$0")/.."
example=examples/${1:-cellcount}

print_message() { printf '\n%s\n' "$*" >&2; }

# Prints a command as a user would type it, and then runs it.
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
# The files at the root run the same jobs as cellcount. The demo leaves them alone, so that the user's own first run with
# them does real work instead of skipping jobs whose results the demo has made.
edited=$project
if [[ $example == examples/cellcount ]]; then edited=''; fi

constant() { python -c 'import runpy, sys; print(runpy.run_path(sys.argv[1])[sys.argv[2]])' "${project}config.py" "$1"; }
name=$(constant APP_NAME)
results=${project}local/$(constant AWS_BUCKET)

stop() {
  local status=$?
  trap - EXIT INT TERM
  trap '' PIPE
  set +e # stop the local cloud even if printing a message fails
  print_message "Stopping the local cloud."
  run "${command[@]}" stop
  if ((status == 0)); then
    show_next_steps
  else
    print_message "The demo did not finish (exit code $status). The error is shown above \"Stopping the local cloud\"."
  fi
  exit "$status"
}

show_entry() { printf '  %-45s %s\n' "$1" "$2" >&2; }

show_next_steps() {
  print_message "Done in $SECONDS seconds."
  show_entry "$results/" "the results, one folder per job"
  show_entry "$results/runs/" "what happened to each job, and its log"
  if [[ -f ${project}local/plate.png ]]; then
    show_entry "${project}local/plate.png" "the plate; open it with any picture viewer"
  fi
  print_message "Next steps: run the same commands yourself, after 'source .venv/bin/activate'. You can edit:"
  show_entry "${edited}config.py" "number and type of machines, parallel jobs"
  show_entry "${edited}files/exampleJob.json" "the jobs: inputs, command, results"
  if [[ -z $edited ]]; then
    print_message "README.md lists the commands for these two files. Your run has its own results, in local/."
  fi
  print_message "$example/README.md describes this example.
Without --local, the same commands use AWS. docs/run-on-aws.md explains how to prepare an account."
}

run_four_commands() {
  print_message "1. Create the job queue, log groups, and cluster that ${project}config.py specifies."
  run "${command[@]}" setup

  print_message "2. Upload the input files to the bucket and send the jobs to the queue."
  run "${command[@]}" submitJob "$1"

  print_message "3. Request machines. They start working on the jobs in the queue as soon as they are ready."
  run "${command[@]}" startCluster files/exampleFleet.json

  print_message "4. Watch the run until all jobs have ended, then stop the machines and clean up."
  run "${command[@]}" monitor "${project}files/${name}SpotFleetRequestId.json"
}

# The first paragraph of the example's README describes it.
awk 'NR > 1 && NF { started = 1; print } started && !NF { exit }' "$example/README.md" >&2

if [[ -x $example/get-program.sh ]]; then
  print_message "Get the program for this computer. (On AWS, it is in the image that $example/worker/Dockerfile builds.)"
  # shellcheck disable=SC2016 # printed as a user would type it
  printf '  $ export PATH="$(%s/get-program.sh):$PATH"\n' "$example" >&2
  program=$("$example/get-program.sh")
  export PATH="$program:$PATH"
fi
if [[ -x $example/get-data.sh ]]; then
  print_message "Get the example's data, which are not in this repository. They are fetched only once."
  run "$example/get-data.sh"
fi

trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 141' PIPE

run_four_commands "${project}files/exampleJob.json"
if [[ -f $example/files/mergeJob.json ]]; then
  print_message "Each job has uploaded its result. A second Job file merges them, with the same four commands."
  run_four_commands "${project}files/mergeJob.json"
fi
if [[ -x $example/show-results.sh ]]; then
  print_message "5. The results are now ordinary files. Show a summary of them."
  run "$example/show-results.sh" "$results"
fi
