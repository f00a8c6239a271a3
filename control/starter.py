"""What a new project starts with that no other has: an example job with its data, and a README of one screen."""

from __future__ import annotations

import shlex

from control import jobtext

PROGRAM = "sort -o {output_dir}/{file} {input_dir}/{file}"  # whatever an image has, it has this
DATA = {"one.txt": "plum\napple\n", "two.txt": "pear\nfig\n", "three.txt": "quince\nlemon\n"}
_SHELLS_OWN = {"|", "||", "&", "&&", ";", "<", ">", ">>", "2>", "(", ")"}


def needs_shell(command: str) -> bool:
    """Whether the command has a pipe, a redirection or the like, which only a shell understands. Raises ValueError for
    an open quote."""
    words = shlex.shlex(command, posix=False, punctuation_chars="|&;<>")
    words.whitespace_split = True
    return any(word in _SHELLS_OWN or set(word) <= set("|&;<>") for word in words)


def job_file(app_name: str, program: str) -> str:
    """Three jobs, one a file of `DATA`, that run `program`."""
    place = app_name.lower()
    content = {
        "_comment1": "Keys with _comment in their name are for you alone. {Words in braces} are filled in, job by job.",
        "_comment2": "upload: folders here, beside this file, and where submitJob puts them in the bucket.",
        "upload": {"data": f"{place}/data"},
        "_comment3": "inputs: what is fetched first; command: what a job runs; output_location: where results go.",
        "inputs": [f"{place}/data/{{file}}"],
        "command": program,
        **({"shell": True} if needs_shell(program) else {}),
        "output_location": f"{place}/results/{{job}}",
        "_comment4": "A job that writes fewer files, or takes longer, has failed, and is tried again.",
        "expected_files": 1,
        "timeout_minutes": 60,
        "_comment5": "groups: one object a job. run.py makeJobs lists them from files, a table, plates or a bucket.",
    }
    return "".join(jobtext.lines(content, ({"file": name} for name in DATA)))


def readme(app_name: str, example: str | None, preparations: list[str], *, shows: bool) -> str:
    """`preparations`: the commands that an example needs before the first of the four; `shows`: it has a script that
    puts results together."""
    made = f"the example `{example}` of the template" if example else "the template"
    prepared = "".join(f"\n    {command}" for command in preparations)
    own = "" if example else _OWN_FILES
    show = "; `./show-results.sh local/your-bucket-name` puts them together" if shows else ""
    return _README.format(app=app_name, made=made, prepared=prepared, own=own, show=show)


_OWN_FILES = """Files of your own: put them into `files/data/`, in place of the three small texts, and list them:

    python run.py makeJobs --files files/data --like files/exampleJob.json -o files/exampleJob.json --force

"""
_README = """# {app}

An implementation of Distributed-Something, made from {made}.
It runs a program over many files, on AWS or on this computer.

## Run it here

    make venv                          # not needed where an environment of the template's is active
    source .venv/bin/activate{prepared}
    python run.py --local setup
    python run.py --local submitJob files/exampleJob.json
    python run.py --local startCluster files/exampleFleet.json
    python run.py --local monitor files/{app}SpotFleetRequestId.json
    python run.py --local stop

{own}Results are ordinary files below `local/`{show}. One job alone, to see why it fails:

    python run.py --local runJob files/exampleJob.json --index 1 --upload

## What you edit

| file | what it is |
| --- | --- |
| `files/exampleJob.json` | the jobs: [how](docs/files.md#the-job-file); `run.py makeJobs` makes long lists |
| `config.py` | names, machines, prices |
| `Makefile`, its first lines | `base`: the image with the program; `user`, `project`, `tag`: what `make build` makes |
| `worker/Dockerfile`, above its marker line | further lines for the program's image |
| `worker/generic-worker.py`, `scripts/`, `requirements-own.txt` | [where a job file is not enough](docs/your-own.md) |

All else is the machinery. A newer one is brought in from a newer clone of the template:
`python run.py --project THIS_FOLDER upgrade`. It touches nothing of the table.

## Run it on AWS

`make build push`, then [the same commands](docs/commands.md) without `--local`; first, once for an account, `setupAWS`
and `fleetFile`, and `check` before it costs money.
"""
