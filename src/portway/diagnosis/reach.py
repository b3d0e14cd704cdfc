"""Diagnoses the name (DNS), the certificate and its expiry, and what plain HTTP answers."""

import asyncio
import ipaddress
import os
import socket
import ssl
import time
from contextlib import suppress
from typing import cast

from portway.counted import counted
from portway.diagnosis.endpoint import SECONDS, Endpoint, NoAnswer
from portway.diagnosis.report import Report, Stopped
from portway.http.localhost import name_to_look_up

_DAY = 86_400.0
_EXPIRES_SOON = 14.0  # days; of a short-lived certificate, a quarter of its life
_EXPIRED, _OTHER_NAMES = 10, (62, 64)  # OpenSSL's X509_V_ERR codes; the second of the other names is of addresses
_UNKNOWN = (18, 19, 20, 21)  # self-signed, or the chain leads to no authority that is trusted
_PLAIN_PORT = 80


async def look_at_reach(endpoint: Endpoint, report: Report) -> None:
    """Look at the name, the certificate and plain HTTP. Raises `Stopped`."""
    addresses = await _resolve(endpoint, report)
    if endpoint.is_tls:
        await _look_at_certificate(endpoint, report)
        await _look_at_plain_http(endpoint, report)
    elif not all(ipaddress.ip_address(address).is_loopback for address in addresses):
        report.finding(
            "TLS",
            "the endpoint is served without TLS: tokens and calls can be read on the way",
            "serve it by HTTPS, and give its https:// address",
        )


async def _resolve(endpoint: Endpoint, report: Report) -> list[str]:
    try:
        async with asyncio.timeout(SECONDS):
            name = name_to_look_up(endpoint.host)
            found = await asyncio.get_running_loop().getaddrinfo(name, endpoint.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError):
        raise report.stop(
            "DNS",
            f"the name {endpoint.host} has no address",
            "check its spelling, or add an A or AAAA record, and wait until resolvers know it",
        ) from None
    addresses = list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))
    report.fact("DNS", f"{endpoint.host} is {', '.join(addresses)}")
    return addresses


async def _look_at_certificate(endpoint: Endpoint, report: Report) -> None:
    context = ssl.create_default_context()
    try:
        async with asyncio.timeout(SECONDS):
            _, writer = await asyncio.open_connection(
                name_to_look_up(endpoint.host), endpoint.port, ssl=context, server_hostname=endpoint.host
            )
    except ssl.SSLCertVerificationError as error:
        raise report.stop("TLS", *_distrusted(endpoint, error)) from None
    except ssl.SSLError as error:
        raise report.stop(
            "TLS",
            f"port {endpoint.port} does not speak TLS 1.2 or later ({error.reason or error})",
            "turn TLS on there, or give the http:// address if it is meant to be plain",
        ) from None
    except (OSError, TimeoutError) as error:
        raise _unreachable(endpoint, report, error) from None
    connection = cast("ssl.SSLObject", writer.get_extra_info("ssl_object"))
    version, certificate = connection.version(), cast("dict[str, str]", connection.getpeercert() or {})
    writer.close()
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(1):
            await writer.wait_closed()
    _look_at_expiry(certificate, version or "TLS", report)


def _look_at_expiry(certificate: dict[str, str], version: str, report: Report) -> None:
    begins, ends = (ssl.cert_time_to_seconds(certificate[name]) for name in ("notBefore", "notAfter"))
    left = (ends - time.time()) / _DAY
    if left < min(_EXPIRES_SOON, (ends - begins) / _DAY / 4):
        report.finding(
            "TLS",
            f"the certificate expires in {counted(round(left, 1), 'day')}",
            "renew it; if that should happen by itself, look why it has not: the log of the ACME client says so",
        )
    else:
        report.fact("TLS", f"{version}, the certificate is valid for another {counted(round(left), 'day')}")


def _distrusted(endpoint: Endpoint, error: ssl.SSLCertVerificationError) -> tuple[str, str]:
    """Return what is wrong with a certificate, and the mend."""
    if error.verify_code == _EXPIRED:
        return "the certificate has expired", "renew it, and let the server or proxy read the new one"
    if error.verify_code in _OTHER_NAMES:
        return (
            f"the certificate is for another name than {endpoint.host}",
            "get one for this name, or give the address that it is for",
        )
    if error.verify_code in _UNKNOWN:
        return (
            f"the certificate's chain leads to no authority that is trusted here ({error.verify_message})",
            "serve the full chain with the intermediate certificates; name an authority of your own by SSL_CERT_FILE",
        )
    return f"the certificate is not accepted ({error.verify_message})", "get one from a public authority"


def _unreachable(endpoint: Endpoint, report: Report, error: OSError) -> Stopped:
    reason = os.strerror(error.errno) if error.errno else "no answer"
    return report.stop(
        "connection",
        f"port {endpoint.port} of {endpoint.host} cannot be reached: {reason}",
        "start the server, or open the port in the firewall; one on 127.0.0.1 is reached from its own machine only",
    )


async def _look_at_plain_http(endpoint: Endpoint, report: Report) -> None:
    """See that plain HTTP leads to HTTPS; only on the usual ports, where clients and people try it."""
    if endpoint.port != 443:
        return
    plain = Endpoint(f"http://{endpoint.parts.hostname}:{_PLAIN_PORT}{endpoint.target}", None)
    try:
        answer = await plain.send("GET")
    except NoAnswer:
        report.fact("plain HTTP", "port 80 is closed")
        return
    location = answer.headers.get(b"location", b"").decode("latin-1")
    if answer.status in (301, 302, 307, 308) and location.lower().startswith("https://"):
        report.fact("plain HTTP", "port 80 redirects to HTTPS")
    elif answer.status < 400:
        report.finding(
            "plain HTTP",
            f"http://{endpoint.host} answers with status {answer.status} in place of a redirect to HTTPS",
            "let port 80 answer every path with 308 and the https:// address, or close it",
        )
