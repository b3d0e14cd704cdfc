"""What known identity providers do at the login of an MCP client and do not say in their metadata, as data.

None of it was tried here: it is recorded from their documentation and the reports of others, in November 2026. What to
do about each is in docs/check.md.
"""

import re
from dataclasses import dataclass

from portway.client.errors import Step
from portway.diagnosis.known_clients import Way


@dataclass(frozen=True, slots=True)
class KnownProvider:
    """A provider, known by its authorization endpoint, and the step at which logins end there.

    With a `way`, only those of clients that get their id so.
    """

    endpoint: re.Pattern[str]
    step: Step
    rule: str
    text: str
    mend: str
    way: Way | None = None


_ITS_OWN = "put an authorization server before it that issues tokens for your server"

KNOWN_PROVIDERS = (
    KnownProvider(
        re.compile(r"https://login\.(microsoftonline\.(com|us)|partner\.microsoftonline\.cn)/"),
        Step.AUTHORIZATION,
        "RFC 8707 section 2",
        "Microsoft Entra ID refuses the parameter `resource`, which clients send (AADSTS9010010)",
        "put an authorization server before it that takes the parameter out",
    ),
    KnownProvider(
        re.compile(r"https://accounts\.google\.com/"),
        Step.TOKEN,
        "RFC 9068 section 2.2",
        "the access tokens of Google are for its own APIs, and name no audience that a server could check",
        _ITS_OWN,
    ),
    KnownProvider(
        re.compile(r"https://github\.com/login/oauth/"),
        Step.TOKEN,
        "RFC 9068 section 2.2",
        "the access tokens of GitHub are for its own API, and name no audience that a server could check",
        _ITS_OWN,
    ),
    KnownProvider(
        re.compile(r"https://[a-z0-9-]+\.okta(preview|-emea)?\.com/"),
        Step.REGISTRATION,
        "RFC 7591 section 3",
        "Okta registers a client only for who has an administrator's token",
        "register the client there, and give the id to its users",
        "registration",
    ),
)
