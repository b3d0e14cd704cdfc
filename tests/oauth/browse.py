"""A browser without a screen: `browse.py URL` logs in as ada, agrees to what is asked, and visits where that leads.

Programs that open a browser run it by the variable BROWSER.
"""

from __future__ import annotations

import re
import socket
import sys
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx2

_FORM = re.compile(r'<form[^>]* action="([^"]*)"[^>]*>(.*?)</form>', re.DOTALL)
_SENT = re.compile(r'<(?:input type="hidden"|button type="submit") name="([^"]+)" value="([^"]*)"')


_look_up = socket.getaddrinfo


def look_up(host: Any, *arguments: Any, **options: Any) -> Any:
    """Look a name up. Those below localhost are this machine (RFC 6761 section 6.3), also where no resolver says so."""
    name = host.decode() if isinstance(host, bytes) else str(host)
    return _look_up("127.0.0.1" if name.endswith(".localhost") else host, *arguments, **options)


def logged_in(url: str, name: str = "ada") -> str:
    """Return the URL of the client to which the provider sends a user who has logged in and agreed.

    The first button of a form is the one that agrees. A provider may have its users log in at another one.
    """
    client = urlsplit(answer_of(url)["redirect_uri"]).netloc
    with httpx2.Client() as browser:
        response = browser.get(url)
        for _ in range(20):
            if "location" in response.headers:
                url = urljoin(url, response.headers["location"])
                if urlsplit(url).netloc == client:
                    return url
                response = browser.get(url)
            elif form := _FORM.search(response.text):
                url = urljoin(url, form[1])
                response = browser.post(
                    url, data={"login": name, "password": "any"} | dict(_SENT.findall(form[2])[::-1])
                )
            else:
                break
    raise AssertionError(f"{url} answers {response.status_code}: {response.text}")


def answer_of(url: str) -> dict[str, str]:
    """Return the parameters of a URL, such as `code`, `state` and `iss`."""
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def main() -> None:
    socket.getaddrinfo = look_up
    back = logged_in(sys.argv[1])
    with httpx2.Client(transport=httpx2.HTTPTransport(retries=6)) as browser:
        browser.get(back)  # some clients open the browser first, then listen


if __name__ == "__main__":
    main()
