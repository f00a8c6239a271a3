"""The commands for your own project: `newProject`, `makeJobs`, `runJob`, and `upgrade`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from distributed_something.cli.completion.values import ProjectFile
from distributed_something.cli.context import Context
from distributed_something.cli.group import Command
from distributed_something.core.text import format_row, format_wrapped_row

if TYPE_CHECKING:
    from distributed_something.core.errors import InputError
    from distributed_something.project.move_in.move_in import MoveReport, OldProject

_Checked = TypeVar("_Checked")


@click.command(
    "newProject",
    cls=Command,
    needs="A Docker image that contains your program, and the command that runs your program on one file.",
    examples=(
        "newProject ../seqtk --base biocontainers/seqtk:v1.3-1-deb_cv1",
        "newProject ../my-cells --from cellprofiler --app-name MyCells",
        "newProject ../new --from fiji --config old/config.py --files old",
    ),
    next_step="Read README.md in the new project: it shows how to build the image and run it.",
)
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))
@click.option("--from", "example", metavar="EXAMPLE", help="Start from a folder in examples/ instead of the template.")
@click.option(
    "--files",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Move in: copy this folder of an old project, whose config --config names.",
)
@click.option("--app-name", metavar="NAME", help="APP_NAME, which names everything in AWS [default: based on FOLDER].")
@click.option("--image", metavar="USER/PROJECT:TAG", help="The name of the Docker image that you will build.")
@click.option("--base", metavar="IMAGE", help="The Docker image that contains the program.")
@click.option("--program", metavar="COMMAND", help="What a job runs, with {file}, {input_dir}, and {output_dir}.")
@click.pass_obj
def new_project(
    context: Context, /, folder: Path, example: str | None, files: Path | None, **options: str | None
) -> None:
    """Create a repository for your own program."""
    from distributed_something.project import new
    from distributed_something.project.move_in.move_in import format_report
    from distributed_something.project.starter import DEFAULT_PROGRAM

    base, program = options["base"], options["program"]
    if example and (base or program):
        raise click.UsageError("an example has its own program; leave out either --from, or --base and --program")
    new.check_project_folder(folder, example)
    old = _read_old_project(context.config, files, example)
    name = _ask(
        "APP_NAME, which names everything in AWS",
        options["app_name"],
        (old.config and old.config.app_name) or new.build_default_app_name(folder),
        new.check_app_name_option,
    )
    tag = _ask(
        "The name of the Docker image that you will build", options["image"], new.build_default_image(name),
        new.parse_image_option,
    )  # fmt: skip
    if not example:
        base = _ask("The Docker image that contains the program", base, "debian:bookworm-slim", new.check_base_option)
        program = _ask("What a job runs", program, DEFAULT_PROGRAM, new.check_program_option)
    report = new.create_project(folder, new.ProjectSpec(name, tag, base, program, example, old))
    is_committed = new.commit_project(folder)
    context.console.print_progress(format_row("created", f"{folder}{', with a first commit' if is_committed else ''}"))
    for line in format_report(report, str(tag), _list_placeholders(folder, report)) if report else ():
        context.console.print_progress(line)
    if note := _explain_missing_output(program or DEFAULT_PROGRAM):
        context.console.print_progress(format_wrapped_row("note", note))
    context.console.print_progress(f"next: cd {shlex.quote(str(folder))}, then read README.md")


def _explain_missing_output(program: str) -> str:
    """Return what to write if a job's command does not name the folder of its results; "" if it does."""
    from distributed_something.jobs.command import has_shell_syntax
    from distributed_something.worker import list_placeholders

    if "output_dir" in list_placeholders(program):
        return ""
    if ">" in program:
        remedy = "write to a file in {output_dir}, such as {output_dir}/{file}"
    else:
        remedy = "if the program prints its result, add > {output_dir}/{file} to the command"
        remedy += "" if has_shell_syntax(program) else ', and "shell": true to the Job file'
    fact = "the command in files/exampleJob.json has no {output_dir}, the folder whose files are a job's results"
    return f"{fact}. Its jobs will fail: {remedy}."


def _list_placeholders(folder: Path, report: MoveReport) -> list[InputError]:
    """Return the placeholders in the config and the moved Fleet files of a new project, with paths relative to it."""
    from distributed_something.core.config_settings import iter_config_placeholders
    from distributed_something.core.errors import InputError
    from distributed_something.fleet.fleet_file import list_fleet_placeholders
    from distributed_something.project.config_file import load_settings

    found = list(iter_config_placeholders(load_settings(folder / "config.py"), Path("config.py")))
    for name in sorted(report.files.fleet_files) if report.files else ():
        path = Path("files", name)
        errors = list_fleet_placeholders(folder / path)
        found += [InputError(path, error.key, error.problem, error.remedy) for error in errors]
    return found


