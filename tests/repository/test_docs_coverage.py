"""The docs mention every command, option, config key, Job file key, and exit code, and nothing that does not exist.

Pages may move: each test reads all of them. `tests/worker/attempt/test_record_in_docs.py` does the same for records.
"""

from __future__ import annotations

import json
import re
import subprocess
from functools import cache

import pytest

from distributed_something.cli.context import ExitCode
from distributed_something.cli.main import cli
from distributed_something.core.config_settings import Settings
from distributed_something.jobs.job_keys import GROUPS_KEYS, UPLOAD_KEY, KnownJobKeys
from tests.support.pages import find_table_keys, list_code, read_docs, read_pages
from tests.support.paths import ROOT

# Options in the docs that are not run.py's, with the program that has them.
OTHER_OPTIONS = {
    "--acl": "aws s3 cp", "--profile": "aws", "--checksum": "rclone", "--gpus": "docker run",
    "--network": "docker build", "--platform": "docker build", "--build-arg": "docker build", "--target": "pip",
    "--no-install-recommends": "apt-get", "--print-groups": "cellprofiler",
    "--out": "the program of an example", "--write-docs": "tests.measure.simulation",
}  # fmt: skip
# Words in capitals that do not occur in the code, and where they are from.
OTHER_CONSTANTS = {
    "A_R1", "A_R2",  # names of files in an example
    "AWS_CONTAINER_CREDENTIALS_",  # the beginning of the names of two variables of ECS
    "HTTP_PROXY",  # read by Python
    "PR_SET_DUMPABLE", "SYS_PTRACE",  # of Linux
    "RCLONE_CONFIG",  # of rclone
    "ENDPOINT_REGION", "DS_VALUE_1",  # the code adds the last part
}  # fmt: skip

# Names that do not occur in the code either.
OTHER_NAMES = {
    "deleted_running",  # a state of an EC2 Fleet, which we do not use
    "known_hosts",  # of ssh
    "run_batch_general",  # a script of CellProfiler users
    "json_file",  # a file in an example of a check
    "metadataID", "monitorAndLog", "runSomething",  # of the published worker
}  # fmt: skip


def list_run_options() -> set[str]:
    parameters = [parameter for command in (cli, *cli.commands.values()) for parameter in command.params]
    return {name for parameter in parameters for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}


@cache
def read_code() -> str:
    """Return everything that is not documentation: code, files that users edit, and examples."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    paths = [ROOT / name for name in names.split("\0") if name and not name.startswith(("docs/", "tests/"))]
    suffixes = {"", ".py", ".sh", ".json", ".yml"}
    return "\n".join(path.read_text() for path in paths if path.suffix in suffixes and path.is_file())


def has_word(word: str, text: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text) is not None


def test_every_command_and_option_is_mentioned() -> None:
    words = {*cli.commands, *(name for name in list_run_options() if name.startswith("--"))}
    assert sorted(word for word in words if not has_word(word, read_docs())) == []


def test_every_option_in_the_docs_exists() -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", "\n".join(list_code(read_docs()))))
    assert sorted(named - list_run_options() - set(OTHER_OPTIONS)) == []
    assert sorted(set(OTHER_OPTIONS) - named) == [], "these are not in the docs any more"


@pytest.mark.parametrize("page", list(read_pages()), ids=str)
def test_every_command_in_the_docs_exists(page: object) -> None:
    text = "\n".join(list_code(next(text for path, text in read_pages().items() if path == page)))
    lines = re.findall(r"\brun\.py ((?:(?:--\S+|files/\S+|\S*/\S+) )*)([a-z]\w+)", text)
    assert sorted({name for _, name in lines} - set(cli.commands)) == []


def test_every_config_key_is_mentioned_as_code() -> None:
    code = "\n".join(list_code(read_docs()))
    assert sorted(key for key in Settings.model_fields if key.isupper() and not has_word(key, code)) == []


def test_every_constant_in_the_docs_exists() -> None:
    named = set(re.findall(r"\b[A-Z][A-Z0-9]*_[A-Z0-9_]+\b", read_docs()))
    known = set(re.findall(r"\w+", read_code()))
    assert sorted(named - known - OTHER_CONSTANTS) == []
    assert sorted(OTHER_CONSTANTS - named) == [], "these are not in the docs any more"


def test_every_key_function_and_file_named_in_the_docs_exists() -> None:
    """Names with underscores or capitals, such as those of keys in summary.json, are in the code that writes them."""
    pieces = re.findall(r"`([^`\n]+)`", read_docs())
    name = re.compile(r"(?<![\w/.-])(?:[a-z]+(?:_[a-z0-9]+)+|[a-z]+[A-Z]\w+)(?![\w/-])")
    named = {word for piece in pieces for word in name.findall(piece)}
    assert sorted(named - set(re.findall(r"\w+", read_code())) - OTHER_NAMES) == []
    assert sorted(OTHER_NAMES - named) == [], "these are not in the docs any more"


def test_the_docs_explain_the_keys_of_a_job_file_and_no_others() -> None:
    known = {*KnownJobKeys.model_fields, UPLOAD_KEY, *GROUPS_KEYS}
    assert find_table_keys("command", "output_location", "expected_files") == known - {"plates"}
    assert "`plates` is another name" in read_docs()


def test_the_docs_explain_the_exit_codes_and_no_others() -> None:
    tables = [table for table in re.findall(r"(?m)(?:^\|.*\n)+", read_docs()) if table.startswith("| exit code |")]
    assert tables
    for table in tables:
        assert [int(code) for code in re.findall(r"(?m)^\| (\d+) \|", table)] == [int(code) for code in ExitCode]


def test_the_docs_explain_each_key_of_the_status_as_json() -> None:
    schema = json.loads((ROOT / "distributed_something" / "results" / "status" / "schema.json").read_text())
    assert [key for key in schema["required"] if f"`{key}`" not in read_docs()] == []
