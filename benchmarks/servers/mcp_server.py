"""The guide's server in the official SDK; the environment is that of fastmcp_server.py."""

import os

from mcp.server import MCPServer

server = MCPServer("weather")

if os.environ.get("BENCH_KIND") == "def":

    @server.tool()
    def get_weather(city: str) -> dict:
        """Current weather of a city."""
        return {"city": city, "temperature_c": 21.5, "conditions": "cloudy"}

else:

    @server.tool()
    async def get_weather(city: str) -> dict:
        """Current weather of a city."""
        return {"city": city, "temperature_c": 21.5, "conditions": "cloudy"}


for number in range(1, int(os.environ.get("BENCH_TOOLS", "1"))):

    async def extra(city: str, days: int = 1) -> dict:
        """Forecast of a city for some days."""
        return {"city": city, "days": days}

    server.add_tool(extra, name=f"tool_{number:04}")

if __name__ == "__main__":
    if os.environ.get("BENCH_LOGGING") != "default":
        import logging

        logging.disable(logging.CRITICAL)
    if "PORT" in os.environ:
        server.run("streamable-http", port=int(os.environ["PORT"]), stateless_http=True, json_response=True)
    else:
        server.run()
