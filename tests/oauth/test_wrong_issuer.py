"""A server whose identity provider is named wrongly: its log says so at the start, and it serves."""

from __future__ import annotations

import httpx2
import pytest

from tests.oauth.key_publisher import KeyPublisher
from tests.oauth.vault import RESOURCE
from tests.support import SCRIPTS, WEATHER, started


@pytest.mark.parametrize(
    ("spelling", "said"),
    [
        (
            "{}/",
            "nobody can log in now at {0}/: .* is of the issuer '{0}', not of '{0}/': give it exactly so",
        ),
        ("http://localhost:9", "nobody can log in now at http://localhost:9: http://localhost:9/.well-known/"),
        ("{}", ""),
    ],
)
def test_the_start_says_where_callers_log_in_and_what_is_wrong_there(
    provider: KeyPublisher, spelling: str, said: str
) -> None:
    issuer = spelling.format(provider.url)
    options = ("--auth-issuer", issuer, "--auth-audience", RESOURCE, "--auth-scopes", "a,b")
    command = (SCRIPTS / "portway", "run", WEATHER, "--transport", "http", "--port", "0", *options)
    with started(*command, ready=r"http://127\.0\.0\.1:(\d+)") as child:
        child.wait_for(f"^portway: callers log in at {issuer}$")
        assert child.match
        url = f"http://127.0.0.1:{child.match[1]}/.well-known/oauth-protected-resource/mcp"
        assert httpx2.get(url).json()["scopes_supported"] == ["a", "b"]
        if said:
            child.wait_for(f"WARNING .*{said.format(provider.url)}")
    assert said or "WARNING" not in "".join(child.lines)
