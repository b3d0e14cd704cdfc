"""A browser without a screen: `browse.py URL` logs in as ada, agrees to what is asked, and visits where that leads.

Programs that open a browser run it by the variable BROWSER.
"""

from __future__ import annotations

import re
import sys
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx2

_FORM = re.compile(r'<form[^>]* action="([^"]+)" method="post">(.*?)</form>', re.DOTALL)
_HIDDEN = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)"')


def logged_in(url: str, name: str = "ada") -> str:
    """Return the URL of the client to which the provider sends a user who has logged in and agreed."""
    provider = urlsplit(url).netloc
    with httpx2.Client() as browser:
        response = browser.get(url)
        for _ in range(20):
            if "location" in response.headers:
                url = urljoin(url, response.headers["location"])
                if urlsplit(url).netloc != provider:
                    return url
                response = browser.get(url)
            elif form := _FORM.search(response.text):
                url = urljoin(url, form[1])
                response = browser.post(url, data={"login": name, "password": "any"} | dict(_HIDDEN.findall(form[2])))
            else:
                break
    raise AssertionError(f"{url} answers {response.status_code}: {response.text}")


def answer_of(url: str) -> dict[str, str]:
    """Return the parameters of a URL, such as `code`, `state` and `iss`."""
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def main() -> None:
    back = logged_in(sys.argv[1])
    with httpx2.Client(transport=httpx2.HTTPTransport(retries=6)) as browser:
        browser.get(back)  # some clients open the browser first, then listen


if __name__ == "__main__":
    main()
