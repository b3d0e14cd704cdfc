"""`portway inspect`: show the tools, resources and prompts of a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from portway.cli.options import output_option, token_option
from portway.cli.target import connect
from portway.cli.terminal_text import echo_foreign_json, plain_line, plain_lines
from portway.cli.tool_arguments import describe, signature

if TYPE_CHECKING:
    from portway.cli.server_listing import ServerListing
    from portway.client import Prompt, Tool


@click.command(short_help="Show what a server offers: tools, resources, prompts.")
@click.argument("target", nargs=-1, required=True, metavar="FILE|URL|-- COMMAND…")
@token_option
@output_option
def command(target: tuple[str, ...], token: str | None, output: str) -> None:
    """Show the tools, resources and prompts of the server in FILE, at URL, or started by COMMAND."""
    from portway.cli.server_listing import ServerListing

    listing = connect(list(target), token, ServerListing.read)
    if output == "json":
        echo_foreign_json(listing.json())
    else:
        click.echo(_text(listing))


def _text(listing: ServerListing) -> str:
    server = plain_line(f"{listing.server.name} {listing.server.version}")
    lines = [f"{server} (protocol {listing.version}, {listing.era})"]
    if listing.instructions:
        lines.append(plain_lines(listing.instructions))
    lines += _section("Tools", [(_tool(tool), tool.description) for tool in listing.tools])
    lines += _section("Resources", [(resource.uri, resource.description) for resource in listing.resources])
    lines += _section(
        "Resource templates", [(item.uri_template, item.description) for item in listing.resource_templates]
    )
    lines += _section("Prompts", [(_prompt(prompt), prompt.description) for prompt in listing.prompts])
    return "\n".join(lines)


def _section(title: str, items: list[tuple[str, str | None]]) -> list[str]:
    lines = ["", title] if items else []
    for name, description in items:
        lines.append(f"  {plain_line(name)}")
        if description and description.strip():
            lines.append(f"      {plain_line(description.strip().splitlines()[0])}")
    return lines


def _tool(tool: Tool) -> str:
    returns = tool.output_schema
    if returns is None:
        return f"{tool.name}({signature(tool.input_schema)})"
    # A result that is no object travels as {"result": …}; the signature shows what the function returns.
    properties = returns.get("properties", {})
    result = properties["result"] if list(properties) == ["result"] else returns
    return f"{tool.name}({signature(tool.input_schema)}) -> {describe(result, returns)}"


def _prompt(prompt: Prompt) -> str:
    arguments = (argument.name + ("" if argument.required else "?") for argument in prompt.arguments)
    return f"{prompt.name}({', '.join(arguments)})"
