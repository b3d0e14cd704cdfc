"""`portway run`: what it loads, how it chooses a transport, where it listens, and its workers."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from portway.client import Client
from portway.exceptions import SettingError
from portway.transport.run import choose
from tests.conftest import RunCli
from tests.support import SCRIPTS, eventually, started
from tests.transport.test_stdio import ended

SERVER = """
import os
from portway import Server
{name} = Server("fixture")

@{name}.tool
async def pid() -> int:
    return os.getpid()
"""
URL = r"(http://127\.0\.0\.1:\d+/mcp)"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weather.py"
    path.write_text(SERVER.format(name="server"))
    return path


async def ask_pid(url: str) -> int:
    async with Client(url) as client:
        return int((await client.call_tool("pid")).text)


BROKEN = "import json\n\ndef load():\n    return json.loads('{')\n\nload()\n"


@pytest.mark.parametrize(
    ("source", "target", "told"),
    [
        (None, "absent.py", ["there is no file absent.py; give a Python file"]),
        (None, ".", ["is a folder; give the file"]),
        ("x = 1", "f.py", ["f.py holds no server; make one at module level"]),
        ("mcp = object()", "f.py", ["mcp in f.py is a builtins.object, not a portway.Server"]),
        ("from portway import Server\na, b = Server('a'), Server('b')", "f.py", ["several servers (a, b)", "f.py:a"]),
        (SERVER.format(name="mine"), "f.py:other", ["f.py has no object other; name one, as in f.py:mine"]),
        (SERVER.format(name="mine"), "f.py:pid", ["pid in f.py is a builtins.function, not a portway.Server"]),
        (SERVER.format(name="server") + "server.run()", "f.py", ["f.py runs its server when it is imported: put"]),
        ("import no_such_module", "f.py", ["No module named 'no_such_module'", "f.py could not be imported"]),
        ("def (", "f.py", ["f.py could not be imported", "SyntaxError", "line 1"]),
        (BROKEN, "f.py", ["line 6, in <module>", "line 4, in load", "JSONDecodeError"]),
    ],
)
def test_a_file_without_a_usable_server_is_refused_with_the_mend(
    run_cli: RunCli, tmp_path: Path, source: str | None, target: str, told: list[str]
) -> None:
    if source is not None:
        (tmp_path / "f.py").write_text(source)
    done = run_cli("run", target, "--transport", "http", "--port", "0")
    assert done.returncode == 1
    for part in told:
        assert part in done.stderr
    assert "importlib" not in done.stderr
    assert "portway/cli" not in done.stderr


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (SERVER.format(name="mine"), "f.py"),
        (SERVER.format(name="app") + "other = Server('other')", "f.py"),
        (SERVER.format(name="mine") + "server = Server('other')", "f.py:mine"),
        ("import helper\n" + SERVER.format(name="server"), "f.py"),
        ("import sys\nassert __name__ != '__main__' and 'f' in sys.modules\n" + SERVER.format(name="mcp"), "f.py"),
    ],
)
def test_the_server_is_found(run_cli: RunCli, tmp_path: Path, source: str, target: str) -> None:
    (tmp_path / "f.py").write_text(source)
    (tmp_path / "helper.py").write_text("")
    done = run_cli("run", target, "--transport", "stdio", stdin="")
    assert (done.returncode, done.stderr.splitlines()) == (0, ["portway: fixture on stdio (stdio: as asked)"])


@pytest.mark.parametrize(
    ("argument", "environ", "stdin", "expected"),
    [
        (None, {}, "pipe", "stdio"),
        (None, {}, "socket", "stdio"),
        (None, {}, "null", "http"),
        (None, {"PORTWAY_TRANSPORT": "http"}, "pipe", "http"),
        (None, {"PORTWAY_SOCKET": "/x"}, "pipe", "http"),
        ("stdio", {"PORTWAY_TRANSPORT": "http"}, "null", "stdio"),
        ("http", {}, "pipe", "http"),
    ],
)
def test_the_transport_is_chosen_by_argument_then_environment_then_input(
    argument: str | None, environ: dict[str, str], stdin: str, expected: str
) -> None:
    openers: dict[str, Callable[[], tuple[int, ...]]] = {
        "pipe": os.pipe,
        "socket": lambda: tuple(end.detach() for end in socket.socketpair()),
        "null": lambda: (os.open(os.devnull, os.O_RDONLY),),
    }
    descriptors = openers[stdin]()
    try:
        choice = choose(argument, environ, descriptors[0])
        assert choice.transport == expected
        assert choice.reason
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def test_an_unknown_transport_is_refused() -> None:
    with pytest.raises(SettingError, match="there is no transport carrier; use http or stdio"):
        choose(None, {"PORTWAY_TRANSPORT": "carrier"})


def test_the_port_comes_from_port_and_a_bad_one_is_refused(run_cli: RunCli, file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run_cli("run", file, "--host", "127.0.0.1", env={"PORT": port, "PORTWAY_TRANSPORT": "http"})
        assert done.returncode == 1
        assert f"Port {port} on 127.0.0.1 is in use" in done.stderr
    done = run_cli("run", file, env={"PORT": "eighty", "PORTWAY_TRANSPORT": "http"})
    assert (done.returncode, done.stderr) == (1, "Error: PORT=eighty is not a port number; use 0 to 65535\n")


def test_a_unix_socket_is_served_when_the_environment_names_one(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "s"
    command = (SCRIPTS / "portway", "run", file, "--port", "0")  # a port beside it would bypass the gate
    with started(*command, ready="unix:", env={"PORTWAY_SOCKET": str(path)}) as child:
        assert asyncio.run(ask_pid(f"unix:{path}")) == child.process.pid
    assert not path.exists()


def test_server_run_serves_like_portway_run(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(SERVER.format(name="server") + "server.run(port=0)")
    with started(sys.executable, file, ready=URL) as child:
        assert child.match
        assert asyncio.run(ask_pid(child.match[1])) == child.process.pid


def test_workers_share_the_port_are_replaced_and_end_together(file: Path) -> None:
    command = (SCRIPTS / "portway", "run", file, "--port", "0", "--workers", "2")
    with started(*command, ready=URL) as child:
        assert child.match
        url = child.match[1]

        def both() -> set[int]:
            found = {asyncio.run(ask_pid(url)) for _ in range(8)}
            return found if len(found) == 2 else set()

        first = eventually(both)
        victim = min(first)
        os.kill(victim, signal.SIGKILL)
        assert child.wait_for(rf"worker {victim} ended with status -9; starting another", 10)
        second = eventually(both)
        assert victim not in second
        child.process.send_signal(signal.SIGINT)
        assert child.process.wait(120) == 0
        assert all(ended(pid) for pid in second)


def test_workers_end_when_their_parent_is_killed(file: Path) -> None:
    command = (SCRIPTS / "portway", "run", file, "--port", "0", "--workers", "2")
    with started(*command, ready=URL) as child:
        assert child.match
        worker = asyncio.run(ask_pid(child.match[1]))
        child.process.kill()
        eventually(lambda: ended(worker))


def test_tokens_that_cannot_be_read_are_refused_before_listening(run_cli: RunCli, file: Path) -> None:
    done = run_cli("run", file, "--transport", "http", "--port", "0", env={"PORTWAY_TOKENS": "secret"})
    assert (done.returncode, "PORTWAY_TOKENS entry 1" in done.stderr, "secret" in done.stderr) == (1, True, False)
