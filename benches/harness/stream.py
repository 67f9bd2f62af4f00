"""A gibibyte through a node, with a fast and a slow client at once: `stream`.

What counts is the memory: the most that a server had resident above what it had when it was idle. The fast client takes all
of the object, which is larger than any buffer may be; the slow one reads on at its own pace until the fast one is done.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator

from . import edge, provision, servers
from .error import BenchError
from .measure import MIB, Options, attempt, rotated
from .process import Process
from .report import Sample
from .servers import Wharf

SIZE = 1 << 30
PIECE = 1 << 20
# Of the slow client: a piece of 64 KB, and how long it then waits. That is 1.3 MB a second.
SLOW_PIECE, SLOW_PAUSE = 64 << 10, 0.05
PATIENCE_SECONDS = 120.0
READY = "x" * 64

# In this order: the last one is of what the one before stored.
KINDS = ("not stored", "stored as it comes", "from the cache")


def stream(options: Options) -> Iterator[Sample]:
    """An object that is not stored, one that is stored as it comes, and the same once it is stored."""
    folder = provision.empty(provision.CACHE / "origin-stream")
    (folder / "ready").write_text(READY)
    # A file without blocks: the origin reads zeros, and no disk.
    with (folder / "public").open("wb") as file:
        file.truncate(SIZE)
    with edge.serve_origin(folder, "public") as origin:
        origin.wait_until_answers("/ready", READY, servers.READY_SECONDS)
        starts: dict[str, Callable[[], Process]] = {}
        if edge.wants(options, "nginx"):
            starts["nginx"] = edge.nginx_cache("stream", origin.port, "20g")
        if options.wharf and edge.wants(options, "wharf"):
            # An object may take an eighth of the disk tier.
            tables = edge.distribution(origin.port, {"cache": '{ max_object = "2 GB" }'})
            wharf = Wharf(options.wharf, "stream", [], tables, [*edge.ACCESS_LOG, "--cache-disk", "20 GB"])
            wharf.deploy(["/ready"], READY)
            starts["wharf"] = wharf.serve
        for number in range(options.rounds):
            for name in rotated(list(starts), number):
                with starts[name]() as process:
                    process.wait_until_answers("/ready", READY, servers.READY_SECONDS)
                    # A query of its own, as what an earlier round stored may still be there.
                    public = f"/public?{time.time_ns()}"
                    for kind, path in zip(KINDS, ("/private", public, public), strict=True):
                        provision.say(f"round {number + 1} of {options.rounds}: {name}, {kind}")
                        with attempt(f"{name}, {kind}", number) as sample:
                            run(sample, process, path)
                        yield sample


def run(sample: Sample, process: Process, path: str) -> None:
    process.reset_peak()
    idle, before, began = process.memory().resident, process.cpu_seconds(), time.perf_counter()
    done = threading.Event()
    slow = SlowClient(process.port, path, done)
    slow.start()
    try:
        fast(process.port, path)
        seconds = time.perf_counter() - began
        cpu = process.cpu_seconds() - before
    finally:
        done.set()
        slow.join(PATIENCE_SECONDS)
    if slow.error:
        raise BenchError(f"the slow client of {path}: {slow.error!r} after {slow.received} bytes")
    sample.values.update(
        seconds=seconds,
        cpu_gib=cpu,
        rate=SIZE / seconds / MIB,
        slow=slow.received / MIB,
        idle=idle / MIB,
        above_idle=(process.peak() - idle) / MIB,
    )


def fast(port: int, path: str) -> None:
    """Takes all of it as fast as it comes."""
    deadline = time.perf_counter() + PATIENCE_SECONDS
    with ask(port, path) as connection:
        buffer = bytearray(PIECE)
        received = len(body_begun(connection))
        while received < SIZE:
            if time.perf_counter() > deadline:
                raise BenchError(f"{received} bytes of {path} in {PATIENCE_SECONDS:.0f} s")
            try:
                count = connection.recv_into(buffer)
            except OSError as error:
                raise BenchError(f"{path} broke off after {received} bytes: {error!r}") from error
            if count == 0:
                raise BenchError(f"{path} ended after {received} bytes")
            received += count


class SlowClient(threading.Thread):
    """Reads a little, waits, and reads on until it is told to end."""

    def __init__(self, port: int, path: str, done: threading.Event) -> None:
        super().__init__(daemon=True)
        self._port, self._path, self._done = port, path, done
        self.received = 0
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            with ask(self._port, self._path) as connection:
                self.received = len(body_begun(connection))
                while not self._done.wait(SLOW_PAUSE):
                    piece = connection.recv(SLOW_PIECE)
                    if not piece:
                        raise BenchError("the answer ended")
                    self.received += len(piece)
        except (BenchError, OSError) as error:
            self.error = error


def ask(port: int, path: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)
    connection.sendall(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode())
    return connection


def body_begun(connection: socket.socket) -> bytes:
    """Reads the head, which has to announce all of the object, and gives what came of the body with it."""
    received = b""
    while b"\r\n\r\n" not in received:
        piece = connection.recv(SLOW_PIECE)
        if not piece:
            raise BenchError("the answer has no head")
        received += piece
    head, body = received.split(b"\r\n\r\n", 1)
    if not head.startswith(b"HTTP/1.1 200 ") or b"\r\ncontent-length: %d" % SIZE not in head.lower():
        raise BenchError(f"the answer begins with {head!r}")
    return body
