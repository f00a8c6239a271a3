"""Hello-world worker, which builds the command, because Distributed-HelloWorld's Job files do not contain one."""

from __future__ import annotations

import os
import sys
from typing import Any

from distributed_something.worker import BadMessage, Folders, Job, Settings, fill_shell, job_id, serve

COMMAND = (
    'printf "Hi, my name is {name}, and my favorite {first} is {this}, and my favorite {second} is {that}"'
    " > {output_dir}/HelloWorld.txt"
)


def make_job(message: dict[str, Any], folders: Folders, settings: Settings) -> Job:
    """Return the job that prints two favorite things. Raise BadMessage if the group has fewer than two."""
    group = message["group"]
    if not isinstance(group, dict) or len(group) < 2:
        raise BadMessage('`group` needs two favorite things, such as {"ice_cream": "vanilla", "pizza": "margherita"}')
    (first, this), (second, that), *_ = sorted(group.items())
    words = {"name": os.environ["MY_NAME"], "first": first, "this": this, "second": second, "that": that}
    escaped = {name: escape_for_printf(word) for name, word in words.items()}
    return Job(
        id=job_id(message),
        command=fill_shell(COMMAND, escaped | {"output_dir": str(folders.output_dir)}),
        shell=True,
        input_bucket=settings.aws_bucket,
        output_bucket=settings.aws_bucket,
        output_location=f"{first}-{second}/{job_id(message)}",
        expected_files=1,
    )


def escape_for_printf(word: object) -> str:
    """Return the word with % and \\ escaped, so that printf prints them unchanged."""
    return str(word).replace("\\", r"\\").replace("%", "%%")


if __name__ == "__main__":
    sys.exit(serve(make_job=make_job))
