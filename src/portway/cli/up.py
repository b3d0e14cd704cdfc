"""`portway up`: all its options, read and refused (--domain, --behind-proxy, --cert, --auth-…), then the host in the
foreground.
"""

import importlib.util
import ipaddress
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import click
from click.core import ParameterSource

from portway.cli.options import data_option, output_option, require_folder, require_issuer, require_linux

if TYPE_CHECKING:
    from portway.host.paths import Paths
    from portway.host.tls.https_settings import HttpsSettings

_AGAIN = "PORTWAY_UP_AGAIN"
_NEEDED = ("alembic", "dotenv", "ruamel", "sqlalchemy", "uv")


_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")  # RFC 1035 section 2.3.1
_LONGEST_DOMAIN = 189  # an app's name and a dot before it still make a name of 253 characters
_PORT = click.IntRange(0, 65535)
_FILE = click.Path(exists=True, dir_okay=False, resolve_path=True, path_type=Path)


class _HttpsOptions(TypedDict):
    https_port: int
    http_port: int
    certificate: Path | None
    key: Path | None
    acme_server: str
    acme_email: str
    acme_ca: Path | None


def _folders(context: click.Context, argument: click.Parameter, values: tuple[Path, ...]) -> tuple[Path, ...]:
    for path in values:
        if not os.path.lexists(path):
            raise click.BadParameter(f"there is no folder {str(path)!r}: give one with a server in it, or none")
        require_folder(str(path), argument, context)
    return values


@click.command()
@click.argument(
    "folders",
    metavar="[PATH]...",
    nargs=-1,
    type=click.Path(path_type=Path),
    callback=_folders,
)
@click.option("--port", type=_PORT, envvar="PORT", default=8080, show_default=True, help="Also from PORT.")
@data_option
@click.option(
    "--domain",
    default="localhost",
    show_default=True,
    callback=lambda _context, _option, value: _domain(value),
    help="Apps are also at <app>.DOMAIN.",
)
@click.option("--host", help="Address to listen on. Default: loopback, or every address behind a proxy elsewhere.")
@click.option(
    "--behind-proxy",
    "proxies",
    metavar="CIDR",
    multiple=True,
    callback=lambda _context, _option, values: _networks(values),
    help="A proxy there serves DOMAIN over TLS: its X-Forwarded headers are believed. Repeatable.",
)
@click.option("--https-port", type=_PORT, default=443, show_default=True, help="With a --domain. Over TCP and UDP.")
@click.option("--http-port", type=_PORT, default=80, show_default=True, help="Redirects to HTTPS; answers authorities.")
@click.option("--cert", "certificate", type=_FILE, help="Serve HTTPS with this certificate (PEM), not one by ACME.")
@click.option("--key", type=_FILE, help="The private key (PEM) of --cert.")
@click.option(
    "--acme-server",
    metavar="URL",
    default="",
    callback=lambda _context, _option, value: _directory(value),
    help="The directory of another authority than Let's Encrypt.",
)
@click.option(
    "--acme-email",
    metavar="ADDRESS",
    default="",
    callback=lambda _context, _option, value: _email(value),
    help="Where the authority may write to.",
)
@click.option("--acme-ca", type=_FILE, help="The certificate (PEM) that vouches for --acme-server.")
@click.option(
    "--key-file",
    metavar="FILE",
    help="The key that encrypts variables. Default: a systemd credential portway-key, else in the data directory.",
)
@click.option(
    "--require",
    "required",
    metavar="WALLS",
    default="",
    callback=lambda _context, _option, value: _walls(value),
    help="Refuse to start with fewer walls around apps: files,network,limits.",
)
@click.option("--trust-all-apps", is_flag=True, help="Give apps secrets also where other apps could read them.")
@click.option(
    "--allow-private-sources",
    "private_sources",
    is_flag=True,
    help="Fetch git repositories also from this machine and its network.",
)
@click.option(
    "--auth-issuer",
    "issuer",
    metavar="URL",
    envvar="PORTWAY_AUTH_ISSUER",
    help="Callers of the apps log in at this identity provider, or at several, with spaces between.",
)
@click.option(
    "--auth-audience",
    "audience",
    metavar="NAME",
    envvar="PORTWAY_AUTH_AUDIENCE",
    default="",
    help="What its tokens are made for, of every app. Default: each app's own URL, which is safer.",
)
@click.option(
    "--auth-scopes",
    "scopes",
    metavar="SCOPES",
    envvar="PORTWAY_AUTH_SCOPES",
    default="",
    help="Scopes that clients should ask for, with spaces between.",
)
@click.option(
    "--auth-private",
    is_flag=True,
    envvar="PORTWAY_AUTH_PRIVATE",
    help="Providers may be on this machine and in its network.",
)
@click.option("--install", is_flag=True, help="Write systemd units that run the host so, instead of running it.")
@click.option("--system", is_flag=True, help="With --install: units that start with the machine. Needs root.")
@output_option
@click.pass_context
def command(
    context: click.Context,
    /,
    folders: tuple[Path, ...],
    port: int,
    data: str | None,
    domain: str,
    host: str | None,
    proxies: list[str],
    key_file: str | None,
    required: list[str],
    trust_all_apps: bool,
    private_sources: bool,
    issuer: str | None,
    audience: str,
    scopes: str,
    auth_private: bool,
    install: bool,
    system: bool,
    output: str,
    **https: Unpack[_HttpsOptions],
) -> None:
    """Run the host until Ctrl-C, with each folder PATH deployed at the start.

    The last line printed is `ready {"url": ..., "token": ..., "data": ...}`; the token is for the first PATH's app. As
    JSON, it is the object alone, and nothing else is printed to stdout.
    """
    from portway.host.chosen_version import start_chosen_version
    from portway.host.console import open_standard_descriptors, say
    from portway.host.launcher import Launcher, LaunchError
    from portway.host.launcher_handover import read_handover
    from portway.host.paths import PathError, claim
    from portway.host.secrets.key_file import find_key_file
    from portway.http.bind import Bind

    require_linux()
    bind = Bind(host=_host(host, domain, proxies), port=port)
    _refuse_without_effect(context)
    rules = _auth_words(issuer, audience, scopes, private=auth_private) + ["--allow-private-sources"] * private_sources
    if install or system:
        _install(context, bind.host, _https(domain, proxies, **https), for_system=system)
        return
    open_standard_descriptors()
    os.umask(0o077)  # for every file that this process and its children make
    sources = [Path(os.path.abspath(folder)) for folder in folders]
    try:
        paths, left = claim(data), read_handover()
        if left is None:
            start_chosen_version(paths)
        _start_with_the_rest(paths)
        rules += [f"--require={name}" for name in required] + ["--trust-all-apps"] * trust_all_apps
        secret, settings = find_key_file(paths, key_file), _https(domain, proxies, **https)
        launcher = Launcher(paths, bind, domain, secret, sources, rules, output, proxies, settings, left)
    except (PathError, LaunchError) as error:
        raise click.ClickException(str(error)) from None
    if settings is None and not proxies:
        say("portway: only this machine reaches the host; --domain NAME serves others, by HTTPS (docs/https.md)")
    if settings is not None and context.get_parameter_source("port") is ParameterSource.COMMANDLINE:
        say("portway: --port has no effect beside HTTPS: --https-port and --http-port are its ports")
    raise SystemExit(launcher.run())


