"""A weather server with simulated data: two tools, two resources and a prompt."""

from typing import Literal

from portway import Server, ToolError

server = Server("weather", version="1.0.0", instructions="Simulated weather and currency rates, for trying things out.")

CONDITIONS = ("sunny", "cloudy", "rainy", "windy")
RATES = {"USD": 1.0, "EUR": 0.92, "GBP": 0.79, "JPY": 151.3}
Currency = Literal["USD", "EUR", "GBP", "JPY"]


def observe(city: str) -> dict[str, str | int]:
    """Simulate: the same city always has the same weather."""
    seed = sum(map(ord, city.casefold()))
    return {"city": city, "temperature_c": seed % 35, "conditions": CONDITIONS[seed % len(CONDITIONS)]}


@server.tool(annotations={"readOnlyHint": True})
async def get_weather(city: str) -> dict[str, str | int]:
    """Get the current weather of a city."""
    if not city.strip():
        raise ToolError("city is empty; name one, for example Oslo")
    return observe(city)


@server.tool(annotations={"readOnlyHint": True})
async def convert_currency(amount: float, to: Currency, source: Currency = "USD") -> dict[str, str | float]:
    """Convert an amount of money into another currency.

    Args:
        amount: how much, in the source currency
        to: the currency to convert into
        source: the currency to convert from
    """
    return {"amount": round(amount / RATES[source] * RATES[to], 2), "currency": to}


@server.resource("config://app-settings")
def app_settings() -> dict[str, str]:
    """The settings this server runs with."""
    return {"units": "metric", "language": "en"}


@server.resource("weather://forecast/{city}")
def forecast(city: str) -> dict[str, object]:
    """The three-day forecast of a city."""
    return {"city": city, "days": [observe(f"{city} {day}") | {"city": city, "day": day} for day in (1, 2, 3)]}


@server.prompt
def packing_list(city: str, days: str = "3") -> str:
    """What to pack for a trip."""
    return f"Look up the weather of {city} and write a packing list for {days} days."


if __name__ == "__main__":
    server.run()
