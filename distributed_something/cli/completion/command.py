"""The command `completion`: prints what a shell needs to complete run.py's command lines."""

from __future__ import annotations

import click

from distributed_something.cli.completion.protocol import SHELLS, read_script
from distributed_something.cli.context import Context
from distributed_something.cli.group import Command


@click.command(
    cls=Command,
    needs="bash, zsh, or fish.",
    examples=("completion bash", "completion zsh", "completion fish"),
    next_step="Open a new terminal, type python run.py and a space, and press Tab.",
    runs_workers=False,
)
@click.argument("shell", metavar="SHELL", type=click.Choice(SHELLS))
@click.pass_obj
def completion(context: Context, shell: str) -> None:
    """Print a script with which a shell completes command lines.

    \b
    Save it, and let your shell read it whenever it starts:
      bash: … completion bash > ~/.run-py.bash
            echo 'source ~/.run-py.bash' >> ~/.bashrc
      zsh:  … completion zsh > ~/.run-py.zsh
            echo 'source ~/.run-py.zsh' >> ~/.zshrc
      fish: mkdir -p ~/.config/fish/conf.d
            … completion fish > ~/.config/fish/conf.d/run-py.fish
    """
    context.console.print_result(read_script(shell).removesuffix("\n"))
