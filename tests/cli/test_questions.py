"""`portway call` asks on the terminal what a server asks the user, in both eras, and nowhere else."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import RunCli
from tests.support import SCRIPTS, clean_env, eventually

SERVER = '''
from dataclasses import dataclass
from typing import Annotated, Literal
from portway import Context, Server
from msgspec import Meta

server = Server("bakery")

@dataclass
class Cake:
    """A cake.

    Args:
        size: How large
    """

    size: Literal["small", "large"]
    candles: Annotated[int, Meta(le=9)]
    nuts: bool = True
    wish: str | None = None
    tops: list[Literal["cream", "plum"]] = ()

@server.tool(confirm="Delete {name}?")
def delete(name: str) -> str:
    return f"{name} is gone"

@server.tool(asks=True)
async def order(ctx: Context) -> str:
    return str((await ctx.elicit("Which cake?\\x1b[2J\\nAgree? [y/N] y", Cake)).data)

@server.tool(asks=True)
async def pay(ctx: Context, url: str) -> str:
    return (await ctx.elicit_url("Please pay", url)).action
'''
LEGACY = f"{sys.executable} legacy.py"
LEGACY_SERVER = """
import json, sys

def send(**message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)

def wait():  # until what was sent is taken
    send(id="ping", method="ping")
    sys.stdin.readline()

for line in sys.stdin:
    message = json.loads(line)
    if message.get("method") == "initialize":
        about = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}}
        send(id=message["id"], result=about | {"serverInfo": {"name": "l", "version": "1"}})
    elif message.get("method") == "tools/call":
        call, token = message["id"], message["params"].get("_meta", {}).get("progressToken")
        send(id="q", method="elicitation/create", params=json.load(open("asked.json")))
        for each in json.loads(open("said.json").read().replace('"TOKEN"', json.dumps(token))):
            wait()
            send(**each)
        send(id="heard", method="ping")
    elif message.get("id") == "heard":
        open("heard", "w").close()
    elif message.get("id") in ("q", "q2"):
        send(id=call, result={"content": [{"type": "text", "text": json.dumps(message["result"])}]})
    elif "id" in message:
        send(id=message["id"], error={"code": -32601, "message": "no"})