def _read_old_project(config: Path | None, files: Path | None, example: str | None) -> OldProject:
    """Return what is moved into the new project. The config is executed."""
    from distributed_something.project.move_in.move_in import OldProject, check_old_files
    from distributed_something.project.move_in.old_config import read_old_config

    if (config or files) and not example:
        raise click.UsageError("with --config or --files, add --from EXAMPLE, such as --from cellprofiler")
    if files is not None:
        check_old_files(files)
    return OldProject(read_old_config(config) if config else None, files)


@click.command(
    "buildImage",
    cls=Command,
    needs="Docker, and the project's worker/Dockerfile, which contains your program. make build does this, too.",
    examples=("buildImage", "--project examples/cellcount buildImage --push"),
    next_step="--local --containers runJob, to try the image; buildImage --push, before a run on AWS",
)
@click.option("--base", metavar="IMAGE", help="Add the worker to this image instead of building worker/Dockerfile.")
@click.option("--push", is_flag=True, help="Push the image afterward.")
@click.pass_obj
def build_image(context: Context, base: str | None, push: bool) -> None:
    """Build the image DOCKERHUB_TAG: your program and the worker."""
    from distributed_something.project import build_image
    from distributed_something.project.config_file import load_settings

    settings = load_settings(context.config_file)
    platform = "" if context.local else build_image.choose_platform(settings, context.config_file)
    build_image.build_image(settings, context.project, base, platform)
    if push:
        build_image.push_image(settings)


@click.command(
    "makeJobs",
    cls=Command,
    needs="The plates and wells of your experiment, a table, a folder of files, or a prefix in a bucket.",
    examples=(
        "makeJobs --plates P1,P2 --wells 96",
        "makeJobs --files examples/cellcount/images --match '{well}.png'",
    ),
    next_step="submitJob JOBFILE --dry-run, which checks the file",
)
@click.option("--plates", metavar="LIST", help="Plates, such as P1,P2 or P01-P12.")
@click.option("--wells", metavar="LIST", help="Wells: 96 or 384 for all, or A01-H12,B02.")
@click.option("--rows", metavar="LIST", help="Rows, such as A-H; with --columns.")
@click.option("--columns", metavar="LIST", help="Columns, such as 1-12.")
@click.option("--sites", metavar="LIST", help="Sites, such as 1-9.")
@click.option(
    "--exclude",
    multiple=True,
    metavar="LIST",
    help="Leave out WELL, PLATE/WELL, or PLATE/WELL/SITE; * matches anything. Can be repeated.",
)
@click.option(
    "--pad", default=2, show_default=True, type=click.IntRange(1, 9), help="Digits in a well's column number."
)
@click.option("--batch", default=1, metavar="N", type=int, help="Put N sites (or wells, or plates) into one job.")
@click.option("--table", metavar="FILE", type=click.Path(path_type=Path), help="One job per row of a CSV or TSV file.")
@click.option("--files", metavar="FOLDER", type=click.Path(path_type=Path), help="One job per file.")
@click.option("--objects", metavar="S3://BUCKET/PREFIX/", help="One job per object in a bucket.")
@click.option("--match", metavar="PATTERN", help="Pattern for the names, such as '{plate}/{well}_s{site}.tif'.")
@click.option("--by", metavar="NAMES", help="One job for all rows or files with the same values in these fields.")
@click.option("--metadata", is_flag=True, help="Write CellProfiler's form: Metadata_Plate=P1,Metadata_Well=A01.")
@click.option("--like", metavar="JOBFILE", type=ProjectFile("Job file"), help="Copy the shared keys of this Job file.")
@click.option("--set", "put", multiple=True, metavar="KEY=VALUE", help="Add or replace a shared key. Can be repeated.")
@click.option(
    "--output",
    "-o",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Where to write it [default: standard output].",
)
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@click.pass_obj
def make_jobs(context: Context, /, output: Path | None, force: bool, **options: Any) -> None:
    """Write a Job file from plates, a table, files, or a bucket."""
    from distributed_something.jobs.make_jobs import MakeJobsOptions, build_job_file, save_job_file
    from distributed_something.results.command_line import format_next_command

    text, count = build_job_file(MakeJobsOptions(**options), output, context.list_objects)
    if output is None:
        context.console.print_result(text.removesuffix("\n"))
        return
    save_job_file(text, output, force=force)
    context.console.print_progress(format_row("jobs", f"{count:,} in {output}"))
    context.console.print_progress(format_next_command(context.command_line.format_command("submitJob", str(output))))


