"""The `flowpolicy` command: names of the subcommands; each is loaded only when it is called."""

from __future__ import annotations

import os
import sys
from importlib import import_module

import click

from ingest.errors import FlowpolicyError
from recommender.report.lines import printable

# Name, and the one line that `flowpolicy --help` shows: the modules stay unread until called.
COMMANDS = {
    "ingest": "Read flow logs into a store.",
    "compact": "Join the small files of a store, and remove old days.",
    "snapshot": "Keep what the running cluster holds; never a Secret.",
    "edges": "Show who talks to whom.",
    "patterns": "Show roles, odd edges, and whether it was watched long enough.",
    "decide": "Accept or reject edges, with who, why and until when.",
    "recommend": "Propose least-privilege policies, checked against the logs.",
    "connectivity": "List all that a set of policies permits.",
    "verdict": "Say whether one connection passes, and which rules decide it.",
    "diff": "Show what changes between two sets of policies.",
    "explain": "Tell in sentences why a rule is there, or is not.",
    "report": "Write one page that shows it all in a browser.",
    "suggest": "Propose policies as a branch, or a pull request.",
    "review": "Say what a change of policies in a repository does.",
    "drift": "Show what has changed since the last proposal.",
    "run": "Run the batch job that a file describes.",
    "check": "Replay the logs: what would these policies deny.",
    "enforce": "Turn staged and audit policies of ours into enforcing ones.",
    "demo": "Show the whole way on sample logs, and open the report.",
}

EXIT_CODES = """\
\b
Exit codes:
  0   done
  1   failed; one sentence on standard error says what to do
  2   wrong usage
  3   no usable flow in the input
  10  diff, drift: the two sets differ, or something has drifted
  11  check, review, run: wanted traffic would be denied
  12  ingest --strict, run: a line was rejected
"""


class _Commands(click.Group):
    """A group whose subcommands live in modules of their own, imported on use."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"recommender.commands.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except FlowpolicyError as error:
            raise click.ClickException(printable(str(error))) from error
        except BrokenPipeError:
            # Whoever read has seen enough. What is still to be flushed must go somewhere
            # (docs.python.org/3/library/signal.html, "Note on SIGPIPE").
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)


def _version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version  # slow to import, and seldom asked

        click.echo(f"flowpolicy {version('flowpolicy')}")
        ctx.exit()


@click.command(
    cls=_Commands,
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Show the version and exit.",
)
def group() -> None:
    """Read the flow logs of Calico and Cilium; propose least-privilege NetworkPolicies."""


def main() -> None:
    """Run the command."""
    group(prog_name="flowpolicy")


if __name__ == "__main__":
    main()
