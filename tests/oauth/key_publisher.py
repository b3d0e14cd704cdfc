"""An identity provider as far as a server sees it: it publishes metadata and keys, signs tokens, and exchanges them."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

from joserfc import jwk, jwt


class KeyPublisher:
    def __init__(self) -> None:
        self.url = ""
        self.keys: dict[str, Any] = {}
        self.asked: Counter[str] = Counter()
        self.is_down = False
        self.instead: dict[str, tuple[int, object]] = {}  # answers by path
        self.issuer = ""  # what its metadata says, "" for the truth
        self.forms: list[dict[str, str]] = []  # what was POSTed, with the Authorization header
        self.opaque: dict[str, dict[str, Any]] = {}  # what it says of tokens that are no JWTs
        self.lifetime = 300  # of what it gives there
        self.gives = threading.Event()  # a POST is answered once it is set
        self.gives.set()
        self.add("one")

    def add(self, key_id: str, kind: str = "EC") -> None:
        parameters = {"kid": key_id, "use": "sig"}
        made = {
            "EC": lambda: jwk.ECKey.generate_key("P-256", parameters),
            "RSA": lambda: jwk.RSAKey.generate_key(2048, parameters),
        }
        self.keys[key_id] = made[kind]()

    def token(self, audience: object, key_id: str = "one", header: dict[str, Any] | None = None, **claims: Any) -> str:
        """Return a token for ada; a claim that is None is left out."""
        key = self.keys[key_id]
        algorithm = {"EC": "ES256", "RSA": "RS256"}[key.key_type]
        usual = {"iss": self.url, "aud": audience, "sub": "ada", "exp": int(time.time()) + 600, "client_id": "c"}
        given = {name: value for name, value in (usual | claims).items() if value is not None}
        return jwt.encode({"alg": algorithm, "kid": key_id, "typ": "at+jwt"} | (header or {}), given, key)

    def open(self, token: str, **says: Any) -> str:
        """Make an opaque token for ada, about which it `says` this when asked."""
        self.opaque[token] = {"active": True, "sub": "ada", "client_id": "c"} | says
        return token

    def answer(self, path: str) -> tuple[int, object]:
        self.asked[path] += 1
        if self.is_down:
            return 503, {}
        if path in self.instead:
            return self.instead[path]
        if path == "/.well-known/openid-configuration":
            addresses = {"jwks_uri": f"{self.url}/keys", "token_endpoint": f"{self.url}/token"}
            addresses["introspection_endpoint"] = f"{self.url}/introspect"
            return 200, {"issuer": self.issuer or self.url} | addresses
        if path == "/keys":
            return 200, {"keys": [key.as_dict(private=False) for key in self.keys.values()]}
        return 404, {}

    def say(self, form: dict[str, str]) -> tuple[int, object]:
        """Say whose an opaque token is."""
        self.forms.append(form)
        self.gives.wait(120)
        if self.is_down:
            return 503, {}
        return self.instead.get("/introspect", (200, {"active": False} | self.opaque.get(form["token"], {})))

    def give(self, form: dict[str, str]) -> tuple[int, object]:
        self.forms.append(form)
        self.gives.wait(120)
        if self.is_down:
            return 503, {}
        given = {"access_token": f"given-{len(self.forms)}", "token_type": "Bearer", "expires_in": self.lifetime}
        return self.instead.get("/token", (200, given))


@contextlib.contextmanager
def publishing() -> Iterator[KeyPublisher]:
    """Serve on a free port while the block lasts."""
    publisher = KeyPublisher()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name that http.server wants
            self.reply(*publisher.answer(self.path))

        def do_POST(self) -> None:  # the same
            form = dict(parse_qsl(self.rfile.read(int(self.headers["content-length"])).decode()))
            answer = publisher.say if self.path == "/introspect" else publisher.give
            self.reply(*answer(form | {"authorization": self.headers.get("authorization", "")}))

        def reply(self, status: int, content: object) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("location", str(content))
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    serving = threading.Thread(target=server.serve_forever, args=(0.05,))
    serving.start()
    publisher.url = f"http://localhost:{server.server_address[1]}"
    try:
        yield publisher
    finally:
        server.shutdown()
        serving.join()
        server.server_close()
