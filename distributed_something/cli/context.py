"""What the commands share: the common options, and the settings, cloud, and clients, each made when first needed.

It is the only place that makes a boto3 session. boto3 is imported by the commands that need it, so that help is quick.
"""

from __future__ import annotations

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

ROOT = Path(__file__).resolve().parents[2]  # the folder that holds run.py, worker/, and this package


class ExitCode(IntEnum):
    """What run.py ends with."""

    DONE = 0
    CLOUD = 1  # AWS refused or failed
    INPUT = 2  # arguments, config, job, fleet or monitor file are wrong; nothing was created or sent
    INTERRUPTED = 130


@dataclass
class Context:
    """One call of run.py. The fields are the shared options; each may stand before or after the command."""

    local: bool = False
    containers: bool = False
    config: Path | None = None
    project: Path = ROOT
    debug: bool = False
    console: Console = field(default_factory=Console)

    @property
    def config_file(self) -> Path:
        return shorten_path(self.config or self.project / "config.py")

    @cached_property
    def settings(self) -> Settings:
        """The config; raises InputError for whatever is wrong with it, and for a project of an older version."""
        from distributed_something.core.config_settings import check_placeholders_replaced, load_settings
        from distributed_something.project.older_version import check_project_version

        check_project_version(self.project)
        loaded = load_settings(self.config_file)
        if not self.local:
            check_placeholders_replaced(loaded, self.config_file)
        return loaded

    @cached_property
    def cloud(self) -> LocalCloud | None:
        """The cloud in this computer, started if need be; None for AWS. Raises LocalCloudError."""
        if not self.local:
            return None
        from distributed_something.localcloud import start_local_cloud

        settings = self.settings
        cloud = start_local_cloud(
            self.project, containers=self.containers, region=settings.AWS_REGION, worker_root=ROOT
        )
        cloud.ensure_buckets([settings.AWS_BUCKET])
        return cloud

    @cached_property
    def clients(self) -> Clients:
        """The clients of AWS, or of the cloud in this computer; raises CloudError if nobody is logged in."""
        import os

        import boto3

        from distributed_something.aws.clients import Clients
        from distributed_something.core.errors import translate_aws_errors

        settings = self.settings
        if self.cloud is not None:
            os.environ.update(self.cloud.environment())
            return Clients(boto3.Session(region_name=settings.AWS_REGION))
        with translate_aws_errors("logging in to AWS"):
            profile = None if settings.AWS_PROFILE in ("", "default") else settings.AWS_PROFILE
            return Clients(boto3.Session(profile_name=profile, region_name=settings.AWS_REGION))

    def list_objects(self, bucket: str, prefix: str) -> Iterable[str]:
        """Yield the keys below a prefix. Job files that list no bucket never need clients."""
        from distributed_something.aws.s3 import iter_object_keys

        return iter_object_keys(self.clients.s3, bucket, prefix)

    def check_local(self, command: str) -> None:
        """Raise UsageError without --local."""
        if not self.local:
            raise click.UsageError(f"{command} is about the cloud in this computer; write: run.py --local {command}")


def shorten_path(path: Path) -> Path:
    """Return the path as a user would type it from here."""
    try:
        return path.resolve().relative_to(Path.cwd())
    except (ValueError, OSError):
        return path
