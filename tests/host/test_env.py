"""`portway env`: what is set reaches the app's next release, and nothing but its processes."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from click import ClickException
from click.testing import CliRunner, Result

from portway.cli.control_client import ask_control
from portway.cli.main import cli
from portway.host.app_config import AppConfig, EnvSource, FromService, Start
from portway.host.management.management_types import VariableList
from portway.host.paths import Paths
from portway.host.public_address import PublicAddress
from portway.host.sandbox.walls import NO_WALLS
from portway.host.secrets.environments import Environments
from portway.host.secrets.key_file import KeyFile, KeyFileError, find_key_file
from portway.host.secrets.variables import Owner, VariableError, Variables
from portway.host.store import FinishedRelease, Store, StoreError
from tests.host.running_host import Host, host
from tests.support import SCRIPTS, clean_env, eventually

SERVER = """
import os
from portway import Server

server = Server("app")

@server.tool
def environment() -> dict[str, str]:
    return dict(os.environ)

@server.tool
def writable() -> list[bool]:
    return [os.access(os.environ[name], os.W_OK) for name in ("HOME", "TMPDIR")]

@server.tool
def pid() -> int:
    return os.getpid()

@server.tool
def die() -> None:
    os._exit(3)
"""
OLD_KEY = base64.b64encode(bytes(32)).decode() + "\n"
PARTIAL = SERVER + '\nif os.environ["REGION"] == f"not-for-{os.environ[\'PORTWAY_APP\']}":\n    raise SystemExit\n'
NEEDY = SERVER + '\nKEY = os.environ["API_KEY"]\n'


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with host(tmp_path_factory.mktemp("env") / "data", options=["--trust-all-apps"]) as started:
        yield started


def app(folder: Path, name: str, code: str = SERVER, **files: str) -> Path:
    (folder / name).mkdir(parents=True)
    for file, content in {"server.py": code, **files}.items():
        (folder / name / file).write_text(content)
    return folder / name


def portway(running: Host, *words: str | Path, stdin: str = "") -> Result:
    """Run one `portway` command in this process, which takes a tenth of the time."""
    return CliRunner().invoke(cli, [*map(str, words), "--data", running.ready["data"]], input=stdin)


def token(running: Host, name: str) -> str:
    return portway(running, "token", "create", name, "t").stdout.strip()


def seen(running: Host, name: str, key: str) -> dict[str, str]:
    """Return the environment that the app's tool sees."""
    found: dict[str, str] = running.call(name, "environment", key)
    return found


def stored(running: Host) -> bytes:
    """Return the database with its journal, and all other files of the host but the logs that apps write."""
    files = [path for path in running.paths.data.rglob("*") if path.is_file() and "venv" not in path.parts]
    return b"".join(path.read_bytes() for path in files if path.name != "instance.log")


@pytest.mark.slow
def test_variables_of_an_app_that_is_not_deployed_yet_are_there_at_its_first_start(
    running: Host, tmp_path: Path
) -> None:
    refused = portway(running, "deploy", app(tmp_path, "first", NEEDY))
    assert refused.exit_code == 1
    assert "it lacks a variable: run `portway env set first API_KEY=…`" in refused.stderr

    done = portway(running, "env", "set", "first", "API_KEY=-", "MODE=", stdin="s3cret-of-first\n")
    assert (done.exit_code, done.stdout) == (0, "")
    assert portway(running, "deploy", tmp_path / "first").exit_code == 0
    environment = seen(running, "first", token(running, "first"))
    assert (environment["API_KEY"], environment["MODE"]) == ("s3cret-of-first", "")
    assert portway(running, "env", "list", "first").stdout == "API_KEY  set\nMODE     set\n"
    assert b"s3cret-of-first" not in stored(running)
    assert "s3cret" not in "".join(running.child.lines)


