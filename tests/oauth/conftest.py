"""A provider for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.oauth.key_publisher import KeyPublisher, publishing


@pytest.fixture
def provider() -> Iterator[KeyPublisher]:
    with publishing() as publisher:
        yield publisher
