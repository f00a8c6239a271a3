"""State shared by all commands: common options, settings, local cloud, and clients, each created when first needed.

Only this module creates a boto3 session. It imports boto3 where it is needed, so that --help is fast.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
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
    from distributed_something.localcloud import LocalCloud


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
    debug: bool = False
    console: Console = field(default_factory=Console)
    typed_options: list[str] = field(default_factory=list)  # the shared options of this command, as words

    def format_command(self, *words: str) -> str:
        """Return another command, to copy and paste, with the same shared options as this one."""
        return shlex.join(["python", "run.py", *self.typed_options, *words])

    @property
    def config_file(self) -> Path:
        return shorten_path(self.config or self.project / "config.py")

    @cached_property
    def settings(self) -> Settings:
        """Return the settings in the config.

        Raise InputError if the config is invalid, or if the project belongs to an older version.
        """
        from distributed_something.core.config_settings import check_placeholders_replaced, load_settings
        from distributed_something.project.older_version import check_project_version

        check_project_version(self.project)
        settings = load_settings(self.config_file)
        if not self.local:
            check_placeholders_replaced(settings, self.config_file)
        return settings

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
            profile = None if settings.AWS_PROFILE in ("", "default") else settings.AWS_PROFILE
            return Clients(boto3.Session(profile_name=profile, region_name=settings.AWS_REGION))

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
