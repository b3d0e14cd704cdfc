from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support import SCRIPTS, WEATHER, started


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The address of the weather server behind the gate, and its token."""
    data = tmp_path_factory.mktemp("data")
    command = (SCRIPTS / "portway", "up", WEATHER.parent, "--port", "0", "--data", data)
    with started(*command, ready=r"^ready (\{.*\})$") as child:
        assert child.match
        weather = json.loads(child.match[1])["apps"]["weather"]
        yield {"url": weather["url"], "token": weather["token"]}
