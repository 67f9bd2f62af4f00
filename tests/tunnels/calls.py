"""Calls gRPC methods through a node, and tells what it saw.

calls.py HOST ADDRESS
"""

import asyncio
import json
import sys

import grpc


async def main(host, address):
    options = [("grpc.default_authority", host)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        echo = channel.unary_unary("/calls/Echo")(b"\x00 hello \xff", timeout=20)
        seen = {
            "echo": (await echo).hex(),
            "initial": dict(await echo.initial_metadata()).get("x-initial"),
            "trailing": {
                name: value.hex() if isinstance(value, bytes) else value
                for name, value in await echo.trailing_metadata()
            },
        }
        large = b"x" * 3_000_000
        seen["large"] = await channel.unary_unary("/calls/Echo")(large, timeout=20) == large
        # One answer must be there before the next question is asked.
        chat = channel.stream_stream("/calls/Chat")(timeout=20)
        seen["chat"] = []
        for word in [b"one", b"two", b"three"]:
            await chat.write(word)
            seen["chat"].append((await chat.read()).decode())
        await chat.done_writing()
        seen["end"] = await chat.read() is grpc.aio.EOF
        for method in ["Fail", "None"]:
            try:
                await channel.unary_unary(f"/calls/{method}")(b"", timeout=20)
            except grpc.aio.AioRpcError as error:
                seen[method] = [error.code().name, error.details(), dict(error.trailing_metadata()).get("x-trailing")]
        many = [channel.unary_unary("/calls/Echo")(str(n).encode(), timeout=20) for n in range(100)]
        seen["many"] = [await call for call in many] == [str(n).encode() for n in range(100)]
    print(json.dumps(seen))


asyncio.run(main(*sys.argv[1:]))
