"""Reads the address and the ref of a git repository elsewhere, and refuses what could be an option or no address."""

import ipaddress
import re
from dataclasses import dataclass

from portway.host.sources.source import SourceError

_FORM = re.compile(r"(?:(?P<scheme>[a-z][a-z0-9+.-]*)://|(?=[^/@\s]+@[^/\s]+:))(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
_HELPER = re.compile(r"[A-Za-z0-9+.-]+::")  # git would run a program for what follows
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_NAME = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*")
_NUMBER = re.compile(r"\d+|0[xX][0-9A-Fa-f]*")  # as the last part of a name, it makes an address of it
_PATH = re.compile(r"(?:/[A-Za-z0-9._~][A-Za-z0-9._~+@%-]*){1,10}/?")
_REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/@+=-]{0,199}")
_PORTS = {"https": 443, "http": 80, "ssh": 22}
_LONGEST = 1000


@dataclass(frozen=True, slots=True)
class GitUrl:
    """An address. `path` begins with a slash, but in the form USER@HOST:PATH, which git reads as from a home folder."""

    scheme: str
    user: str
    host: str
    port: int
    path: str
    is_short: bool = False

    @property
    def full_name(self) -> str:
        """The path of the repository on its host, as OWNER/NAME."""
        return self.path.strip("/").removesuffix(".git").strip("/")

    @property
    def name(self) -> str:
        """The name of the repository."""
        return self._parts[-1]

    @property
    def slug(self) -> str:
        """OWNER/NAME, or NAME where there is no owner."""
        return "/".join(self._parts[-2:])

    @property
    def _parts(self) -> list[str]:
        return self.full_name.split("/")

    @property
    def authority(self) -> str:
        """HOST[:PORT], the port where it is not the usual one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        if self.is_short:
            return f"{user}{self.authority}:{self.path}"
        return f"{self.scheme}://{user}{self.authority}{self.path}"


def is_git_url(text: str) -> bool:
    """Return whether a text is meant as the address of a repository, and not as a folder."""
    return _FORM.match(text) is not None or _HELPER.match(text) is not None


def read_git_url(text: str) -> GitUrl:
    """Return the address that a text holds. Raises `SourceError` for all but https, http and ssh."""
    form = _FORM.fullmatch(text)
    scheme = ((form and form["scheme"]) or "ssh").lower()
    if form is None or scheme not in _PORTS or len(text) > _LONGEST:
        raise SourceError(
            f"{text[:100]!a} is no address that can be fetched: give https://HOST/PATH, ssh://USER@HOST/PATH or "
            "USER@HOST:PATH"
        )
    is_short = form["scheme"] is None
    authority, slash, path = form["rest"].partition(":" if is_short else "/")
    user, at, place = authority.rpartition("@")
    if at and (scheme != "ssh" or ":" in user):
        raise SourceError(
            "an address holds no user and no password, which would be seen by many: leave them out; a private "
            "repository is linked by `portway link APP GIT-URL --key FILE`, with a deploy key"
        )
    if at and not _USER.fullmatch(user):
        raise SourceError(f"{user[:64]!a} is no user of a git server: give the user's plain name, as in git@HOST")
    host, port = _place(place, _PORTS[scheme])
    path = path if is_short else slash + path
    if not _PATH.fullmatch(path if path.startswith("/") else f"/{path}") or ".." in path.split("/"):
        raise SourceError(f"{path[:100]!a} is no path of a repository: give it as OWNER/NAME, without ? and #")
    return GitUrl(scheme, user, host, port, path, is_short)


def _place(text: str, usual: int) -> tuple[str, int]:
    """Return the host and the port. A host is a name, or an address in its one usual form."""
    found = re.fullmatch(r"(\[[^]]*]|[^:]*)(?::(\d{1,5}))?", text)
    host = found[1].lower() if found else ""
    port = int(found[2] or usual) if found else 0
    is_name = bool(_NAME.fullmatch(host)) and not _NUMBER.fullmatch(host.rpartition(".")[2])
    if not (is_name or _is_address(host)) or not 0 < port < 65536:
        raise SourceError(f"{text[:100]!a} is no host: give its name, as in https://git.example.com/OWNER/NAME")
    return host.strip("[]"), port


def _is_address(host: str) -> bool:
    try:
        found = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return (found.version == 6) == host.startswith("[") and "%" not in host


def read_ref(text: str) -> str:
    """Return the name of a branch, a tag or a commit. Raises `SourceError` for what cannot be one."""
    if not _REF.fullmatch(text) or ".." in text or "@{" in text or "//" in text or text.endswith((".", "/", ".lock")):
        raise SourceError(f"{text[:100]!a} is no name of a branch, a tag or a commit: give one as git shows it")
    return text
