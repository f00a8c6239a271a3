"""State shared by all commands: common options, settings, local cloud, and clients, each created when first needed.

Only this module creates a boto3 session. It imports boto3 where it is needed, so that --help is fast.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from distributed_something.cli.console import Console
from distributed_something.core.text import DEFAULT_PROGRAM

if TYPE_CHECKING:
    from distributed_something.aws.clients import Clients
    from distributed_something.core.config_settings import Settings
    from distributed_something.core.monitor_file import MonitorFile
    from distributed_something.localcloud import LocalCloud, LocalCloudError
    from distributed_something.results.command_line import CommandLine


class ExitCode(IntEnum):
    """The exit code of run.py."""

    DONE = 0
    CLOUD = 1  # AWS returned an error, or something could not be removed
    INPUT = 2  # an argument or a file is wrong; nothing was created or sent
    UNFINISHED = 3  # the run ended and everything that should go is removed, but not every job is done
    INTERRUPTED = 130


@dataclass
class Context:
    """The state of one run.py command.

    Most fields are the options that can be given before or after the command's name. `command`: its name.
    `runs_workers`: whether the command may lead to workers being started; the others work with the local cloud without
    a container engine.
    """

    local: bool = False
    containers: bool = False
    config: Path | None = None
    project: Path = field(default_factory=Path.cwd)
    default_project: Path | None = None  # used without --project
    debug: bool = False
    command: str = ""
    runs_workers: bool = True
    console: Console = field(default_factory=Console)

    def format_command(self, *words: str) -> str:
        """Return another command, to copy and paste, with the same shared options as this one."""
        return shlex.join([*self.program, *self.options, *words])

    @cached_property
    def program(self) -> tuple[str, ...]:
        """How the user started run.py, with its path as it was typed, so that it can be typed again here."""
        import sys

        path = Path(sys.argv[0])
        return ("python", str(path)) if path.name == "run.py" else DEFAULT_PROGRAM

    @property
    def config_file(self) -> Path:
        return shorten_path(self.config or self.project / "config.py")

    @cached_property
    def settings(self) -> Settings:
        """Return the settings in the config.

        Raise InputError if the config is invalid or still has placeholders, or if the project belongs to an older
        version.
        """
        from distributed_something.core.config_settings import check_placeholders_replaced

        settings = self.unchecked_settings
        if not self.local:
            check_placeholders_replaced(settings, self.config_file)
        return settings

    @cached_property
    def unchecked_settings(self) -> Settings:
        """Return the settings in the config, which may still have placeholders, so that AWS must not be called.

        Raise InputError if the config is invalid, or if the project belongs to an older version.
        """
        from distributed_something.diagnose.given_files import check_project
        from distributed_something.project.config_file import load_settings
        from distributed_something.project.older_version import check_project_version

        if self.config is None:
            check_project(self.project, self.config_file, tuple(filter(None, [self.default_project, Path.cwd()])))
        check_project_version(
            self.project, shlex.join([*self.program, "--project", str(shorten_path(self.project)), "upgrade"])
        )
        return load_settings(self.config_file)

    @property
    def profile(self) -> str:
        """Return the name of the AWS profile in use; "" if it is AWS's default, or if the config has not been read."""
        import os

        loaded: Settings | None = self.__dict__.get("settings")  # the config is a program, which must run only once
        name = loaded.AWS_PROFILE if loaded else ""
        return os.environ.get("AWS_PROFILE", "") if name in ("", "default") else name

    @property
    def command_line(self) -> CommandLine:
        """Return how the user types commands for this project, with the project's files as far as they are known.

        The monitor file is unknown if the config is invalid, which the command reports in any case.
        """
        from distributed_something.core.errors import InputError
        from distributed_something.core.files import list_files_of_kind
        from distributed_something.core.monitor_file import build_monitor_file_path
        from distributed_something.results.command_line import FLEET_FILE_WORD, CommandLine, choose_job_file

        folder, app, slots = self.project / "files", "", 0
        with suppress(InputError):
            app, slots = self.settings.APP_NAME, self.settings.DOCKER_CORES
        job_files = tuple(str(shorten_path(path)) for path in list_files_of_kind(folder, "Job file"))
        fleet_files = list_files_of_kind(folder, "Fleet file")
        if folder / f"{app}Fleet.json" in fleet_files:  # written by fleetFile; the local cloud can use any of them
            fleet_files = [folder / f"{app}Fleet.json"]
        return CommandLine(
            options=self.options,
            program=self.program,
            monitor_file=str(shorten_path(build_monitor_file_path(self.project, app or "APP_NAME"))),
            fleet_file=str(shorten_path(fleet_files[0])) if len(fleet_files) == 1 else FLEET_FILE_WORD,
            job_file=choose_job_file(job_files, app), job_files=job_files,
            has_image=not self.local or self._runs_containers, is_pushed=not self.local,
            slots=slots, profile=self.profile,
        )  # fmt: skip

    @cached_property
    def _runs_containers(self) -> bool:
        """Whether the local cloud runs workers in containers, as it does after --containers until `stop`."""
        from distributed_something.localcloud import LocalCloudError, find_local_cloud

        if self.containers:
            return True
        cloud = find_local_cloud(self.project)
        try:
            return cloud is not None and cloud.has_containers
        except LocalCloudError:
            return False

    def check_file(self, path: Path, kind: str, command: str) -> None:
        """Raise InputError if there is no such file, or if it is another kind of file (see `check_given_file`)."""
        from distributed_something.diagnose.given_files import check_given_file

        check_given_file(path, kind, command, self.command_line, self.project, self.find_remaining_commands)

    @property
    def default_monitor_file(self) -> Path:
        """Return the path of the monitor file of the config's app."""
        from distributed_something.core.monitor_file import build_monitor_file_path

        return shorten_path(build_monitor_file_path(self.project, self.settings.APP_NAME))

    @property
    def test_run_file(self) -> Path:
        """Return the path of the monitor file of this app's `testRun`."""
        from distributed_something.core.monitor_file import build_monitor_file_path
        from distributed_something.core.names import build_test_app_name

        return shorten_path(build_monitor_file_path(self.project, build_test_app_name(self.settings.APP_NAME)))

    def is_test_run_file(self, path: Path) -> bool:
        """Return whether the path is that of the monitor file of this app's `testRun`."""
        return path.resolve() == self.test_run_file.resolve()

    def build_run_line(self, given: Path | None, run: MonitorFile | None = None) -> CommandLine:
        """Return `command_line` for advice about a run, if there is one.

        `given`: the run's monitor file or its name, as the user typed it; None for the app's monitor file.
        """
        line = self.command_line if run is None else self.command_line.select_run(run)
        return line if given is None else replace(line, monitor_file=str(given), next_monitor_file=line.monitor_file)

    def load_run(self, given: Path | None, command: str, *, accepts_other_apps: bool = True) -> MonitorFile:
        """Return the monitor file of the run that was given to `command`: a monitor file, or a run's name.

        None is the app's newest run (see `find_newest_run`). Raise InputError if there is no such run, or if it belongs
        to another app and `accepts_other_apps` is False; otherwise, print a note about that. Raise CloudError if AWS
        reports an error.
        """
        from distributed_something.core.monitor_file import resembles_run_name
        from distributed_something.run.monitor_file_copy import load_run_copy

        if given is not None and not given.exists() and resembles_run_name(str(given)):
            return load_run_copy(self.clients.s3, self.settings, str(given))
        path = given or self.default_monitor_file
        file = self._load_monitor_file(path, command) if path.exists() else self._load_missing_file(path, command)
        self._check_app(file, path, command, accepts_other_apps=accepts_other_apps)
        return file

    def find_newest_run(self, command: str) -> MonitorFile | None:
        """Return the app's monitor file, or its copy in the bucket; None if neither exists."""
        path = self.default_monitor_file
        return self._load_monitor_file(path, command) if path.exists() else self._find_newest_copy()

    def _load_monitor_file(self, path: Path, command: str) -> MonitorFile:
        from distributed_something.core.monitor_file import load_monitor_file

        self.check_file(path, "monitor file", command)
        return load_monitor_file(path)

    def _load_missing_file(self, path: Path, command: str) -> MonitorFile:
        """Return the copy of a monitor file that does not exist. Raise InputError if there is none."""
        from distributed_something.core.errors import InputError
        from distributed_something.core.monitor_file import build_monitor_file_key

        is_default = path.resolve() == self.default_monitor_file.resolve()
        copy = self._find_newest_copy() if is_default else None
        if copy is not None:
            return copy
        try:
            return self._load_monitor_file(path, command)
        except InputError as error:
            if not is_default:
                raise
            address = f"s3://{self.settings.AWS_BUCKET}/{build_monitor_file_key(self.settings.APP_NAME)}"
            problem = f"this monitor file does not exist, and there is no copy in {address}"
            raise InputError(path, "", problem, error.remedy, commands=error.commands) from None

    def _find_newest_copy(self) -> MonitorFile | None:
        from distributed_something.localcloud import has_local_cloud
        from distributed_something.run.monitor_file_copy import find_newest_copy

        if self.local and not has_local_cloud(self.project):
            return None
        return find_newest_copy(self.clients.s3, self.settings)

    def _check_app(self, file: MonitorFile, path: Path, command: str, *, accepts_other_apps: bool) -> None:
        from distributed_something.core.errors import InputError
        from distributed_something.results.command_line import format_command_rows

        app = self.settings.APP_NAME
        if app == file.MONITOR_APP_NAME or (accepts_other_apps and self.is_test_run_file(path)):
            return
        if not accepts_other_apps:
            problem = f"this is a run of {file.MONITOR_APP_NAME}, but {self.config_file} has APP_NAME {app}"
            raise InputError(path, "MONITOR_APP_NAME", problem, "give that app's config: --config FILE")
        own = self.command_line.format_command(command, str(self.default_monitor_file))
        note = f"note: {path} belongs to the app {file.MONITOR_APP_NAME}; for {app}, type:"
        self.console.print_progress("\n".join([note, *format_command_rows(own)]))

    def find_remaining_commands(self) -> tuple[str, ...]:
        """Return the names of a run's commands that must still be typed; none if that cannot be looked up.

        The local cloud is not started for this: while it is not running, nothing exists.
        """
        from distributed_something.core.clock import Clock
        from distributed_something.core.errors import UserFacingError
        from distributed_something.localcloud import find_local_cloud
        from distributed_something.results.command_line import RUN_COMMANDS
        from distributed_something.run.setup import list_remaining_commands

        try:
            settings = self.settings
            if self.local and find_local_cloud(self.project, settings.AWS_REGION) is None:
                return RUN_COMMANDS
            return list_remaining_commands(self.clients, settings, Clock().now(), has_exact_counts=self.local)
        except UserFacingError:
            return ()

    def print_next_command(self, usual: str) -> None:
        """Print the command of a run to type next. `usual`: its name if that cannot be looked up."""
        name = next(iter(self.find_remaining_commands()), usual)
        from distributed_something.results.command_line import format_next_command
        from distributed_something.results.job_source import select_last_job_file

        line = self.command_line
        if name == "submitJob":
            line = select_last_job_file(self.clients.s3, self.settings, line)
        (command,) = line.list_run_commands([name])
        self.console.print_progress(format_next_command(command))

    def check_setup(self) -> None:
        """Raise InputError with everything that `setup` must create first, as far as that can be looked up.

        The local cloud is not started for this: while it is not running, nothing exists.
        """
        from distributed_something.core.errors import CloudError
        from distributed_something.localcloud import find_local_cloud
        from distributed_something.run.setup import build_missing_error, list_setup_resources, observe_setup_resources

        settings = self.settings
        if self.local and find_local_cloud(self.project, settings.AWS_REGION) is None:
            missing = list_setup_resources(settings)
        else:
            try:
                missing = observe_setup_resources(self.clients, settings).missing
            except CloudError:
                return
        if missing:
            raise build_missing_error(missing, self.config_file, self.command_line)

    @property
    def options(self) -> tuple[str, ...]:
        """Return the shared options that were given, to repeat them in a command that the user should type."""
        flags = {"--local": self.local, "--containers": self.containers}
        paths = {"--config": self.config, "--project": self.project if self.project != self.default_project else None}
        words = [name for name, is_given in flags.items() if is_given]
        return (*words, *(word for name, path in paths.items() if path is not None for word in (name, str(path))))

    @cached_property
    def cloud(self) -> LocalCloud | None:
        """Return the local cloud, which is started if necessary, or None for AWS.

        Raise LocalCloudError if it does not start.
        """
        if not self.local:
            return None
        from distributed_something.core.config_settings import list_own_buckets

        settings, cloud = self.settings, self._started_cloud
        cloud.ensure_buckets([settings.AWS_BUCKET, *list_own_buckets(settings).values()])
        return cloud

    @cached_property
    def _started_cloud(self) -> LocalCloud:
        from distributed_something.localcloud import start_local_cloud
        from distributed_something.project.template import find_template_file

        cloud = start_local_cloud(
            self.project,
            containers=self.containers and self.runs_workers,
            region=self.settings.AWS_REGION,
            default_worker=find_template_file("worker"),
        )
        if cloud.notice:
            self.console.print_progress(f"note: {cloud.notice}")
        return cloud

    @cached_property
    def clients(self) -> Clients:
        """Return the clients for AWS or for the local cloud. Raise CloudError if the user is not logged in."""
        import boto3

        from distributed_something.aws.clients import Clients
        from distributed_something.core.errors import translate_aws_errors

        settings = self.settings
        if self.cloud is not None:
            session = self.cloud.build_session()
            session.events.register("after-call-error", self._check_cloud_runs)
            return Clients(session)
        with translate_aws_errors("logging in to AWS"):
            return Clients(boto3.Session(profile_name=self.profile or None, region_name=settings.AWS_REGION))

    def _check_cloud_runs(self, **_: object) -> None:
        """Raise LocalCloudError if a call has failed because the local cloud has ended in the meantime."""
        if error := self.find_ended_cloud():
            raise error

    def find_ended_cloud(self) -> LocalCloudError | None:
        """Return what to tell the user if the local cloud has ended since this command found or started it."""
        cloud: LocalCloud | None = self.__dict__.get("_started_cloud")
        if cloud is None or cloud.is_running:
            return None
        from distributed_something.localcloud import LocalCloudError

        if self.command == "testRun":  # its lock and its files are in the bucket, which still exists
            again = f"{self.format_command('cleanup', str(self.test_run_file), '--yes')}; then testRun"
            return LocalCloudError(f"the local cloud was stopped or has ended; to test again, type: {again}")
        what = "the local cloud was stopped or has ended, and the jobs in its queue are lost"
        start = f"to run them, type: {self.format_command('setup')}; then submitJob and startCluster"
        return LocalCloudError(f"{what}; its results are in {shorten_path(cloud.layout.results)}; {start}")

    def list_objects(self, bucket: str, prefix: str, *, requester_pays: bool = False) -> Iterable[str]:
        """Yield the keys below a prefix. Clients are created only for Job files that list a bucket."""
        from distributed_something.aws.s3 import iter_object_keys

        return iter_object_keys(self.clients.s3, bucket, prefix, requester_pays=requester_pays)

    def check_local(self, command: str, *arguments: str) -> None:
        """Raise InputError if `command` is used without --local. Its `arguments` are part of the remedy."""
        from distributed_something.core.errors import InputError

        if not self.local:
            words = shlex.join([*self.program, "--local", *self.options, command, *arguments])
            raise InputError(command, "", "works only with the local cloud", "type", commands=[words])


def shorten_path(path: Path) -> Path:
    """Return the path relative to the current folder if it lies inside, as a user would type it."""
    try:
        return path.resolve().relative_to(Path.cwd())
    except (ValueError, OSError):
        return path
