"""Every example of README.md and docs/ is run as written.

A fence with a file's name, as in ```` ```python server.py ````, is written to that file. In a ```` ```console ````
fence bash runs each `$ command`, which must print the text below it; `…` matches anything. A command that ends in ` &`
runs until the end of the page. Ports 8080 and 8090 are replaced by free ones, the home directory by one of the test.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.host.running_host import build_environment
from tests.support import ROOT, clean_env

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Page:
    folder: Path
    ports: tuple[int, int]

    def run(self, fences: list[tuple[str, str, str]]) -> None:
        with contextlib.ExitStack() as running:
            for language, name, body in fences:
                if name:
                    (self.folder / name).parent.mkdir(exist_ok=True)
                    (self.folder / name).write_text(body)
                elif language == "console":
                    for command, expected in commands(self.on_free_ports(body)):
                        self.check(command, expected, running)

    def check(self, command: str, expected: str, running: contextlib.ExitStack) -> None:
        if command.endswith(" &"):
            running.enter_context(self.background(command.removesuffix(" &"), expected))
            return
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.env(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert matches(done.stdout, expected), f"$ {command}\n{done.stdout}\n--- is not ---\n{expected}"

    @contextlib.contextmanager
    def background(self, command: str, expected: str) -> Iterator[None]:
        with subprocess.Popen(
            ["bash", "-c", f"exec env {command}"],
            cwd=self.folder,
            env=self.env(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                assert process.stdout
                output = ""
                while not matches(output, expected):
                    line = process.stdout.readline()
                    assert line, f"$ {command} &\n{output}\n--- is not ---\n{expected}"
                    # A reader has not set PORT, so does not see this warning that other machines can reach the server.
                    output += "" if "no PORTWAY_TOKENS is set" in line else line
                yield
            finally:
                process.send_signal(signal.SIGTERM)
                process.communicate(timeout=120)

    def env(self) -> dict[str, str]:
        """Return the environment of a reader, whom git knows."""
        own = {"HOME": str(self.folder), "PORT": str(self.ports[0])}
        for who in ("GIT_AUTHOR", "GIT_COMMITTER"):
            own |= {f"{who}_NAME": "Ada", f"{who}_EMAIL": "ada@example.com"}
        return clean_env(build_environment() | own)

    def on_free_ports(self, body: str) -> str:
        return body.replace("8080", str(self.ports[0])).replace("8090", str(self.ports[1]))


def commands(body: str) -> Iterator[tuple[str, str]]:
    for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        yield command, expected


def matches(output: str, expected: str) -> bool:
    pattern = re.escape(expected.strip()).replace("…", ".*?")
    return re.fullmatch(pattern, output.strip(), re.DOTALL) is not None


INSTALLS = [pytest.mark.install]  # from the registries, as its readers do


def marks(page: Path) -> list[pytest.MarkDecorator]:
    """Return the marks of a page: a host takes seconds, so only README's is started by `make test`."""
    if page.stem.startswith("guide"):
        return INSTALLS
    return [pytest.mark.slow] if page.stem != "README" and "$ portway up" in page.read_text() else []


@pytest.mark.parametrize("page", [pytest.param(page, id=page.name, marks=marks(page)) for page in PAGES])
def test_the_examples_of_a_page_work_as_written(page: Path, tmp_path: Path) -> None:
    fences = [found.groups(default="") for found in FENCE.finditer(page.read_text())]
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        ports = first.getsockname()[1], second.getsockname()[1]
    Page(tmp_path, ports).run(fences)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_short_and_has_an_example(page: Path) -> None:
    text = page.read_text()
    assert text.count("\n") <= 150
    assert FENCE.search(text)
    assert len(PAGES) <= 41, "README.md and 40 pages"


def test_every_link_between_pages_leads_somewhere() -> None:
    for page in [*PAGES, ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\((?!http|#)([^)#]+)", page.read_text()):
            assert os.path.exists(page.parent / target), f"{page.name}: {target}"


def test_each_test_that_a_page_names_is_there() -> None:
    files = "".join(path.read_text() for path in (ROOT / "tests").glob("*/test_*.py"))
    there = set(re.findall(r"def (test_\w+)\(", files))
    named = set(re.findall(r"`(test_\w+)`", "".join(page.read_text() for page in PAGES)))
    assert len(named) > 12
    assert named - there == set()
