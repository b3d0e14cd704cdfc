"""Real identity providers, run as processes that tests steer: `tests/node/provider.mjs` and `simple_provider.mjs`."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support import ROOT, clean_env, started

NODE = ROOT / "tests" / "node"


@dataclass(frozen=True)
class Provider:
    issuer: str
    _control: str

    def tell(self, action: str, **values: object) -> Any:
        """Run an action of the script and return what it answers."""
        return httpx2.post(f"{self._control}/{action}", json=values).raise_for_status().json()

    def seen(self, what: str) -> list[dict[str, str]]:
        """Return the registrations or grants of this kind so far, oldest first."""
        return [each for each in self.tell("seen") if each["what"] == what]

    def machine_token(self, resource: str, scope: str = "read write") -> str:
        """Return an access token that a machine gets without a user (client credentials)."""
        form = {"grant_type": "client_credentials", "resource": resource, "scope": scope}
        answer = httpx2.post(f"{self.issuer}/token", data=form, auth=("machine", "machine-secret"))
        token: str = answer.raise_for_status().json()["access_token"]
        return token


def node_program() -> str:
    """Return the path of Node: a `node` on PATH may be a wrapper, which is not what a signal should end."""
    if not (NODE / "node_modules").exists():
        pytest.skip("tests/node/node_modules is missing: run `make test-all`")
    command = ["node", "--print", "process.execPath"]
    return subprocess.run(command, env=clean_env(), capture_output=True, text=True, check=True).stdout.strip()


@contextlib.contextmanager
def provider(script: str = "provider.mjs", authority: Path | None = None) -> Iterator[Provider]:
    """Run a provider while the block lasts; it trusts this `authority` beside the usual ones."""
    env = {} if authority is None else {"NODE_EXTRA_CA_CERTS": str(authority)}
    with started(node_program(), script, ready=r"^(\{.*\})$", cwd=NODE, env=env) as child:
        assert child.match
        printed = json.loads(child.match[1])
        yield Provider(printed["issuer"], printed["control"])