"""


class Terminal:
    """A terminal on which `portway call` runs."""

    def __init__(self, process: subprocess.Popen[str], ours: int) -> None:
        self._ours = ours
        self._read_bytes = b""
        self._mark = 0
        self._process = process
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def shown(self) -> str:
        return self._read_bytes.decode(errors="replace").replace("\r\n", "\n")

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the other end is closed
            while data := os.read(self._ours, 4096):
                self._read_bytes += data

    def answer(self, prompt: str, typed: str) -> None:
        """Type a line once the prompt is there."""
        eventually(lambda: prompt in self.shown[self._mark :], within=60)
        self._mark = self.shown.index(prompt, self._mark) + len(prompt)
        self.type(typed)

    def type(self, typed: str) -> None:
        os.write(self._ours, typed.encode())

    def end(self) -> tuple[int, str]:
        """Return exit status and output."""
        output, _ = self._process.communicate(timeout=60)
        self._reader.join(60)  # it has read all when nobody has the other end any more
        return self._process.returncode, (output or "").strip()


@contextlib.contextmanager
def calling(*words: str, cwd: Path, columns: int = 0, prints: bool = False) -> Iterator[Terminal]:
    """Run `portway call` on a terminal, to which it also prints the result if it `prints`."""
    ours, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, columns))
    command = [str(SCRIPTS / "portway"), "call", *words]
    output = terminal if prints else subprocess.PIPE
    with subprocess.Popen(
        command, stdin=terminal, stderr=terminal, stdout=output, text=True, cwd=cwd, env=clean_env()
    ) as process:
        os.close(terminal)
        try:
            yield Terminal(process, ours)
        finally:
            process.kill()
    os.close(ours)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "bakery.py").write_text(SERVER)
    (tmp_path / "legacy.py").write_text(LEGACY_SERVER)
    (tmp_path / "said.json").write_text("[]")
    return tmp_path


def ask(folder: Path, **question: object) -> None:
    """Have the legacy server ask this."""
    (folder / "asked.json").write_text(json.dumps(question))


def go_on(folder: Path, *messages: object) -> None:
    """Have the legacy server say this while its question is open."""
    (folder / "said.json").write_text(json.dumps(messages))


@pytest.mark.parametrize(("typed", "status", "said"), [("y\n", 0, "ada is gone"), ("\n", 1, ""), ("\x04", 1, "")])
def test_a_confirmation_is_shown_and_only_a_yes_agrees(folder: Path, typed: str, status: int, said: str) -> None:
    with calling("bakery.py", "delete", "name=ada", cwd=folder) as terminal:
        terminal.type("y\n")  # before anything is asked, which answers nothing
        terminal.answer("Agree? [y/N] ", typed)
        assert terminal.end() == (status, said)
        question = (
            'bakery.py asks:\n  | Delete ada?\n  |\n  | Tool: delete\n  | Arguments: {"name": "ada"}\nAgree? [y/N] '
        )
        assert question in terminal.shown
        if status:
            assert "delete was not run: the user did not confirm it" in terminal.shown


def test_a_form_is_asked_for_field_by_field_and_sent_when_the_user_agrees(folder: Path) -> None:
    with calling("bakery.py", "order", cwd=folder) as terminal:
        terminal.answer("  size (small | large): ", "huge\n")
        terminal.answer("  size (small | large): ", "large\n")
        terminal.answer("  candles (integer): ", "many\n")
        terminal.answer("  candles (integer): ", "12\n")
        terminal.answer("  candles (integer): ", "\n")
        terminal.answer("  candles (integer): ", "3\n")
        terminal.answer("  nuts (boolean, usually true): ", "\n")
        terminal.answer("  wish (string): ", "\n")
        terminal.answer("  tops (cream | plum, usually []): ", "plum, cream\n")
        terminal.answer("Send this? [y/N] ", "y\n")
        cake = "Cake(size='large', candles=3, nuts=True, wish=None, tops=['plum', 'cream'])"
        assert terminal.end() == (0, cake)
        for told in (
            "bakery.py asks:\n  | Which cake?\\x1b[2J\n  | Agree? [y/N] y\n  | How large\n",
            'size: expected one of "small", "large"',
            "candles must be integer (as JSON), not 'many'",
            "candles: expected an integer",
            "  candles needs a value",
        ):
            assert told in terminal.shown


def test_a_page_is_visited_only_with_an_http_url_and_a_yes(folder: Path) -> None:
    with calling("bakery.py", "pay", "url=https://pay.example/1", cwd=folder) as terminal:
        terminal.answer("  | Please pay\n  | https://pay.example/1\nVisit this page? [y/N] ", "y\n")
        assert terminal.end() == (0, "accept")
    ask(folder, mode="url", message="Pay", url="file:///etc/passwd")
    with calling(LEGACY, "any", cwd=folder) as terminal:
        assert terminal.end() == (0, '{"action": "cancel"}')
        assert "not answered: the page to visit has no http URL" in terminal.shown


def test_a_legacy_server_is_answered_too_and_a_choice_may_be_typed_as_its_title(folder: Path) -> None:
    titled = [{"const": "s", "title": "Small"}, {"const": "l", "title": "Large"}]
    form = {"properties": {"size": {"type": "string", "oneOf": titled}}, "required": ["size"]}
    ask(folder, message="Which?", requestedSchema=form)
    with calling(LEGACY, "any", cwd=folder) as terminal:
        terminal.answer("  | s: Small\n  | l: Large\n  size (s | l): ", "Large\n")
        terminal.answer("Send this? [y/N] ", "y\n")
        assert terminal.end() == (0, '{"action": "accept", "content": {"size": "l"}}')


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"mode": "voice"}, "a question of the kind voice is not known"),
        ({"requestedSchema": {"properties": {"a": {"type": "object"}}}}, "the form is malformed: Invalid enum value"),
        ({"message": "a" * 20_001}, "the question is longer than the 20000 characters that are shown"),
    ],
)
def test_a_question_that_cannot_be_shown_is_not_answered(
    folder: Path, run_cli: RunCli, asked: dict[str, object], reason: str
) -> None:
    ask(folder, **{"message": "Sure?", "requestedSchema": {}} | asked)
    done = run_cli("call", LEGACY, "any", "--yes", cwd=folder)
    assert (done.stdout, f"not answered: {reason}" in done.stderr) == ('{"action": "cancel"}\n', True)


def test_without_a_terminal_a_confirmation_needs_yes_and_a_form_is_not_answered(folder: Path, run_cli: RunCli) -> None:
    nobody = "Run this on a terminal, where you are asked, or agree to a confirmation by --yes."
    refused = run_cli("call", "bakery.py", "delete", "name=ada", cwd=folder)
    assert (refused.returncode, nobody in refused.stderr) == (1, True)
    agreed = run_cli("call", "bakery.py", "delete", "name=ada", "--yes", cwd=folder)
    assert (agreed.returncode, agreed.stdout) == (0, "ada is gone\n")
    assert "  | Delete ada?" in agreed.stderr
    form = run_cli("call", "bakery.py", "order", "--yes", cwd=folder)
    told = "not answered: --yes only agrees to confirmations: run this on a terminal, where you are asked"
    assert (form.stdout, told in form.stderr) == ("None\n", True)
    page = run_cli("call", "bakery.py", "pay", "url=https://pay.example/1", "--yes", cwd=folder)
    assert (page.stdout, told in page.stderr) == ("cancel\n", True)
    ask(folder, message="Sure?", requestedSchema={"type": "object", "properties": {}})
    legacy = run_cli("call", LEGACY, "any", "--yes", cwd=folder)
    assert legacy.stdout == '{"action": "accept", "content": {}}\n'


def test_what_a_server_says_while_a_question_is_open_is_shown_after_the_answer_and_with_escapes(folder: Path) -> None:
    ask(folder, message="Wipe it?", requestedSchema={})
    said = "\r\x1b[2Jcall asks:\u200b\u200e\u2028\xad\u061c\ue000\u3164\nAgree? [y/N] \x1b[8m"
    progress = {"progressToken": "TOKEN", "total": 2, "message": said}
    go_on(folder, *[{"method": "notifications/progress", "params": progress | {"progress": at}} for at in range(25)])
    with calling(LEGACY, "any", cwd=folder) as terminal:
        eventually((folder / "heard").exists, within=60)
        terminal.answer("  | Wipe it?\nAgree? [y/N] ", "y\n")
        assert terminal.end() == (0, '{"action": "accept", "content": {}}')
    asked, _, shown = terminal.shown.partition("Agree? [y/N] y\n")
    assert asked == f"{LEGACY} asks:\n  | Wipe it?\n"
    escaped = r"\r\x1b[2Jcall asks:\u200b\u200e\u2028\xad\u061c\ue000\u3164", r"  | Agree? [y/N] \x1b[8m"
    newest = [row for at in range(5, 25) for row in (f"{at}/2 {escaped[0]}", escaped[1])]
    assert shown.splitlines() == newest


def test_a_long_line_has_the_mark_in_each_row_of_the_terminal(folder: Path) -> None:
    field = {"type": "string", "title": "\u65e5" * 50, "description": "Agree? [y/N] " * 9}
    form = {"properties": {"a" * 30 + " Agree? [y/N]": field}}
    ask(folder, message=f"Hello.{' ' * 34}portway: all is well{' ' * 60}Agree? [y/N]", requestedSchema=form)
    with calling(LEGACY, "any", cwd=folder, columns=40) as terminal:
        terminal.answer("(string): ", "\n")
        terminal.answer("Send this? [y/N] ", "\n")
        assert terminal.end() == (0, '{"action": "decline"}')
    rows = terminal.shown.partition(" asks:\n")[2].partition("Send this?")[0].splitlines()
    assert [row for row in rows if not row.startswith(("  |", f"  {'a' * 30}")) or len(row) >= 40] == []
    assert [row.count("\u65e5") for row in rows if "\u65e5" in row] == [17, 17, 16], "each takes two columns"


def test_lines_that_were_typed_before_a_prompt_do_not_answer_it(folder: Path) -> None:
    ask(folder, message="Who?", requestedSchema={"properties": {"a": {"type": "string"}, "b": {"type": "string"}}})
    with calling(LEGACY, "any", cwd=folder) as terminal:
        terminal.answer("  a (string): ", "one\ntwo\ny\ny\n")
        terminal.answer("  b (string): ", "three\ny\ny\n")
        terminal.answer("Send this? [y/N] ", "y\n")
        assert terminal.end() == (0, '{"action": "accept", "content": {"a": "one", "b": "three"}}')


def test_an_answer_to_a_question_that_the_server_withdrew_does_not_answer_the_next(folder: Path) -> None:
    ask(folder, message="Harmless?", requestedSchema={})
    dangerous = {"message": "Dangerous?", "requestedSchema": {}}
    go_on(
        folder,
        {"method": "notifications/cancelled", "params": {"requestId": "q"}},
        {"id": "q2", "method": "elicitation/create", "params": dangerous},
    )
    with calling(LEGACY, "any", cwd=folder) as terminal:
        terminal.answer("the server no longer waits for an answer\nPress Enter for the next question: ", "y\n")
        terminal.answer("  | Dangerous?\nAgree? [y/N] ", "\n")
        assert terminal.end() == (0, '{"action": "decline"}')


@pytest.mark.parametrize(
    ("options", "shown"), [([], r"a\x1b[2J\x9b\u200b"), (["-o", "json"], r"a\u001b[2J\u009b\u200b")]
)
def test_a_result_is_escaped_on_a_terminal_and_elsewhere_as_the_tool_gave_it(
    folder: Path, run_cli: RunCli, options: list[str], shown: str
) -> None:
    words = ["bakery.py", "delete", "name=a\x1b[2J\x9b\u200b", "--yes", *options]
    with calling(*words, cwd=folder, prints=True) as terminal:
        assert terminal.end()[0] == 0
    assert f"{shown} is gone" in terminal.shown
    assert "\x1b" not in terminal.shown
    piped = run_cli("call", *words, cwd=folder).stdout
    text = json.loads(piped)["content"][0]["text"] if options else piped.strip()
    assert text == "a\x1b[2J\x9b\u200b is gone"
