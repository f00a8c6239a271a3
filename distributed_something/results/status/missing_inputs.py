"""Where inputs are to be uploaded that jobs did not find in S3, and with which commands."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from distributed_something.results.command_line import CommandLine
from distributed_something.results.job_counter import FailedJob

FILE_WORD, FOLDER_WORD = "FILE", "FOLDER"  # what users replace with a path on their computer
MAX_UPLOADS_NAMED = 3


@dataclass(frozen=True)
class Upload:
    """A file or folder to upload. `address`: in S3; that of a folder ends in `/`. `endpoint`: "" is AWS."""

    address: str
    endpoint: str = ""

    @property
    def word(self) -> str:
        return FOLDER_WORD if self.address.endswith("/") else FILE_WORD


def list_uploads(failures: Iterable[FailedJob]) -> tuple[Upload, ...]:
    """Return what to upload for these jobs: a file, or the folder of several files; that of the most files first.

    A job says only which input it missed first. Those of older workers do not say which.
    """
    addresses_by_folder: dict[Upload, set[str]] = {}
    for failed in failures:
        if address := failed.missing_input:
            folder = Upload(address[: address.rfind("/") + 1], failed.input_endpoint)
            addresses_by_folder.setdefault(folder, set()).add(address)
    items = sorted(addresses_by_folder.items(), key=lambda item: (-len(item[1]), item[0].address, item[0].endpoint))
    return tuple(
        Upload(next(iter(addresses)), folder.endpoint) if len(addresses) == 1 else folder for folder, addresses in items
    )


def list_upload_commands(uploads: Sequence[Upload], line: CommandLine) -> list[str]:
    """Return the commands of the AWS CLI for the first of these uploads, as the user types them."""
    return [_format_command(upload, line) for upload in uploads[:MAX_UPLOADS_NAMED]]


def format_upload_words(uploads: Sequence[Upload]) -> str:
    """Return which words in these commands the user replaces, and with what."""
    words = sorted({upload.word for upload in uploads[:MAX_UPLOADS_NAMED]})
    return f"{' and '.join(words)} with {'a path' if len(words) == 1 else 'paths'} on your computer"


def count_other_uploads(uploads: Sequence[Upload]) -> int:
    """Return how many other places lack inputs for which there is no command."""
    return max(0, len(uploads) - MAX_UPLOADS_NAMED)


def _format_command(upload: Upload, line: CommandLine) -> str:
    action = "sync" if upload.word == FOLDER_WORD else "cp"
    words = ("aws", "s3", action, upload.word, upload.address)
    if upload.endpoint:
        return shlex.join((*words, "--endpoint-url", upload.endpoint))
    if line.is_local:
        return line.format_command("runScript", *words)
    return shlex.join((*words, *(("--profile", line.profile) if line.profile else ())))
