"""The row about access tokens: what a new one costs, and a call with a known one at the gate beside Caddy."""

import asyncio
import shutil
import statistics
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.https import ROWS
from benchmarks.measure import ROOT, Command, Endpoint, wrk_command
from benchmarks.report import OUR_PYTHON, Findings, Verdict, at_most, number
from benchmarks.rows import CADDY, ERAS, PROXIES, Bench, Settings, beside_caddy, hosted, row
from portway.oauth.access_tokens import AccessTokens
from portway.oauth.settings import OAuth
from tests.oauth.key_publisher import KeyPublisher, publishing

__all__ = ["ROWS"]  # with the row of this module

_AUDIENCE = "https://mcp.example.com/mcp"
_TOKENS = 10_000
_SCOPES = "weather:read weather:write"
_POLICIES = """\
    x-portway:
      policies:
        - tool: get_*
          scopes: [weather:read]
          arguments: {city: {maxLength: 200, pattern: "[A-Za-z0-9 _-]+"}}
          rate: 1000000/second
          concurrency: 1000
        - {readOnlyHint: true, scopes: [weather:read]}
"""


@row("oauth", "Access tokens: a new one; the gate with a known one, scopes and limits, beside Caddy")
def oauth(bench: Bench) -> Findings:
    with publishing() as provider, tempfile.TemporaryDirectory(prefix="portway-bench-") as folder:
        provider.add("rsa", "RSA")
        rate = first_seen(bench, provider)
        bench.say(f"first-seen RS256 tokens: {rate:.0f}/s of one core")
        source = Path(folder, "weather")
        shutil.copytree(ROOT / "examples/weather", source)
        with (source / "render.yaml").open("a") as blueprint:
            blueprint.write(_POLICIES)
        login, lasting = ("--auth-issuer", provider.url, "--auth-private"), int(time.time()) + 86_400
        token = partial(provider.token, key_id="rsa", scope=_SCOPES, exp=lasting)
        with hosted(*login, source=str(source), token=token) as host:
            middle = beside_caddy(bench, host)
    verdicts = [Verdict("first-seen RS256 tokens/s of one core", number(rate), bar="≥ 8000", met=rate >= 8000)]
    for era in ERAS:
        ours, theirs = middle["gate", era], middle["Caddy", era]
        verdicts.append(at_most(f"CPU µs per call with a known token, {era}", ours.cpu, "Caddy", theirs.cpu, 0.75))
    table: list[tuple[str, ...]] = [(*key, "16", *cost.cells()) for key, cost in middle.items()]
    target = Endpoint(8080, path=host.weather.path, token="TOKEN")
    commands: list[Command | str] = [f"{OUR_PYTHON} -m portway up weather {' '.join(login)} --port 8080 --data DIR"]
    commands.append(f"{' '.join(CADDY)} DIR/Caddyfile")
    commands += [wrk_command(replace(target, era=era), 16, Settings().seconds) for era in ERAS]
    new = f"New tokens: {_TOKENS:,} different ones of 2048-bit RSA, by `AccessTokens` in one process; CPU time."
    known = "The gate does what it does in the row `gate`, and keeps these policies of the blueprint"
    notes = [new, f"{known}:\n\n```yaml\n{_POLICIES}```"]
    return Findings(verdicts, PROXIES, table, commands, notes)


def first_seen(bench: Bench, provider: KeyPublisher) -> float:
    """Return how many tokens that were never seen before are verified in a second of CPU time: the median round."""
    tokens = [provider.token(_AUDIENCE, "rsa", sub=f"user-{number}", scope=_SCOPES) for number in range(_TOKENS)]

    async def verify() -> float:
        verifier = AccessTokens(OAuth(provider.url, _AUDIENCE))
        assert await verifier.verify(provider.token(_AUDIENCE, "rsa"))  # the keys are here now
        began = time.process_time()
        for token in tokens:
            assert await verifier.verify(token)
        return _TOKENS / (time.process_time() - began)

    return statistics.median(asyncio.run(verify()) for _ in range(bench.settings.rounds))
