"""Log records: one line each on stderr, as text or JSON."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from tests.support import clean_env

PROGRAM = """
import logging
from portway import log_config
log_config.configure()
log_config.configure()
log = logging.getLogger("portway.test")
log.debug("quiet")
log.warning("two\\nlines", extra={"app": "weather"})
def inner():
    raise ValueError("bad")
try:
    inner()
except ValueError:
    log.exception("it failed")
"""


def lines(**env: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=clean_env(env), timeout=120, check=True
    )
    return done.stderr.splitlines()


def test_text_is_one_line_a_record_even_with_an_exception() -> None:
    first, second = lines()
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z WARNING portway\.test: two\\nlines app=weather$", first)
    assert second.endswith("it failed; ValueError: bad (<string>:10 in inner, <string>:12 in <module>)")


def test_json_is_one_object_a_record_with_the_traceback_inside() -> None:
    first, second = (json.loads(line) for line in lines(PORTWAY_LOG_FORMAT="json"))
    assert {key: first[key] for key in ("level", "logger", "message", "app")} == {
        "level": "warning",
        "logger": "portway.test",
        "message": "two\nlines",
        "app": "weather",
    }
    assert "Traceback" in second["exception"]


def test_the_level_is_what_the_environment_says() -> None:
    assert len(lines(PORTWAY_LOG_LEVEL="debug")) == 3
    assert len(lines(PORTWAY_LOG_LEVEL="error")) == 1


@pytest.mark.parametrize("env", [{"PORTWAY_LOG_LEVEL": "loud"}, {"PORTWAY_LOG_FORMAT": "xml"}])
def test_an_unknown_level_or_format_is_refused(env: dict[str, str]) -> None:
    with pytest.raises(subprocess.CalledProcessError) as error:
        lines(**env)
    assert "is not known; use one of" in error.value.stderr
