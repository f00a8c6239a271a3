#!/usr/bin/env python3
"""Distributes a Dockerized program over AWS, or over this computer with --local.

Parses arguments, builds settings and clients, calls one function of `control/`, and names the exit codes. It is the
only place that makes a boto3 session. boto3 is imported by the commands that need it, so that help is quick.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from control.clients import Clients
    from control.settings import Settings
    from localcloud import Cloud

ROOT = Path(__file__).resolve().parent
GROUPS = {
    "The four commands, in this order": ("setup", "submitJob", "startCluster", "monitor"),
    "The account, once; and a look before it costs money": ("setupAWS", "fleetFile", "check"),
    "When something is wrong": ("why", "cleanup"),
    "Making your own": ("newProject", "makeJobs", "runJob", "upgrade"),
    "The cloud in this computer (with --local)": ("interrupt", "stop"),
}
_Command = TypeVar("_Command", bound=Callable[..., Any])
_Checked = TypeVar("_Checked")


class Number(click.FloatRange):
    """A number within limits; click's own lets nan through, which is within none."""

    name = "number"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> float:
        number: float = super().convert(value, parameter, context)
        return number if number == number else self.fail(f"{value!r} is no number", parameter, context)


class Exit(IntEnum):
    """What run.py ends with."""

    DONE = 0
    CLOUD = 1  # AWS refused or failed
    INPUT = 2  # arguments, config, job, fleet or monitor file are wrong; nothing was created or sent
    INTERRUPTED = 130


@dataclass
class Options:
    """What the common options say; each may stand before or after the command."""

    local: bool = False
    containers: bool = False
    config: Path | None = None
    project: Path = ROOT
    debug: bool = False

    def config_file(self) -> Path:
        return _short(self.config or self.project / "config.py")

    def settings(self) -> Settings:
        from control import settings

        loaded = settings.load(self.config_file())
        if not self.local:
            settings.require_filled_in(loaded, self.config_file())
        return loaded

    def cloud(self, settings: Settings) -> Cloud | None:
        """The cloud in this computer, started if need be; None for AWS."""
        if not self.local:
            return None
        import localcloud

        cloud = localcloud.start(self.project, containers=self.containers, region=settings.AWS_REGION, worker_root=ROOT)
        cloud.make_buckets([settings.AWS_BUCKET])
        return cloud

    def clients(self, settings: Settings, cloud: Cloud | None) -> Clients:
        import os

        import boto3

        from control.clients import Clients
        from control.errors import doing

        if cloud is not None:
            os.environ.update(cloud.environment())
            return Clients(boto3.Session(region_name=settings.AWS_REGION))
        with doing("logging in to AWS"):
            profile = None if settings.AWS_PROFILE in ("", "default") else settings.AWS_PROFILE
            return Clients(boto3.Session(profile_name=profile, region_name=settings.AWS_REGION))


