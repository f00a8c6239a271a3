"""State shared by all commands: common options, settings, local cloud, and clients, each created when first needed.

Only this module creates a boto3 session. It imports boto3 where it is needed, so that --help is fast.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import click

from distributed_something.cli.console import Console

if TYPE_CHECKING:
    from distributed_something.aws.clients import Clients
    from distributed_something.core.config_settings import Settings
    from distributed_something.core.monitor_file import MonitorFile
    from distributed_something.localcloud import LocalCloud
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

    The fields are the options that can be given before or after the command's name.
    """

    local: bool = False
    containers: bool = False
    config: Path | None = None
    project: Path = field(default_factory=Path.cwd)
    default_project: Path | None = None  # used without --project
    debug: bool = False
    console: Console = field(default_factory=Console)

    def format_command(self, *words: str) -> str:
        """Return another command, to copy and paste, with the same shared options as this one."""
        return shlex.join(["python", "run.py", *self.options, *words])

    @property
    def config_file(self) -> Path:
        return shorten_path(self.config or self.project / "config.py")

    @cached_property
    def settings(self) -> Settings:
        """Return the settings in the config.

        Raise InputError if the config is invalid, or if the project belongs to an older version.
        """
        from distributed_something.core.config_settings import check_placeholders_replaced, load_settings
        from distributed_something.diagnose.given_files import check_project
        from distributed_something.project.older_version import check_project_version

        if self.config is None:
            check_project(self.project, self.config_file, tuple(filter(None, [self.default_project, Path.cwd()])))
        check_project_version(self.project)
        settings = load_settings(self.config_file)
        if not self.local:
            check_placeholders_replaced(settings, self.config_file)
        return settings

    @property
    def profile(self) -> str:
        """Return the name of the AWS profile in use; "" if it is AWS's default, or if the config is invalid."""
        import os

        from distributed_something.core.errors import InputError

        name = ""
        with suppress(InputError):
            name = self.settings.AWS_PROFILE
        return os.environ.get("AWS_PROFILE", "") if name in ("", "default") else name

    @property
    def command_line(self) -> CommandLine:
        """Return how the user types commands for this project, with the project's files as far as they are known.

        The monitor file is unknown if the config is invalid, which the command reports in any case.
        """
        from distributed_something.core.errors import InputError
        from distributed_something.core.files import list_files_of_kind
        from distributed_something.core.monitor_file import build_monitor_file_path
        from distributed_something.results.command_line import CommandLine

        folder, app = self.project / "files", ""
        with suppress(InputError):
            app = self.settings.APP_NAME
        job_files = tuple(str(shorten_path(path)) for path in list_files_of_kind(folder, "Job file"))
        fleet_files = list_files_of_kind(folder, "Fleet file")
        if folder / f"{app}Fleet.json" in fleet_files:  # written by fleetFile; the local cloud can use any of them
            fleet_files = [folder / f"{app}Fleet.json"]
        return CommandLine(
            options=self.options,
            monitor_file=str(shorten_path(build_monitor_file_path(self.project, app or "APP_NAME"))),
            fleet_file=str(shorten_path(fleet_files[0])) if len(fleet_files) == 1 else "FLEETFILE",
            job_file=job_files[0] if len(job_files) == 1 else "JOBFILE",
            job_files=job_files,
            has_image=self.containers or not self.local,
            is_pushed=not self.local,
        )

    def check_file(self, path: Path, kind: str, command: str) -> None:
        """Raise InputError if there is no such file, or if it is another kind of file (see `check_given_file`)."""
        from distributed_something.diagnose.given_files import check_given_file

        check_given_file(path, kind, command, self.command_line, self.project)

    @property
    def default_monitor_file(self) -> Path:
        """Return the path of the monitor file of the config's app."""
        from distributed_something.core.monitor_file import build_monitor_file_path

        return shorten_path(build_monitor_file_path(self.project, self.settings.APP_NAME))

    def load_monitor_file(self, path: Path, command: str) -> MonitorFile:
        """Return the content of the monitor file that was given to `command`.

        Print a note if it belongs to another app than the config. Raise InputError if the file cannot be used.
        """
        from distributed_something.core.monitor_file import load_monitor_file

        self.check_file(path, "monitor file", command)
        file, app = load_monitor_file(path), self.settings.APP_NAME
        if app != file.MONITOR_APP_NAME:
            own = self.command_line.format_command(command, str(self.default_monitor_file))
            note = f"note: {path} belongs to the app {file.MONITOR_APP_NAME}; for {app}, type: {own}"
            self.console.print_progress(note)
        return file

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
        from distributed_something.localcloud import start_local_cloud
        from distributed_something.project.template import find_template_file

        settings = self.settings
        cloud = start_local_cloud(
            self.project,
            containers=self.containers,
            region=settings.AWS_REGION,
            default_worker=find_template_file("worker"),
        )
        if cloud.notice:
            self.console.print_progress(f"note: {cloud.notice}")
        cloud.ensure_buckets([settings.AWS_BUCKET])
        return cloud

    @cached_property
    def clients(self) -> Clients:
        """Return the clients for AWS or for the local cloud. Raise CloudError if the user is not logged in."""
        import os

        import boto3

        from distributed_something.aws.clients import Clients
        from distributed_something.core.errors import translate_aws_errors

        settings = self.settings
        if self.cloud is not None:
            os.environ.update(self.cloud.build_environment())
            return Clients(boto3.Session(region_name=settings.AWS_REGION))
        with translate_aws_errors("logging in to AWS"):
            return Clients(boto3.Session(profile_name=self.profile or None, region_name=settings.AWS_REGION))

    def list_objects(self, bucket: str, prefix: str) -> Iterable[str]:
        """Yield the keys below a prefix. Clients are created only for Job files that list a bucket."""
        from distributed_something.aws.s3 import iter_object_keys

        return iter_object_keys(self.clients.s3, bucket, prefix)

    def check_local(self, command: str) -> None:
        """Raise UsageError if `command` is used without --local."""
        if not self.local:
            raise click.UsageError(f"{command} works only with the local cloud; run: run.py --local {command}")


def shorten_path(path: Path) -> Path:
    """Return the path relative to the current folder if it lies inside, as a user would type it."""
    try:
        return path.resolve().relative_to(Path.cwd())
    except (ValueError, OSError):
        return path
