"""`portway check URL` against one broken endpoint per finding, and against ones that are not broken."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import RunCli
from tests.diagnosis.broken_proxy import Authority, Reply, Request, Rule, authority, broken
from tests.support import clean_env, served

HTML = {"content-type": "text/html"}
JSON = {"content-type": "application/json"}
EVENTS = {"content-type": "text/event-stream"}
PAGES = {"access-control-allow-origin": "*"}


@pytest.fixture(scope="module")
def works() -> Iterator[str]:
    with served() as url:
        yield url


@pytest.fixture
def trusted(tmp_path: Path) -> Authority:
    return authority(tmp_path)


def check(run_cli: RunCli, url: str, *options: str, trusts: Path | None = None) -> tuple[int, list[str], list[str]]:
    """Return the exit code of a check, its findings and its facts, as lines."""
    environment = {"SSL_CERT_FILE": str(trusts)} if trusts else {}
    done = run_cli("check", url, "-o", "json", *(options or ("--idle", "0")), env=environment)
    assert done.stderr == ""
    report = json.loads(done.stdout)
    assert report["url"] == url
    assert all(found["mend"] for found in report["findings"])
    facts = [f"{fact['subject']}: {fact['text']}" for fact in report["facts"]]
    return done.returncode, [f"{found['subject']}: {found['text']}" for found in report["findings"]], facts


def result(request: Request, value: dict[str, object]) -> Reply:
    message = {"jsonrpc": "2.0", "id": json.loads(request.body)["id"], "result": value}
    return Reply(200, JSON, json.dumps(message))


def refuses(request: Request) -> Reply:
    error = {"code": -32601, "message": "Method not found"}
    return Reply(200, JSON, json.dumps({"jsonrpc": "2.0", "id": json.loads(request.body)["id"], "error": error}))


def always(reply: Reply) -> Rule:
    return lambda _: reply


def moved(request: Request) -> Reply | None:
    return None if request.path == "/mcp" else Reply(404)


def refuses_all(request: Request) -> Reply:
    """Answer as a host that does not say which of its places exist."""
    return Reply(401 if request.path.endswith("/mcp") else 404, {"www-authenticate": "Bearer"})


def only_json(request: Request) -> Reply | None:
    return None if request.headers["accept"] == "application/json" else Reply(406)


def unless(header: str, beginning: str, status: int) -> Rule:
    def rule(request: Request) -> Reply:
        return Reply(202 if request.headers.get(header, "").startswith(beginning) else status)

    return rule


def speaks_sse(request: Request) -> Reply:
    return Reply(200, EVENTS, "event: endpoint\n\n", held=True) if request.method == "GET" else Reply(405)


def metadata_of_another(request: Request) -> Reply:
    if "well-known" in request.path:
        found = {"resource": "https://other.example/mcp", "authorization_servers": ["https://login.example"]}
        return Reply(200, JSON, json.dumps(found))
    return Reply(401, {"www-authenticate": "Bearer"})


def metadata_missing(request: Request) -> Reply:
    named = f'Bearer resource_metadata="http://{request.headers["host"]}/not here"'
    return Reply(404) if request.method == "GET" else Reply(401, {"www-authenticate": named})


def metadata_at(named: str) -> Rule:
    def rule(request: Request) -> Reply:
        return (
            Reply(404)
            if request.method == "GET"
            else Reply(401, {"www-authenticate": f'Bearer resource_metadata="{named}"'})
        )

    return rule


@pytest.mark.parametrize(
    ("rule", "path", "finding"),
    [
        (moved, "/wrong", "HTTP: there is nothing at /wrong (status 404)"),
        (always(Reply(404)), "/mcp", "HTTP: there is nothing at /mcp (status 404), nor at the usual paths"),
        (always(Reply(307, {"location": "/other"})), "/mcp", "HTTP: a POST is redirected with status 307 to /other"),
        (
            always(Reply(307, {"location": "http://[x"})),
            "/mcp",
            "HTTP: a POST is redirected with status 307 to http://[x",
        ),
        (metadata_at("http://[x"), "/mcp", "login: the metadata that the 401 names cannot be read: http://[x"),
        (always(Reply(401)), "/mcp", "login: the endpoint asks for a token and does not say where clients get one"),
        (metadata_of_another, "/mcp", "login: the metadata is for https://other.example/mcp, not for http://"),
        (metadata_missing, "/mcp", "login: the metadata that the 401 names cannot be read: http://"),
        (only_json, "/mcp", "HTTP: the Accept header of every client, `application/json, text/event-stream`, is"),
        (always(Reply(406)), "/mcp", "HTTP: the endpoint answers every Accept header with status 406"),
        (unless("host", "localhost", 421), "/mcp", "HTTP: the header Host is refused with status 421"),
        (unless("origin", "http", 403), "/mcp", "HTTP: the header Origin is refused with status 403"),
        (unless("user-agent", "Mozilla", 403), "/mcp", "HTTP: the header User-Agent is refused with status 403"),
        (always(Reply(403, {}, "no")), "/mcp", "HTTP: the endpoint refuses the request with status 403, whatever its"),
        (speaks_sse, "/sse", "protocol: the endpoint speaks HTTP+SSE of 2024-11-05"),
        (always(Reply(405)), "/mcp", "HTTP: the endpoint takes no POST (status 405)"),
        (always(Reply(502, HTML)), "/mcp", "HTTP: the endpoint fails with status 502: a web page"),
        (always(Reply(200, HTML, "<p>")), "/mcp", "protocol: the endpoint answers `initialize` with status 200 and"),
    ],
)
def test_an_endpoint_that_refuses_the_first_request_is_told_why(
    works: str, run_cli: RunCli, rule: Rule, path: str, finding: str
) -> None:
    with broken(rule, works) as place:
        code, findings, _ = check(run_cli, f"http://{place}{path}")
    assert code == 1
    assert findings[0].startswith(finding)


@pytest.mark.parametrize(
    ("url", "token", "sentence"),
    [
        ("http://127.0.0.1:1/a b", "t", "is not a usable URL: percent-encode spaces and non-ASCII characters"),
        ("http://127.0.0.1:1/mcp", "a\nb", "the token has a space, a line break or a non-ASCII character: pass it"),
    ],
)
def test_what_http_cannot_send_is_refused(run_cli: RunCli, url: str, token: str, sentence: str) -> None:
    done = run_cli("check", url, "--token", token)
    assert (done.returncode, done.stdout) == (1, "")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def forgets_sessions(request: Request) -> Reply | None:
    if '"initialize"' in request.body:
        value: dict[str, object] = {
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "s", "version": "1"},
        }
        made = result(request, value)
        return Reply(200, {**made.headers, "mcp-session-id": "a"}, made.body)
    return Reply(404) if '"ping"' in request.body else None


def refuses_legacy(request: Request) -> Reply | None:
    return refuses(request) if '"initialize"' in request.body else None


def begs_no_preflight(request: Request) -> Reply | None:
    return Reply(405) if request.method == "OPTIONS" else allows_pages(request)


def allows_pages(request: Request) -> Reply | None:
    if request.method == "OPTIONS":
        return Reply(204, {**PAGES, "access-control-allow-headers": "*"})
    if "origin" not in request.headers:
        return None
    return Reply(200, {**JSON, **PAGES}, result(request, {}).body)


def tools(*found: dict[str, object]) -> Rule:
    def rule(request: Request) -> Reply | None:
        if '"tools/list"' not in request.body:
            return None
        modern = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
        return result(request, {"tools": list(found), **modern})

    return rule


def tool(name: str = "t", schema: dict[str, object] | None = None, **fields: object) -> dict[str, object]:
    return {"name": name, "inputSchema": {"type": "object"} if schema is None else schema, **fields}


def parameter(**schema: object) -> dict[str, object]:
    return {"type": "object", "properties": {"p": schema}}


def chain(length: int) -> dict[str, object]:
    """Return a schema of definitions each of which refers to the next, and the last to the first."""
    nodes = {str(number): {"$ref": f"#/$defs/{(number + 1) % length}"} for number in range(length)}
    return {**parameter(**{"$ref": "#/$defs/0"}), "$defs": nodes}


NODE = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "finding"),
    [
        (forgets_sessions, "session: a session was refused in 8 of 8 calls (status 404)"),
        (refuses_legacy, "protocol: `initialize` is refused: Method not found; clients of before 2026-07-28"),
        (begs_no_preflight, "web pages: pages are allowed, but the preflight is answered with status 405"),
        (allows_pages, "web pages: pages are allowed, but may not send authorization"),
        (tools(tool("a b")), "tools: a b: Claude and OpenAI refuse the name"),
        (tools(tool("a" * 60)), f"tools: {'a' * 60}: Cursor leaves it out"),
        (tools(tool("a"), tool("a")), "tools: a: there are several tools of this name"),
        (tools(tool(schema={})), 'tools: t: the input schema is not of "type": "object"'),
        (tools(tool(schema={"type": "object", "anyOf": []})), "tools: t: Claude refuses anyOf, oneOf and allOf"),
        (tools(tool(schema={"type": "object", "properties": {"a b": {}}})), "tools: t: Claude refuses a parameter's"),
        (tools(tool(schema=parameter(type="array"))), "tools: t: VS Code, OpenAI and Gemini refuse an array"),
        (tools(tool(schema=parameter(**{"$ref": "https://x.example/s"}))), "tools: t: no client fetches a $ref"),
        (tools(tool(schema=parameter(**{"$ref": "#/$defs/Gone"}))), "tools: t: a $ref leads nowhere"),
        (
            tools(tool(schema={**parameter(**{"$ref": "#/$defs/Node"}), "$defs": {"Node": NODE}})),
            "tools: t: Gemini refuses a schema that refers to itself",
        ),
        (tools(tool(schema=chain(15_000))), "tools: t: Gemini refuses a schema that refers to itself"),
        (tools(tool(outputSchema={"type": "string"})), "tools: t: clients on the TypeScript SDK 1 lose the whole"),
        (tools(*(tool(f"t{number}") for number in range(129))), "tools: 129 tools are more than VS Code and OpenAI"),
        (tools(tool(description="long " * 20_000)), "tools: 1 tool, about 25,"),
    ],
)
def test_an_endpoint_that_some_clients_cannot_use_is_told_what_they_stumble_over(
    works: str, run_cli: RunCli, rule: Rule, finding: str
) -> None:
    with broken(rule, works) as place:
        code, findings, _ = check(run_cli, f"http://{place}/mcp")
    assert code == 1
    assert [found for found in findings if found.startswith(finding)], findings


def streams(reply: Reply) -> Rule:
    return lambda request: reply if "subscriptions/listen" in request.body else None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reply", "finding"),
    [
        (Reply(0, held=True), "streams: an event stream does not begin within 5 s"),
        (Reply(200, EVENTS, held=True), "streams: an event stream does not begin within 5 s"),
        (Reply(200, EVENTS, "data: {}\n\n"), "streams: an event stream was cut after 0 s"),
        (
            Reply(200, {**EVENTS, "content-encoding": "gzip"}, "data: {}\n\n", held=True),
            "streams: event streams are compressed (gzip)",
        ),
    ],
)
def test_a_stream_that_is_held_back_or_cut_is_found(works: str, run_cli: RunCli, reply: Reply, finding: str) -> None:
    with broken(streams(reply), works) as place:
        code, findings, _ = check(run_cli, f"http://{place}/mcp", "--idle", "1")
    assert code == 1
    assert [found for found in findings if found.startswith(finding)], findings


@pytest.mark.parametrize(
    ("begins", "ends", "address", "is_trusted", "finding"),
    [
        (-2, -1, "127.0.0.1", True, "TLS: the certificate has expired"),
        (-80, 5, "127.0.0.1", True, "TLS: the certificate expires in 5 days"),
        (-1, 90, "127.0.0.2", True, "TLS: the certificate is for another name than 127.0.0.1"),
        (-1, 90, "127.0.0.1", False, "TLS: the certificate's chain leads to no authority that is trusted here"),
    ],
)
def test_a_certificate_that_clients_refuse_or_soon_will_is_found(
    works: str,
    run_cli: RunCli,
    trusted: Authority,
    begins: float,
    ends: float,
    address: str,
    is_trusted: bool,  # a case of the test
    finding: str,
) -> None:
    with broken(always(Reply(404)), works, tls=trusted.tls(address, begins, ends)) as place:
        code, findings, _ = check(run_cli, f"https://{place}/mcp", trusts=trusted.certificate if is_trusted else None)
    assert code == 1
    assert findings[0].startswith(finding)


def test_https_on_the_usual_ports_wants_a_redirect_from_plain_http(
    works: str, run_cli: RunCli, trusted: Authority
) -> None:
    address = "127.0.43.80"  # of this test alone
    try:
        secured = broken(lambda _: None, works, (address, 443), trusted.tls(address, -1, 90))
        with secured, broken(always(Reply(200, HTML, "hello")), address=(address, 80)):
            code, findings, facts = check(run_cli, f"https://{address}/mcp", trusts=trusted.certificate)
    except PermissionError:
        pytest.skip("only root may listen on port 443 here")
    assert (code, findings) == (
        1,
        [f"plain HTTP: http://{address} answers with status 200 in place of a redirect to HTTPS"],
    )
    assert "TLS: TLSv1.3, the certificate is valid for another 90 days" in facts


def test_plain_http_beyond_this_machine_is_a_finding(works: str, run_cli: RunCli) -> None:
    port = works.removesuffix("/mcp").rpartition(":")[2]
    _, findings, _ = check(run_cli, f"http://0.0.0.0:{port}/mcp")
    assert findings[0].startswith("TLS: the endpoint is served without TLS")


def test_a_name_without_address_a_closed_port_and_a_port_without_tls_are_found(works: str, run_cli: RunCli) -> None:
    _, findings, _ = check(run_cli, "https://no-such-host.invalid/mcp")
    assert findings == ["DNS: the name no-such-host.invalid has no address"]
    with broken(always(Reply(200))) as place:
        pass
    _, findings, _ = check(run_cli, f"https://{place}/mcp")
    assert findings[0].endswith("cannot be reached: Connection refused")
    _, findings, _ = check(run_cli, works.replace("http://", "https://"))
    assert "does not speak TLS 1.2 or later" in findings[0]


def test_an_address_where_a_server_answers_is_told_from_one_where_all_are_refused(works: str, run_cli: RunCli) -> None:
    def asks(request: Request) -> Reply:
        return Reply(401 if request.path == "/notes/mcp" else 404)

    def asks_here(request: Request) -> Reply:
        named = {"www-authenticate": 'Bearer resource_metadata="http://127.0.0.1/x"'} if "notes" in request.path else {}
        return Reply(401 if request.path.endswith("/mcp") else 404, named)

    def below(request: Request) -> Reply | None:
        return None if request.path == "/mcp" else refuses_all(request)

    def mend(rule: Rule) -> str:
        with broken(rule, works) as place:
            done = run_cli("check", f"http://{place}/notes")
        return done.stdout.partition("mend: ")[2].strip().replace(place, "HOST")

    there = "give the address http://HOST/notes/mcp, where an MCP server answers"
    assert [mend(asks), mend(asks_here)] == [there, there]
    assert mend(below) == "give the address http://HOST/mcp, where an MCP server answers"
    assert mend(refuses_all) == (
        "try the address http://HOST/notes/mcp with a token (--token): without one, the host does not say whether an "
        "MCP server is there"
    )


def test_a_name_under_localhost_is_this_machine(works: str, run_cli: RunCli) -> None:
    with broken(lambda _: None, works) as place:
        code, findings, facts = check(run_cli, f"http://notes.localhost:{place.rpartition(':')[2]}/mcp")
    assert (code, findings) == (0, [])
    assert facts[0].startswith("DNS: notes.localhost is ")


def test_a_wrong_token_is_a_finding_and_is_sent_to_nobody_else(run_cli: RunCli) -> None:
    got: list[str] = []

    def rule(request: Request) -> Reply:
        got.append(request.headers.get("authorization", ""))
        return Reply(401, {"www-authenticate": 'Bearer resource_metadata="http://elsewhere.example/"'}, "no")

    with broken(rule) as place:
        code, findings, _ = check(run_cli, f"http://{place}/mcp", "--token", "wrong-1", "--idle", "0")
    assert (code, findings) == (1, ["login: the token is refused: no"])
    assert set(got) == {"Bearer wrong-1"}


def test_an_endpoint_that_works_has_no_finding(run_cli: RunCli) -> None:
    with served(env={"PORTWAY_TOKENS": "ada:right-1"}) as url:
        code, findings, facts = check(run_cli, url, "--token", "right-1", "--idle", "1")
        done = run_cli("check", url, "--idle", "0", env=clean_env({"PORTWAY_TOKEN": "right-1"}))
    assert (code, findings) == (0, [])
    assert "login: the token is accepted; clients must be given one, as the 401 names no resource_metadata" in facts
    assert "protocol: it speaks the era modern (2026-07-28) and legacy (2025-11-25)" in facts
    assert [fact for fact in facts if fact.startswith("streams: one stayed open for 1 s")]
    assert done.stdout.endswith("nothing is wrong\n")


def test_what_is_no_url_of_an_endpoint_is_refused(run_cli: RunCli) -> None:
    done = run_cli("check", "ftp://example.com/mcp")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "Error: 'ftp://example.com/mcp' is not an address: write http://host:port, https://host:port or unix:/path\n"
    )
    done = run_cli("check", "no-such-folder")
    assert done.returncode == 2
    assert "there is no folder no-such-folder: give the folder of an app, or the URL of an endpoint" in done.stderr
