"""Talks to a WebSocket through a node, and tells what it saw.

websocket.py URL HOST PORT [CA]
"""

import asyncio
import json
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus


async def main(url, host, port, ca=None):
    options = {"host": host, "port": int(port), "subprotocols": ["chat.v1", "chat.v2"], "max_size": None}
    if ca:
        options["ssl"] = ssl.create_default_context(cafile=ca)
    seen = {}
    try:
        async with connect(url, **options) as socket:
            seen["hello"] = json.loads(await socket.recv())
            seen["subprotocol"] = socket.subprotocol
            seen["request_id"] = "x-request-id" in socket.response.headers
            large = bytes(range(256)) * 4096 * 4
            await socket.send(large)
            seen["large"] = await socket.recv() == large
            waiting = [await socket.ping() for _ in range(3)]
            await asyncio.gather(*waiting)
            for number in range(200):
                await socket.send(str(number))
            seen["order"] = [await socket.recv() for _ in range(200)] == [str(number) for number in range(200)]
            await socket.send("close")
            try:
                await socket.recv()
            except ConnectionClosed as closed:
                seen["closed"] = [closed.rcvd.code, closed.rcvd.reason]
        async with connect(url, **options) as socket:
            await socket.recv()
            await socket.send("break")
            try:
                await socket.recv()
            except ConnectionClosed as closed:
                seen["broken"] = closed.rcvd is None
    except InvalidStatus as refused:
        seen["status"] = refused.response.status_code
        seen["body"] = refused.response.body.decode()
    print(json.dumps(seen))


asyncio.run(main(*sys.argv[1:]))
