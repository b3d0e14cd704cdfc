"""Reads all listings of a server, for `portway inspect` and its JSON."""

from __future__ import annotations

from typing import Self

import msgspec

from portway.client import Client, Prompt, Resource, ResourceTemplate, ServerInfo, Tool


class ServerListing(msgspec.Struct, rename="camel"):
    """All that a server offers one client."""

    server: ServerInfo
    era: str
    version: str
    instructions: str | None
    tools: list[Tool]
    resources: list[Resource]
    resource_templates: list[ResourceTemplate]
    prompts: list[Prompt]

    @classmethod
    async def read(cls, client: Client) -> Self:
        return cls(
            client.server,
            client.era.value,
            client.version or "",
            client.instructions,
            await client.list_tools(),
            await client.list_resources(),
            await client.list_resource_templates(),
            await client.list_prompts(),
        )

    def json(self) -> bytes:
        return msgspec.json.encode(self)
