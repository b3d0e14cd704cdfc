"""`portway inspect`: what a server offers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from portway.cli.target import OUTPUT, TOKEN, connect
from portway.cli.tool_arguments import describe, signature

if TYPE_CHECKING:
    from portway.cli.listing import Offer
    from portway.client import Prompt, Tool


@click.command(short_help="Show what a server offers: tools, resources, prompts.")
@click.argument("target", nargs=-1, required=True, metavar="FILE|URL|-- COMMAND…")
@TOKEN
@OUTPUT
def command(target: tuple[str, ...], token: str | None, output: str) -> None:
    """Show the tools, resources and prompts of the server in FILE, at URL, or started by COMMAND."""
    from portway.cli.listing import Offer

    offer = connect(list(target), token, Offer.of)
    click.echo(offer.json() if output == "json" else _text(offer))


def _text(offer: Offer) -> str:
    lines = [f"{offer.server.name} {offer.server.version} (protocol {offer.version}, {offer.era})"]
    if offer.instructions:
        lines.append(offer.instructions)
    lines += _section("Tools", [(_tool(tool), tool.description) for tool in offer.tools])
    lines += _section("Resources", [(resource.uri, resource.description) for resource in offer.resources])
    lines += _section(
        "Resource templates", [(item.uri_template, item.description) for item in offer.resource_templates]
    )
    lines += _section("Prompts", [(_prompt(prompt), prompt.description) for prompt in offer.prompts])
    return "\n".join(lines)


def _section(title: str, items: list[tuple[str, str | None]]) -> list[str]:
    lines = ["", title] if items else []
    for name, description in items:
        lines.append(f"  {name}")
        if description:
            lines.append(f"      {description.strip().splitlines()[0]}")
    return lines


def _tool(tool: Tool) -> str:
    returns = tool.output_schema
    if returns is None:
        return f"{tool.name}({signature(tool.input_schema)})"
    # What is no object travels as {"result": …}; the signature shows what the function returns.
    properties = returns.get("properties", {})
    result = properties["result"] if list(properties) == ["result"] else returns
    return f"{tool.name}({signature(tool.input_schema)}) -> {describe(result, returns)}"


def _prompt(prompt: Prompt) -> str:
    arguments = (argument.name + ("" if argument.required else "?") for argument in prompt.arguments)
    return f"{prompt.name}({', '.join(arguments)})"