class Grouped(click.Group):
    """Lists the commands as a user meets them, not by the alphabet."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(name, self.commands[name].get_short_help_str(60)) for name in names])


def _remember(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    options = ctx.find_root().ensure_object(Options)
    if value not in (None, False) and parameter.name:
        setattr(options, parameter.name, value)


def common(command: _Command) -> _Command:
    """The options that stand before or after the command."""
    folder, file = click.Path(path_type=Path, file_okay=False, exists=True), click.Path(path_type=Path)
    for option in (
        click.option("--debug", is_flag=True, help="Show the traceback of an error."),
        click.option("--project", type=folder, help="Another folder with config.py, files/ and worker/."),
        click.option("--config", type=file, help="Another config file."),
        click.option("--containers", is_flag=True, help="With --local: run workers in Docker containers."),
        click.option("--local", is_flag=True, help="Use the cloud in this computer instead of AWS."),
    ):
        decorate = option
        command = decorate(command)
    for parameter in command.__click_params__[-5:]:  # type: ignore[attr-defined]
        parameter.callback, parameter.expose_value = _remember, False
    return command


@click.group(cls=Grouped, context_settings={"help_option_names": ["-h", "--help"]}, epilog="docs/ has the whole story.")
@common
def cli() -> None:
    """Distribute a Dockerized program over AWS.

    \b
    Try it on this computer, without AWS:
      python run.py --local setup
      python run.py --local submitJob files/exampleJob.json
      python run.py --local startCluster files/exampleFleet.json
      python run.py --local monitor files/DistributedSomethingSpotFleetRequestId.json
    """


@cli.command()
@common
@click.pass_obj
def setup(options: Options) -> None:
    """Make the queue, the logs, the cluster and an empty service."""
    import time

    from control.setup import setup as make

    settings = options.settings()
    clients = options.clients(settings, options.cloud(settings))
    make(settings, clients, say, time.sleep)
    say("next: submitJob JOBFILE")


@cli.command("submitJob")
@click.argument("job_file", metavar="JOBFILE", type=click.Path(path_type=Path))
@click.option(
    "--dry-run", is_flag=True, help="Check everything, print the number of jobs and one message, send nothing."
)
@click.option("--resume", is_flag=True, help="Go on with a submission that was interrupted.")
@common
@click.pass_obj
def submit_job(options: Options, job_file: Path, dry_run: bool, resume: bool) -> None:
    """Check a Job file and send its jobs to the queue."""
    import time

    from control import jobs, s3, submit
    from control.view import SubmitView

    settings = options.settings()
    clients = _Lazily(lambda: options.clients(settings, options.cloud(settings)))
    loaded = jobs.load(job_file, lambda bucket, prefix: s3.keys(clients().s3, bucket, prefix))
    planned = submit.plan(loaded)
    if dry_run:
        click.echo(f"{planned.count} jobs; the first message:\n{planned.first}")
        return
    journal = submit.Journal(job_file.parent / f".{job_file.name}.submitted", resume=resume)
    with SubmitView(planned.count) as progress:
        sent = submit.submit(
            settings, clients(), loaded, planned, journal=journal, progress=progress, say=say, sleep=time.sleep
        )
    say(f"jobs            {sent:,} of {planned.count:,} sent to {settings.SQS_QUEUE_NAME}")
    say("next: startCluster FLEETFILE")


@cli.command("startCluster")
@click.argument("fleet_file", metavar="FLEETFILE", type=click.Path(path_type=Path))
@click.option("--wait", default=10.0, show_default=True, metavar="MINUTES", type=Number(0, 1440),
              help="How long to watch machines arrive.")  # fmt: skip
@click.option("--cheapest", is_flag=True, help="After 15 minutes, replace no machine that ends.")
@common
@click.pass_obj
def start_cluster(options: Options, fleet_file: Path, wait: float, cheapest: bool) -> None:
    """Request the machines; they take jobs as they come."""
    from control import dashboard, fleetrequest, monitorfile, start

    settings = options.settings()
    content = fleetrequest.load(fleet_file)
    cloud = options.cloud(settings)
    clients = options.clients(settings, cloud)
    if cloud is not None:
        content = cloud.fill_in(content)
        settings = settings.model_copy(update={"EXPORT_LOGS": False})  # its log streams are files already
    clock = start.Clock()
    run = start.start_cluster(
        settings, clients, fleet_file, content, options.project, clock, cheapest=cheapest,
        look=lambda: _look_before(settings, clients, fleet_file, content, local=cloud is not None),
    )  # fmt: skip
    path = _short(monitorfile.path_for(options.project, settings.APP_NAME))
    say(f"fleet           {run.MONITOR_FLEET_ID} (run {run.run})")
    if settings.CREATE_DASHBOARD:
        say(dashboard.put_dashboard(clients.cloudwatch, settings, run.MONITOR_FLEET_ID))
    say("monitor         runs in AWS, once a minute" if settings.AUTO_MONITOR else f"next: monitor {path}")
    pause = 0.5 if options.local else 15.0
    start.watch_arrivals(settings, clients, run, clock, wait_minutes=wait, pause=pause, say=say)


@cli.command()
@click.argument("monitor_file", metavar="MONITORFILE", type=click.Path(path_type=Path))
@click.argument(
    "cheapest", required=False, metavar="[True|False]", type=click.Choice(["True", "False"], case_sensitive=False)
)
@click.option("--cheapest", "cheapest_option", is_flag=True, help="After 15 minutes, replace no machine that ends.")
@common
@click.pass_obj
def monitor(options: Options, monitor_file: Path, cheapest: str | None, cheapest_option: bool) -> None:
    """Watch the run; once all jobs are through, clean up."""
    from control import finish, monitorfile
    from control.decide import Pace

    run = monitorfile.load(monitor_file)
    settings = options.settings()
    cloud = options.cloud(settings)
    clients = options.clients(settings, cloud)
    pace = Pace(look=0.5, soon=0.5, settle=2.0, new=3.0) if cloud else Pace()  # the counts of the local queue are exact
    clean = finish.monitor(clients, run, settings, cheapest=cheapest == "True" or cheapest_option, pace=pace)
    if cloud is not None:
        say(f"results         {_short(cloud.export([run.MONITOR_BUCKET_NAME]) / run.MONITOR_BUCKET_NAME)}")
    if not clean:
        raise SystemExit(Exit.CLOUD)


@cli.command("setupAWS")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--destroy", is_flag=True, help="Remove what setupAWS made.")
@click.option("--read", multiple=True, metavar="BUCKET", help="Another bucket that job files read; repeatable.")
@click.option("--write", multiple=True, metavar="BUCKET", help="Another bucket that job files write; repeatable.")
@click.option("--policies", is_flag=True, help="Print what an administrator hands out to people, and do nothing.")
@common
@click.pass_obj
def setup_aws(
    options: Options, dry_run: bool, destroy: bool, read: tuple[str, ...], write: tuple[str, ...], policies: bool
) -> None:
    """Make the account's roles and its auto-monitor."""
    import json
    import time

    from control import account, steps

    settings = options.settings()
    clients = options.clients(settings, options.cloud(settings))
    place, buckets = account.place_of(clients, settings.AWS_REGION), account.buckets_of(settings, read, write)
    if policies:
        click.echo(json.dumps(account.to_hand_out(place, buckets), indent=2))
        return
    rows = (
        account.destroy(clients, place, buckets, dry_run=dry_run)
        if destroy
        else account.set_up(clients, place, buckets, ROOT, time.sleep, dry_run=dry_run)
    )
    left = False
    for row in rows:
        click.echo(str(row))
        left = left or row.state == steps.LEFT
    if left:
        raise SystemExit(Exit.CLOUD)