@pytest.mark.slow
def test_a_change_is_a_new_release_of_the_same_files_and_cuts_no_call(running: Host, tmp_path: Path) -> None:
    portway(running, "deploy", app(tmp_path, "changing"), "--env", "LEVEL=one")
    key = token(running, "changing")
    assert seen(running, "changing", key)["LEVEL"] == "one"
    over = False

    def call_on() -> set[str]:
        found = set[str]()
        while not over:
            found.add(seen(running, "changing", key)["LEVEL"])
        return found

    with ThreadPoolExecutor(1) as callers:
        calls = callers.submit(call_on)
        done = portway(running, "env", "set", "changing", "LEVEL=two", "-o", "json")
        over = True
        assert calls.result(120) <= {"one", "two"}
    assert json.loads(done.stdout) == {"names": ["LEVEL"], "restarts": [{"app": "changing", "release": 2, "error": ""}]}
    environment = seen(running, "changing", key)
    assert (environment["LEVEL"], environment["PORTWAY_RELEASE"]) == ("two", "2")
    assert running.call("changing", "writable", key) == {"result": [True, True]}
    assert running.paths.release("changing", 1).joinpath("venv").is_dir()
    assert not running.paths.release("changing", 2).joinpath("venv").exists()

    assert "no app was restarted" in portway(running, "env", "set", "changing", "LEVEL=two").stderr, "it has that value"
    assert portway(running, "env", "set", "changing", "LEVEL=three", "--no-restart").exit_code == 0
    with pytest.raises(Exception, match="changing"):
        running.call("changing", "die", key)
    again = eventually(lambda: running.status("changing").state == "up" and seen(running, "changing", key))
    assert again["LEVEL"] == "two", "an instance that is restarted has the variables of its release"

    portway(running, "env", "unset", "changing", "LEVEL")
    assert "LEVEL" not in seen(running, "changing", key)
    assert running.status("changing").release == 3
    for level in range(5):
        assert portway(running, "env", "set", "changing", f"LEVEL={level}").exit_code == 0
    assert seen(running, "changing", key)["LEVEL"] == "4", "the files are kept as long as a release runs them"


@pytest.mark.slow
def test_a_change_that_the_app_does_not_start_with_leaves_the_old_release_serving(
    running: Host, tmp_path: Path
) -> None:
    code = NEEDY + "\nif len(KEY) > 20:\n    raise SystemExit('it refuses ' + KEY)\n"
    portway(running, "deploy", app(tmp_path, "picky", code), "--env", "API_KEY=a-long-api-key")
    refused = portway(running, "env", "set", "picky", "API_KEY=an-api-key-of-over-20")
    assert "it refuses [API_KEY]" in refused.stderr
    assert "an-api-key" not in refused.stderr
    portway(running, "env", "set", "picky", "API_KEY=a-long-api-key")
    refused = portway(running, "env", "unset", "picky", "API_KEY")
    assert refused.exit_code == 1
    assert "Error: picky goes on without the change: the server ended" in refused.stderr
    assert "`portway env set picky API_KEY=…`" in refused.stderr
    assert seen(running, "picky", token(running, "picky"))["API_KEY"] == "a-long-api-key"
    portway(running, "destroy", "picky", "--yes")
    assert portway(running, "env", "list", "picky").exit_code == 1, "destroy has deleted its variables"


SETTINGS = """
from pydantic_settings import BaseSettings

class Settings(BaseSettings):
    api_key: str
    region: str

Settings()
"""


@pytest.mark.install
@pytest.mark.parametrize(
    ("start", "files"),
    [
        ("python main.py", {"main.py": SETTINGS, "requirements.txt": "pydantic-settings"}),
        ("node main.js", {"main.js": "const key = process.env.API_KEY\n\nkey.trim()", "package.json": "{}"}),
    ],
)
def test_a_settings_class_and_a_script_of_node_that_miss_a_variable_are_told_how_to_set_it(
    running: Host, tmp_path: Path, start: str, files: dict[str, str]
) -> None:
    name = start.split(maxsplit=1)[0]
    folder = app(tmp_path, name, **files)
    (folder / "server.py").unlink()
    refused = portway(running, "deploy", folder, "--start", start, "--env", "REGION=a-region-that-is-set")
    assert refused.exit_code == 1
    assert f"it lacks a variable: run `portway env set {name} API_KEY=…`\n" in refused.stderr
    assert "a-region" not in refused.stderr


