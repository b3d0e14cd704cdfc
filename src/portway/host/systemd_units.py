"""The text of the systemd units that `portway up --install` writes: hardening, restart, sockets.

The service is hardened only as far as bubblewrap and slirp4netns allow, which put walls around apps without root. They
make user, mount and network namespaces, mount /proc, open /dev/net/tun and set up control groups. So the service has
none of RestrictNamespaces, SystemCallFilter, PrivateDevices, DevicePolicy, ProtectClock, ProtectProc,
ProtectControlGroups, ProtectKernelTunables and ProtectKernelLogs. Node needs memory that is written and executed.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from portway.host.tls.https_settings import HttpsSettings

USER = "portway"
"""The user of a host that starts with the machine.

A user of its own, not systemd's DynamicUser: the files of apps outlive the service, and the operator runs commands and
restores backups as their owner while it is stopped.
"""
STATE = Path("/var/lib/portway")
"""The data directory of a host that starts with the machine, unless another is given."""

_IN_QUOTES = str.maketrans({character: "\\" + character for character in '"\\`$'})
_SERVICE = """\
# Written by `portway up --install`.
[Unit]
Description=Portway, a host of MCP servers
Requires=portway.socket
After=portway.socket{after}

[Service]
Type=notify
ExecStart={command}
Restart=always
RestartSec=2
# The first start deploys the given folders, and may migrate the database.
TimeoutStartSec=infinity
# The gate's calls have 30 s to end; then the apps end.
TimeoutStopSec=120
# The launcher stops the gate before the apps.
KillMode=mixed
# Each app gets a control group.
Delegate=yes
LimitNOFILE=65536
UMask=0077
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
{more}
[Install]
WantedBy={target}
"""
_OF_SYSTEM = """\
User={user}
Group={user}
# Where the commands of the operator find the host.
RuntimeDirectory=portway
RuntimeDirectoryMode=0700
Environment=XDG_RUNTIME_DIR=/run/portway
ProtectSystem=full
ProtectKernelModules=yes
ProtectHostname=yes
"""
_SOCKET = """\
# Written by `portway up --install`. The port stays open while the service restarts.
[Unit]
Description=The port of Portway

[Socket]
{listen}
Backlog=1024

[Install]
WantedBy=sockets.target
"""


@dataclass(frozen=True, slots=True)
class Units:
    """The files to write, and the commands that then start the host. Nobody else may read those in `private`."""

    files: dict[Path, str]
    commands: list[str]
    private: list[Path]


def listen_lines(address: str, port: int, https: HttpsSettings | None) -> list[str]:
    """Return what the socket unit opens: the port of the gate, or those of Caddy in front of it."""
    if https is None:
        return [f"ListenStream={f'[{address}]' if ':' in address else address}:{port}"]
    ports = https.https_port, https.http_port
    return [f"ListenStream={ports[0]}", f"ListenDatagram={ports[0]}", f"ListenStream={ports[1]}", "BindIPv6Only=both"]


def user_units(
    folder: Path, command: Sequence[str], listen: Sequence[str], key_file: str | None, variables: Mapping[str, str]
) -> Units:
    """Return the units of a host of this user, to be written to systemd/user in `folder`.

    `listen` are lines of the socket unit. `variables` are set for the host; their values are secrets.
    """
    private = _environment_file(folder / "portway" / "host.env", variables)
    folder = folder / "systemd" / "user"
    files = {
        folder / "portway.socket": _SOCKET.format(listen="\n".join(listen)),
        folder / "portway.service": _SERVICE.format(
            command=quoted(command), after="", target="default.target", more=_secrets(key_file, private)
        ),
        **private,
    }
    commands = [
        "systemctl --user daemon-reload",
        "systemctl --user enable --now portway.socket portway.service",
        "loginctl enable-linger  # so that it runs without your login",
    ]
    return Units(files, commands, list(private))


def system_units(
    command: Sequence[str], data: Path, listen: Sequence[str], key_file: str | None, variables: Mapping[str, str]
) -> Units:
    """Return the units of a host that starts with the machine, with the user whose processes it has."""
    more = _OF_SYSTEM.format(user=USER)
    if data == STATE:
        more += "StateDirectory=portway\nStateDirectoryMode=0700\n"
    private = _environment_file(Path("/etc/portway/host.env"), variables)
    folder = Path("/etc/systemd/system")
    files = {
        Path("/etc/sysusers.d/portway.conf"): f'u {USER} - "Portway" {data}\n',
        folder / "portway.socket": _SOCKET.format(listen="\n".join(listen)),
        folder / "portway.service": _SERVICE.format(
            command=quoted(command),
            after=" network-online.target\nWants=network-online.target",
            target="multi-user.target",
            more=more + _secrets(key_file, private),
        ),
        **private,
    }
    commands = ["systemd-sysusers"]
    if data != STATE:
        commands.append(f"install -d -m 0700 -o {USER} -g {USER} {quoted([str(data)])}")
    commands += ["systemctl daemon-reload", "systemctl enable --now portway.socket portway.service"]
    return Units(files, commands, list(private))


def quoted(words: Sequence[str]) -> str:
    """Return the words as ExecStart= reads them (systemd.service(5), "Command lines")."""
    return " ".join(map(_quoted, words))


def is_open_to_all(path: Path) -> bool:
    """Return whether other users can reach and run the file at `path`."""
    return all(os.stat(place).st_mode & 0o005 == 0o005 for place in (path, *path.parents))


def _quoted(word: str) -> str:
    if word and all(character.isalnum() or character in "-_./:=,@+" for character in word):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def _environment_file(path: Path, variables: Mapping[str, str]) -> dict[Path, str]:
    """Return the file with the variables as EnvironmentFile= reads them (systemd.exec(5)); nothing without any."""
    lines = [f'{name}="{value.translate(_IN_QUOTES)}"\n' for name, value in variables.items()]
    return {path: "# Written by `portway up --install`.\n" + "".join(lines)} if lines else {}


def _secrets(key_file: str | None, environment: Iterable[Path]) -> str:
    """Return the lines that hand over the key file, which the host finds by its name, and the secret variables."""
    lines = [f"EnvironmentFile={str(path).replace('%', '%%')}\n" for path in environment]
    if key_file is not None:
        lines.append(f"LoadCredential=portway-key:{key_file.replace('%', '%%')}\n")
    return "".join(lines)