@cli.command("fleetFile")
@click.option("--vpc", metavar="ID", help="Another network than the region's default one.")
@click.option("--output", type=click.Path(path_type=Path), help="Where to write it; files/APP_NAMEFleet.json without.")
@click.option("--force", is_flag=True, help="Overwrite a file that exists.")
@common
@click.pass_obj
def fleet_file(options: Options, vpc: str | None, output: Path | None, force: bool) -> None:
    """Write a Fleet file that is ready for this account."""
    import time

    from control import account, fleetfile

    settings = options.settings()
    clients = options.clients(settings, options.cloud(settings))
    place = account.place_of(clients, settings.AWS_REGION)
    path = output or _short(options.project / "files" / f"{settings.APP_NAME}Fleet.json")
    for line in fleetfile.write(
        clients, place, settings, options.config_file(), path, time.sleep, vpc=vpc, force=force
    ):
        say(line)
    say(f"next: startCluster {path}")


@cli.command()
@click.argument("fleet_file", required=False, metavar="[FLEETFILE]", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="The list for scripts.")
@common
@click.pass_obj
def check(options: Options, fleet_file: Path | None, as_json: bool) -> None:
    """Look at everything before it costs money."""
    from datetime import UTC, datetime

    from control import check, findings, fleetrequest

    settings = options.settings()
    content = fleetrequest.load(fleet_file) if fleet_file else None
    cloud = options.cloud(settings)
    clients = options.clients(settings, cloud)
    if cloud is not None and content is not None:
        content = cloud.fill_in(content)
    found = check.check(settings, clients, fleet_file, content, datetime.now(UTC))
    click.echo(findings.as_json(found) if as_json else findings.text(found))
    raise SystemExit(findings.exit_code(found))


@cli.command()
@click.argument("monitor_file", required=False, metavar="[MONITORFILE]", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="The answer for scripts.")
@common
@click.pass_obj
def why(options: Options, monitor_file: Path | None, as_json: bool) -> None:
    """Say why nothing is running, the most likely cause first."""
    import time

    from control import evidence, monitorfile, why

    run = monitorfile.load(monitor_file) if monitor_file else None
    settings = options.settings()
    clients = options.clients(settings, options.cloud(settings))
    subject = evidence.of_run(run) if run else evidence.without_file(settings, clients)
    seen = evidence.gather(clients, subject, time.time())
    causes = why.rank(seen)
    click.echo(why.as_json(seen, causes) if as_json else why.text(seen, causes))


