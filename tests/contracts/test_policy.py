"""What a deploy says of the contract, and what stops it: through the command line and real servers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.running_host import Host, host

SERVER = '''
from portway import Server

server = Server("weather")


@server.tool(annotations={"readOnlyHint": True})
def get_weather(city: str) -> str:
    """Get the weather of a city."""
    return city


@server.tool
def convert(amount: float, currency: str) -> float:
    return amount
'''
NEW_OPTIONAL = (
    SERVER.replace("city: str)", "city: str, units: str = 'C')")
    + "\n\n@server.tool\ndef forecast(city: str, days: int = 1) -> str:\n    return city\n"
)
NEW_REQUIRED = SERVER.replace("city: str)", "city: str, units: str)")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with host(tmp_path_factory.mktemp("contracts") / "data") as started:
        yield started


def write(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "server.py").write_text(text)
    return folder


@pytest.mark.slow
def test_a_deploy_prints_what_changes_for_clients(running: Host, tmp_path: Path) -> None:
    folder = write(tmp_path / "told", SERVER)
    first = running.portway("deploy", folder)
    assert first.returncode == 0, first.stderr
    assert "contract" not in first.stderr
    assert re.search(r"-----> contract \d+\.\ds  unchanged\n", running.portway("deploy", folder).stderr)
    write(folder, NEW_OPTIONAL)
    done = running.portway("deploy", folder, "-o", "json")
    assert "tools: + forecast(city, days?)   ~ get_weather(units: new optional)   breaking: none\n" in done.stderr
    contract = json.loads(done.stdout)["contract"]
    assert [(each["kind"], each["action"], each["name"]) for each in contract["changes"]] == [
        ("tool", "added", "forecast"),
        ("tool", "changed", "get_weather"),
    ]
    assert contract["breaking"] == 0


@pytest.mark.slow
def test_a_breaking_change_stops_until_exactly_it_is_accepted(running: Host, tmp_path: Path) -> None:
    folder = write(tmp_path / "kept", SERVER)
    assert running.portway("deploy", folder, "--public", "--contract", "breaking").returncode == 0
    assert "contract: breaking" in running.portway("config", "kept").stdout
    write(folder, NEW_REQUIRED)
    refused = running.portway("deploy", folder)
    assert refused.returncode == 1
    assert (
        "Error: the contract changes in a way that x-portway.contract stops; the live release serves on\n"
        in refused.stderr
    )
    assert "~ tool get_weather: units: new required   (breaking)\n" in refused.stderr
    found = re.search(
        r"to accept exactly this: git push -o accept=(\w+), or portway deploy --accept (\w+)\n", refused.stderr
    )
    assert found
    assert found[1] == found[2]
    assert running.call("kept", "get_weather", "", city="Oslo") == {"result": "Oslo"}
    write(folder, NEW_REQUIRED.replace("units: str", "unit: str"))
    other = running.portway("deploy", folder, "--accept", found[1], "--accept", found[1])
    assert other.returncode == 1
    assert f"accepted was {found[1]}, which is another change\n" in other.stderr
    write(folder, NEW_REQUIRED)
    done = running.portway("deploy", folder, "--accept", found[1], "-o", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["contract"]["accepted"] == found[1]
    listed = json.loads(running.portway("releases", "kept", "-o", "json").stdout)["releases"]
    assert [(each["status"], each["accepted"]) for each in listed if each["status"] != "failed"] == [
        ("live", found[1]),
        ("ready", ""),
    ]


@pytest.mark.slow
def test_a_locked_contract_stops_a_changed_description_and_a_rollback_is_never_stopped(
    running: Host, tmp_path: Path
) -> None:
    folder = write(tmp_path / "locked", SERVER)
    assert running.portway("deploy", folder).returncode == 0
    write(folder, SERVER.replace("the weather of", "any weather of"))
    assert running.portway("deploy", folder).returncode == 0
    write(folder, SERVER)
    refused = running.portway("deploy", folder, "--contract", "locked")
    assert refused.returncode == 1
    assert (
        '~ tool get_weather: description "Get any weather of a city." → "Get the weather of a city."\n'
        in refused.stderr
    )
    accepted = refused.stderr.split("--accept ")[1].strip()
    assert running.portway("deploy", folder, "--contract", "locked", "--accept", accepted).returncode == 0
    back = running.portway("rollback", "locked", "2")
    assert back.returncode == 0, back.stderr
    assert '~ get_weather(description "Get the weather of a city." → "Get any weather of a city.")' in back.stderr


@pytest.mark.slow
def test_of_several_services_one_that_is_stopped_stops_all(running: Host, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / name, SERVER)
    (tmp_path / "render.yaml").write_text(
        "services:\n"
        "  - {type: web, name: one, rootDir: one, x-portway: {contract: breaking}}\n"
        "  - {type: web, name: two, rootDir: two}\n"
    )
    assert running.portway("deploy", tmp_path).returncode == 0
    for name in ("one", "two"):
        write(tmp_path / name, NEW_REQUIRED)
    refused = running.portway("deploy", tmp_path)
    assert refused.returncode == 1
    assert "one: tools: ~ get_weather(units: new required)   breaking: get_weather\n" in refused.stderr
    assert "of one:\n" in refused.stderr
    assert "of two:\n" not in refused.stderr
    assert [running.status(name).release for name in ("one", "two")] == [1, 1]


@pytest.mark.slow
def test_text_that_people_do_not_see_is_refused_with_its_place(running: Host, tmp_path: Path) -> None:
    hidden = SERVER.replace("of a city.", "of a \\u202ecity.").replace(
        "currency: str", "currency: Literal['EUR', 'U\\u200bSD']"
    )
    refused = running.portway("deploy", write(tmp_path / "hidden", "from typing import Literal\n" + hidden))
    assert refused.returncode == 1
    assert "Error: the server shows characters that people do not see and models read: remove them\n" in refused.stderr
    assert "  tool get_weather: description: U+202E RIGHT-TO-LEFT OVERRIDE\n" in refused.stderr
    assert "  tool convert: inputSchema.properties.currency.enum[1]: U+200B ZERO WIDTH SPACE\n" in refused.stderr
