"""Do in one legacy session what the lines of standard input say: `in_one_session.py URL TOKEN KIND`.

`round`: use every feature, and print what was seen, as JSON. Where the server does not say which level and
subscriptions it knows, they follow from what it tells. `ask`: call what asks, and print `asked` when it does;
`answer`: answer it, and print the call's result.
"""

import asyncio
import contextlib
import json
import sys

import through_deploys
from through_deploys import FastMcp, Mcp1, Mcp2

URI = "test://changing"


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def update(client: Mcp1 | Mcp2, updates: asyncio.Queue[str]) -> str:
    """Return the URI of an update on the session's own stream, which the client may have to open again first."""
    for _ in range(30):
        await client.call("touch", uri=URI)
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(updates.get(), 1)
    return "none came"


async def main(url: str, token: str, kind: str) -> None:
    through_deploys.KIND = kind
    client_kind = {"mcp1": Mcp1, "mcp2": Mcp2}.get(kind, FastMcp)
    answers, updates, levels = asyncio.Event(), asyncio.Queue[str](), set[str]()
    answers.set()

    async def answer(question: str) -> dict[str, bool]:
        if not answers.is_set():
            say("asked")
        await answers.wait()
        return {"sure": True}

    async def heard(message: object) -> None:
        shown = getattr(message, "root", message)
        if getattr(shown, "method", "") == "notifications/resources/updated":
            await updates.put(str(shown.params.uri))
        elif getattr(shown, "method", "") == "notifications/message":
            levels.add(shown.params.level)

    async with client_kind.connect(url, token, answer, heard) as client:
        session = client.session if kind == "mcp1" else client.client.session
        await session.subscribe_resource(URI)
        await session.set_logging_level("error")
        calling = None
        while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
            if line == "ask":
                answers.clear()
                calling = asyncio.create_task(client.call("confirm", city="Oslo"))
            elif line == "answer":
                answers.set()
                say(await calling)
            else:
                seen = json.loads(await client.call("known"))
                seen["confirm"] = await client.call("confirm", city="Oslo")
                seen["cancelled"] = await client.cancelled()
                seen["work"] = await client.call("work")
                seen["updated"] = await update(client, updates)
                seen.setdefault("level", ", ".join(levels))
                seen.setdefault("subscribed", [seen["updated"]])
                say(json.dumps(seen))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