@pytest.mark.slow
def test_a_file_of_variables_is_imported_as_dotenv_reads_it(running: Host, tmp_path: Path) -> None:
    (tmp_path / "all.env").write_text("# all\nexport A='single ${B}'\nB=\"two\\nlines\"\nC= plain # rest\n")
    assert portway(running, "env", "import", "imported", tmp_path / "all.env").exit_code == 0
    portway(running, "deploy", app(tmp_path, "imported"))
    environment = seen(running, "imported", token(running, "imported"))
    assert [environment[name] for name in "ABC"] == ["single ${B}", "two\nlines", "plain"]

    refused = portway(running, "env", "import", "imported", "-", stdin="A=1\nwhat is this\n")
    assert (refused.exit_code, refused.stderr) == (1, "Error: line 2 is not NAME=VALUE\n")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["set", "x", "PORT=1"], "PORT is set by the host for every app: choose another name"),
        (["set", "x", "1A=b"], "'1A' cannot name a variable: give letters, digits and _, no digit first"),
        (["set", "x", f"A={'a' * 65537}"], "the value of A holds a NUL or is longer than 64 KiB"),
        (["set", "x", *[f"A{n}={n}" for n in range(501)]], "x would have 501 variables of 3 KiB; 500 and 512 KiB are"),
        (["set", "X", "A=b"], "'X' cannot name an app: give a name of up to 40 lower-case letters"),
        (["set", "--group", "-/-", "A=b"], "'-/-' cannot name a group: give up to 64 letters, digits, spaces"),
        (["unset", "x", "A", "B"], "x has no variable A, B: see `portway env list x`"),
        (["list", "x"], "'x' is no app of this host, and has no variables: see `portway ps`"),
        (["set", "A=b"], "name the app first, or a group by --group"),
        (["set", "x", "A=-", "B"], "stdin holds one value, and that is A's: set B by another command"),
        (["set", "x", "A"], "stdin holds no value for A"),
        (["import", "x", "/none"], "/none cannot be read: No such file or directory\n"),
        (["import", "x", "a", "b"], "give one FILE, after an app or --group"),
        (
            ["set", "--group", "g", "x", "A=b"],
            "give an app or --group, not both; if x is a variable whose value is asked for, give x=-",
        ),
        (["import", "x", "/bin/sh"], "/bin/sh cannot be read: it is not UTF-8\n"),
        (["set", "x"], "give KEY=VALUE too, after the app or --group"),
        (["import", "--group", "g"], "give FILE too, after the app or --group"),
        (["list", "x", "--group", "g"], "give an app or --group, not both"),
        (["set", "x", "A=\udcff"], "the value of A is not UTF-8"),
        (["list", "\udcff"], "an argument is not UTF-8: give it as a terminal in UTF-8 sends it\n"),
    ],
)
def test_what_cannot_be_set_is_refused_in_a_sentence(running: Host, words: list[str], error: str) -> None:
    refused = portway(running, "env", *words, stdin="b" if len(words) == 4 else "")
    assert refused.exit_code in {1, 2}
    assert error in refused.stderr
    assert "aaa" not in refused.stderr


@pytest.mark.slow
def test_a_rotated_key_that_is_kept_elsewhere_opens_the_variables(tmp_path: Path) -> None:
    data, key = tmp_path / "data", tmp_path / "key"
    key.write_text(OLD_KEY)
    key.chmod(0o600)
    with host(data, options=["--trust-all-apps", "--key-file", str(key)]) as running:
        portway(running, "deploy", app(tmp_path, "kept"), "--env", "API_KEY=kept-under-any-key")
        assert portway(running, "env", "rekey").stderr == "every variable is encrypted by the new key\n"
        credential = token(running, "kept")
    second = key.read_text()
    key.write_text(OLD_KEY)
    command = [SCRIPTS / "portway", "up", "--data", data, "--port", "0", "--key-file", key]
    refused = subprocess.run(command, env=clean_env(), capture_output=True, text=True, timeout=120, check=False)
    assert refused.returncode == 1
    assert f"portway: the key in {key} does not decrypt the variables in {data}/portway.db: give" in refused.stderr

    key.write_text(second)
    with host(data, options=["--trust-all-apps", "--key-file", str(key)]) as running:
        assert seen(running, "kept", credential)["API_KEY"] == "kept-under-any-key"
        key.write_text(OLD_KEY + second)  # as an interrupted rekey leaves it, or an operator
        assert portway(running, "env", "rekey").exit_code == 0
        assert key.read_text() == OLD_KEY
        with pytest.raises(ClickException, match="give the name of an app, or --group"):
            ask_control(running.here, "list_variables", {}, VariableList)


def test_a_key_file_that_cannot_be_used_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, owner = Store(tmp_path / "portway.db"), Owner("app", "a")
    key, paths = tmp_path / "portway-key", Paths(tmp_path, tmp_path)

    def opened(path: Path = key) -> Variables:
        return Variables(store, KeyFile(path))

    assert find_key_file(paths, None) == tmp_path / "key"
    opened().set(owner, {"A": "of a", "B": "of b"})
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert find_key_file(paths, None) == key, "a systemd credential"
    assert opened().values(owner) == {"A": "of a", "B": "of b"}
    with pytest.raises(KeyFileError, match=r"the key file .* cannot be used: Is a directory"):
        opened(tmp_path)
    with pytest.raises(KeyFileError, match=r"/none of the apps' variables is missing: restore it from a copy, or name"):
        opened(tmp_path / "none")
    key.chmod(0o644)
    with pytest.raises(KeyFileError, match=f"other users can read the key file {key}: chmod 600 {key}"):
        opened()
    key.chmod(0o600)
    variables, content = opened(), key.read_text()
    key.write_text(content[:20])
    with pytest.raises(KeyFileError, match="is not a key file: it holds 32 random bytes in base64; restore it"):
        opened()
    key.rename(tmp_path / "moved")
    with pytest.raises(VariableError, match=r"no new key can be written to .*: put one before the old one there"):
        variables.rekey()
    a, b = variables.list(owner)
    store.put_variables([replace(a, value=b.value)])
    with pytest.raises(StoreError, match="app:a/A cannot be decrypted: something else has changed the database"):
        variables.values(owner)
    store.close()


