"""What is made of the last lines of a server that did not start, as its language wrote them."""

from __future__ import annotations

from pathlib import Path

import pytest

from portway.host.logs.log_entry import LogEntry
from portway.host.secrets.redact import hide, missing_variables
from portway.host.secrets.redacted_logs import without_secrets

KEY_ERROR = """
  File "/app/server.py", line 3, in <module>
    KEY = os.environ["API_KEY"]
  File "<frozen os>", line 679, in __getitem__
KeyError: 'API_KEY'
"""
SETTINGS = """
  File "/venv/lib/python3.11/site-packages/pydantic_settings/main.py", line 292, in __init__
    super().__init__(**__pydantic_self__.__class__._settings_build_values(sources, init_kwargs))
pydantic_core._pydantic_core.ValidationError: 2 validation errors for Settings
api_key
  Field required [type=missing, input_value={'region': 'eu-secret-...lue'}, input_type=dict]
    For further information visit https://errors.pydantic.dev/2.14/v/missing
region
  Input should be a valid integer, unable to parse string [type=int_parsing, input_value='eu-sec', input_type=str]
"""
NODE = """
file://SOURCE/server.js:2
const key = process.env.API_KEY.trim();
                                ^

TypeError: Cannot read properties of undefined (reading 'trim')
    at file://SOURCE/server.js:2:33
    at ModuleJob.run (node:internal/modules/esm/module_job:325:25)
"""
NODE_LATER = """
SOURCE/server.js:3
key.split(",")
    ^
TypeError: Cannot read properties of undefined (reading 'split')
    at Object.<anonymous> (SOURCE/server.js:3:5)
"""


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        (KEY_ERROR, ["API_KEY"]),
        (KEY_ERROR.replace("API_KEY", "REGION"), []),
        ("KeyError: 'city'", []),
        (SETTINGS, ["API_KEY"]),
        (SETTINGS.replace("pydantic_settings", "somebody"), []),
        (NODE, ["API_KEY"]),
        (NODE.replace("API_KEY", "PORT"), []),
        (NODE_LATER, ["API_KEY", "OTHER_KEY"]),
        (NODE_LATER.replace("SOURCE", "/etc"), []),
        ("Error: Missing required environment variable: API_KEY", ["API_KEY"]),
        ("ValueError: API_KEY must be set", ["API_KEY"]),
        ("RuntimeError: set the API_KEY environment variable", ["API_KEY"]),
        ("ModuleNotFoundError: No module named 'fastmcp'", []),
    ],
)
def test_the_variable_that_a_server_misses_is_read_from_its_last_lines(
    tmp_path: Path, text: str, missing: list[str]
) -> None:
    script = 'const key = process.env.API_KEY\nconst other = process.env["OTHER_KEY"], port = process.env.PORT\n'
    (tmp_path / "server.js").write_text(script)
    assert missing_variables(text.replace("SOURCE", str(tmp_path)), {"REGION": "eu"}, tmp_path) == missing


def test_secrets_are_replaced_by_their_names_and_what_pydantic_quotes_is_left_out() -> None:
    told = hide(SETTINGS + "key: first line\nsecond line, first", {"KEY": "first line\nsecond line", "SHORT": "first"})
    assert "eu-sec" not in told
    assert "[type=missing, input_value=…, input_type=dict]" in told
    assert told.endswith("key: [KEY], first")
    assert hide("a: second line", {"KEY": "first line\nsecond line"}) == "a: [KEY]"


@pytest.mark.parametrize("cut", [1, 5, 13])
def test_a_secret_that_the_border_of_two_pieces_of_a_line_cuts_is_hidden_whole(cut: int) -> None:
    secret, long = "swordfish-1234", "x" * 65_536
    pieces = [long + secret[:cut], secret[cut:] + "y", secret[cut:]]
    times = [("a", pieces[0]), ("b", "between"), ("a", pieces[1]), ("a", pieces[2])]
    entries = [LogEntry("2026", "app", 1, instance, text) for instance, text in times]
    shown = [entry.text for entry in without_secrets(entries, {1: {"PASSWORD": secret, "SHORT": "xy"}})]
    assert shown == [f"{long}[PASSWORD]", "between", "y", secret[cut:]]
