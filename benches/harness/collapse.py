"""Many clients ask for what nobody has stored: `collapse`.

All of them have a connection when the first request goes out, and each sends its request before any reads its answer. The
origin counts how often it was asked.
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from . import edge, servers
from .error import BenchError
from .measure import Options, attempt, rotated
from .process import Process
from .report import Sample

CLIENTS = 1_000
BODY = b"x" * 1024
PATIENCE_SECONDS = 60.0

# For how long the origin thinks, and for how long it then writes. With none of both most clients come when the object is there.
ORIGINS = {"a fast origin": (0.0, 0.0), "a slow origin": (1.0, 1.0)}

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\ncache-control: max-age=60\r\n\r\n" % len(BODY)


class CountingOrigin:
    """Counts requests by path. A path is `/SECONDS-TO-THE-HEAD/SECONDS-TO-THE-END/…`."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                path = head.split(b" ", 2)[1].decode()
                self.asked[path] += 1
                _, think, write, *_ = path.split("/")
                await asyncio.sleep(float(think))
                writer.write(HEAD + BODY[:1])
                await writer.drain()
                await asyncio.sleep(float(write))
                writer.write(BODY[1:])
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the server has gone, or the origin goes
        finally:
            writer.close()


@contextmanager
def counting_origin() -> Iterator[tuple[CountingOrigin, int]]:
    """The origin in a thread of its own, and its port."""
    origin = CountingOrigin()
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        listener = runner.run(asyncio.start_server(origin.serve, "127.0.0.1", 0, backlog=2 * CLIENTS))
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        try:
            yield origin, listener.sockets[0].getsockname()[1]
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            listener.close()


def collapse(options: Options) -> Iterator[Sample]:
    """How often an origin is asked by a thousand clients who want the same at once."""
    with counting_origin() as (origin, port):
        starts: dict[str, Callable[[], Process]] = {}
        if edge.wants(options, "nginx"):
            starts["nginx"] = edge.nginx_cache("collapse", port)
        if options.wharf and edge.wants(options, "wharf"):
            wharf = edge.node(options.wharf, "collapse", port)
            wharf.deploy(["/0/0/ready"], BODY.decode())
            starts["wharf"] = wharf.serve
        for number in range(options.rounds):
            for name in rotated(list(starts), number):
                with starts[name]() as process:
                    process.wait_until_answers("/0/0/ready", BODY.decode(), servers.READY_SECONDS)
                    for kind, (think, write) in ORIGINS.items():
                        path = f"/{think:g}/{write:g}/{name}/{number}/{time.time_ns()}"
                        with attempt(f"{name}, {kind}", number) as sample:
                            began, before = time.perf_counter(), process.cpu_seconds()
                            asyncio.run(ask(process.port, path))
                            sample.values["seconds"] = time.perf_counter() - began
                            sample.values["cpu"] = (process.cpu_seconds() - before) / CLIENTS * 10_000
                            sample.values["asked"] = origin.asked[path]
                        yield sample


async def ask(port: int, path: str, count: int = CLIENTS) -> None:
    """Asks as so many clients. Each has to get the whole answer."""
    clients = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
    request = f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode()
    for _, writer in clients:
        writer.write(request)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            answers = await asyncio.gather(*(answer(reader) for reader, _ in clients))
    except (TimeoutError, asyncio.IncompleteReadError, ConnectionError) as error:
        raise BenchError(f"a client of {path} got no whole answer: {error!r}") from error
    finally:
        for _, writer in clients:
            writer.close()
    wrong = [head for head, body in answers if not head.startswith(b"HTTP/1.1 200 ") or body != BODY]
    if wrong:
        raise BenchError(f"{len(wrong)} of {count} clients of {path} got something else, the first {wrong[0]!r}")


async def answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Head and body of an answer. One without a length is read as one of another body."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = b"\r\ncontent-length: %d\r\n" % len(BODY)
    if length in head.lower():
        return head, await reader.readexactly(len(BODY))
    if b"\r\ntransfer-encoding: chunked\r\n" in head.lower():
        return head, await chunked(reader)
    return head, b""


async def chunked(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readuntil(b"\r\n")
    return body
