"""An MCP server with one tool, one resource and one prompt, for callers with the token MCP_API_TOKEN.

The weather is simulated: replace it by what your server is for.
"""

import os
import sys
from dataclasses import dataclass
from typing import Annotated

from dotenv import load_dotenv
from msgspec import Meta

from portway import Server

server = Server("weather-mcp", instructions="Simulated weather, for trying things out.")
CONDITIONS = ("sunny", "cloudy", "rainy", "windy")

City = Annotated[str, Meta(min_length=1, max_length=100, description="A city, as in Oslo")]


@dataclass
class Weather:
    """The weather of a city at one moment."""

    city: str
    temperature_c: int
    conditions: str


@server.tool(annotations={"readOnlyHint": True, "openWorldHint": False})
async def get_weather(city: City) -> Weather:
    """Get the current weather of a city."""
    return observe(city)


@server.resource("weather://forecast/{city}")
async def forecast(city: str) -> str:
    """The forecast of a city for tomorrow."""
    return f"Tomorrow in {city}: {observe(f'{city} tomorrow').conditions}"


@server.prompt
def packing_list(city: str) -> str:
    """What to pack for a trip."""
    return f"Look up the weather of {city} and write a packing list for three days."


def observe(city: str) -> Weather:
    """Simulate: the same city always has the same weather."""
    seed = sum(map(ord, city.casefold()))
    return Weather(city, seed % 35, CONDITIONS[seed % len(CONDITIONS)])


if __name__ == "__main__":
    load_dotenv()  # what the environment sets already is kept
    token = os.environ.get("MCP_API_TOKEN")
    if not token:
        sys.exit("MCP_API_TOKEN is not set: copy .env.example to .env and write a long random token into it")
    os.environ.setdefault("PORTWAY_TOKENS", f"token:{token}")
    server.run(transport="http")