def _install(context: click.Context, host: str, https: "HttpsSettings | None", *, for_system: bool) -> None:
    from portway.cli.install import install

    if not context.params["install"]:
        raise click.UsageError("--system goes with --install")
    install(context, host, https, for_system=for_system)


def _walls(value: str) -> list[str]:
    names = value.split(",") if value else []
    if wrong := [name for name in names if name not in {"files", "network", "limits"}]:
        raise click.BadParameter(f"{wrong[0]!r} is not a wall; name some of files,network,limits")
    return names


def _domain(value: str) -> str:
    name = value.lower()
    labels = name.split(".")
    is_address = re.fullmatch(r"[0-9]+|0x[0-9a-f]*", labels[-1])
    if len(name) > _LONGEST_DOMAIN or is_address or not all(map(_LABEL.fullmatch, labels)):
        raise click.BadParameter(f"{value!r} is not a domain; give a name without scheme or port, as in example.com")
    if len(labels) == 1 and name != "localhost":
        raise click.BadParameter(f"{value!r} is one label, which is nobody's: give a whole name, as in mcp.example.com")
    return name


def _directory(value: str) -> str:
    if value and not re.fullmatch(r"https://[^\s/?#@]+(/\S*)?", value):
        raise click.BadParameter(
            f"{value!r} is not the URL of a directory: give it as in https://ca.example.com/acme/directory"
        )
    return value


def _email(value: str) -> str:
    if value and not re.fullmatch(r"[^\s@]+@[^\s@]+", value):
        raise click.BadParameter(f"{value!r} is not an e-mail address: give one as in ops@example.com")
    return value


def _networks(values: tuple[str, ...]) -> list[str]:
    networks = [_network(value) for value in values]
    for version in (4, 6):
        together = [network for network in networks if network.version == version]
        whole = next(ipaddress.collapse_addresses(together), None)  # type: ignore[type-var]  # they are of one version
        if whole is not None and not whole.prefixlen:
            named = " with ".join(map(str, together))
            raise click.BadParameter(f"{named} is everybody, who could claim any address; give the proxy's network")
    return list(values)


