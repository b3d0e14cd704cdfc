"""The root of the command line: the table of verbs, their lazy import, errors printed as text or JSON, exit codes."""

from __future__ import annotations

import importlib
import os
from typing import NamedTuple

import click


class Verb(NamedTuple):
    """Where a verb's `command` lives and its line in `--help` (repeated here so that listing imports no verb)."""

    module: str
    help: str


VERBS = {
    "init": Verb("portway.cli.init", "Write a small complete server to start from."),
    "run": Verb("portway.cli.run", "Serve a Python file's server over HTTP or stdio."),
    "inspect": Verb("portway.cli.inspect", "Show what a server offers: tools, resources, prompts."),
    "call": Verb("portway.cli.call", "Call one tool and print its result."),
    "up": Verb("portway.cli.up", "Run the host in the foreground, with the given apps deployed."),
    "upgrade": Verb("portway.cli.upgrade", "Replace the version that runs the host, without a lost call."),
    "check": Verb("portway.cli.check", "Validate a folder without deploying it, or diagnose an endpoint."),
    "deploy": Verb("portway.cli.deploy", "Deploy a folder, a git repository or a template to the running host."),
    "link": Verb("portway.cli.link", "Deploy a branch of a git repository, and each new commit of it."),
    "unlink": Verb("portway.cli.unlink", "End the link of an app."),
    "ps": Verb("portway.cli.ps", "List the host's apps and their instances."),
    "releases": Verb("portway.cli.releases", "List an app's releases, newest first."),
    "rollback": Verb("portway.cli.rollback", "Serve an earlier release of an app again."),
    "restart": Verb("portway.cli.restart", "Start an app anew, without a pause."),
    "config": Verb("portway.cli.config", "Print what an app is, as a service of a render.yaml."),
    "logs": Verb("portway.cli.logs", "Show an app's log."),
    "metrics": Verb("portway.cli.metrics", "Print the gate's counters for Prometheus."),
    "token": Verb("portway.cli.token", "Create, rotate, list and revoke an app's tokens."),
    "tool": Verb("portway.cli.tool", "List an app's tools, switch one off and on."),
    "user": Verb("portway.cli.user", "Say who may use the host: users, and groups of an identity provider."),
    "domain": Verb("portway.cli.domain", "Add, list and remove the domain names of an app."),
    "env": Verb("portway.cli.env", "Set, list and remove the variables of an app."),
    "backup": Verb("portway.cli.backup", "Write the whole host to one file, while it runs."),
    "restore": Verb("portway.cli.restore", "Make a host of a backup."),
    "destroy": Verb("portway.cli.destroy", "Remove an app with its releases and tokens."),
    "login": Verb("portway.cli.login", "Log in to an MCP server, or to a host elsewhere."),
    "logout": Verb("portway.cli.logout", "Forget a login at a server or a host."),
    "hosts": Verb("portway.cli.hosts", "List the hosts elsewhere that you are logged in to."),
}


class LazyGroup(click.Group):
    """A click group whose commands are the `VERBS`, each imported only when it runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        verb = VERBS.get(cmd_name)
        if verb is None:
            return None
        command = importlib.import_module(verb.module).command
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run a verb. One that prints JSON prints its error as an object, and the first line of it to stderr."""
        try:
            return self._run(ctx)
        except click.ClickException as error:
            from portway.cli.options import print_json, prints_json
            from portway.cli.terminal_text import plain_lines

            message = plain_lines(error.format_message())  # it may quote an app
            if prints_json(ctx):
                print_json({"error": message})
                message = message.splitlines()[0]
            elif isinstance(error, click.UsageError):
                raise
            click.echo(f"Error: {message}", err=True)
            ctx.exit(error.exit_code)

    def _run(self, ctx: click.Context) -> object:
        """Run a verb. Raises `ClickException` for a word of the command line that cannot be sent."""
        try:
            return super().invoke(ctx)
        except UnicodeEncodeError as error:
            if error.reason != "surrogates not allowed":  # by which Python stands for bytes that are not UTF-8
                raise
            raise click.ClickException("an argument is not UTF-8: give it as a terminal in UTF-8 sends it") from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, verb.help) for name, verb in VERBS.items()])


def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        import importlib.metadata  # costs more than the rest of this module

        click.echo(f"portway {importlib.metadata.version('portway')}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show the version."
)
def cli() -> None:
    """Take a Python function to a production MCP endpoint."""


def main() -> None:
    """The console script. Exit codes: 0 done, 1 it failed, 2 wrong usage, 3 superseded by a newer deploy."""
    try:
        cli(prog_name="portway")
    finally:
        if "PORTWAY_HANDOVER" in os.environ:  # a launcher that could not take the place of another
            from portway.host.launcher_handover import give_back

            give_back()
