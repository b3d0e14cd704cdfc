"""The promises of docs/trust.md about the network, each tried by an app; skipped where the machine has no such wall."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from portway.client import Client
from portway.host.builds.build_environment import needs_loopback, sandboxed_environment
from portway.host.paths import Paths
from portway.host.processes import children
from portway.host.releases.release import Release
from portway.host.sandbox.walls import raise_walls
from tests.host.required_walls import required_walls
from tests.host.running_host import Host, host
from tests.support import clean_env, eventually

# A server of its own, on all addresses. `wait` streams until it is cancelled.
SERVER = """
import json, os, socket, subprocess, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

cancelled = threading.Event()
TOOLS = [{"name": name, "inputSchema": {"type": "object"}} for name in ("run", "wait")]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        call = json.loads(self.rfile.read(int(self.headers["content-length"])))
        given = call.get("params", {})
        if call["method"] == "notifications/cancelled":
            cancelled.set()
        if given.get("name") == "wait":
            return self.wait(given["_meta"]["progressToken"])
        result = {
            "initialize": {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                           "serverInfo": {"name": "shell", "version": "1"}},
            "tools/list": {"tools": TOOLS},
        }.get(call["method"])
        if call["method"] == "tools/call":
            command = ["python", "-c", given["arguments"]["code"]]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            result = {"content": [], "structuredContent": {"said": done.stdout}}
        reply = {"jsonrpc": "2.0", "id": call.get("id")}
        reply |= {"result": result} if result else {"error": {"code": -32601, "message": "no such method"}}
        body = json.dumps(reply).encode() if "id" in call else b""
        self.send_response(200 if body else 202)
        self.send_header("content-type", "application/json")
        self.send_header("mcp-session-id", "one")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def wait(self, token):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        params = {"progressToken": token, "progress": 1}
        event = json.dumps({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
        self.wfile.write(f"data: {event}\\n\\n".encode())
        self.wfile.flush()
        cancelled.wait(120)
        Path.home().joinpath("cancelled").touch()
        self.close_connection = True

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6 if os.environ.get("LISTEN") else socket.AF_INET


Server((os.environ.get("LISTEN", ""), int(os.environ["PORT"])), Handler).serve_forever()
"""
CONNECT = """
import socket, sys
for address in {addresses!r}:
    with socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET) as attempt:
        attempt.settimeout(5)
        try:
            attempt.connect(address)
            print("open", end=" ")
        except OSError as error:
            print(error.errno, end=" ")
"""
REFUSED, UNREACHABLE, NO_NETWORK = 111, 113, 101
_SLIRP = 2
Ask = Callable[[str], str]


def app(folder: Path) -> Path:
    folder.mkdir()
    (folder / "main.py").write_text(SERVER)
    return folder


def deploy(running: Host, folder: Path, *options: str) -> Ask:
    """Deploy the app and return what runs Python code in it and returns its output."""
    done = running.portway("deploy", app(folder), "--start", "exec python main.py", *options)
    assert done.returncode == 0, done.stderr
    token = running.portway("token", "create", folder.name, "t").stdout.split()[0]
    return lambda code: str(running.call(folder.name, "run", token, code=code)["said"])


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    base = tmp_path_factory.mktemp("network")
    required_walls(Paths(base / "none", base / "none"), "network")
    with host(base / "data", options=["--require", "files,network,limits"]) as running:
        yield running


@pytest.fixture(scope="module")
def spy(running: Host, tmp_path_factory: pytest.TempPathFactory) -> Ask:
    return deploy(running, tmp_path_factory.mktemp("apps") / "spy")


@contextlib.contextmanager
def listener(address: str) -> Iterator[int]:
    """Accept connections on a free port of this machine."""
    with socket.socket() as listening:
        listening.bind((address, 0))
        listening.listen()
        yield int(listening.getsockname()[1])


def test_an_app_cannot_reach_what_listens_on_the_loopback_of_the_host(spy: Ask) -> None:
    with listener("127.0.0.1") as port, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0portway-{port}")
        abstract.listen()
        addresses = [("127.0.0.1", port), ("198.19.255.2", port), ("::1", port)]
        found = spy(CONNECT.format(addresses=addresses)).split()
        assert found[0] == found[2] == str(REFUSED)
        assert found[1] != "open"
        assert "refused" in spy(f"import socket; socket.socket(socket.AF_UNIX).connect('\\0portway-{port}')")


def test_link_local_and_metadata_addresses_are_closed(spy: Ask) -> None:
    addresses = ["169.254.169.254", "169.254.0.1", "168.63.129.16", "100.100.100.200", "fd00:ec2::254", "fe80::1"]
    found = spy(CONNECT.format(addresses=[(address, 80) for address in addresses])).split()
    assert found[:4] == 4 * [str(UNREACHABLE)]
    assert {*found[4:]} <= {str(UNREACHABLE), str(NO_NETWORK), "22"}


def test_an_app_reaches_the_outside_and_its_resolver_as_the_host_does(spy: Ask) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
        route.connect(("192.0.2.1", 9))  # sends nothing
        own = route.getsockname()[0]
    with listener(own) as port:
        assert spy(CONNECT.format(addresses=[(own, port)])) == "open "
    look = "import socket\ntry:\n  socket.getaddrinfo('portway.invalid', 80)\nexcept OSError as error:\n  print(error)"
    with pytest.raises(socket.gaierror) as found:
        socket.getaddrinfo("portway.invalid", 80)
    assert spy(look) == f"{found.value}\n"
    assert "nameserver 198.19.255.3\n" in spy("print(open('/etc/resolv.conf').read())")


@pytest.mark.slow
def test_apps_use_the_same_port_and_cannot_reach_each_other(running: Host, spy: Ask, tmp_path: Path) -> None:
    other = deploy(running, tmp_path / "other")
    port = int(other("import os; print(os.environ['PORT'])"))
    assert port == int(spy("import os; print(os.environ['PORT'])"))
    leave = "from pathlib import Path; Path.home().joinpath('mark').touch()"
    other(leave)
    assert (running.home("other") / "mark").exists()
    assert not (running.home("spy") / "mark").exists(), "each is called on its own port"
    address = "s = __import__('socket').socket(2, 2); s.connect(('192.0.2.1', 9)); print(s.getsockname()[0])"
    assert other(address) == spy(address), "they have the same address, each in a network of its own"
    with socket.socket() as attempt:
        assert attempt.connect_ex(("127.0.0.1", port)) == REFUSED, "only the gate has a way to it"


def test_an_app_that_listens_on_ipv6_loopback_alone_is_called(running: Host, tmp_path: Path) -> None:
    assert deploy(running, tmp_path / "six", "--env", "LISTEN=::1")("print('here')") == "here\n"


def test_a_stream_passes_and_its_cancellation_too(running: Host, spy: Ask) -> None:
    assert spy("print('up')") == "up\n"
    token = running.portway("token", "create", "spy", "stream").stdout.split()[0]

    async def use() -> None:
        async with Client(f"{running.ready['url']}/spy/mcp", token=token) as client:
            begun = asyncio.Event()
            call = asyncio.create_task(client.call_tool("wait", {}, on_progress=lambda _: begun.set()))
            await asyncio.wait_for(begun.wait(), 120)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)

    asyncio.run(use())
    eventually((running.home("spy") / "cancelled").exists)


def test_an_app_changes_nothing_of_its_network_and_does_not_see_who_made_it(spy: Ask) -> None:
    down = "import fcntl, socket, struct; fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh14s', b'tap0', 0, b''))"
    assert "not permitted" in spy(down)
    assert "not permitted" in spy("import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)")
    seen = spy("import glob; print([open(p).read() for p in glob.glob('/proc/[0-9]*/comm')])")
    assert "slirp" not in seen
    assert spy("import os; print(os.path.exists('/run/portway'))") == "False\n"


# A host whose closed addresses all have a listener, and one address that is open. Its resolver is on its loopback.
MACHINE = """
import fcntl, os, socket, struct, subprocess, sys, tempfile
from pathlib import Path
from portway.host.paths import Paths
from portway.host.releases.release import Release
from portway.host.sandbox.bubblewrap import wrapped
from portway.host.sandbox.walls import raise_walls

control = socket.socket()
fcntl.ioctl(control, 0x8914, struct.pack("16sh14s", b"lo", 1, b""))
for number, address in enumerate(sys.argv[2:]):
    name = f"lo:{number}".encode()
    fcntl.ioctl(control, 0x8916, struct.pack("16sH2x4s8x", name, socket.AF_INET, socket.inet_aton(address)))
listener = socket.create_server(("0.0.0.0", 8099))
release = Release("app", 1, Path(sys.argv[1]))
for folder in (release.source, release.venv, release.home, release.directory / "tmp"):
    folder.mkdir(parents=True)
walls = raise_walls(Paths(Path("/nowhere"), Path("/nowhere")))
with wrapped(walls.bubblewrap.for_instance(release, release.directory / "tmp", {}), {}) as wrapping:
    command = [*wrapping.words, f"{sys.base_prefix}/bin/python3", "-c", sys.stdin.read()]
    subprocess.run(command, env=wrapping.environment, pass_fds=wrapping.descriptors)
"""
WAYS = """
import socket
for address in {addresses!r}:
    for device in ("", "tap0"):
        with socket.socket() as attempt:
            attempt.settimeout(10)
            try:
                if device:
                    attempt.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
                attempt.connect((address, 8099))
                print("open", address)
            except OSError:
                pass
"""


@pytest.mark.slow
def test_what_listens_on_closed_addresses_is_reached_in_no_way(paths: Paths, tmp_path: Path) -> None:
    required_walls(paths, "network")
    addresses = ["203.0.113.7", "169.254.169.254", "169.254.42.42", "168.63.129.16", "100.100.100.200", "192.0.0.192"]
    resolver = tmp_path / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\n")
    machine = 'mount --bind "$1" /etc/resolv.conf && shift && exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "--net", "--mount", "sh", "-c", machine, "sh", resolver]
    command += [sys.executable, "-c", MACHINE, tmp_path / "app", *addresses]
    tried = WAYS.format(addresses=[*addresses, "127.0.0.1", "198.19.255.2", "198.19.255.3"])
    done = subprocess.run(command, input=tried, capture_output=True, text=True, env=clean_env(), check=False)
    assert done.stdout == "open 203.0.113.7\nopen 203.0.113.7\n", done.stderr


def _pids(running: Host, name: str) -> tuple[int, int, int]:
    """Return the process that joined the network of an app's instance, its bubblewrap's and its slirp4netns's."""
    instance = running.instance(name)
    assert instance is not None
    found = running.pids(instance.id)
    top = next(pid for pid in found if "own_network" in Path(f"/proc/{pid}/cmdline").read_text())
    below = {Path(f"/proc/{pid}/comm").read_text().strip(): pid for pid in children(top)}
    return top, below["bwrap"], below["slirp4netns"]


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1, _SLIRP], ids=["own_network", "bwrap", "slirp4netns"])
def test_whatever_is_killed_the_instance_ends_whole_and_another_takes_its_place(
    running: Host, spy: Ask, killed: int
) -> None:
    instance, before = running.instance("spy"), running.status("spy").restarts
    assert instance is not None
    pids = {*_pids(running, "spy"), *running.pids(instance.id)}
    os.kill(_pids(running, "spy")[killed], signal.SIGKILL)
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    eventually(lambda: running.status("spy").restarts == before + 1 and running.instance("spy") not in (None, instance))
    assert spy("print('again')") == "again\n"
    if killed == _SLIRP:
        assert "portway: slirp4netns ended, and the app with it" in running.portway("logs", "spy").stdout


