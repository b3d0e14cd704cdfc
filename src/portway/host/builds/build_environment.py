"""The environment variables of a build: package indexes, proxies, npm registries (.npmrc), and nothing else of the
host's.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from portway.host.files import write_durably
from portway.host.paths import Paths
from portway.host.releases.release import SYSTEM_PATH, Release

_PASSED = (
    *("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_NO_INDEX"),
    *("UV_OFFLINE", "UV_INDEX_STRATEGY", "UV_KEYRING_PROVIDER", "UV_INSECURE_HOST", "UV_SYSTEM_CERTS"),
    *("UV_NATIVE_TLS", "UV_CONFIG_FILE", "UV_HTTP_TIMEOUT", "UV_PYTHON_INSTALL_MIRROR", "UV_PYTHON_DOWNLOADS"),
    *("UV_CACHE_DIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy", "NODE_EXTRA_CA_CERTS"),
)
_NPM = ("npm_config_", "NPM_CONFIG_")
_NPM_SOURCES = re.compile(
    r"npm_config_(registry|cafile|ca|cert|key|strict_ssl|https?_proxy|proxy|noproxy|_auth|_authtoken)", re.IGNORECASE
)
_PATHS = {"SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "UV_CONFIG_FILE", "UV_CACHE_DIR", "PIP_CERT"}
_REGISTRY = re.compile(
    r"\s*(?:@[^:=]+:)?(?:registry|cafile|ca|cert|key|strict-ssl|https?-proxy|proxy|noproxy|//[^=]+)\s*="
)
_HOST = re.compile(r"(?:^|//)(?:[^/\s@]*@)?(\[[^]\s]*]|[^/:?#\s\"]+)", re.MULTILINE)  # of a URL, or before a port
_LOOPBACK = {"localhost", "0.0.0.0", "[::1]", "[::]"}  # noqa: S104  # not listened on
# uv does not read pip's settings, so the index chosen there is passed on.
_FROM_PIP = {
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
    "PIP_EXTRA_INDEX_URL": "UV_INDEX",
    "PIP_FIND_LINKS": "UV_FIND_LINKS",
    "PIP_NO_INDEX": "UV_NO_INDEX",
    "PIP_CERT": "SSL_CERT_FILE",
}


def package_sources() -> dict[str, str]:
    """Return the variables of this process that say where packages come from, and how they are reached.

    They are for another process: paths are absolute, and npm's other settings, many of which npm sets itself, are left
    out.
    """
    names = [name for name in os.environ if _is_passed(name) or name in _FROM_PIP or _NPM_SOURCES.fullmatch(name)]
    return {
        name: os.path.abspath(value) if name in _PATHS or name.lower() == "npm_config_cafile" else value
        for name in sorted(names)
        if (value := os.environ[name])
    }


def build_environment(paths: Paths) -> dict[str, str]:
    """Return the variables of a build's commands. The npm registries of this user are written to the builds' home."""
    environment = {name: value for name, value in os.environ.items() if _is_passed(name) or name.startswith(_NPM)}
    for pip, uv in _FROM_PIP.items():
        if pip in os.environ:
            environment.setdefault(uv, os.environ[pip])
    if "SSL_CERT_FILE" in environment:
        environment.setdefault("NODE_EXTRA_CA_CERTS", environment["SSL_CERT_FILE"])
    _copy_npmrc(paths.npmrc)
    return {
        "PATH": SYSTEM_PATH,
        "LANG": "C.UTF-8",
        "HOME": str(paths.cache),
        "UV_NO_PROGRESS": "1",
        "CI": "true",
        "npm_config_audit": "false",
        "npm_config_fund": "false",
        "npm_config_update_notifier": "false",
    } | environment


def _is_passed(name: str) -> bool:
    """Whether a build gets a variable. UV_INDEX_<NAME>_USERNAME and _PASSWORD are credentials of a named index."""
    return name in _PASSED or (name.startswith("UV_INDEX_") and name.endswith(("_USERNAME", "_PASSWORD")))


def sandboxed_environment(release: Release, paths: Paths) -> dict[str, str]:
    """Return the variables of a build's commands in a sandbox: packages are cached for this app alone."""
    environment = build_environment(paths)
    for name in ("UV_CACHE_DIR", "npm_config_cache", "NPM_CONFIG_CACHE"):
        environment.pop(name, None)
    return environment | {
        "HOME": str(paths.app_cache(release.app)),
        "TMPDIR": "/tmp",  # noqa: S108  # its own
        "UV_PYTHON_INSTALL_DIR": str(paths.interpreters),
        "UV_LINK_MODE": "copy",  # the cache and the release are mounted apart, so nothing can be linked
        "npm_config_userconfig": str(paths.npmrc),
    }


def needs_loopback(environment: Mapping[str, str], paths: Paths) -> bool:
    """Return whether an index, a registry or a proxy of a build is on this machine's loopback."""
    texts = [value for name, value in environment.items() if not name.lower().startswith("no")]
    hosts = {host.lower() for text in (*texts, paths.npmrc.read_text(errors="replace")) for host in _HOST.findall(text)}
    own = _LOOPBACK | _names_of_loopback()
    return any(host in own or host.startswith("127.") or host.endswith(".localhost") for host in hosts)


def _names_of_loopback() -> set[str]:
    """Return the names that /etc/hosts (hosts(5)) gives to the loopback."""
    try:
        lines = [line.partition("#")[0].split() for line in Path("/etc/hosts").read_text(errors="replace").splitlines()]
    except OSError:
        return set()
    return {name.lower() for line in lines if line and line[0].startswith(("127.", "::1")) for name in line[1:]}


def _copy_npmrc(target: Path) -> None:
    """Write the settings of this user's .npmrc that say where packages come from; npm, pnpm and yarn read them."""
    try:
        lines = Path("~/.npmrc").expanduser().read_text().splitlines()
    except (OSError, RuntimeError, UnicodeDecodeError):  # none, no home, or no text
        lines = []
    content = "".join(f"{line}\n" for line in lines if _REGISTRY.match(line)).encode()
    if not target.exists() or target.read_bytes() != content:
        write_durably(target, content)
