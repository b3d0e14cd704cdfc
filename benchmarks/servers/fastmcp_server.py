"""The guide's server in FastMCP; environment as in portway_server.py, and `BENCH_LOGGING` is off or default."""

import os

from fastmcp import FastMCP

server = FastMCP("weather")

if os.environ.get("BENCH_KIND") == "def":

    @server.tool
    def get_weather(city: str) -> dict:
        """Current weather of a city."""
        return {"city": city, "temperature_c": 21.5, "conditions": "cloudy"}

else:

    @server.tool
    async def get_weather(city: str) -> dict:
        """Current weather of a city."""
        return {"city": city, "temperature_c": 21.5, "conditions": "cloudy"}


for number in range(1, int(os.environ.get("BENCH_TOOLS", "1"))):

    async def extra(city: str, days: int = 1) -> dict:
        """Forecast of a city for some days."""
        return {"city": city, "days": days}

    extra.__name__ = f"tool_{number:04}"
    server.tool(extra)

if __name__ == "__main__":
    quiet = os.environ.get("BENCH_LOGGING") != "default"
    if quiet:
        import logging

        logging.disable(logging.CRITICAL)
    if "PORT" in os.environ:
        server.run(
            transport="http",
            port=int(os.environ["PORT"]),
            stateless_http=True,
            json_response=True,
            show_banner=not quiet,
            uvicorn_config={"access_log": not quiet},
        )
    else:
        server.run(show_banner=not quiet)
