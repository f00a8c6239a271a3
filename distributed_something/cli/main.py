"""The entry point: `main()` parses the arguments, runs one command, and returns the exit code."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import click

from distributed_something.cli import (
    account_commands,
    diagnose_commands,
    local_commands,
    project_commands,
    run_commands,
)
from distributed_something.cli.completion import command as completion_command
from distributed_something.cli.context import Context, ExitCode
from distributed_something.cli.group import CommandGroup
from distributed_something.cli.missing_package import explain_missing_package
from distributed_something.cli.retry import retry_command
from distributed_something.cli.submit import submit_command
from distributed_something.cli.test_run import command as test_run_command
from distributed_something.worker import VERSION

DISABLE_CRT_VARIABLE = "BOTO_DISABLE_CRT"
_BUG_REMEDY = "type the command again with --debug, and report what it shows"
LOGIN_KEY = "login_session"  # written by `aws login` into the profile


@click.group(
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Each command explains itself: run.py COMMAND --help. The documentation is in docs/.",
)
@click.version_option(VERSION, "--version", message="distributed-something %(version)s", help="Print the version.")
def cli() -> None:
    """Run a Dockerized program over thousands of inputs on AWS.

    \b
    Try it on this computer, without AWS:
      {program} --local setup
      {program} --local submitJob files/exampleJob.json
      {program} --local startCluster files/exampleFleet.json
      {program} --local monitor files/DistributedSomethingSpotFleetRequestId.json
    """


for command in (
    run_commands.setup, submit_command.submit_job, run_commands.start_cluster, run_commands.monitor,
    run_commands.cleanup, diagnose_commands.status, diagnose_commands.report, retry_command.retry,
    account_commands.setup_aws, account_commands.fleet_file, diagnose_commands.check, test_run_command.test_run,
    diagnose_commands.why, diagnose_commands.verify, project_commands.new_project, project_commands.make_jobs,
    project_commands.run_job, project_commands.build_image, project_commands.upgrade, local_commands.run_script,
    local_commands.interrupt, local_commands.stop, completion_command.completion,
):  # fmt: skip
    cli.add_command(command)


def main(arguments: list[str] | None = None, project: Path | None = None) -> int:
    """Run the command line and return the exit code. Only --debug shows a traceback.

    `project`: the folder of the project, unless --project names another one; by default, the current folder.
    """
    choose_signer()
    folder = project or Path.cwd()
    context = Context(project=folder, default_project=folder)
    try:
        cli.main(arguments, prog_name="run.py", standalone_mode=False, obj=context)
        return ExitCode.DONE
    except click.exceptions.NoArgsIsHelpError as error:
        return _report_error(error, error.format_message(), ExitCode.INPUT, context)
    except click.ClickException as error:
        click_context = getattr(error, "ctx", None)
        command_path = click_context.command_path if click_context else "run.py"
        text = " ".join(error.format_message().split()).rstrip(".")
        return _report_error(error, f"run.py: {text}; see: {command_path} --help", ExitCode.INPUT, context)
    except (KeyboardInterrupt, click.Abort) as error:
        return _report_error(
            error, "run.py: interrupted; to continue, run the same command again", ExitCode.INTERRUPTED, context
        )
    except SystemExit as error:
        return int(error.code or 0)
    except Exception as error:  # the outermost handler: a user reads a message; --debug shows the traceback of a bug
        code = getattr(error, "exit_code", ExitCode.CLOUD)
        missing = explain_missing_package(error) if isinstance(error, ImportError) else None
        return _report_error(error, missing or _format_error(error, code, context), code, context)


def choose_signer() -> None:
    """Have boto3 sign requests itself even if awscrt is installed beside it. This must happen before its import.

    Ctrl-C while awscrt signs a request can make a command hang, because the wait for its other thread never ends. But
    boto3 needs awscrt for the credentials of `aws login`. If the user has set the variable, it stays as it is.
    """
    path = Path(os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config")
    text = ""
    with suppress(OSError, RuntimeError):  # RuntimeError: there is no home folder
        text = path.expanduser().read_text(encoding="utf-8", errors="replace")
    if LOGIN_KEY not in text:
        os.environ.setdefault(DISABLE_CRT_VARIABLE, "true")


def _format_error(error: Exception, code: int, context: Context) -> str:
    """Return one line, or one line per problem if the user's input is invalid, and below them the commands to type."""
    from distributed_something.core.errors import (
        AWSError,
        UserFacingError,
        explain_aws_error,
        fill_in_profile,
        list_error_lines,
    )

    if isinstance(error, AWSError):  # an error that no command expects at this point still needs its remedy
        error = context.find_ended_cloud() or explain_aws_error("calling AWS", error)
    if isinstance(error, UserFacingError):
        lines = list_error_lines(error)
        if any(commands for _, commands in lines):
            return "\n".join(_format_lines_with_commands(lines, context))
    text = fill_in_profile(str(error), context.profile)
    if not isinstance(error, OSError) and not hasattr(error, "exit_code"):  # not an error meant for users
        detail = " ".join(f"{type(error).__name__}: {text}".split()).rstrip(":")
        return f"run.py: a bug in distributed_something: {detail}; {_BUG_REMEDY}"
    texts = text.splitlines() if code == ExitCode.INPUT else [text]
    return "\n".join(f"run.py: {' '.join(text.split()) or type(error).__name__}" for text in texts)


def _format_lines_with_commands(lines: Iterable[tuple[str, Sequence[str]]], context: Context) -> Iterator[str]:
    from distributed_something.core.errors import fill_in_profile
    from distributed_something.results.command_line import format_command_rows

    for line, commands in lines:
        yield f"run.py: {fill_in_profile(line, context.profile)}{':' if commands else ''}"
        for command in commands:
            yield from format_command_rows(command)


def _report_error(error: BaseException, text: str, code: int, context: Context) -> int:
    if context.debug:
        raise error
    context.console.print_progress(text)
    return int(code)