def test_an_instance_with_its_network_survives_a_killed_control_and_gate(running: Host, spy: Ask) -> None:
    before = _pids(running, "spy")
    for module in ("control", "gate"):
        killed = running.kill(module)
        eventually(lambda killed=killed, module=module: running.process(module) != killed)
        eventually(lambda: spy("print('here')") == "here\n")
    assert _pids(running, "spy") == before


def test_where_there_is_no_such_network_the_reason_is_told(
    monkeypatch: pytest.MonkeyPatch, paths: Paths, tmp_path: Path
) -> None:
    required_walls(paths, "files")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "bwrap").symlink_to(str(shutil.which("bwrap")))
    monkeypatch.setenv("PATH", str(programs))
    shared = "network: open (apps share the host's network, as"
    assert raise_walls(paths).lines()[1] == f"{shared} slirp4netns is not installed)"
    (programs / "slirp4netns").write_text("#!/bin/sh\necho there is no /dev/net/tun >&2; exit 1\n")
    (programs / "slirp4netns").chmod(0o755)
    reason = "the network could not be made: there is no /dev/net/tun"
    assert raise_walls(paths).lines()[:2] == ["files: walled (bubblewrap)", f"{shared} {reason})"]


def test_a_build_reaches_no_loopback_of_the_host(running: Host, tmp_path: Path) -> None:
    folder = app(tmp_path / "built")
    with listener("127.0.0.1") as port:
        (folder / "look.py").write_text(CONNECT.format(addresses=[("127.0.0.1", port)]))
        build = f"{sys.base_prefix}/bin/python3 look.py >&2; false"
        assert running.portway("deploy", folder, "--build", build, "--start", "true").returncode == 1
    assert f" {REFUSED} \n" in (running.paths.release("built", 1) / "log" / "build.log").read_text()