@click.command(
    "runJob",
    cls=Command,
    needs="config.py and a Job file; with --containers, also Docker and the image.",
    examples=(
        "--local runJob files/exampleJob.json --index 1",
        "--containers runJob files/exampleJob.json --id A01-0123456789",
    ),
    next_step="Read the log in the folder shown, correct the job, and submit it again.",
)
@click.argument("job_file", metavar="JOBFILE", type=ProjectFile("Job file"))
@click.option("--index", metavar="N", type=click.IntRange(1), help="The job's number in the Job file, from 1.")
@click.option("--id", "identity", metavar="JOBID", help="The job's ID, as shown by monitor and in records.")
@click.option("--upload", is_flag=True, help="First upload the folders in the Job file's `upload` key.")
@click.pass_obj
def run_job(context: Context, job_file: Path, index: int | None, identity: str | None, upload: bool) -> None:
    """Run one job on this computer to see why it fails."""
    from distributed_something.jobs import run_job
    from distributed_something.jobs.docker import Docker
    from distributed_something.jobs.job_file import load_job_file
    from distributed_something.jobs.job_keys import collect_own_names
    from distributed_something.jobs.uploads.upload_folders import upload_folders
    from distributed_something.project.template import find_template_file

    if (index is None) == (identity is None):
        raise click.UsageError("choose one job with --index N (from 1) or --id JOBID")
    containers, context = (
        context.containers,
        replace(context, containers=False),
    )  # the workers of a local run are not affected
    settings = context.settings
    context.check_file(job_file, "Job file", "runJob")
    loaded = load_job_file(job_file, context.list_objects, collect_own_names(context.project / "worker"))
    job = run_job.select_job(loaded, index, identity)
    if upload:
        upload_folders(context.clients.s3, settings.AWS_BUCKET, loaded.uploads, context.console.print_progress)
    aws = (
        context.cloud.build_worker_environment()
        if context.cloud
        else context.clients.credentials() | run_job.read_endpoint_variables()
    )
    folder, container = run_job.prepare_job_folder(context.project, job), run_job.build_one_job_container(settings)
    if containers:
        code = run_job.run_worker_container(folder, container, aws, Docker())
    else:
        code = run_job.run_worker_process(
            (context.project / "worker").resolve(), find_template_file("worker"), folder, container, aws
        )
    outcome = run_job.load_job_outcome(folder, code, uploads=bool(loaded.uploads) and not upload, container=containers)
    context.console.print_result(run_job.format_job_outcome(outcome))
    raise SystemExit(outcome.exit_code)


@click.command(
    cls=Command,
    needs="The newer version, as a clone of the repository or an installed package, and the folder of your project.",
    examples=("--project ../my-cells upgrade --dry-run", "--project ../my-cells upgrade"),
    next_step="make build, in your project",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be changed.")
@click.option("--force", is_flag=True, help="Convert an older project even if you have edited its copied code.")
@click.pass_obj
def upgrade(context: Context, dry_run: bool, force: bool) -> None:
    """Bring this version of the package into a project."""
    from distributed_something.project import convert
    from distributed_something.project.upgrade import upgrade_project

    project, console = context.project, context.console
    if convert.is_older_form(project):
        plan = convert.plan_conversion(project)
        if not force:
            convert.check_no_edits(plan, project)
        lines = (
            [format_row("delete", name) for name in plan.deleted] if dry_run else convert.convert_project(project, plan)
        )
    else:
        lines = upgrade_project(project, dry_run=dry_run)
    for line in lines:
        console.print_result(line)


def _ask(question: str, option: str | None, default: str, check: Callable[[str], _Checked]) -> _Checked:
    """Return the value of the option, or what the user enters at a prompt. Without a terminal, return `default`."""
    if option is not None or not sys.stdin.isatty():
        return check(default if option is None else option)

    def parse_input(text: str) -> _Checked:
        from distributed_something.core.errors import InputError

        try:
            return check(text)
        except InputError as error:
            raise click.UsageError(str(error)) from None  # click then prompts again

    value: _Checked = click.prompt(question, default=default, value_proc=parse_input, err=True)
    return value
