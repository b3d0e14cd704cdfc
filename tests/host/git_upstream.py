"""A server of git repositories elsewhere, as hosts of repositories run it: `git http-backend` behind HTTP."""

from __future__ import annotations

import contextlib
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.host.git_client import commit_all, git


@dataclass
class Upstream:
    """A server whose repositories are the folders below `root`; `asked` has the paths of the requests so far.

    No request is answered while `answers` is cleared. What is asked for below /moved is elsewhere; below /private, it
    asks for a password.
    """

    root: Path
    url: str
    asked: list[str] = field(default_factory=list)
    answers: threading.Event = field(default_factory=threading.Event)

    def commit(self, name: str, files: dict[str, str], message: str = "A change") -> str:
        """Write files into the repository `name`, which is made if needed, commit them and return the commit."""
        for path, text in files.items():
            (self.root / name / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name / path).write_text(text)
        commit = commit_all(self.root / name, message)
        git(self.root / name, "config", "http.getanyfile", "true")
        return commit

    def address(self, name: str) -> str:
        return f"{self.url}/{name}/.git"


@contextlib.contextmanager
def upstream(root: Path, tls: ssl.SSLContext | None = None) -> Iterator[Upstream]:
    """Serve the repositories below `root` while the block lasts, in clear text without `tls`."""
    serving = Upstream(root, "")
    serving.answers.set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            path, _, query = self.path.partition("?")
            serving.asked.append(path)
            serving.answers.wait(120)
            if path.startswith(("/moved/", "/private/")):
                self.send_response(301 if path.startswith("/moved/") else 401)
                self.send_header("location", self.path.replace("/moved/", "/"))
                self.send_header("www-authenticate", 'Basic realm="upstream"')
                self.end_headers()
                return
            environment = {
                "PATH": os.environ["PATH"],
                "GIT_PROJECT_ROOT": str(root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": "safe.directory",
                "GIT_CONFIG_VALUE_0": "*",
                "REQUEST_METHOD": self.command,
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "CONTENT_TYPE": self.headers.get("content-type", ""),
                "GIT_PROTOCOL": self.headers.get("git-protocol", ""),
                "HTTP_CONTENT_ENCODING": self.headers.get("content-encoding", ""),
            }
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            done = subprocess.run(["git", "http-backend"], env=environment, input=body, capture_output=True, check=True)
            head, _, answer = done.stdout.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
            self.send_response(int(headers.pop("Status", "200").split()[0]))
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        serving.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield serving
        finally:
            serving.answers.set()
            server.shutdown()
            thread.join()