@cli.command()
@click.argument("monitor_file", required=False, metavar="[MONITORFILE]", type=click.Path(path_type=Path))
@click.option("--verify", is_flag=True, help="Only list what is left of this run, or without a file of all runs.")
@click.option("--stale", is_flag=True, help="List what older runs left; with --yes, remove it.")
@click.option("--yes", is_flag=True, help="Even if jobs are lost that still wait.")
@click.option("--failed-too", is_flag=True, help="Delete the dead-letter queue with the failed jobs in it.")
@common
@click.pass_obj
def cleanup(
    options: Options, monitor_file: Path | None, verify: bool, stale: bool, yes: bool, failed_too: bool
) -> None:
    """Remove all of a run at once, or list what is left."""
    from control import finish, monitorfile

    run = monitorfile.load(monitor_file) if monitor_file else None
    settings = options.settings()
    cloud = options.cloud(settings)
    clients = options.clients(settings, cloud)
    where = monitor_file or options.config_file()
    pause = 0.5 if cloud else 10.0
    if stale:
        clean = finish.remove_stale(clients, yes=yes)
    elif verify:
        clean = finish.verify(clients, run, settings, pause=pause)
    else:
        clean = finish.clean_up(clients, run, settings, where, pause=pause, yes=yes, failed_too=failed_too)
    if not clean:
        raise SystemExit(Exit.CLOUD)


@cli.command("newProject")
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))
@click.option(
    "--from", "example", metavar="EXAMPLE", help="Begin with an example of examples/ instead of the template."
)
@click.option("--app-name", metavar="NAME", help="APP_NAME, the name of all in AWS; the folder's without.")
@click.option("--image", metavar="USER/PROJECT:TAG", help="The image that will be made.")
@click.option("--base", metavar="IMAGE", help="The image that has the program.")
@click.option("--program", metavar="COMMAND", help="What a job runs, with {file}, {input_dir} and {output_dir}.")
@common
@click.pass_obj
def new_project(
    options: Options, folder: Path, example: str | None, app_name: str | None, image: str | None, base: str | None,
    program: str | None,
) -> None:  # fmt: skip
    """Make a repository for a program of your own."""
    from control import newproject, starter

    if example and (base or program):
        raise click.UsageError("an example has its own program; leave --base and --program out, or --from")
    newproject.check_place(ROOT, folder, example)
    name = _asked("APP_NAME, the name of all in AWS", app_name, newproject.default_app_name(folder),
                  newproject.app_name_of)  # fmt: skip
    tag = _asked("The image that will be made", image, newproject.default_image(name), newproject.image_of)
    if not example:
        base = _asked("The image that has the program", base, "debian:bookworm-slim", newproject.base_of)
        program = _asked("What a job runs", program, starter.PROGRAM, newproject.program_of)
    newproject.make(ROOT, folder, newproject.Wanted(name, tag, base, program, example))
    say(f"made            {folder}")
    say(f"next: cd {folder}, then see README.md")


