"""The least possible cost: msgspec decodes and encodes a call on uvicorn with httptools and uvloop, nothing else."""

import os

import msgspec
import uvicorn


class Arguments(msgspec.Struct, frozen=True):
    city: str


class Params(msgspec.Struct, frozen=True):
    name: str
    arguments: Arguments


class Call(msgspec.Struct, frozen=True):
    id: str | int
    method: str
    params: Params


decode = msgspec.json.Decoder(Call).decode
encode = msgspec.json.encode


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    message = await receive()
    body = message["body"]
    while message["more_body"]:
        message = await receive()
        body += message["body"]
    call = decode(body)
    weather = {"city": call.params.arguments.city, "temperature_c": 21.5, "conditions": "cloudy"}
    result = {"content": [{"type": "text", "text": encode(weather).decode()}], "structuredContent": weather}
    answer = encode({"jsonrpc": "2.0", "id": call.id, "result": result})
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ["PORT"]), log_config=None, access_log=False, lifespan="off")
