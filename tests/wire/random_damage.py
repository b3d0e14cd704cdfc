"""Random damage to what is well-formed, the same in every run: cheap enough for many thousands, and it reaches deep."""

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
    """`count` of the seeds, each with one to four pieces cut out, doubled, or replaced."""
    dice = random.Random(len(seeds))
    for _ in range(count):
        text = dice.choice(seeds)
        for _ in range(dice.randint(1, 4)):
            start = dice.randint(0, len(text))
            end = min(len(text), start + dice.choice((0, 1, 1, 5, 40)))
            new = dice.choice(
                (b"", dice.choice(TOKENS), dice.randbytes(1), text[start:end] * 2, dice.choice(seeds)[start:])
            )
            text = text[:start] + new + text[end:]
        yield text