@cli.command("makeJobs")
@click.option("--plates", metavar="LIST", help="Plates, such as P1,P2 or P01-P12.")
@click.option("--wells", metavar="LIST", help="Wells: 96 or 384 for all, or A01-H12,B02.")
@click.option("--rows", metavar="LIST", help="Rows, such as A-H; with --columns.")
@click.option("--columns", metavar="LIST", help="Columns, such as 1-12.")
@click.option("--sites", metavar="LIST", help="Sites, such as 1-9.")
@click.option("--exclude", multiple=True, metavar="LIST", help="WELL, PLATE/WELL or PLATE/WELL/SITE, with *.")
@click.option("--pad", default=2, show_default=True, type=click.IntRange(1, 9), help="Digits of a well's column.")
@click.option("--batch", default=1, metavar="N", type=int, help="So many sites (or wells, or plates) a job.")
@click.option("--table", metavar="FILE", type=click.Path(path_type=Path), help="One job a row of a CSV or TSV.")
@click.option("--files", metavar="FOLDER", type=click.Path(path_type=Path), help="One job a file.")
@click.option("--objects", metavar="S3://BUCKET/PREFIX/", help="One job an object of a bucket.")
@click.option("--match", metavar="PATTERN", help="How files or objects are named: '{plate}/{well}_s{site}.tif'.")
@click.option("--by", metavar="NAMES", help="One job for all that agree in these columns or parts of a name.")
@click.option("--metadata", is_flag=True, help="In CellProfiler's form: Metadata_Plate=P1,Metadata_Well=A01.")
@click.option("--like", metavar="JOBFILE", type=click.Path(path_type=Path), help="Whose shared keys to take.")
@click.option("--set", "put", multiple=True, metavar="KEY=VALUE", help="Another shared key, or another value.")
@click.option("--output", "-o", metavar="FILE", type=click.Path(path_type=Path), help="Where to write it.")
@click.option("--force", is_flag=True, help="Overwrite a file that exists.")
@common
@click.pass_obj
def make_jobs(options: Options, /, output: Path | None, force: bool, **asked: Any) -> None:
    """Make a Job file from plates, a table, files or a bucket."""
    from control import makejobs, s3

    def listed(bucket: str, prefix: str) -> Iterable[str]:
        settings = options.settings()
        return s3.keys(options.clients(settings, options.cloud(settings)).s3, bucket, prefix)

    text, count = makejobs.make(makejobs.Asked(**asked), output, listed)
    if output is None:
        click.echo(text, nl=False)
        return
    makejobs.save(text, output, force=force)
    say(f"jobs            {count:,} in {output}")
    say(f"next: submitJob {output}")


@cli.command("runJob")
@click.argument("job_file", metavar="JOBFILE", type=click.Path(path_type=Path))
@click.option("--index", metavar="N", type=click.IntRange(1), help="Which job: its number in the Job file, from 1.")
@click.option("--id", "identity", metavar="JOBID", help="Which job: its id, as monitor and records name it.")
@click.option("--upload", is_flag=True, help="Bring the Job file's `upload` folders to the bucket first.")
@common
@click.pass_obj
def run_job(options: Options, job_file: Path, index: int | None, identity: str | None, upload: bool) -> None:
    """Run one job here and keep its folder, to see why it fails."""
    from control import jobs, onejob, s3

    if (index is None) == (identity is None):
        raise click.UsageError("which job? give --index N, from 1, or --id JOBID")
    settings = options.settings()
    alike = replace(options, containers=False)  # the workers of a run under way stay what they are
    clients = _Lazily(lambda: options.clients(settings, alike.cloud(settings)))
    loaded = jobs.load(job_file, lambda bucket, prefix: s3.keys(clients().s3, bucket, prefix))
    job = onejob.find(loaded, index, identity)
    if upload:
        s3.bring_up(clients().s3, settings.AWS_BUCKET, loaded.uploads, say)
    cloud = alike.cloud(settings)
    aws = cloud.worker_environment() if cloud else clients().credentials() | onejob.addresses()
    folder, container = onejob.make_folder(options.project, job), onejob.container_of(settings)
    if options.containers:
        code = onejob.run_container(folder, container, aws, onejob.Docker())
    else:
        own = (options.project / "worker").resolve()
        code = onejob.run_process(own, ROOT / "worker", folder, container, aws)
    shown = onejob.verdict(folder, code, uploads=bool(loaded.uploads) and not upload, container=options.containers)
    click.echo(shown.text)
    raise SystemExit(shown.exit_code)


@cli.command()
@click.option("--dry-run", is_flag=True, help="Only list what would be done.")
@click.option("--force", is_flag=True, help="Even if edits of the machinery are lost.")
@common
@click.pass_obj
def upgrade(options: Options, dry_run: bool, force: bool) -> None:
    """Bring this machinery into an implementation (--project)."""
    from control import upgrade

    planned = upgrade.plan(ROOT, options.project)
    told = list(upgrade.to_look_at(planned, ROOT, options.project))
    kinds = {"add": planned.added, "replace": planned.replaced, "remove": planned.removed, "EDITED": planned.edited}
    if dry_run:
        for kind, names in kinds.items():
            for name in names:
                click.echo(f"{kind:<15} {name}")
    else:
        if not force:
            upgrade.require_unedited(planned, options.project)
        upgrade.apply(planned, options.project)
        counts = f"{len(planned.replaced)} files replaced, {len(planned.added)} added, {len(planned.removed)} removed"
        say(f"upgraded        {counts}" if planned.changed else "its machinery is this template's already")
    for line in told:
        click.echo(line)


