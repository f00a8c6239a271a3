"""What a new project starts with that no other has: an example job with its data, and a README of one screen."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

from distributed_something.core.files import read_text_file, write_file_atomically
from distributed_something.jobs.job_file import iter_job_file_lines

DEFAULT_PROGRAM = "sort -o {output_dir}/{file} {input_dir}/{file}"  # whatever an image has, it has this
EXAMPLE_DATA = {"one.txt": "plum\napple\n", "two.txt": "pear\nfig\n", "three.txt": "quince\nlemon\n"}
_SHELL_OPERATORS = {"|", "||", "&", "&&", ";", "<", ">", ">>", "2>", "(", ")"}


def has_shell_syntax(command: str) -> bool:
    """Whether the command has a pipe, a redirection or the like, which only a shell understands. Raises ValueError for
    an open quote."""
    words = shlex.shlex(command, posix=False, punctuation_chars="|&;<>")
    words.whitespace_split = True
    return any(word in _SHELL_OPERATORS or set(word) <= set("|&;<>") for word in words)


def build_example_job(app_name: str, program: str) -> str:
    """Three jobs, one a file of `DATA`, that run `program`."""
    place = app_name.lower()
    content = {
        "_comment1": "Keys with _comment in their name are for you alone. {Words in braces} are filled in, job by job.",
        "_comment2": "upload: folders here, beside this file, and where submitJob puts them in the bucket.",
        "upload": {"data": f"{place}/data"},
        "_comment3": "inputs: what is fetched first; command: what a job runs; output_location: where results go.",
        "inputs": [f"{place}/data/{{file}}"],
        "command": program,
        **({"shell": True} if has_shell_syntax(program) else {}),
        "output_location": f"{place}/results/{{job}}",
        "_comment4": "A job that writes fewer files, or takes longer, has failed, and is tried again.",
        "expected_files": 1,
        "timeout_minutes": 60,
        "_comment5": "groups: one object a job. run.py makeJobs lists them from files, a table, plates or a bucket.",
    }
    return "".join(iter_job_file_lines(content, ({"file": name} for name in EXAMPLE_DATA)))


def build_readme(app_name: str, example: str | None, preparations: list[str], *, shows: bool) -> str:
    """`preparations`: the commands that an example needs before the first of the four; `shows`: it has a script that
    puts results together."""
    made = f"the example `{example}` of the template" if example else "the template"
    prepared = "".join(f"\n    {command}" for command in preparations)
    own = "" if example else _OWN_FILES_SECTION
    show = "; `./show-results.sh local/your-bucket-name` puts them together" if shows else ""
    return _README_TEMPLATE.format(app=app_name, made=made, prepared=prepared, own=own, show=show)


_OWN_FILES_SECTION = """\
Files of your own: put them into `files/data/`, in place of the three small texts, and list them:

    python run.py makeJobs --files files/data --like files/exampleJob.json -o files/exampleJob.json --force

"""
_README_TEMPLATE = """# {app}

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

# What an example has for its life in the template, or that a run made.
_EXCLUDED_PATTERNS = ("README.md", "local", "__pycache__", ".venv", "*SpotFleetRequestId.json", "*.submitted", "*.pyc")


def copy_example(example: Path, project: Path) -> None:
    """Copies the example's files, and those that its scripts call beside it: `../once.py` becomes `once.py`."""
    shutil.copytree(example, project, dirs_exist_ok=True, ignore=_list_ignored_names)
    shared = [path for path in example.parent.iterdir() if path.is_file()]
    for script in sorted(project.glob("*.sh")):
        text = read_text_file(script, "a script")
        called = [path for path in shared if f"../{path.name}" in text]
        for path in called:
            text = text.replace(f"../{path.name}", path.name)
            shutil.copy(path, project)
        if called:
            write_file_atomically(script, text.encode(), executable=True)
    if (project / "get-data.sh").is_file():
        with (project / ".gitignore").open("a") as ignored:
            ignored.write("\n# The link to what get-data.sh fetched\n/data\n")


def _list_ignored_names(folder: str, names: list[str]) -> set[str]:
    """Links too: to what a script fetched to this computer, and will fetch again."""
    patterns = shutil.ignore_patterns(*_EXCLUDED_PATTERNS)(folder, names)
    return set(patterns) | {name for name in names if Path(folder, name).is_symlink()}


def iter_preparation_commands(project: Path) -> Iterator[str]:
    """The commands that make this computer ready for its jobs."""
    if (project / "requirements.txt").is_file():
        yield "pip install -r requirements.txt"
    if (project / "get-data.sh").is_file():
        yield "./get-data.sh"
    if (project / "get-program.sh").is_file():
        yield 'export PATH="$(./get-program.sh):$PATH"'
