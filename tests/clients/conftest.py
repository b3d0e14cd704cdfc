from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import SCRIPTS, WEATHER, served, started

FEATURES = Path(__file__).with_name("feature_server.py")


@pytest.fixture(scope="module")
def features() -> Iterator[str]:
    """The URL of the feature server."""
    with served(FEATURES) as url:
        yield url


@pytest.fixture(scope="session")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, str]]]:
    """The `url` and `token` of the weather server and of the feature server, by name, behind one gate."""
    folder = tmp_path_factory.mktemp("apps") / "features"
    folder.mkdir()
    shutil.copyfile(FEATURES, folder / "server.py")
    data = tmp_path_factory.mktemp("data")
    command = (SCRIPTS / "portway", "up", WEATHER.parent, folder, "--port", "0", "--data", data)
    with started(*command, ready=r"^ready (\{.*\})$") as child:
        assert child.match
        yield {
            name: {key: app[key] for key in ("url", "token")}
            for name, app in json.loads(child.match[1])["apps"].items()
        }
