"""An origin that speaks WebSocket and gRPC, each on a port of its own. It says which, and serves until its standard input ends."""

import asyncio
import json
import sys
from http import HTTPStatus

import grpc
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


async def talk(socket):
    """Says what it was asked with, then echoes; told to, it closes or breaks off."""
    head = socket.request
    await socket.send(json.dumps({
        "path": head.path,
        "host": head.headers["host"],
        "forwarded_for": head.headers.get("x-forwarded-for"),
        "hook": head.headers.get("x-variant"),
        "loop": head.headers.get("cdn-loop") is not None,
        "subprotocol": socket.subprotocol,
    }))
    try:
        async for message in socket:
            if message == "close":
                await socket.close(4001, "as you wish")
            elif message == "break":
                socket.transport.abort()
            else:
                await socket.send(message)
    except ConnectionClosed:
        pass


def decide(connection, request):
    if request.path.startswith("/closed"):
        return connection.respond(HTTPStatus.FORBIDDEN, "members only\n")
    return None


class Calls(grpc.GenericRpcHandler):
    """`/calls/Echo` answers what it gets with initial and trailing metadata, `/calls/Chat` a stream with a stream, `/calls/Fail`
    with a status."""

    def service(self, call):
        return {
            "/calls/Echo": grpc.unary_unary_rpc_method_handler(self.echo),
            "/calls/Chat": grpc.stream_stream_rpc_method_handler(self.chat),
            "/calls/Fail": grpc.unary_unary_rpc_method_handler(self.fail),
        }.get(call.method)

    async def echo(self, request, context):
        await context.send_initial_metadata([("x-initial", "early")])
        context.set_trailing_metadata([("x-trailing", "late"), ("x-bytes-bin", bytes([0, 255]))])
        return request

    async def chat(self, requests, context):
        async for request in requests:
            yield request.upper()

    async def fail(self, request, context):
        context.set_trailing_metadata([("x-trailing", "late")])
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no more of it: 100 %")


async def main():
    calls = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    calls.add_generic_rpc_handlers([Calls()])
    calls_port = calls.add_insecure_port("127.0.0.1:0")
    await calls.start()
    options = {"subprotocols": ["chat.v2"], "process_request": decide, "max_size": None}
    async with serve(talk, "127.0.0.1", 0, **options) as sockets:
        port = sockets.sockets[0].getsockname()[1]
        print(json.dumps({"websocket": port, "grpc": calls_port}), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await calls.stop(None)


asyncio.run(main())
