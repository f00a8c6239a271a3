"""First files of a new project: an example Job file with its data, and a README of one screen."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import indent

from distributed_something.core.files import read_text_file, write_file_atomically
from distributed_something.jobs.command import has_shell_syntax
from distributed_something.jobs.job_file import iter_job_file_lines

DEFAULT_PROGRAM = "sort -o {output_dir}/{file} {input_dir}/{file}"  # available in almost every image
PROGRAM_PLACEHOLDERS = ("file", "input_dir", "output_dir", "scripts_dir", "job", "group")  # in the example Job file
PROGRAM_REQUIREMENTS = "program-requirements.txt"  # what an example's program needs on this computer
EXAMPLE_DATA = {"one.txt": "plum\napple\n", "two.txt": "pear\nfig\n", "three.txt": "quince\nlemon\n"}
EXPECTED_FOLDER = "files/expected"  # what the first job writes; `make test` compares its results with it
EXPECTED_RESULTS = {"one.txt": "apple\nplum\n"}
EXAMPLE_JOB = "exampleJob.json"


def build_example_job(app_name: str, program: str) -> str:
    """Return the text of a Job file that runs `program` once for each file in EXAMPLE_DATA."""
    prefix = app_name.lower()
    content = {
        "_comment1": "Keys whose name contains _comment are ignored. Words in {braces} are replaced in each job.",
        "_comment2": "upload: folders beside this file, and the bucket prefixes to which submitJob uploads them.",
        "upload": {"data": f"{prefix}/data"},
        "_comment3": "inputs: files a job fetches; command: what it runs; output_location: prefix of its results.",
        "inputs": [f"{prefix}/data/{{file}}"],
        "command": program,
        **({"shell": True} if has_shell_syntax(program) else {}),
        "output_location": f"{prefix}/results/{{job}}",
        "_comment4": "A job that writes fewer files or takes longer than this fails, and is retried.",
        "expected_files": 1,
        "timeout_minutes": 60,
        "_comment5": "groups: one object per job. run.py makeJobs lists them from files, a table, plates, or a bucket.",
    }
    return "".join(iter_job_file_lines(content, ({"file": name} for name in EXAMPLE_DATA)))


def build_readme(
    app_name: str,
    example: str | None,
    program: str | None,
    preparations: list[str],
    *,
    has_results_script: bool,
    job_files: Sequence[str] = (),
    fleet_files: Sequence[str] = (),
) -> str:
    """Return the text of a new project's README.

    `example` is the name of the example that it was created from; otherwise, `program` is the command of a job.
    `preparations` are the commands that an example needs before the first run. `has_results_script` is true if the
    project has a show-results.sh. `job_files` and `fleet_files`: names of the user's files in `files`, which replace
    those of the example.
    """
    if example:
        purpose = (
            f"This project was created from the example `{example}` of Distributed-Something. It runs a program on\n"
        )
        purpose += "many files, on AWS or on this computer."
    else:
        purpose = (
            "With Distributed-Something, each job of this project runs this command, on AWS or on this computer:\n\n"
        )
        purpose += indent(program or "", "    ")
    prepared = "".join(f"\n    {command}" for command in preparations)
    own = "" if example else _OWN_FILES_SECTION
    show = " To show them together: `./show-results.sh local/your-bucket-name`." if has_results_script else ""
    jobs, fleets = job_files or (EXAMPLE_JOB,), fleet_files or ("exampleFleet.json", f"{app_name}Fleet.json")
    row = f"| {_list_files(fleets)} | machines, network, and roles on AWS |\n"
    return _README_TEMPLATE.format(
        app=app_name, purpose=purpose, prepared=prepared, own=own, show=show, first_job_file=f"files/{jobs[0]}",
        job_file=shlex.quote(f"files/{jobs[0]}"), all_job_files=_list_files(jobs),
        fleet_file=shlex.quote(f"files/{fleets[0]}"), fleet_files_row=row if fleet_files else "",
        aws_fleet_file=shlex.quote(f"files/{(fleet_files or fleets[1:])[0]}"),
        fleet_command="" if fleet_files else " and `python run.py fleetFile`",
    )  # fmt: skip


def _list_files(names: Sequence[str]) -> str:
    return ", ".join(f"`files/{name}`" for name in names)


_OWN_FILES_SECTION = """\
The three small text files in `files/data/` are samples. If your program reads another format, first put your own files
there instead, and list them:

    python run.py --local makeJobs --files files/data --like files/exampleJob.json -o files/exampleJob.json --force

