"""`portway check` reads a blueprint as a deploy does: what is wrong is said with its place, and nothing is ignored."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from portway.cli.main import cli
from portway.host.blueprint.blueprint import read_blueprint
from portway.host.blueprint.fields import ROOT, List, Section
from portway.host.blueprint.kinds import ANYTHING
from portway.host.blueprint.problems import BlueprintError

SERVICE = "services:\n  - type: web\n    name: app\n"
PORTWAY_SERVER = 'from portway import Server\nserver = Server("s")\n'
RENDER_SHAPED = """\
services:
  - type: web
    name: Secure MCP
    env: python
    plan: starter
    region: oregon
    buildCommand: pip install -r requirements.txt
    startCommand: python server.py
    healthCheckPath: /health
    autoDeploy: false
    envVars:
      - key: MCP_API_TOKEN
        generateValue: true
      - key: PORT
        value: "10000"
      - key: PYTHON_VERSION
        value: 3.11.9
      - key: RATE
        value: 1.10
      - key: WEATHER_API_KEY
        sync: false
      - fromGroup: shared
"""

Check = Callable[..., Result]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Write the blueprint into a folder and check it."""

    def run(content: str | bytes, *options: str, file: str = "render.yaml") -> Result:
        (tmp_path / "server.py").write_text(PORTWAY_SERVER)
        (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
        return CliRunner().invoke(cli, ["check", str(tmp_path), *options])

    return run


def at(place: tuple[int, int], text: str) -> str:
    return f"render.yaml (line {place[0]}, column {place[1]}): {text}"


def plan(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def service(check: Check, fields: str) -> dict[str, Any]:
    """Return the one service of a blueprint with these fields, as it was understood."""
    return plan(check(SERVICE + fields, "-o", "json"))["apps"][0]["service"]


def test_a_blueprint_made_for_render_is_understood_without_an_edit(check: Check) -> None:
    found = plan(check(RENDER_SHAPED, "-o", "json"))
    assert found["apps"] == [
        {
            "app": "secure-mcp",
            "runtime": "python 3.11.9, no requirements",
            "build": "pip install -r requirements.txt",
            "start": "python server.py",
            "service": {
                "type": "web",
                "name": "secure-mcp",
                "runtime": "python",
                "buildCommand": "pip install -r requirements.txt",
                "startCommand": "python server.py",
                "healthCheckPath": "/health",
                "autoDeployTrigger": "off",
                "envVars": [
                    {"key": "MCP_API_TOKEN", "generateValue": True},
                    {"key": "PYTHON_VERSION", "value": "3.11.9"},
                    {"key": "RATE", "value": "1.10"},
                    {"key": "WEATHER_API_KEY", "sync": False},
                    {"fromGroup": "shared"},
                ],
            },
            "must_be_set": ["WEATHER_API_KEY"],
            "warnings": [],
        }
    ]
    assert found["warnings"] == [
        at((4, 5), "`env` is an old name of `runtime`: rename it"),
        at((5, 5), "`plan` has no effect here: the host runs on this machine"),
        at((6, 5), "`region` has no effect here: the host runs on this machine"),
        at((10, 5), "`autoDeploy` is an old name of `autoDeployTrigger`: rename it"),
        at((14, 9), "`PORT` has no effect here: the host sets it"),
    ]


def test_a_plan_is_printed_for_people(check: Check) -> None:
    done = check(RENDER_SHAPED)
    assert done.exit_code == 0
    assert done.stdout == (
        "secure-mcp   (render.yaml)\n"
        "  runtime  python 3.11.9, no requirements\n"
        "  build    pip install -r requirements.txt\n"
        "  start    python server.py\n"
        "  to set   WEATHER_API_KEY   (portway env set secure-mcp WEATHER_API_KEY=…)\n"
    )
    assert "`plan` has no effect here" in done.stderr


NO_SOURCE = (
    "a variable has one source, `value`, `generateValue: true`, `sync: false`, `fromGroup` or `fromService`: write one"
)
NO_MOUNT = "`mountPath` must be a path as in `/var/data`, not in /tmp, /run, /proc or /dev"
WRONG = [
    ("buildComand: x", (4, 5), "unknown field `buildComand`; did you mean `buildCommand`?"),
    ("start_command: x", (4, 5), "unknown field `start_command`; did you mean `startCommand`?"),
    ("zzz: x", (4, 5), "unknown field `zzz` of a service: remove it"),
    ("name: b", (4, 5), "`name` is given twice, first in line 3: keep one"),
    ("? [a]\n    : b", (4, 7), "this key is no text: write the name of a field"),
    ("rootDir: ../x", (4, 14), "`rootDir` must be a folder of the repository, as in `backend`"),
    ("numInstances: 1.5", (4, 19), "`numInstances` must be a whole number from 1 to 100"),
    ("healthCheckPath: health", (4, 22), "`healthCheckPath` must be a path that begins with `/`"),
    ("buildCommand:", (4, 5), "`buildCommand` must be a text"),
    ('buildCommand: "\\0"', (4, 19), "`buildCommand` must be a text"),
    ('buildCommand: "\\uD800"', (4, 19), "`buildCommand` must be a text"),
    ("buildFilter: {paths: a}", (4, 26), "`paths` must be a list of texts"),
    ("x-portway: {origins: [app]}", (4, 26), "`origins` must be a list of origins, as in `[https://app.example.com]`"),
    ("disk: 5", (4, 11), "a disk must be a mapping, as in `name: value`"),
    ("disk: {name: d, mountPath: /../oldroot/d}", (4, 32), NO_MOUNT),
    ("disk: {name: d, mountPath: /tmp/link/d}", (4, 32), NO_MOUNT),
    ("x-portway: {storage: {mountPath: //proc/self/root/d}}", (4, 38), NO_MOUNT),
    ("disk: {name: d}", (4, 11), "a disk has no `mountPath`: add it"),
    ("envVars: {A: b}", (4, 14), "`envVars` must be a list of mappings, each after `- `"),
    ("envVars: [{key: A}]", (4, 15), NO_SOURCE),
    ("envVars: [{key: A, value: b, sync: false}]", (4, 15), NO_SOURCE),
    ("envVars: [{value: b}]", (4, 15), "this variable has no name: add `key`"),
    (
        "envVars: [{key: 1A, value: b}]",
        (4, 21),
        "`key` must be a name of letters, digits and `_`, no digit first",
    ),
    ("envVars: [{key: A, value: b}, {key: A, value: c}]", (4, 35), "the variable `A` is there twice: keep one"),
    ("envVars: [{key: A, fromGroup: b}]", (4, 15), "`fromGroup` brings the names of its variables: remove `key`"),
    (
        "envVars: [{key: A, fromService: {name: b}}]",
        (4, 37),
        "`fromService` names one thing: `property` or `envVarKey`",
    ),
    ("autoDeployTrigger: never", (4, 24), "`autoDeployTrigger` must be one of `commit`, `checksPass`, `off`"),
    ("autoDeploy: maybe", (4, 17), "`autoDeployTrigger` must be one of `commit`, `checksPass`, `off`"),
    (
        "ipAllowList: []",
        (4, 5),
        (
            "`ipAllowList` needs a list of allowed addresses, which is not hosted here: "
            "remove it, or give --skip (git push: -o skip) to leave it out"
        ),
    ),
    ("x-portway: {routes: {}}", (4, 25), "`routes` must be a list of mappings, each after `- `"),
    ("x-portway: {routes: [{path: /a}]}", (4, 26), "a route has no `access`: add it"),
    (
        "x-portway: {routes: [{path: /a/../b, access: public}]}",
        (4, 33),
        "`path` must be a path as in `/health`, or as in `/admin/*` for all below it",
    ),
    (
        "x-portway: {routes: [{path: /a, access: public}, {path: /A/, access: app}]}",
        (4, 55),
        "the route `/A/` is there twice: keep one",
    ),
    (
        "x-portway: {path: /api, routes: [{path: /, access: app}, {path: /api/, access: public}]}",
        (4, 63),
        "`/api/` is the MCP endpoint, for which `access` stands: remove this route",
    ),
    (
        "x-portway: {smoke: [{tool: a, arguments: b}]}",
        (4, 46),
        "`arguments` must be a mapping of arguments, as in `city: Oslo`",
    ),
    (
        "disk: {name: a, mountPath: /b}\n    x-portway: {storage: {}}",
        (5, 17),
        "`storage` and `disk` are the same folder: keep one of them",
    ),
    (
        "x-portway: {policies: [{tools: a, scopes: [b]}]}",
        (4, 29),
        "unknown field `tools`; did you mean `tool`?",
    ),
    (
        "x-portway: {policies: [{tool: a, prompt: b, scopes: [c]}]}",
        (4, 28),
        "a policy is for one thing, `tool`, `prompt` or `resource`, or an annotation of tools: write one",
    ),
    (
        "x-portway: {policies: [{prompt: b, readOnlyHint: true, scopes: [c]}]}",
        (4, 28),
        "a prompt has no annotations: remove them",
    ),
    (
        "x-portway: {policies: [{resource: 'http://bücher.example/{x}', scopes: [b]}]}",
        (4, 29),
        "no URI is of this `resource`: its host is not plain ASCII: write it so, as in xn--bcher-kva.example",
    ),
    (
        "x-portway: {policies: [{destructiveHint: true}]}",
        (4, 28),
        "a policy that asks for nothing has no effect: add `scopes` or a limit",
    ),
    (
        "x-portway: {policies: [{prompt: a, rate: 5/minute}]}",
        (4, 28),
        "only a tool has `arguments`, `rate`, `concurrency` and `confirm`: remove them",
    ),
    (
        "x-portway: {policies: [{tool: a, rate: often}]}",
        (4, 38),
        "'often' is no rate as in 10/minute; the units are second, minute, hour and day",
    ),
    (
        "x-portway: {policies: [{tool: a, confirm: '{'}]}",
        (4, 38),
        "confirm: '{' names an argument otherwise than as in {name}",
    ),
    (
        "x-portway: {policies: [{tool: a, arguments: {b: {}}}]}",
        (4, 38),
        "the limit of b lets every value pass, or none: correct or remove it",
    ),
    (
        "x-portway: {policies: [{tool: a, arguments: {b: {under: ..}}}]}",
        (4, 38),
        "under of b: '..' is no folder as in /data, docs or .",
    ),
    (
        "x-portway: {policies: [{tool: a, arguments: {b: {max_length: 5}}}]}",
        (4, 49),
        "unknown field `max_length`; did you mean `maxLength`?",
    ),
    (
        "x-portway: {policies: [{tool: a, arguments: {b: {zzz: 5}}}]}",
        (4, 49),
        "unknown field `zzz` of the limits of `b`: remove it",
    ),
    (
        "x-portway: {policies: [{tool: a, arguments: {b: 5}}]}",
        (4, 49),
        "`arguments` must be a mapping of at most 32 arguments to limits, as in `path: {under: /data}`",
    ),
    (
        "x-portway: {policies: [{tool: a, scopes: [two words]}]}",
        (4, 46),
        "`scopes` must be a list of scopes, as in `[orders:write]`; a scope has no spaces",
    ),
    (
        "x-portway: {access: app, policies: [{tool: a, scopes: [b]}]}",
        (4, 51),
        "with `access: app` the app alone knows its callers: remove `scopes`, or choose `gate`",
    ),
    (
        "x-portway: {policies: [" + "{tool: a, scopes: [b]}," * 101 + "]}",
        (4, 2328),
        "an app has at most 100 policies",
    ),
    (
        "x-portway: {groups: {ops: write}}",
        (4, 25),
        "`groups` must be a mapping of groups to lists of scopes, as in `ops: [orders:write]`",
    ),
    ("x-portway: {access: off}", (4, 25), "`access` must be one of `gate`, `public`, `app`"),
    ("repo: *up", (4, 11), "`*up` stands for nothing above it: give `&up` first"),
    ("disk: &d {name: *d}", (4, 21), "`*d` stands for nothing above it: give `&d` first"),
    ("<<: [a]", (4, 10), "`<<` takes in a mapping: name one by `*`"),
    ("repo: !env X", (4, 11), "the tag `!env` has no meaning here: leave it out"),
    ("repo: @x", (4, 11), "this is not YAML: found character '@' that cannot start any token"),
    ("repo: " + "[" * 40 + "]" * 40, (4, 41), "this is nested more than 32 deep: no field is"),
    (
        "disk: {name: d, mountPath: /d}\n    numInstances: 2",
        (5, 5),
        "a service with a disk runs one instance: remove this",
    ),
    ("\n  - {type: web, name: App}", (5, 17), "the service `app` is there twice: keep one, or rename it"),
    (
        "\n  - {type: web, name: 9a}",
        (5, 17),
        "'9a' cannot name an app: give --name of up to 40 lower-case letters, digits, hyphens, a letter first",
    ),
    (
        "\nenvVarGroups: [{name: g, envVars: []}, {name: g, envVars: []}]",
        (5, 40),
        "the group `g` is there twice: keep one, or rename it",
    ),
    (
        "\n  - {type: cron, name: c}",
        (5, 6),
        (
            "the service `c` of type `cron` is not hosted here: "
            "remove it, or give --skip (git push: -o skip) to leave it out"
        ),
    ),
    (
        "\n  - {type: web, name: s, runtime: static}",
        (5, 26),
        (
            "the service `s` of runtime `static` is not hosted here: "
            "remove it, or give --skip (git push: -o skip) to leave it out"
        ),
    ),
]


@pytest.mark.parametrize(("fields", "place", "text"), WRONG, ids=[fields[:30] for fields, _, _ in WRONG])
@pytest.mark.parametrize("output", ["text", "json"])
def test_what_is_wrong_is_said_with_its_place_and_fails_in_every_output_mode(
    check: Check, fields: str, place: tuple[int, int], text: str, output: str
) -> None:
    done = check(f"{SERVICE}    {fields}\n", "-o", output)
    assert done.exit_code == 1
    said = json.loads(done.stdout)["error"] if output == "json" else done.stderr.removeprefix("Error: ").strip()
    assert said == at(place, text)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "the file is empty: list your services in it"),
        ("services: []", "no service of type `web` is here: list one under `services`"),
        ("- a", "a blueprint must be a mapping, as in `name: value`"),
        (SERVICE + "---\na: b\n", "a second document begins here: keep one"),
        (b"a: \xff", "this is not UTF-8: save the file as UTF-8"),
        (b"#" * 10_000_000, "the file is larger than 256 KB: keep only the services in it"),
        ("a: [" + "b, " * 30_000 + "]", "the file holds more than 20000 values: keep only the services in it"),
        (
            "a0: &a0 {x: 1}\n"
            + "".join(f"a{n + 1}: &a{n + 1}\n  y{n}: 1\n  <<: [{f'*a{n}, ' * 9}]\n" for n in range(400)),
            "the file holds more than 20000 values: keep only the services in it",
        ),
    ],
    ids=["empty", "no service", "list", "two documents", "bytes", "10 MB", "many values", "a billion laughs"],
)
def test_a_file_that_is_no_blueprint_is_refused(check: Check, content: str | bytes, text: str) -> None:
    done = check(content)
    assert done.exit_code == 1
    assert text in done.stderr
    assert done.stderr.count("\n") <= 20


