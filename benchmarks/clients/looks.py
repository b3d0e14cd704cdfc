"""Looks at the branch main of a linked repository: `looks.py URL LOOKS ROUNDS` prints the CPU seconds of each round."""

import asyncio
import json
import sys
import time

from portway.host.git.remote import Remote
from portway.host.git.remote_url import read_git_url


async def main(url: str, looks: int, rounds: int) -> list[float]:
    remote = Remote(read_git_url(url), private=True)
    commit = await remote.look("main")
    if not commit:
        raise SystemExit("one request did not tell the commit")
    seconds = []
    for _ in range(rounds):
        before = time.process_time()
        for _ in range(looks):
            if await remote.look("main") != commit:
                raise SystemExit("a look told another commit")
        seconds.append(time.process_time() - before)
    return seconds


print(json.dumps(asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))))