BLUEPRINT = """
envVarGroups:
  - name: shared
    envVars:
      - {key: REGION, value: europe-west-1}
      - {key: SHARED_KEY, generateValue: true}
services:
  - type: web
    name: north
    runtime: python
    envVars:
      - fromGroup: shared
      - {key: PORT, value: "12345"}
      - {key: NORTH_TOKEN, generateValue: true}
      - {key: API_KEY, sync: false}
  - type: web
    name: south
    runtime: python
    envVars:
      - fromGroup: shared
      - {key: COPY, fromService: {type: web, name: north, envVarKey: NORTH_TOKEN}}
      - {key: OTHER_KEY, sync: false}
"""


@pytest.mark.slow
def test_a_blueprint_says_what_its_apps_need_and_a_group_restarts_them(running: Host, tmp_path: Path) -> None:
    folder = app(tmp_path, "both", PARTIAL, **{"render.yaml": BLUEPRINT})
    refused = portway(running, "deploy", folder)
    commands = "north API_KEY=…`; south lacks variables: run `portway env set south OTHER_KEY=…`"
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert f"Error: north lacks variables: run `portway env set {commands}\n" in refused.stderr
    for name in ("north", "south"):
        portway(running, "env", "set", name, f"{'API' if name == 'north' else 'OTHER'}_KEY=a-key-of-{name}")
    done = portway(running, "deploy", folder)
    assert done.exit_code == 0, done.stderr
    keys = {name: token(running, name) for name in ("north", "south")}
    north, south = (seen(running, name, key) for name, key in keys.items())
    assert len(base64.b64decode(north["NORTH_TOKEN"])) == 32
    assert north["NORTH_TOKEN"] == south["COPY"]
    assert (north["SHARED_KEY"], north["REGION"]) == (south["SHARED_KEY"], "europe-west-1")
    assert north["PORT"] != "12345"
    assert (
        portway(running, "env", "list", "--group", "shared").stdout == "REGION      blueprint\nSHARED_KEY  generated\n"
    )

    listed = {"COPY": "app north", "OTHER_KEY": "set", "REGION": "group shared", "SHARED_KEY": "group shared"}
    shown = json.loads(portway(running, "env", "list", "south", "-o", "json").stdout)["variables"]
    assert {variable["name"]: variable["source"] for variable in shown} == listed

    refused = portway(running, "env", "set", "--group", "shared", "REGION=us")
    assert "REGION of shared has its value from the blueprint: change it there" in refused.stderr
    done = portway(running, "env", "set", "--group", "shared", "MORE=of-both", "-o", "json")
    assert [restart["app"] for restart in json.loads(done.stdout)["restarts"]] == ["north", "south"]
    services = BLUEPRINT.split("  - type: web\n")
    (folder / "render.yaml").write_text("  - type: web\n".join(services[:2]).replace("europe-west-1", "not-for-south"))
    done = portway(running, "deploy", folder)
    assert done.exit_code == 0
    assert "south goes on with its old variables: the server ended" in done.stderr
    assert seen(running, "north", keys["north"])["REGION"] == "not-for-south"
    again = seen(running, "south", keys["south"])
    assert (again["MORE"], again["COPY"], again["SHARED_KEY"]) == ("of-both", north["NORTH_TOKEN"], north["SHARED_KEY"])
    assert again["REGION"] == "europe-west-1"


