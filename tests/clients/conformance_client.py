"""Portway's client for the official suite: the last argument is the URL, the server's tools define the calls."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from typing import Any
from urllib.parse import urlsplit

from portway.client import Client, Elicitation, MemoryStorage, OAuthLogin
from portway.http.http_client import HttpClient
from portway.protocol.errors import RpcError

SAMPLES = {"integer": 5, "number": 3, "string": "x", "boolean": True}


def answer(question: Elicitation) -> dict[str, Any]:
    fields = question.requested_schema["properties"]
    return {name: field.get("default", SAMPLES[field["type"]]) for name, field in fields.items()}


async def visit(page: str) -> str:
    """Stand for the user and the browser: the suite's provider sends everybody back at once."""
    parts = urlsplit(page)
    async with HttpClient(page) as client:
        answer = await client.request("GET", f"{parts.path}?{parts.query}")
        await answer.read(10_000)
    return answer.header(b"location").decode()


def login(context: dict[str, str]) -> OAuthLogin:
    return OAuthLogin(
        client_id=context.get("client_id", ""),
        client_secret=context.get("client_secret", ""),
        client_metadata_url="https://conformance-test.local/client-metadata.json",
        storage=MemoryStorage(),
        visit=visit,
    )


async def main() -> None:
    era = "legacy" if os.environ["MCP_CONFORMANCE_PROTOCOL_VERSION"] < "2026" else "auto"
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
    auth = login(context) if os.environ["MCP_CONFORMANCE_SCENARIO"].startswith("auth/") else None
    handlers = {"on_elicit": answer, "on_sample": lambda asked: "x", "roots": ["file:///x"]}
    async with Client(sys.argv[-1], auth=auth, era=era, timeout=120, **handlers) as client:
        tools = {tool.name: tool.input_schema for tool in await client.list_tools()}
        calls = context.get("toolCalls", [{"name": name, "arguments": filled(name, tools)} for name in tools])
        for call in calls:
            with contextlib.suppress(RpcError):  # some are meant to fail
                await client.call_tool(call["name"], call["arguments"])
        for resource in await client.list_resources():
            await client.read_resource(resource.uri)
        for prompt in await client.list_prompts():
            await client.get_prompt(prompt.name, {argument.name: "x" for argument in prompt.arguments})


def filled(tool: str, tools: dict[str, Any]) -> dict[str, Any]:
    members = tools[tool].get("properties", {})
    if tool == "json_schema_echo":
        return {"schema": tools["json_schema_2020_12_tool"]}
    return {name: SAMPLES.get(member.get("type")) for name, member in members.items()}


asyncio.run(main())