@cli.command()
@click.argument("machine", required=False, metavar="[INSTANCE_ID]")
@click.option("--notice", default=120.0, show_default=True, metavar="SECONDS", type=Number(0, 120),
              help="How long the machine has left, as spot machines do.")  # fmt: skip
@common
@click.pass_obj
def interrupt(options: Options, machine: str | None, notice: float) -> None:
    """Take a machine away as a spot machine is taken."""
    _require_local(options, "interrupt")
    settings = options.settings()
    cloud = options.cloud(settings)
    assert cloud is not None
    say(f"machine         {cloud.interrupt(machine, notice_seconds=notice)} is taken away")


@cli.command()
@common
@click.pass_obj
def stop(options: Options) -> None:
    """End the cloud in this computer and all its processes."""
    _require_local(options, "stop")
    import localcloud

    say("the local cloud is stopped" if localcloud.stop(options.project) else "no local cloud was running")


def _look_before(
    settings: Settings, clients: Clients, fleet_file: Path, content: dict[str, Any], *, local: bool
) -> None:
    """Ends the command where `check` finds something wrong; what it warns of is said. The local cloud lacks much that
    it looks at, and costs nothing."""
    from datetime import UTC, datetime

    from control import check, findings
    from control.findings import Level

    found = check.check(settings, clients, fleet_file, content, datetime.now(UTC))
    least = (Level.WRONG,) if local else (Level.WRONG, Level.WARNING)
    if any(one.level in least for one in found):
        say(findings.text(found, least=least[-1]))
    if code := findings.exit_code(found):
        raise SystemExit(code)


class _Lazily:
    """Makes the clients when something first needs them: checking a job file needs none."""

    def __init__(self, make: Callable[[], Clients]) -> None:
        self._make, self._made = make, None

    def __call__(self) -> Clients:
        if self._made is None:
            self._made = self._make()  # type: ignore[assignment]
        return self._made  # type: ignore[return-value]


def say(text: str) -> None:
    """Progress goes to standard error."""
    click.echo(text, err=True)


def _asked(question: str, given: str | None, otherwise: str, check: Callable[[str], _Checked]) -> _Checked:
    """What an option says, or else what is typed; where nobody sits at a terminal, `otherwise`."""
    if given is not None or not sys.stdin.isatty():
        return check(otherwise if given is None else given)

    def typed(text: str) -> _Checked:
        from control.errors import InputError

        try:
            return check(text)
        except InputError as error:
            raise click.UsageError(str(error)) from None  # asked again

    answer: _Checked = click.prompt(question, default=otherwise, value_proc=typed, err=True)
    return answer


def _require_local(options: Options, command: str) -> None:
    if not options.local:
        raise click.UsageError(f"{command} is about the cloud in this computer; write: run.py --local {command}")


def _short(path: Path) -> Path:
    """The path as a user would type it from here."""
    try:
        return path.resolve().relative_to(Path.cwd())
    except (ValueError, OSError):
        return path


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; the exit code. No traceback reaches a user, but for --debug."""
    options = Options()
    try:
        cli.main(arguments, prog_name="run.py", standalone_mode=False, obj=options)
        return Exit.DONE
    except click.exceptions.NoArgsIsHelpError as error:
        return _fail(error, error.format_message(), Exit.INPUT, options)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "run.py"
        text = " ".join(error.format_message().split()).rstrip(".")
        return _fail(error, f"run.py: {text}; see: {command} --help", Exit.INPUT, options)
    except (KeyboardInterrupt, click.Abort) as error:
        return _fail(error, "run.py: interrupted; type the same command again", Exit.INTERRUPTED, options)
    except SystemExit as error:
        return int(error.code or 0)
    except Exception as error:  # the outermost edge: whatever it was, a user reads one line
        code = getattr(error, "exit_code", Exit.CLOUD)
        return _fail(error, f"run.py: {' '.join(str(error).split()) or type(error).__name__}", code, options)


def _fail(error: BaseException, text: str, code: int, options: Options) -> int:
    if options.debug:
        raise error
    say(text)
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