@pytest.mark.slow
def test_a_source_with_secrets_in_it_is_refused_before_it_is_built(running: Host, tmp_path: Path) -> None:
    header, body = "-----BEGIN RSA PRIVATE KEY-----", "M" * 64
    harmless = {
        ".env": "A=b",
        ".env.example": "A=",
        ".gitignore": ".env",
        "docs.md": f"{header}\n...",
        "short.py": "'b'",
    }
    folder = app(tmp_path, "leaky", **harmless)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    assert portway(running, "deploy", folder, "--env", "A=b").exit_code == 0

    subprocess.run(["git", "add", "-f", ".env"], cwd=folder, check=True)
    found = {".env": "is a file of variables", ".env.production": "is a file of variables"}
    found |= {
        "google.json": "holds a private key",
        "key.pem": "holds a private key",
        "settings.py": "holds the value of B",
    }
    (folder / ".env.production").touch()
    (folder / "google.json").write_text(f'{{"key": "{header}\\n{body}\\n"}}')
    (folder / "key.pem").write_text(f"{header}\n{body}\n")
    (folder / "settings.py").write_text("KEY = 'a-secret-of-12+'")
    (folder / "ssh").mkdir()
    (folder / "ssh" / "id_ed25519").touch()
    refused = portway(running, "deploy", folder, "--env", "B=a-secret-of-12+")
    named = ", ".join(f"{file} {what}" for file, what in found.items())
    mend = "set them by `portway env set` and remove them here, or deploy with --allow-file .env --allow-file .env"
    assert f"Error: the source holds secrets ({named}, and 1 more): {mend}" in refused.stderr
    assert "build" not in refused.stderr
    assert "a-secret" not in refused.stderr
    allowed = [f"--allow-file={pattern}" for pattern in (".env*", "*.json", "key.pem", "ssh/*")]
    refused = portway(running, "deploy", folder, *allowed)
    assert "(settings.py holds the value of B)" in refused.stderr
    assert portway(running, "deploy", folder, *allowed, "--allow-file", "settings.py").exit_code == 0


def test_an_environment_is_made_of_blueprint_settings_groups_and_other_apps(tmp_path: Path) -> None:
    store = Store(tmp_path / "portway.db")
    environments = Environments(
        store,
        Variables(store, KeyFile(tmp_path / "key")),
        replace(NO_WALLS, trusts_all=True),
        PublicAddress("http://127.0.0.1:8080", "test"),
    )
    asked = EnvSource(sync=False)
    config = AppConfig(
        env={
            "PORT": EnvSource(value="10000"),
            "LEVEL": EnvSource(value="info"),
            "TOKEN": EnvSource(generate_value=True),
            "API_KEY": asked,
            "REGION": asked,
            "OTHER": EnvSource(from_service=FromService("other", "hostport")),
            "COPY": EnvSource(from_service=FromService("other", env_var_key="KEY")),
        },
        env_groups=["shared"],
    )
    with pytest.raises(VariableError) as missing:
        environments.resolve("app", config)
    commands = ("set app API_KEY=… REGION=…", "set --group shared KEY=…", "set other KEY=…")
    named = ", then ".join(f"`portway env {command}`" for command in commands)
    assert str(missing.value) == f"app lacks variables: run {named}"

    app, group = Owner("app", "app"), Owner("group", "shared")
    environments.variables.set(app, {"API_KEY": "app's", "LEVEL": "debug"})
    environments.define_group("shared", {"API_KEY": EnvSource(value="group's"), "REGION": EnvSource(value="eu")})
    environments.variables.set(Owner("app", "other"), {"KEY": "copied"})
    made = environments.resolve("app", config)
    secrets = made.secrets
    assert len(base64.b64decode(secrets.pop("TOKEN"))) == 32
    assert secrets == {"API_KEY": "app's", "COPY": "copied"}, "what stands in a blueprint is no secret"
    assert (made.values["REGION"], made.values["OTHER"]) == ("eu", "other.test:8080")
    assert made.values["LEVEL"] == "info", "what the blueprint says wins"
    assert [note.split(" ")[0] for note in made.notes] == ["LEVEL"]
    assert environments.resolve("app", config) == made, "a generated value stays"
    with pytest.raises(VariableError) as unset:
        environments.define_group("other", {"KEY": EnvSource(sync=False), "MADE": EnvSource(generate_value=True)})
    assert str(unset.value) == "the group other lacks variables: run `portway env set --group other KEY=…`"
    with pytest.raises(VariableError, match="REGION of shared has its value from the blueprint: change it there"):
        environments.put(group, {"REGION": "us", "MORE": "x"})
    store.begin_release("app", "/")
    store.finish_releases([FinishedRelease("app", 1, config, Start([], ""), "{}")])
    with pytest.raises(VariableError, match="LEVEL of app has its value from the blueprint: change it there"):
        environments.put(app, {"LEVEL": "debug"})
    assert environments.users(group) == environments.users(Owner("app", "other")) == ["app"]
    store.close()
