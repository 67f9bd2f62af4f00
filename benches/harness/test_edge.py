"""Run with `python3 -m unittest discover -s benches -t benches`."""

import asyncio
import socket
import tomllib
import unittest

from . import collapse, stream
from .edge import distribution, text
from .error import BenchError


class Collapse(unittest.TestCase):
    def test_the_origin_counts_every_request_that_reaches_it(self) -> None:
        # Without a cache between them, each client is one request.
        with collapse.counting_origin() as (origin, port):
            asyncio.run(collapse.ask(port, "/0/0/one", 5))
            asyncio.run(collapse.ask(port, "/0/0.1/other", 2))
        self.assertEqual(origin.asked, {"/0/0/one": 5, "/0/0.1/other": 2})

    def test_a_client_without_the_whole_answer_fails_the_run(self) -> None:
        for answer in [b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n", collapse.HEAD + b"short"]:
            with self.assertRaises(BenchError):
                asyncio.run(asked_of(answer))

    def test_a_chunked_answer_is_read_to_its_end(self) -> None:
        head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        asyncio.run(asked_of(head + b"400\r\n" + collapse.BODY + b"\r\n0\r\n\r\n"))


async def asked_of(answer: bytes) -> None:
    """Asks a server that gives this answer and closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        await collapse.ask(server.sockets[0].getsockname()[1], "/", 1)


class Stream(unittest.TestCase):
    def begun(self, head: bytes) -> bytes:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(head)
            theirs.shutdown(socket.SHUT_WR)
            return stream.body_begun(ours)

    def test_what_comes_with_the_head_is_of_the_body(self) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % stream.SIZE
        self.assertEqual(self.begun(head + b"abc"), b"abc")

    def test_an_answer_that_does_not_announce_all_of_it_is_an_error(self) -> None:
        for head in [b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", b"HTTP/1.1 502 Bad Gateway\r\n\r\n", b""]:
            with self.assertRaises(BenchError):
                self.begun(head)


class Edge(unittest.TestCase):
    def test_an_object_has_the_size_that_it_is_named_for(self) -> None:
        self.assertEqual(len(text(1 << 10)), 1 << 10)

    def test_a_distribution_is_toml(self) -> None:
        site = tomllib.loads(distribution(8000, {"cache": "false"}))["distributions"]["site"]
        self.assertEqual(site["default"], {"origin": "main", "cache": False})
        self.assertEqual(site["origins"]["main"]["servers"], ["http://127.0.0.1:8000"])


if __name__ == "__main__":
    unittest.main()
