"""The configuration of Caddy: TLS, HSTS, redirects, ACME, time limits, the answer while the gate is away
(https://caddyserver.com/docs/json/).
"""

import json
from pathlib import Path

from portway.host.paths import Paths
from portway.host.tls.https_settings import HTTPS_PORT, HttpsSettings
from portway.host.tls.public_ports import PublicPorts
from portway.http.request_head import INVALID

_HSTS = "max-age=31536000"  # a year; without the names below, which may be someone else's
_NANOSECONDS = 1_000_000_000
_HEAD_SECONDS = 10  # for the headers of a request, as at the gate
_IDLE_SECONDS = 30  # a connection to the gate is reused for less than the gate keeps it
_IDLE_CONNECTIONS = 512
_MALFORMED = (  # how Go's net/http words what is wrong with a chunked body
    "^(invalid byte in chunk length|empty hex number for chunk length|http chunk length too large|header line too long"
    "|malformed chunked encoding|chunked encoding contains too much non-data|malformed MIME header"
    "|http: suspiciously long trailer after chunked body)"
)
_BARE_IPV6 = {"vars_regexp": {"{http.request.host}": {"pattern": "^[0-9a-fA-F]*:"}}}  # where a port came after it
_PLAIN = {"Content-Type": ["text/plain; charset=utf-8"]}
_EARLY = "The request came before the TLS handshake was complete, so it may be a replay: send it again."
_AWAY = {"jsonrpc": "2.0", "id": None, "error": {"code": -32603, "message": "The host is restarting; try again soon."}}


def caddy_config(
    paths: Paths, settings: HttpsSettings, ports: PublicPorts, ask_url: str, own_path: str | None
) -> bytes:
    """Return the configuration of a Caddy that inherits `ports` and passes each request on to the gate.

    It asks `ask_url` whether the host answers to a name before it asks the authority for a certificate of that name.
    With `own_path`, it gets the operator's certificate there for each connection instead: a change of certificates in
    its configuration would close connections that clients are about to use.
    """
    https, quic, http = ports.descriptors
    servers = {
        "https": {
            "listen": [f"fd/{https}", f"fdgram/{quic}"],
            "listen_protocols": [["h1", "h2"], ["h3"]],
            "automatic_https": {"disable": True},
            "read_header_timeout": _HEAD_SECONDS * _NANOSECONDS,
            "tls_connection_policies": [{"default_sni": settings.domain}],
            "routes": [_early(), {"handle": [_gate(paths.web_socket)]}],
            "errors": {"routes": [_malformed(), {"handle": [_away()]}]},
        },
        "http": {
            "listen": [f"fd/{http}"],
            "protocols": ["h1"],
            "automatic_https": {"disable": True},
            "read_header_timeout": _HEAD_SECONDS * _NANOSECONDS,
            "routes": _redirects(ports.https_port),
        },
    }
    config = {
        "admin": {"listen": f"unix/{paths.caddy_socket}|0600", "config": {"persist": False}},
        "logging": _logging(),
        "storage": {"module": "file_system", "root": str(paths.tls)},
        "apps": {
            "http": {"http_port": ports.http_port, "https_port": ports.https_port, "servers": servers},
            "tls": _acme(settings, ports, ask_url) if own_path is None else _own(f"{ask_url}{own_path}"),
        },
    }
    return json.dumps(config).encode()


def _gate(socket: Path) -> object:
    # Without `flush_interval`: event streams are passed on at once anyway, and with -1 a client that leaves would not
    # be noticed.
    keep_alive = {"idle_timeout": _IDLE_SECONDS * _NANOSECONDS, "max_idle_conns_per_host": _IDLE_CONNECTIONS}
    transport = {"protocol": "http", "versions": ["1.1"], "compression": False, "keep_alive": keep_alive}
    return {
        "handler": "reverse_proxy",
        "transport": transport,
        "upstreams": [{"dial": f"unix/{socket}"}],
        "headers": {
            # Nobody reads Via, Host says the same as X-Forwarded-Host, and the scheme is always https.
            "request": {"delete": ["Via", "X-Forwarded-Host", "X-Forwarded-Proto"]},
            "response": {"set": {"Strict-Transport-Security": [_HSTS]}},
        },
    }


def _redirects(https_port: int) -> object:
    """Lead each request to the same URL by HTTPS."""
    port = "" if https_port == HTTPS_PORT else f":{https_port}"
    routes = []
    for match, host in ((_BARE_IPV6, "[{http.request.host}]"), (None, "{http.request.host}")):
        headers = {"Location": [f"https://{host}{port}{{http.request.uri}}"]}
        handler = {"handler": "static_response", "status_code": 308, "headers": headers, "close": True}
        routes.append({"handle": [handler], "terminal": True} | ({"match": [match]} if match else {}))
    return routes


def _early() -> object:
    """Refuse what a client of HTTP/3 sends with its first packets: whoever saw those can send them again (RFC 8470)."""
    handler = {"handler": "static_response", "status_code": 425, "headers": _PLAIN, "body": _EARLY}
    return {"match": [{"tls": {"handshake_complete": False}}], "handle": [handler], "terminal": True}


def _malformed() -> object:
    """Answer a client whose chunked body is no HTTP, as the gate does. Caddy takes that for a failure of the gate."""
    handler = {"handler": "static_response", "status_code": 400, "headers": _PLAIN, "body": INVALID, "close": True}
    match = {"vars_regexp": {"{http.error.message}": {"pattern": _MALFORMED}}}
    return {"match": [match], "handle": [handler], "terminal": True}


def _away() -> object:
    """Answer while the gate cannot be reached."""
    headers = {"Content-Type": ["application/json"], "Retry-After": ["1"]}
    return {"handler": "static_response", "status_code": 503, "headers": headers, "body": json.dumps(_AWAY)}


def _logging() -> object:
    """Log failures to get certificates, but nothing of requests, which may hold tokens."""
    excluded = ["http.log", "http.handlers", "admin"]
    return {"logs": {"default": {"level": "ERROR", "encoder": {"format": "json"}, "exclude": excluded}}}


def _own(url: str) -> object:
    return {"automation": {"policies": [{"get_certificate": [{"via": "http", "url": url}]}]}}


def _acme(settings: HttpsSettings, ports: PublicPorts, ask_url: str) -> object:
    issuer = {
        "module": "acme",
        **({"ca": settings.acme_server} if settings.acme_server else {}),
        **({"email": settings.acme_email} if settings.acme_email else {}),
        **({"trusted_roots_pem_files": [str(settings.acme_ca)]} if settings.acme_ca else {}),
        "challenges": {
            "http": {"alternate_port": ports.http_port},
            "tls-alpn": {"alternate_port": ports.https_port},
        },
    }
    # The domain's too: what Caddy manages by itself is missing for a moment after its start, and is seldom tried again.
    return {
        "automation": {
            "policies": [{"on_demand": True, "issuers": [issuer]}],
            "on_demand": {"permission": {"module": "http", "endpoint": ask_url}},
        },
    }