@pytest.mark.slow
def test_without_a_network_of_its_own_an_app_on_all_addresses_is_warned_of(tmp_path: Path) -> None:
    with host(tmp_path / "data", walls=False) as running:
        start = ["--start", "exec python main.py"]
        done = running.portway("deploy", app(tmp_path / "wide"), *start)
        warning = (
            r"warning  it listens on 0\.0\.0\.0:\d+, where it can be reached around the gate: let it listen on 127"
        )
        assert re.search(warning, done.stderr), done.stderr
        (tmp_path / "wide" / "main.py").write_text(SERVER.replace('"LISTEN", ""', '"LISTEN", "127.0.0.1"'))
        assert "around the gate" not in running.portway("deploy", tmp_path / "wide", *start).stderr


def test_a_build_shares_the_network_of_an_index_on_the_loopback(tmp_path: Path, paths: Paths) -> None:
    environment = sandboxed_environment(Release("app", 1, tmp_path), paths)
    assert not needs_loopback({**environment, "UV_DEFAULT_INDEX": "https://packages.example/simple"}, paths)
    for index in ("http://localhost:3141/simple", "https://a:b@127.0.0.1/x", "http://[::1]:1/", "http://me.localhost"):
        assert needs_loopback({**environment, "UV_DEFAULT_INDEX": index}, paths)
    assert needs_loopback({**environment, "https_proxy": "localhost:8888"}, paths)
    assert not needs_loopback({**environment, "NO_PROXY": "localhost,127.0.0.1"}, paths)
    paths.npmrc.write_text("@team:registry=http://127.0.0.1:4873/\n")
    assert needs_loopback(environment, paths)
