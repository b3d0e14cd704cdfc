"""The row about linked repositories: what looking at them costs, and how soon a webhook is acted on."""

import hashlib
import hmac
import json
import ssl
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.request import Request, urlopen

from benchmarks.measure import ROOT, BenchError, Command, output_of
from benchmarks.releases import ROWS
from benchmarks.report import OUR_PYTHON, Findings, Verdict, number
from benchmarks.rows import Bench, hosted, row
from tests.host.git_upstream import Upstream, upstream

__all__ = ["ROWS"]  # with the rows of this module

_LOOKS = 50  # a minute
_LOOKER = (OUR_PYTHON, "benchmarks/clients/looks.py")
_BARS = {"asked for": 1.0, "live": None}


@row("links", f"{_LOOKS} looks a minute at https repositories; a signed webhook → its commit is asked for, is live")
def links(bench: Bench) -> Findings:
    files = {path.name: path.read_text() for path in (ROOT / "examples/weather").iterdir() if path.is_file()}
    with tempfile.TemporaryDirectory(prefix="portway-bench-") as folder:
        seconds = _looks(bench, Path(folder), files)
        found = _webhooks(bench, Path(folder), files)
    share = statistics.median(seconds) / 60 * 100
    verdicts = [Verdict(f"% of a core for {_LOOKS} looks a minute", number(share), bar="≤ 1 %", met=share <= 1)]
    table: list[tuple[str, ...]] = [(f"CPU s of {_LOOKS} looks", *_spread(seconds))]
    for what, limit in _BARS.items():
        middle, figure = statistics.median(found[what]), f"seconds from the webhook until the commit is {what}"
        bar, met = (f"≤ {limit:g} s", middle <= limit) if limit else ("-", None)
        verdicts.append(Verdict(figure, number(middle), bar=bar, met=met))
        table.append((f"s until {what}", *_spread(found[what])))
    note = (
        "A look is a TLS connection of its own; the first, which reads the authorities' certificates, is not counted. "
        "The webhook passes the gate of a host; the first request that follows at the server of the repositories, "
        "which runs `git http-backend`, asks for the commit."
    )
    looker = Command((*_LOOKER, "URL", str(_LOOKS), str(bench.settings.rounds)), {"SSL_CERT_FILE": "FILE"})
    commands = [looker, f"{OUR_PYTHON} -m portway link linked URL --data DIR"]
    return Findings(verdicts, ("what", "times", "median", "least", "most"), table, commands, [note])


def _spread(values: list[float]) -> tuple[str, ...]:
    return (str(len(values)), number(statistics.median(values)), number(min(values)), number(max(values)))


def _looks(bench: Bench, folder: Path, files: dict[str, str]) -> list[float]:
    """Return the CPU seconds of each round of looks, by a process that trusts the server beside the authorities."""
    certificate, key, trusted = folder / "certificate.pem", folder / "key.pem", folder / "trusted.pem"
    made = f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout {key} -out {certificate}"
    output_of(Command(("openssl", *made.split(), "-addext", "subjectAltName=DNS:localhost")))
    authorities = ssl.get_default_verify_paths().cafile
    trusted.write_text((Path(authorities).read_text() if authorities else "") + certificate.read_text())
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    with upstream(folder / "looked", tls) as elsewhere:
        elsewhere.commit("linked", files)
        url = elsewhere.address("linked").replace("127.0.0.1", "localhost")
        words = (*_LOOKER, url, str(_LOOKS), str(bench.settings.rounds))
        seconds: list[float] = json.loads(output_of(Command(words, {"SSL_CERT_FILE": str(trusted)})))
    bench.say(f"CPU of {_LOOKS} looks: {seconds} s")
    return seconds


def _webhooks(bench: Bench, folder: Path, files: dict[str, str]) -> dict[str, list[float]]:
    """Return the seconds from each webhook until its commit is asked for, and until it is live."""
    found: dict[str, list[float]] = {what: [] for what in _BARS}
    with hosted("--allow-private-sources") as host, upstream(folder / "hooked") as elsewhere:
        elsewhere.commit("linked", files)
        link = (OUR_PYTHON, "-m", "portway", "link", "linked", elsewhere.address("linked"), "-o", "json")
        made = json.loads(output_of(Command((*link, "--data", host.data))))

        def instances() -> set[str]:
            table = json.loads(Path(host.data, "routes.json").read_text())
            return {each["id"] for each in table["apps"]["linked"]["instances"]}

        for turn in range(min(bench.settings.starts, 5)):
            commit = elsewhere.commit("linked", {"server.py": f"{files['server.py']}# {turn}\n"})
            before = instances()
            elsewhere.asked.clear()
            started = time.perf_counter()
            _send(elsewhere, made, turn, commit)
            found["asked for"].append(_until(lambda: bool(elsewhere.asked), started))
            found["live"].append(_until(lambda known=before: bool(instances() - known), started))
    bench.say(str({what: [round(each, 3) for each in seconds] for what, seconds in found.items()}))
    return found


def _send(elsewhere: Upstream, made: dict[str, str], turn: int, commit: str) -> None:
    """Send a webhook as GitHub does."""
    full_name = elsewhere.address("linked").removeprefix(f"{elsewhere.url}/").removesuffix("/.git")
    push = {"ref": "refs/heads/main", "after": commit, "repository": {"full_name": full_name}}
    body = json.dumps(push).encode()
    headers = {
        "Content-Type": "application/json",
        "X-GitHub-Event": "push",
        "X-GitHub-Delivery": f"bench-{turn}",
        "X-Hub-Signature-256": "sha256=" + hmac.new(made["secret"].encode(), body, hashlib.sha256).hexdigest(),
    }
    with urlopen(Request(made["webhook"], body, headers), timeout=30) as answer:
        if answer.status != 202:
            raise BenchError(f"the webhook was answered with {answer.status}: {answer.read()!r}")


def _until(is_so: Callable[[], bool], started: float) -> float:
    """Return the seconds from `started` until something is so."""
    while not is_so():
        if time.perf_counter() - started > 60:
            raise BenchError("nothing came of a webhook within 60 s")
        time.sleep(0.001)
    return time.perf_counter() - started
