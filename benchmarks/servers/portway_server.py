"""The guide's tool in Portway, on the everything server, so that every feature is loaded.

`BENCH_KIND` is async or def, `BENCH_TOOLS` the number of tools added.
"""

import importlib
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "everything"))
server = importlib.import_module("server").server

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
    server.run()