def _network(value: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a network; give the proxy's, as in 10.0.0.0/8") from None


def _auth_words(issuer: str | None, audience: str, scopes: str, *, private: bool) -> list[str]:
    """Return the options that tell control where the callers of apps log in. Raises UsageError."""
    from portway.exceptions import SettingError
    from portway.host.identity_providers import providers_at
    from portway.host.routing_table import Auth
    from portway.oauth.settings import listed

    require_issuer(issuer, audience, scopes)
    opaque = os.environ.get("PORTWAY_AUTH_OPAQUE") == "1"
    auth = Auth(listed(issuer or ""), listed(audience), listed(scopes), private, opaque)
    try:
        if auth.issuers:
            providers_at(auth, "https://app.example/mcp")
    except SettingError as error:
        raise click.UsageError(f"--auth-issuer: {error}") from None
    rules = ["--auth-private"] * private + ["--auth-opaque"] * opaque
    for name, values in (("issuer", auth.issuers), ("audience", auth.audiences), ("scope", auth.scopes)):
        rules += [f"--auth-{name}={value}" for value in values]
    return rules


def _host(given: str | None, domain: str, proxies: list[str]) -> str:
    """Return the address to listen on. Without TLS, other machines get no connection."""
    from portway.host.public_address import is_local

    if proxies and is_local(domain):
        raise click.UsageError("--behind-proxy needs --domain: the name by which the proxy serves the host")
    if given is None:
        networks = [ipaddress.ip_network(each) for each in proxies]
        is_ipv6 = bool(networks) and all(network.version == 6 for network in networks)
        if all(network.is_loopback for network in networks):
            return "::1" if is_ipv6 else "127.0.0.1"
        return "::" if is_ipv6 else "0.0.0.0"  # noqa: S104 - as the help says
    if not proxies and not is_local(domain):
        raise click.UsageError("--host is for a host behind a proxy: HTTPS listens on every address of the machine")
    if not proxies and given not in ("localhost", "127.0.0.1", "::1"):
        raise click.UsageError(f"other machines reach {given}, without TLS: give --behind-proxy, or leave --host out")
    return given


def _refuse_without_effect(context: click.Context) -> None:
    """Refuse an option of HTTPS where nothing would come of it."""
    from portway.host.public_address import is_local

    given = {
        parameter.name: parameter.opts[0]
        for parameter in context.command.params
        if context.get_parameter_source(parameter.name or "") is not ParameterSource.DEFAULT
    }
    of_acme = [option for name, option in given.items() if name in {"acme_server", "acme_email", "acme_ca"}]
    of_https = [given[name] for name in ("certificate", "key", "https_port", "http_port") if name in given] + of_acme
    if of_https and context.params["proxies"]:
        raise click.UsageError(f"{of_https[0]} is for HTTPS without another proxy: leave --behind-proxy out")
    if of_https and "certificate" not in given and is_local(context.params["domain"]):
        raise click.UsageError(f"{of_https[0]} is for HTTPS: give the name that clients use as --domain, too")
    if of_acme and "certificate" in given:
        raise click.UsageError(f"{of_acme[0]} is for certificates from an authority: leave it or --cert out")


def _https(domain: str, proxies: list[str], **given: Unpack[_HttpsOptions]) -> "HttpsSettings | None":
    """Return how HTTPS is served; None where it is not, or by a proxy."""
    from portway.host.public_address import is_local
    from portway.host.tls.https_settings import HttpsSettings

    certificate = given["certificate"]
    if (certificate is None) != (given["key"] is None):
        raise click.UsageError("--cert and --key go together")
    if proxies or (certificate is None and is_local(domain)):
        return None
    return HttpsSettings(domain, **given)


def _start_with_the_rest(paths: "Paths") -> None:
    """Without the extra `host`, replace this process by the same command with it, so that `uvx portway up` works."""
    from portway.host.builds.wheel import running_wheel

    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if not missing:
        return
    uv = os.environ.get("UV")  # set by uvx
    if uv is None or _AGAIN in os.environ:
        raise click.ClickException(f"the host needs {', '.join(missing)}: pip install 'portway[host]'")
    click.echo("portway: fetching the host's own requirements (portway[host] includes them)", err=True)
    wanted = f"portway[host] @ {running_wheel(paths.wheels).as_uri()}"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    command = [uv, "tool", "run", "--python", version, "--from", wanted, "portway", *sys.argv[1:]]
    os.execve(uv, command, os.environ | {_AGAIN: "1"})  # noqa: S606  # no shell is wanted
