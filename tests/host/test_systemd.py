"""`portway up --install` and socket activation, judged by systemd's own programs."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from portway.host.systemd_units import STATE, quoted, system_units
from tests.conftest import RunCli
from tests.host.running_host import build_environment
from tests.support import ROOT, SCRIPTS, Started, clean_env, eventually

HOSTILE = 'a b%n$HOME${x}"\\'


def verified(*units: Path, run: Path) -> subprocess.CompletedProcess[str]:
    """Have systemd judge unit files as those of a user."""
    command = ["systemd-analyze", "--user", "--man=no", "verify", *units]
    run.mkdir(exist_ok=True)
    environment = clean_env({"XDG_RUNTIME_DIR": str(run)})
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_units_for_a_user_run_the_host_as_it_was_called(run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / HOSTILE).mkdir()
    given = [
        "--port",
        "8123",
        "--data",
        f"{tmp_path}/data {HOSTILE}",
        "--key-file",
        "key%h",
        "--require",
        "files,limits",
        "--domain",
        "mcp.example.com",
        "--behind-proxy",
        "10.0.0.0/8",
    ]
    environment = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "PORTWAY_OUTPUT": "text"}
    done = run_cli("up", HOSTILE, "--install", *given, "--trust-all-apps", env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-4:] == [
        "Now run:",
        "  systemctl --user daemon-reload",
        "  systemctl --user enable --now portway.socket portway.service",
        "  loginctl enable-linger  # so that it runs without your login",
    ]
    units = tmp_path / "config" / "systemd" / "user"
    service, listening = units / "portway.service", units / "portway.socket"
    assert done.stdout.splitlines()[:2] == [f"wrote {listening}", f"wrote {service}"]
    judged = verified(service, listening, run=tmp_path / "run")
    assert (judged.returncode, judged.stderr) == (0, "")
    lines = service.read_text().splitlines()
    folder, data = quoted([str(tmp_path / HOSTILE)]), quoted([f"{tmp_path}/data {HOSTILE}"])
    public = "--domain mcp.example.com --behind-proxy 10.0.0.0/8"
    start = f"-m portway up {folder} --port 8123 {public} --require files,limits --trust-all-apps --data {data}"
    assert f"ExecStart={quoted([sys.executable])} {start}" in lines
    assert f"LoadCredential=portway-key:{tmp_path}/key%%h" in lines
    assert "ListenStream=0.0.0.0:8123" in listening.read_text()
    again = run_cli("up", HOSTILE, "--install", *given, "--trust-all-apps", "-o", "json", env=environment)
    assert json.loads(again.stdout)["units"][:2] == [str(listening), str(service)]
    other = run_cli("up", "--install", env=environment)
    assert other.returncode == 1
    assert f"{listening} exists with another content: look at it, and remove it first" in other.stderr


def test_units_keep_the_secret_by_which_the_provider_knows_the_host(run_cli: RunCli, tmp_path: Path) -> None:
    secret = "' a%n$HOME`id`\\" + '"'
    client = {"PORTWAY_AUTH_OPAQUE": "1", "PORTWAY_AUTH_CLIENT_ID": "host", "PORTWAY_AUTH_CLIENT_SECRET": secret}
    up = ["up", "--install", "--auth-issuer", "https://login.example.com"]
    done = run_cli(*up, env=client | {"XDG_CONFIG_HOME": str(tmp_path)})
    file, units = tmp_path / "portway" / "host.env", tmp_path / "systemd" / "user"
    assert (done.returncode, f"wrote {file}" in done.stdout, secret in done.stdout) == (0, True, False), done.stderr
    assert file.stat().st_mode & 0o777 == 0o600
    service = (units / "portway.service").read_text()
    assert f"\nEnvironmentFile={file}\n" in service
    assert "CLIENT" not in service
    judged = verified(units / "portway.service", units / "portway.socket", run=tmp_path / "run")
    assert (judged.returncode, judged.stderr) == (0, "")
    for name, value in client.items():  # systemd.exec(5): as a shell reads it
        read = ["sh", "-c", f'. {file}; printf %s "${name}"']
        assert subprocess.run(read, capture_output=True, text=True, check=True).stdout == value
    refused = run_cli(*up, env=client | {"XDG_CONFIG_HOME": str(tmp_path), "PORTWAY_AUTH_CLIENT_SECRET": "a\nb"})
    said = "PORTWAY_AUTH_CLIENT_SECRET contains a line break or another character that no unit can hold"
    assert (refused.returncode, said in refused.stderr) == (1, True)


def test_units_keep_what_the_caller_said_of_logs_proxies_and_indexes_where_nobody_else_reads_it(
    run_cli: RunCli, tmp_path: Path
) -> None:
    index = "https://me:s3cret@packages.example.com/simple"
    proxy = "http://proxy.example.com:3128"
    kept = {"PORTWAY_LOG_FORMAT": "json", "HTTPS_PROXY": proxy, "no_proxy": "localhost", "PIP_INDEX_URL": index}
    kept |= {"UV_INDEX_INNER_PASSWORD": "%n $x", "npm_config_registry": "https://npm.example.com"}
    other = {"npm_config_user_agent": "npm", "PORTWAY_TOKEN": "t", "EDITOR": "vi", "UV_DEFAULT_INDEX": ""}
    environment = kept | other | {"SSL_CERT_FILE": "ca.pem", "XDG_CONFIG_HOME": str(tmp_path / "config")}
    done = run_cli("up", "--install", env=environment)
    assert (done.returncode, index in done.stdout) == (0, False), done.stderr
    said = next(line for line in done.stdout.splitlines() if line.startswith("kept of your environment: "))
    assert {*kept, "SSL_CERT_FILE"} <= {*said.partition(": ")[2].split(", ")}
    file = tmp_path / "config" / "portway" / "host.env"
    assert file.stat().st_mode & 0o777 == 0o600
    assert not [name for name in other if f"{name}=" in file.read_text()]
    for name, value in {**kept, "SSL_CERT_FILE": str(tmp_path / "ca.pem")}.items():
        read = ["sh", "-c", f'. {file}; printf %s "${name}"']
        assert subprocess.run(read, capture_output=True, text=True, check=True).stdout == value
    service = tmp_path / "config" / "systemd" / "user" / "portway.service"
    assert (f"\nEnvironmentFile={file}\n" in service.read_text(), "s3cret" in service.read_text()) == (True, False)


def test_units_are_not_written_through_a_link_and_their_folders_are_closed_to_others(tmp_path: Path) -> None:
    client = {"PORTWAY_AUTH_OPAQUE": "1", "PORTWAY_AUTH_CLIENT_ID": "host", "PORTWAY_AUTH_CLIENT_SECRET": "s"}
    environment = clean_env(client | {"XDG_CONFIG_HOME": str(tmp_path / "config")})
    up = [SCRIPTS / "portway", "up", "--install", "--auth-issuer", "https://login.example.com"]
    for umask in (0, 0o077):
        shutil.rmtree(tmp_path / "config", ignore_errors=True)
        done = subprocess.run(up, capture_output=True, text=True, env=environment, check=False, umask=umask)
        assert done.returncode == 0, done.stderr
        modes = {str(path.relative_to(tmp_path)): path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
        assert modes == {
            "config": 0o755,
            "config/portway": 0o700,
            "config/portway/host.env": 0o600,
            "config/systemd": 0o755,
            "config/systemd/user": 0o755,
            "config/systemd/user/portway.service": 0o644,
            "config/systemd/user/portway.socket": 0o644,
        }
    (file := tmp_path / "config" / "portway" / "host.env").unlink()
    file.symlink_to(tmp_path / "elsewhere")
    refused = subprocess.run(up, capture_output=True, text=True, env=environment, check=False)
    said = f"Error: {file} is a symbolic link: look at it, and remove it first\n"
    assert (refused.returncode, refused.stderr) == (1, said)
    assert not (tmp_path / "elsewhere").exists()


def test_systemd_reads_a_quoted_word_as_it_was(tmp_path: Path) -> None:
    program = tmp_path / "a b%n{x}"  # of a program's name, systemd takes less
    program.symlink_to("/bin/true")
    for text, code in ((quoted([str(program), HOSTILE]), 0), (str(program), 1)):
        (unit := tmp_path / "some.service").write_text(f"[Service]\nExecStart={text}\n")
        assert verified(unit, run=tmp_path / "run").returncode == code, text


def test_units_for_the_system_have_a_user_and_a_state_of_their_own(tmp_path: Path) -> None:
    units = system_units(["/bin/true"], STATE, ["ListenStream=[::1]:80"], None, {"A": "b"})
    files = [tmp_path / path.name for path in units.files]
    for file, text in zip(files, units.files.values(), strict=True):
        file.write_text(text)
    users, listening, service, _ = files
    judged = verified(service, listening, run=tmp_path / "run")
    assert (judged.returncode, judged.stderr) == (0, "")
    own = {"User=portway", "StateDirectory=portway", "EnvironmentFile=/etc/portway/host.env"}
    assert own | {"WantedBy=multi-user.target"} <= {*service.read_text().splitlines()}
    made = subprocess.run(["systemd-sysusers", "--dry-run", users], capture_output=True, text=True, check=True)
    assert re.search("user 'portway'", made.stdout + made.stderr)
    elsewhere = system_units(["/bin/true"], Path("/srv/a b"), ["ListenStream=127.0.0.1:80"], None, {})
    assert 'install -d -m 0700 -o portway -g portway "/srv/a b"' in elsewhere.commands


@pytest.mark.skipif(os.getuid() != 0, reason="only root gets so far")
def test_units_for_the_system_are_refused_for_an_installation_that_others_cannot_read(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "portway").symlink_to(ROOT / "src" / "portway")
    install = [sys.executable, "-m", "portway", "up", "--install", "--system"]
    environment = clean_env({"PYTHONPATH": str(tmp_path)})
    refused = subprocess.run(install, capture_output=True, text=True, env=environment, check=False)
    assert refused.returncode == 1
    assert re.search(
        "the user 'portway', who would run the host, cannot read /.*: install portway for all", refused.stderr
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--system"], "--system writes to /etc/systemd/system: run it with root, or leave --system out"),
        (["--port", "80"], "port 80 needs root: add --system, or choose one from 1024 on"),
    ],
)
def test_what_needs_root_is_refused_without_it(arguments: list[str], message: str, tmp_path: Path) -> None:
    walls = ["bwrap", "--dev-bind", "/", "/", "--unshare-user", "--uid", "1000"]
    command = [*walls, sys.executable, "-m", "portway", "up", "--install", *arguments]
    environment = clean_env({"XDG_CONFIG_HOME": str(tmp_path)})
    refused = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (refused.returncode, refused.stderr) == (1, f"Error: {message}\n")
    (tmp_path / "systemd").touch()
    command = [sys.executable, "-m", "portway", "up", "--install"]
    refused = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert re.search("cannot write .*: ", refused.stderr)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--system"], 2, "--system goes with --install"),
        (["--install", "--port", "0"], 2, "--install needs fixed ports: none of them may be 0"),
        (["--install", "--data", "a\nb"], 1, "contains a line break or another character that no unit can hold"),
    ],
)
def test_units_that_cannot_be_written_are_refused(
    run_cli: RunCli, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    refused = run_cli("up", *arguments, env={"XDG_CONFIG_HOME": str(tmp_path)})
    assert (refused.returncode, list(tmp_path.iterdir())) == (code, [])
    assert message in refused.stderr


@pytest.mark.slow
def test_a_host_takes_its_port_from_systemd_and_says_when_it_is_ready_and_when_it_stops(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        environment = {"XDG_RUNTIME_DIR": str(tmp_path), "NOTIFY_SOCKET": str(tmp_path / "notify")}
        up = [SCRIPTS / "portway", "up", "--data", tmp_path / "data", "--port", "1"]
        passed = [word for name in environment for word in ("-E", name)]
        with subprocess.Popen(
            ["systemd-socket-activate", "-l", f"127.0.0.1:{port}", *passed, *up],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=clean_env(build_environment() | environment),
        ) as process:
            child = Started(process)
            try:
                child.wait_for("Listening on")
                health = f"http://127.0.0.1:{port}/_portway/health"
                eventually(lambda: httpx2.get(health, timeout=120).status_code == 200)
                ready = json.loads(child.wait_for(r"^ready (\{.*\})$")[1])
                assert ready["url"] == f"http://127.0.0.1:{port}"
                assert manager.recv(100) == b"READY=1"
                process.terminate()
                assert manager.recv(100) == b"STOPPING=1"
                assert process.wait(120) == 0
            finally:
                process.kill()


def test_a_host_takes_one_socket_only(tmp_path: Path) -> None:
    ports = [word for _ in range(2) for word in ("-l", str(tmp_path / f"{_}.sock"))]
    up = [SCRIPTS / "portway", "up", "--data", tmp_path / "data"]
    with subprocess.Popen(
        ["systemd-socket-activate", *ports, "-E", "XDG_RUNTIME_DIR", *up],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=clean_env({"XDG_RUNTIME_DIR": str(tmp_path)}),
    ) as process:
        child = Started(process)
        child.wait_for("Listening on .*1.sock")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "0.sock"))
            child.wait_for("systemd has opened 2 sockets: leave one ListenStream= in portway.socket")
        assert process.wait(120) == 1


def test_the_public_ports_of_https_are_taken_from_systemd(run_cli: RunCli, tmp_path: Path) -> None:
    install = ("up", "--install", "--domain", "mcp.example.com", "--https-port", "8443", "--http-port", "8080")
    environment = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert run_cli(*install, env=environment).returncode == 0
    unit = (tmp_path / "systemd" / "user" / "portway.socket").read_text()
    assert {"ListenStream=8443", "ListenDatagram=8443", "ListenStream=8080"} <= {*unit.splitlines()}
    told = subprocess.run(
        [sys.executable, "-c", AS_OF_SYSTEMD], capture_output=True, text=True, env=clean_env(), check=True
    ).stdout
    wrong = "portway.socket does not have ListenStream=443, ListenDatagram=443 and ListenStream=80: "
    assert told.splitlines() == ["[3, 4, 5] are in order", f"{wrong}write it anew by `portway up --install`"]


AS_OF_SYSTEMD = """
import os, socket
from portway.host.tls.https_settings import HttpsError
from portway.host.tls.public_ports import open_ports

def listen(kind, port=0):
    opened = socket.socket(socket.AF_INET6, kind)
    opened.bind(("::1", port))
    return opened

https, http = listen(socket.SOCK_STREAM), listen(socket.SOCK_STREAM)
port = https.getsockname()[1]
for number, opened in enumerate((https, listen(socket.SOCK_DGRAM, port), http)):
    os.dup2(os.dup(opened.fileno()), 20 + number)
os.closerange(3, 20)
for number in range(3):
    os.dup2(20 + number, 3 + number)
for ports in ((port, socket.socket(fileno=22).getsockname()[1]), (443, 80)):
    os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "3"}
    try:
        kept = open_ports(*ports)
        print([*kept.descriptors], "are in order")
    except HttpsError as error:
        print(error)
import sys
sys.stdout.flush()
os._exit(0)
"""
