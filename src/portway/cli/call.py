"""`portway call`: call one tool from the shell."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click

from portway.cli.options import output_option, token_option
from portway.cli.target import connect
from portway.cli.terminal_text import echo_foreign, echo_foreign_json
from portway.cli.tool_arguments import ArgumentProblem, Schema, read_arguments

if TYPE_CHECKING:
    from portway.client import CallResult, Client, Content

_ASKS = re.compile("elicit", re.IGNORECASE)
_NOBODY = "Run this on a terminal, where you are asked, or agree to a confirmation by --yes."


@click.command(short_help="Call one tool and print its result.")
@click.argument("target")
@click.argument("tool")
@click.argument("pairs", nargs=-1, metavar="[KEY=VALUE]…")
@click.option("--json", "text", metavar="OBJECT", help="All arguments as one JSON object, instead of KEY=VALUE.")
@click.option("--yes", is_flag=True, help="Agree to what the server asks to have confirmed; to nothing else.")
@token_option
@output_option
def command(
    target: str, tool: str, pairs: tuple[str, ...], text: str | None, yes: bool, token: str | None, output: str
) -> None:
    """Call TOOL of TARGET: a Python file, a URL, or a quoted command.

    Values are read as the types the tool's input schema names. On a terminal, you are asked what the server wants to
    know. Exit status 1 when the tool reports an error.
    """
    given = _object(text) if text is not None else None
    if given is not None and pairs:
        raise click.UsageError("give the arguments as --json or as KEY=VALUE, not both")

    async def call(client: Client) -> CallResult:
        from portway.protocol.errors import RpcError

        try:
            return await call_listed(client)
        except RpcError as error:
            if not questions.can_answer and _ASKS.search(error.message):
                raise click.ClickException(f"{error} {_NOBODY}") from None
            raise

    async def call_listed(client: Client) -> CallResult:
        if given is not None or not pairs:
            return await call_tool(client, given or {})
        schemas = {each.name: each.input_schema for each in await client.list_tools()}
        return await call_tool(client, _read(pairs, schemas.get(tool, {})))

    async def call_tool(client: Client, arguments: Mapping[str, Any]) -> CallResult:
        """Call the tool, also where it is not in the server's list: it may be for other callers, or switched off."""
        from portway.protocol.errors import RpcError

        on_progress = questions.show if sys.stderr.isatty() else None
        try:
            result = await client.call_tool(tool, arguments, on_progress=on_progress)
        except RpcError as error:
            await _require_known(client, tool, error.message)
            raise
        if result.is_error:
            await _require_known(client, tool, result.text)
        return result

    from portway.cli.questions import Questions

    questions = Questions(target, agrees=yes)
    result = connect([target], token, call, questions.answer if questions.can_answer else None)
    if output == "json":
        import msgspec

        echo_foreign_json(msgspec.json.encode(result))
    else:
        echo_foreign(_text(result), err=result.is_error)
    if result.is_error:
        if not questions.can_answer and _ASKS.search(result.text):
            click.echo(_NOBODY, err=True)
        raise SystemExit(1)


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"--json is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise click.UsageError('--json must be an object, as in \'{"city": "Paris"}\'')
    return value


def _read(pairs: Iterable[str], schema: Schema) -> dict[str, Any]:
    try:
        return read_arguments(pairs, schema)
    except ArgumentProblem as problem:
        raise click.ClickException(str(problem)) from None


async def _require_known(client: Client, name: str, said: str) -> None:
    """Raise ClickException if what a server says of a call is that it has no tool of this name."""
    word = re.escape(name)
    if re.search(rf"unknown tool\W*{word}\W*$|tool\W*{word}\W*not found\W*$", said, re.IGNORECASE):
        listed = ", ".join(tool.name for tool in await client.list_tools())
        raise click.ClickException(f"the server has no tool {name}; it has: {listed or 'none'}")


def _text(result: CallResult) -> str:
    from msgspec import UNSET

    if not result.content and result.structured is not UNSET:
        return json.dumps(result.structured, ensure_ascii=False)
    return "\n".join(_block(block) for block in result.content)


def _block(block: Content) -> str:
    if block.text is not None:
        return block.text
    if block.resource is not None:
        return block.resource.text or f"[resource {block.resource.uri}]"
    details = [detail for detail in (block.type, block.mime_type, block.uri) if detail]
    return f"[{' '.join(details)}]"
