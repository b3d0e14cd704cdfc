"""Clients of the full server, which requires tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.wire.full_server import app
from tests.wire.http_server import Client, served

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with served(app(tokens=True)) as url:
        client = Client(url)
        yield client
        client.close()


@pytest.fixture(scope="module")
def sessionless() -> Iterator[Client]:
    """A client of the same server without sessions."""
    with served(app(tokens=True, sessions=False)) as url:
        client = Client(url)
        yield client
        client.close()