Then run the jobs:

"""
_README_TEMPLATE = """# {app}

{purpose}

## Run it on this computer

    make venv
    source .venv/bin/activate{prepared}

{own}    python run.py --local setup
    python run.py --local submitJob {job_file}
    python run.py --local startCluster {fleet_file}
    python run.py --local monitor files/{app}SpotFleetRequestId.json
    python run.py --local stop

Results are ordinary files in `local/`.{show} To run a single job and see why it fails:

    python run.py --local runJob {job_file} --index 1 --upload

## Test it

    make test

This runs the first job of `{first_job_file}` on this computer (`make test JOB=FILE`: of another file). It fails
if the job fails, or if its results differ from the files in `files/expected/`. Without this folder, results are not
compared. To create it from results that you have checked, or to replace it after you changed the program:

    rm -rf files/expected && cp -R local/runJob/*/job/output files/expected

## Files that you edit

| file | content |
| --- | --- |
| {all_job_files} | the jobs; `run.py makeJobs` lists many jobs |
{fleet_files_row}| `config.py` | names, machines, prices |
| `worker/Dockerfile` | the image with your program |
| `worker/generic-worker.py`, `scripts/`, `requirements-own.txt` | code for special cases |

`make venv` links the documentation: `.venv/docs/files.md` explains these files, `.venv/docs/your-own.md` the worker,
and `.venv/docs/commands.md` the commands. The package itself is the wheel in `vendor/`, which `requirements.txt` names.
To bring a newer version into this project, run this in a newer clone of the Distributed-Something repository:
`python run.py --project THIS_FOLDER upgrade`.

## Run it on AWS

1. Write your own `DOCKERHUB_TAG`, `AWS_BUCKET`, and `SSH_KEY_NAME` in `config.py`.
2. Once per account: `python run.py setupAWS`{fleet_command}.
3. Build and push the image: `make push`. On GitHub, `.github/workflows/image.yml` also builds it whenever you push
   a change of it to `main`, and pushes it to GitHub's registry; its last step shows the name for `DOCKERHUB_TAG`.
4. Type `setup` and `submitJob` as above, without `--local`. Then `python run.py check {aws_fleet_file}` finds
   mistakes before they cost money. Then type `startCluster` with this Fleet file, and `monitor`.
"""

# Files that an example needs only in the template, or that a run created.
_EXCLUDED_PATTERNS = (
    "README.md", "requirements.in", "local", "__pycache__", ".venv", "*SpotFleetRequestId.json", "*.submitted",
    "*.failures", "*.pyc",
)  # fmt: skip


def copy_example(example: Path, project: Path) -> None:
    """Copy the example's files and the shared scripts that it calls; change calls from `../once.py` to `once.py`."""
    shutil.copytree(example, project, dirs_exist_ok=True, ignore=_list_ignored_names)
    if (project / "requirements.txt").is_file():
        (project / "requirements.txt").rename(project / PROGRAM_REQUIREMENTS)
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
            ignored.write("\n# Link to the data that get-data.sh fetched\n/data\n")


def _list_ignored_names(folder: str, names: list[str]) -> set[str]:
    """Return the names that are not copied; they include links, because scripts fetch their targets again."""
    patterns = shutil.ignore_patterns(*_EXCLUDED_PATTERNS)(folder, names)
    return set(patterns) | {name for name in names if Path(folder, name).is_symlink()}


def iter_preparation_commands(project: Path) -> Iterator[str]:
    """Yield the commands that prepare this computer for the project's jobs."""
    if (project / PROGRAM_REQUIREMENTS).is_file():
        yield f"pip install -r {PROGRAM_REQUIREMENTS}"
    if (project / "get-data.sh").is_file():
        yield "./get-data.sh"
    if (project / "get-program.sh").is_file():
        yield 'export PATH="$(./get-program.sh):$PATH"'
