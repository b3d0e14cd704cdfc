"""A deploy follows the blueprint of its source."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from portway.host.builds.portway_command import runs_portway_server
from tests.host.running_host import Host, host
from tests.host.test_start_commands import SERVER
from tests.support import WEATHER

TWO = """
services:
  - type: web
    name: first
    rootDir: app
    startCommand: python main.py
    x-portway: {access: public}
  - type: web
    name: second
    rootDir: app
    startCommand: python main.py
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with host(tmp_path_factory.mktemp("blueprint") / "data") as started:
        yield started


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "main.py").write_text(SERVER)
    return tmp_path


@pytest.mark.slow
def test_services_of_one_blueprint_become_apps_all_or_none(running: Host, folder: Path) -> None:
    (folder / "render.yaml").write_text(TWO)
    told = running.portway("deploy", folder, "-o", "json")
    steps = [line.split()[1] for line in told.stderr.splitlines()]
    assert (steps.count("ready"), steps.index("switch"), steps[-2:]) == (2, len(steps) - 2, ["switch", "switch"])
    assert all("first: " in line or "second: " in line for line in told.stderr.splitlines())
    done = json.loads(told.stdout)["apps"]
    assert [app["app"] for app in done] == ["first", "second"]
    assert done[0]["token"] is None
    assert running.call("second", "whoami", done[1]["token"])["headers"]["host"] == "second.localhost"

    (folder / "render.yaml").write_text(
        TWO.replace("main.py\n    x", "main.py --better\n    x") + "    buildCommand: exit 3\n"
    )
    failed = running.portway("deploy", folder)
    assert failed.returncode == 1
    assert "second: could not run its build command `exit 3`" in failed.stderr
    assert [running.status(app).release for app in ("first", "second")] == [1, 1]
    kept_back = running.paths.release("first", 2) / "log" / "build.log"
    assert "not made live: could not run its build command" in kept_back.read_text()
    assert "better" not in running.portway("config", "first").stdout

    assert "the flags are for one service" in running.portway("deploy", folder, "--public").stderr
    (folder / "render.yaml").write_text(TWO)
    again = json.loads(running.portway("deploy", folder, "-o", "json").stdout)["apps"]
    assert [app["release"] for app in again] == [3, 3]


@pytest.mark.slow
def test_flags_stand_above_the_blueprint_and_the_blueprint_above_the_live_release(running: Host, folder: Path) -> None:
    blueprint = folder / "portway.yaml"
    blueprint.write_text("services:\n- {type: web, name: one, rootDir: app, startCommand: python main.py, plan: free}")
    done = running.portway("deploy", folder, "--name", "uno", "--public", "--start", "exec python main.py")
    assert "note  portway.yaml (line 2, column 70): `plan` has no effect here" in done.stderr
    assert running.portway("config", "uno").stdout == (
        "services:\n"
        "  - type: web\n"
        "    name: uno\n"
        "    rootDir: app\n"
        "    startCommand: exec python main.py\n"
        "    x-portway:\n"
        "      access: public\n"
    )
    assert running.portway("deploy", folder, "--name", "uno").returncode == 0
    shown = json.loads(running.portway("config", "uno", "-o", "json").stdout)
    assert (shown["startCommand"], "x-portway" in shown) == ("python main.py", False)
    blueprint.unlink()
    assert running.portway("deploy", folder, "--name", "uno").returncode == 0
    assert json.loads(running.portway("config", "uno", "-o", "json").stdout) == shown


@pytest.mark.slow
def test_a_disk_is_for_one_instance_and_storage_for_all(running: Host, folder: Path) -> None:
    disk = "services:\n- {type: web, name: kept, rootDir: app, disk: {name: d, mountPath: /d, sizeGB: 1}}"
    (folder / "render.yaml").write_text(disk)
    refused = running.portway("deploy", folder, "--instances", "2")
    assert refused.returncode == 1
    said = (
        "kept has a disk, which one instance has alone: leave --instances out, or have x-portway.storage in place of "
    )
    assert said in refused.stderr

    options = ("--start", "python main.py", "--public", "--instances", "2")
    shared = "x-portway: {storage: {sizeGB: 1, mountPath: /d}, limits: {cpu: 0.5}}"
    (folder / "render.yaml").write_text(disk.replace("disk: {name: d, mountPath: /d, sizeGB: 1}", shared))
    assert running.portway("deploy", folder, *options).returncode == 0
    assert running.status("kept").wanted == 2
    shown = json.loads(running.portway("config", "kept", "-o", "json").stdout)["x-portway"]
    assert (shown["storage"], shown["limits"]) == ({"sizeGB": 1, "mountPath": "/d"}, {"cpu": 0.5})


@pytest.mark.slow
def test_a_blueprint_that_cannot_be_used_deploys_nothing_and_with_skip_the_rest(running: Host, folder: Path) -> None:
    (folder / "render.yaml").write_text("services:\n- {type: web, name: bad, start: x}\n- {type: cron, name: c}")
    failed = running.portway("deploy", folder, "-o", "json")
    assert failed.returncode == 1
    assert "(line 2, column 26): unknown field `start`" in json.loads(failed.stdout)["error"]
    assert "(line 2, column 26): unknown field `start`" in failed.stderr
    assert "(line 3, column 4): the service `c` of type `cron` is not hosted here" in json.loads(failed.stdout)["error"]
    assert "bad" not in running.portway("ps").stdout

    blueprint = folder / "render.yaml"
    blueprint.write_text(blueprint.read_text().replace("start: x", "rootDir: app, startCommand: python main.py"))
    done = running.portway("deploy", folder, "--skip")
    assert done.returncode == 0
    assert "note  render.yaml (line 3, column 4): the service `c` of type `cron` is not hosted here" in done.stderr

    assert running.portway("deploy", folder / "app", "--name", "dead", "--start", "false").returncode == 1
    never = running.portway("config", "dead").stderr
    assert "dead has no live release, so no configuration: deploy it" in never


@pytest.mark.slow
def test_the_example_is_deployed_as_its_blueprint_says(running: Host) -> None:
    done = json.loads(running.portway("deploy", WEATHER.parent, "-o", "json").stdout)
    assert running.call("weather", "get_weather", done["token"], city="Oslo")["city"] == "Oslo"
    instance = running.instance("weather")
    assert instance
    assert instance.address.startswith("unix:"), "a port would let callers pass by the gate"


OWN = "from portway import Server\nserver = Server('s')\nif __name__ == '__main__':\n    server.run()\n"


@pytest.mark.parametrize(
    ("command", "content", "is_own"),
    [
        ("python server.py", OWN, True),
        ("exec python3 -u server.py --verbose", OWN, True),
        ("uv run python server.py", OWN, True),
        ("portway run server.py --port $PORT", OWN.partition("if")[0], True),
        ("python server.py", OWN.partition("if")[0], False),
        ("python server.py && sleep 1", OWN, False),
        ("python server.py", f"import uvicorn\n{OWN}", False),
        ("python server.py", OWN.replace("portway", "fastmcp"), False),
        ("python server.py", "not python", False),
        ("python ../server.py", OWN, False),
        ("uvicorn server:app", OWN, False),
    ],
)
def test_a_start_command_that_runs_a_portway_server_is_known(
    tmp_path: Path, command: str, content: str, is_own: bool
) -> None:
    (tmp_path / "app").mkdir()
    for folder in (tmp_path, tmp_path / "app"):
        (folder / "server.py").write_text(content)
    assert runs_portway_server(tmp_path / "app", command) is is_own
