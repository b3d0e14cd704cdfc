"""`portway check`: validate a source without deploying it, or diagnose an endpoint; how findings are printed, and the
exit code.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from portway.cli.options import output_option, print_json, token_option
from portway.cli.server_login import stored_token_of
from portway.cli.terminal_text import plain_line, plain_lines

if TYPE_CHECKING:
    from portway.diagnosis.report import Fact, Finding


@click.command()
@click.argument("target", metavar="PATH|URL")
@click.option("--skip", is_flag=True, help="Of a folder, leave out what is not hosted here, such as databases.")
@token_option
@click.option(
    "--idle",
    type=click.FloatRange(0, 3600),
    default=20.0,
    show_default=True,
    help="Of a URL, hold an event stream open for so many seconds; 0 for none.",
)
@click.option("--auth", is_flag=True, help="Of a URL, walk the login as known clients do, up to the browser.")
@click.option(
    "--register",
    is_flag=True,
    help="With --auth, register at the provider what clients register, and delete it again where the provider can.",
)
@output_option
def command(target: str, skip: bool, token: str | None, idle: float, auth: bool, register: bool, output: str) -> None:
    """Validate the folder PATH with its render.yaml, or diagnose the MCP endpoint at URL, whoever serves it.

    Of a folder, it prints what a deploy would do; no host needs to run. Of a URL, it prints what clients will stumble
    over, each with its mend. The exit code is 1 when there is an error or a finding.
    """
    if register and not auth:
        raise click.UsageError("--register belongs to --auth, which walks the login")
    if "://" in target:
        _diagnose(target, token, idle, output, auth=auth, registers=register)
    else:
        _validate(Path(target), skip, output)


def _diagnose(url: str, token: str | None, idle: float, output: str, *, auth: bool, registers: bool) -> None:
    """Diagnose the endpoint at a URL, or, with `auth`, the login at it, and with `registers` the registration."""
    import asyncio
    from dataclasses import asdict

    from portway.diagnosis.diagnose import diagnose
    from portway.diagnosis.endpoint import Endpoint
    from portway.diagnosis.login import diagnose_login
    from portway.diagnosis.report import Report

    try:
        endpoint = Endpoint(url, token or (None if auth else stored_token_of(url)))
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    report = Report(_show) if output == "text" else Report()
    clients = []
    if auth:
        clients = [asdict(walk) for walk in asyncio.run(diagnose_login(endpoint, report, registers=registers))]
    else:
        asyncio.run(diagnose(endpoint, idle, report))
    if output == "json":
        found = {
            "url": url,
            "facts": [asdict(fact) for fact in report.facts],
            "findings": [asdict(finding) for finding in report.findings],
        }
        print_json(found | ({"clients": clients} if auth else {}))
    elif not report.findings:
        click.echo("nothing is wrong")
    raise SystemExit(1 if report.findings else 0)


def _show(found: Fact | Finding) -> None:
    from portway.diagnosis.report import Fact

    if isinstance(found, Fact):
        click.echo(plain_line(f"ok     {found.subject}: {found.text}"))
    else:
        click.echo(plain_lines(f"wrong  {found.subject}: {found.text}\n       mend: {found.mend}"))


def _validate(path: Path, skip: bool, output: str) -> None:
    from portway.host.blueprint.checked_source import check_source
    from portway.host.blueprint.problems import BlueprintError
    from portway.host.builds.build_error import BuildError
    from portway.host.sources.source import SourceError

    if not path.is_dir():
        raise click.UsageError(f"there is no folder {path}: give the folder of an app, or the URL of an endpoint")
    try:
        checked = check_source(path, skip=skip)
    except (BlueprintError, SourceError, BuildError, OSError) as error:
        raise click.ClickException(str(error)) from None
    if output == "json":
        print_json(checked)
        return
    for warning in checked.warnings:
        click.echo(plain_lines(warning), err=True)
    for line in checked.lines():
        click.echo(plain_lines(line))
