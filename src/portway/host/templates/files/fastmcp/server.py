"""An MCP server with one tool, one resource and one prompt, for callers with the token MCP_API_TOKEN.

The weather is simulated: replace it by what your server is for.
"""

import hmac
import os
import sys
from dataclasses import dataclass
from typing import Annotated

import uvicorn
from dotenv import load_dotenv
from fastmcp import FastMCP
from fastmcp.server.auth import AccessToken, TokenVerifier
from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse

load_dotenv()  # what the environment sets already is kept
TOKEN = os.environ.get("MCP_API_TOKEN", "")
PORT = int(os.environ.get("PORT", "8080"))
# The names under which clients reach this server, besides localhost: the platform's own, and yours.
HOSTS = [os.environ.get("RENDER_EXTERNAL_HOSTNAME", ""), *os.environ.get("MCP_ALLOWED_HOSTS", "").split(",")]
CONDITIONS = ("sunny", "cloudy", "rainy", "windy")

City = Annotated[str, Field(min_length=1, max_length=100, description="A city, as in Oslo")]


@dataclass
class Weather:
    """The weather of a city at one moment."""

    city: str
    temperature_c: int
    conditions: str


class OneToken(TokenVerifier):
    """Lets in who sends MCP_API_TOKEN as bearer token; others get 401."""

    async def verify_token(self, token: str) -> AccessToken | None:
        # As bytes: compare_digest takes no text outside of ASCII.
        if hmac.compare_digest(token.encode(), TOKEN.encode()):
            return AccessToken(token=token, client_id="token", scopes=[])
        return None


mcp = FastMCP("weather-mcp", instructions="Simulated weather, for trying things out.", auth=OneToken())


@mcp.tool(annotations={"readOnlyHint": True, "openWorldHint": False})
def get_weather(city: City) -> Weather:
    """Get the current weather of a city."""
    seed = sum(map(ord, city.casefold()))
    return Weather(city, seed % 35, CONDITIONS[seed % len(CONDITIONS)])


@mcp.resource("weather://forecast/{city}", mime_type="text/plain")
def forecast(city: City) -> str:
    """The forecast of a city for tomorrow."""
    return f"Tomorrow in {city}: {get_weather(f'{city} tomorrow').conditions}"


@mcp.prompt
def packing_list(city: City) -> str:
    """What to pack for a trip."""
    return f"Look up the weather of {city} and write a packing list for three days."


@mcp.custom_route("/health", methods=["GET"])
async def health(request: Request) -> JSONResponse:
    """Answer who asks whether this server runs; no token is needed."""
    return JSONResponse({"status": "ok"})


# Stateless: any instance answers any request, so that several can run behind one address.
app = mcp.http_app(
    stateless_http=True, host_origin_protection=True, allowed_hosts=[host.strip() for host in HOSTS if host.strip()]
)

if __name__ == "__main__":
    if not TOKEN:
        sys.exit("MCP_API_TOKEN is not set: copy .env.example to .env and write a long random token into it")
    uvicorn.run(app, host="0.0.0.0", port=PORT, timeout_graceful_shutdown=25)
