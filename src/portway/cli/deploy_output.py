"""Prints the steps and the result of a deploy, rollback or restart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from portway.cli.terminal_text import plain_line, plain_lines

if TYPE_CHECKING:
    from portway.host.management.management_types import Deployment


class SupersededError(click.ClickException):
    """The deploy was not begun, because a newer one of the same apps was asked for."""

    exit_code = 3


def print_step(step: str) -> None:
    """Print one step of a deploy."""
    click.echo(f"-----> {plain_lines(step)}", err=True)


def print_deployment(app: Deployment) -> None:
    """Print an app that was deployed."""
    from portway.host.releases.live_line import live_line

    live = live_line(app.app, app.url, app.release, app.before, app.tools, app.duration_ms)
    click.echo(plain_line(live), err=True)  # as a host elsewhere has written it
    click.echo(plain_line(app.url))
    if app.token:
        click.echo(plain_line(f"token {app.token}   (shown once; more with `portway token create {app.app} NAME`)"))