def test_what_the_file_leaves_open_is_found_in_the_source(check: Check, tmp_path: Path) -> None:
    assert "  start    the portway.Server in server.py\n" in check(SERVICE).stdout
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "package.json").write_text('{"scripts": {"start": "node server.js"}}')
    assert "  start    node server.js" in check(SERVICE + "    rootDir: web").stdout
    refused = check(SERVICE + "    rootDir: web\n    runtime: python")
    assert (refused.exit_code, "there is no server.py" in refused.stderr) == (1, True)


def test_two_blueprints_are_refused(check: Check) -> None:
    check(SERVICE)
    done = check(SERVICE, file="portway.yaml")
    assert "render.yaml and portway.yaml are both here, and say the same things: remove one of them" in done.stderr


def test_what_is_missing_to_read_a_blueprint_is_named(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ruamel.yaml", None)
    message = "Error: ruamel.yaml, which reads blueprints, is missing: pip install 'portway[host]'\n"
    assert check(SERVICE).stderr == message


def test_a_blueprint_with_another_ending_is_named(check: Check) -> None:
    done = check(SERVICE, file="render.yml")
    assert (done.exit_code, done.stderr) == (1, "Error: render.yml is not read: rename it to render.yaml\n")


def of_wrong_type(section: Section) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each field of a mapping with a value of a wrong type, and the message about it; then those below it."""
    for field in section.fields:
        name, known = field.name, section.field(field.instead) or field
        kind = known.kind
        if isinstance(kind, Section):
            yield f"{kind.says} must be a mapping, as in `name: value`", {name: "x"}
            yield from ((text, {name: inner}) for text, inner in of_wrong_type(kind))
        elif isinstance(kind, List):
            yield f"`{name}` must be a list of mappings, each after `- `", {name: {"a": "b"}}
            yield f"{kind.section.says} must be a mapping, as in `name: value`", {name: ["x"]}
            yield from ((text, {name: [inner]}) for text, inner in of_wrong_type(kind.section))
        elif kind is not ANYTHING:
            yield f"`{known.name}` must be {kind.says}", {name: [{"a": "b"}]}
    yield f"unknown field `qqqq` of {section.says}: remove it", {"qqqq": 1}


def test_every_field_of_a_wrong_type_is_refused_at_every_level(tmp_path: Path) -> None:
    for text, document in of_wrong_type(ROOT):
        (tmp_path / "render.yaml").write_text(json.dumps(document))
        with pytest.raises(BlueprintError) as refused:
            read_blueprint(tmp_path, skip=True)
        assert text in str(refused.value)


def test_a_blueprint_may_be_named_after_portway(check: Check) -> None:
    assert plan(check(SERVICE, "-o", "json", file="portway.yaml"))["file"] == "portway.yaml"


@pytest.mark.parametrize(
    ("portway", "text"),
    [
        (
            "{access: public, auth: {}}",
            "with access public, nobody logs in at the gate to call app: leave x-portway.auth out, or have access gate",
        ),
        (
            "{access: public, upstreamToken: TOKEN}",
            "app gets no token of its own from the gate with access public: leave upstreamToken out",
        ),
    ],
)
def test_a_configuration_that_a_deploy_refuses_is_refused(check: Check, portway: str, text: str) -> None:
    result = check(SERVICE + f"    x-portway: {portway}\n")
    assert (result.exit_code, text in result.output) == (1, True), result.output


def test_with_skip_what_is_not_hosted_is_left_out_and_said(check: Check) -> None:
    more = "  - {type: cron, name: c, schedule: '* * * * *', docker: x}\ndatabases: [{name: d}]\n"
    found = plan(check(SERVICE + more, "--skip", "-o", "json"))
    assert [app["app"] for app in found["apps"]] == ["app"]
    assert found["warnings"] == [
        at((4, 6), "the service `c` of type `cron` is not hosted here: it is left out"),
        at((5, 1), "`databases` needs a database, which is not hosted here: it is left out"),
    ]


def test_what_has_no_effect_is_said_once_for_all_services(check: Check) -> None:
    two = SERVICE + "    plan: free\n  - {type: web, name: b, plan: free}\n"
    assert len(plan(check(two, "-o", "json"))["warnings"]) == 1


@pytest.mark.parametrize("spelling", ["off", "'off'", "false", "False", "OFF", "no"])
def test_booleans_of_yaml_1_1_are_understood(check: Check, spelling: str) -> None:
    fields = f"    envVars: [{{key: A, sync: {spelling.strip(chr(39))}}}]\n"
    assert service(check, fields)["envVars"] == [{"key": "A", "sync": False}]
    if spelling in {"off", "'off'", "false"}:
        plan(check(f"{SERVICE}    autoDeployTrigger: {spelling}\n", "-o", "json"))


def test_anchors_and_merges_are_followed(check: Check) -> None:
    content = "x-common: &common\n  numInstances: 2\n  buildCommand: &build make\n"
    content += SERVICE + "    <<: *common\n    numInstances: 3\n    startCommand: *build\n"
    found = plan(check(content.replace("x-common", "previews"), "-o", "json"))["apps"][0]["service"]
    assert (found["numInstances"], found["buildCommand"], found["startCommand"]) == (3, "make", "make")


def test_a_name_given_for_several_services_is_refused(tmp_path: Path) -> None:
    (tmp_path / "render.yaml").write_text(SERVICE + "  - {type: web, name: b}")
    with pytest.raises(BlueprintError) as refused:
        read_blueprint(tmp_path, name="c")
    assert str(refused.value) == at((4, 5), "--name is for one service, and here are several: leave it out")


def test_a_folder_that_is_none_of_the_source_is_refused(check: Check) -> None:
    done = check(SERVICE + "    rootDir: x")
    assert "there is no folder x in the source: name the one that holds the app" in done.stderr


def test_services_of_projects_are_apps_too(check: Check) -> None:
    content = """
projects:
  - name: p
    environments:
      - name: production
        services: [{type: web, name: a}]
        envVarGroups: [{name: g, envVars: [{key: A, value: b}, {key: C, sync: false}]}]
ungrouped:
  services: [{type: web, name: b, scaling: {minInstances: 2, maxInstances: 3}, numInstances: 5}]
"""
    found = plan(check(content, "-o", "json"))
    assert [app["app"] for app in found["apps"]] == ["b", "a"]
    assert found["must_be_set"] == {"g": ["C"]}
    assert "to set in the group g   C   (portway env set --group g C=…)\n" in check(content).stdout
    assert found["apps"][0]["service"]["numInstances"] == 2
    assert at((9, 80), "`numInstances` has no effect here: `scaling` takes its place") in found["warnings"]


def test_what_portway_adds_stands_under_x_portway(check: Check) -> None:
    ours = {"access": "public", "path": "/", "server": "server.py:server", "origins": ["https://a.example"]}
    assert service(check, f"    x-portway: {json.dumps(ours)}\n")["x-portway"] == ours
