"""Random damage to well-formed input, the same in every run and cheap enough for many thousands of cases."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TOKENS = [
    b"",
    b"null",
    b"{}",
    b"[]",
    b'"',
    b"\\ud800",
    b"\xff",
    b"-1",
    b"1e999",
    b"%2e",
    b"../",
    b"\n",
    b"\r",
    b"?=",
    b"=?base64?",
    b"\x00",
    b"A",
    b"==",
]


def damaged(seeds: Sequence[bytes], count: int) -> Iterator[bytes]:
    """Yield `count` random seeds, each with one to four pieces cut out, doubled, or replaced."""
    rng = random.Random(len(seeds))
    for _ in range(count):
        text = rng.choice(seeds)
        for _ in range(rng.randint(1, 4)):
            start = rng.randint(0, len(text))
            end = min(len(text), start + rng.choice((0, 1, 1, 5, 40)))
            new = rng.choice(
                (b"", rng.choice(TOKENS), rng.randbytes(1), text[start:end] * 2, rng.choice(seeds)[start:])
            )
            text = text[:start] + new + text[end:]
        yield text
