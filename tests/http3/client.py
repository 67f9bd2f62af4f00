"""A client of HTTP/3 that has nothing in common with the server: aioquic.

    client.py SCENARIO HOST:PORT CA [ARGUMENT …]

Does what a scenario says and prints what it saw, as JSON. It trusts the certificates in the file CA.
"""

import asyncio
import hashlib
import json
import socket
import sys
import time

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.buffer import Buffer, encode_uint_var
from aioquic.h3.connection import FrameType, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import (
    ConnectionTerminated,
    StopSendingReceived,
    StreamDataReceived,
    StreamReset,
)
import pylsqpack
from cryptography.hazmat.primitives.serialization import Encoding

PATIENCE = 20

# The first of the server's unidirectional streams.
CONTROL = 3


class Answer:
    """What came on a stream."""

    def __init__(self):
        self.headers, self.trailers, self.data = None, None, bytearray()
        self.first = self.last = self.reset = self.stopped = None
        self.done, self.begun, self.stop = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @property
    def status(self):
        return self.headers and int(self.headers[":status"])

    def seen(self):
        """How it ended, shortly."""
        if self.reset is not None:
            return ["reset", self.reset]
        return self.status


class Client(QuicConnectionProtocol):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.h3, self.answers = H3Connection(self._quic), {}
        self.goaway, self.closed, self.told = None, None, None
        self.gone, self.going = asyncio.Event(), asyncio.Event()
        self.control, self.heads = b"", set()
        # aioquic takes the length that the answer to a HEAD tells for that of its content.
        check = self.h3._check_content_length
        self.h3._check_content_length = lambda stream: (
            stream.stream_id in self.heads or check(stream)
        )

    def read_control(self, data):
        """Looks for GOAWAY on the server's control stream, which aioquic passes over."""
        self.control += data
        buffer = Buffer(data=self.control)
        buffer.pull_uint_var()
        while not buffer.eof():
            kind, length = buffer.pull_uint_var(), buffer.pull_uint_var()
            payload = buffer.pull_bytes(length)
            if kind == FrameType.GOAWAY:
                self.goaway = Buffer(data=payload).pull_uint_var()
                self.going.set()

    def quic_event_received(self, event):
        if isinstance(event, StreamDataReceived) and event.stream_id == CONTROL:
            self.read_control(event.data)
        if isinstance(event, ConnectionTerminated):
            self.closed = event.error_code
            self.gone.set()
            for answer in self.answers.values():
                for wait in (answer.done, answer.begun, answer.stop):
                    wait.set()
        elif isinstance(event, StreamReset):
            answer = self.answers.setdefault(event.stream_id, Answer())
            answer.reset = event.error_code
            answer.done.set()
            answer.begun.set()
        elif isinstance(event, StopSendingReceived):
            answer = self.answers.setdefault(event.stream_id, Answer())
            answer.stopped = event.error_code
            answer.stop.set()
        for event in self.h3.handle_event(event):
            answer = self.answers.setdefault(event.stream_id, Answer())
            if isinstance(event, HeadersReceived):
                headers = {name.decode(): value.decode() for name, value in event.headers}
                if answer.headers is None:
                    answer.headers = headers
                else:
                    answer.trailers = headers
            elif isinstance(event, DataReceived):
                answer.data += event.data
            answer.first = answer.first or time.monotonic()
            answer.begun.set()
            if event.stream_ended:
                answer.last = time.monotonic()
                answer.done.set()

    def open(self):
        stream = self._quic.get_next_available_stream_id()
        # aioquic knows a stream once something was sent on it.
        self._quic.send_stream_data(stream, b"")
        return stream, self.answers.setdefault(stream, Answer())

    def ask(self, fields, body=b"", trailers=None, end=True):
        """Sends a request as it is, malformed or not."""
        stream, answer = self.open()
        if (":method", "HEAD") in fields:
            self.heads.add(stream)
        fields = [(name.encode(), value.encode()) for name, value in fields]
        nothing_more = end and not body and trailers is None
        self.h3.send_headers(stream, fields, end_stream=nothing_more)
        if body:
            self.h3.send_data(stream, body, end_stream=end and trailers is None)
        if trailers is not None:
            trailers = [(name.encode(), value.encode()) for name, value in trailers]
            self.h3.send_headers(stream, trailers, end_stream=end)
        self.transmit()
        return stream, answer

    async def answer(self, *arguments, **options):
        _, answer = self.ask(*arguments, **options)
        await within(answer.done.wait())
        if self.closed is not None:
            raise ConnectionError(self.closed)
        return answer

    async def get(self, path, *more, method="GET", host="a.example", **options):
        return await self.answer(head(path, *more, method=method, host=host), **options)

    def reset(self, stream, code=0x10C):
        """Gives a request up: H3_REQUEST_CANCELLED."""
        try:
            self._quic.reset_stream(stream, code)
        except Exception:
            pass
        try:
            self._quic.stop_stream(stream, code)
        except Exception:
            pass
        self.transmit()


def head(path, *more, method="GET", host="a.example"):
    return [
        (":method", method),
        (":scheme", "https"),
        (":authority", host),
        (":path", path),
        *more,
    ]


async def within(wait):
    return await asyncio.wait_for(wait, PATIENCE)


def to_node(name="a.example", **options):
    """A connection, for a name."""
    host, port = sys.argv[2].rsplit(":", 1)
    configuration = QuicConfiguration(
        is_client=True, alpn_protocols=["h3"], server_name=name, **options
    )
    configuration.load_verify_locations(sys.argv[3])
    return connect(host, int(port), configuration=configuration, create_protocol=Client)


def told(answer):
    return {"status": answer.status, "body": answer.data.decode(), "headers": answer.headers}


async def requests():
    """Requests of all kinds, on one connection."""
    body = bytes(range(256)) * (5 << 12)
    async with to_node() as client:
        where = await client.get("/where?q")
        echo = await client.get("/echo", method="POST", body=body)
        told_length = ("content-length", "3")
        trailers = await client.get(
            "/collect", told_length, method="POST", body=b"abc", trailers=[("x-sum", "42")]
        )
        sent = await client.get("/trailers")
        headless = await client.get("/", method="HEAD")
        empty = await client.get("/no-content")
        many = await asyncio.gather(*(client.get(f"/where?{n}") for n in range(100)))
        return {
            "where": told(where),
            "echo": [echo.status, bytes(echo.data) == body],
            "trailers": trailers.data.decode(),
            "sent": [sent.data.decode(), sent.trailers],
            "head": [headless.status, headless.headers.get("content-length"), len(headless.data)],
            "empty": [empty.status, len(empty.data)],
            "many": sum(a.data.decode().split()[0].endswith(f"?{n}") for n, a in enumerate(many)),
            "date": "date" in where.headers,
            "alt-svc": where.headers.get("alt-svc"),
        }


async def get():
    """GETs of a host and paths."""
    host, *paths = sys.argv[4:]
    async with to_node(host) as client:
        return [told(await client.get(path, host=host)) for path in paths]


async def streams():
    """Bodies that come and go piece by piece."""
    async with to_node() as client:
        # An answer whose second half comes later.
        drip = await client.get("/drip")
        # One that echoes what it got before it got the rest.
        stream, echo = client.ask(head("/echo", method="POST"), b"first ", end=False)
        while bytes(echo.data) != b"first ":
            await within(asyncio.sleep(0.01))
        client.h3.send_data(stream, b"last", end_stream=True)
        client.transmit()
        await within(echo.done.wait())
        return {"drip": round(drip.last - drip.first, 1), "echo": echo.data.decode()}


async def breaks():
    """Answers that break off or are not as long as they say."""
    async with to_node() as client:
        paths = ["/broken", "/short", "/long", "/panic"]
        broken = [(await client.get(path)).seen() for path in paths]
        return {"broken": broken, "then": (await client.get("/")).status}


async def malformed():
    """Requests that are refused, each on a connection that is of use afterwards."""
    cases = json.loads(sys.argv[4])
    seen = []
    async with to_node() as client:
        for fields in cases:
            seen.append((await client.answer(fields)).seen())
        for body, length in [(b"abc", "2"), (b"abc", "4"), (b"abc", "x")]:
            fields = head("/collect", ("content-length", length), method="POST")
            seen.append((await client.answer(fields, body=body)).seen())
        then = await client.get("/")
        return {"seen": seen, "then": then.status}


async def limits():
    """Heads that are too long, or have too much."""
    async with to_node() as client:
        # Within what may come in one frame, and over what may stand in it; then more than a frame may have.
        decoded = await client.get("/", *[(f"x-{n}", "") for n in range(240)])
        encoded = await client.get("/", ("x-long", "~" * 20_000))
        fields = await client.get("/", *[(f"x-{n}", "y") for n in range(101)])
        target = await client.get("/" + "t" * 3000)
        trailers = await client.get(
            "/collect", method="POST", body=b"abc", trailers=[("x-long", "~" * 20_000)]
        )
        then = await client.get("/")
        seen = [decoded, encoded, fields, target, trailers, then]
        return [answer.seen() for answer in seen]


async def early():
    """A large body that nobody reads."""
    async with to_node() as client:
        stream, answer = client.ask(head("/ignore-body", method="POST"), b"x" * 4_000_000)
        await within(answer.done.wait())
        await within(answer.stop.wait())
        return {"status": answer.status, "body": answer.data.decode(), "stopped": answer.stopped}


async def cancel():
    """Requests that are given up."""
    async with to_node() as client:
        waiting, _ = client.ask(head("/forever"))
        reading, answer = client.ask(head("/endless"))
        await within(answer.begun.wait())
        await asyncio.sleep(0.2)
        for stream in (waiting, reading):
            client.reset(stream)
        then = await client.get("/")
        return then.status


async def stall():
    """An answer that is not read: nothing more than it began with may come."""
    async with to_node(max_stream_data=64 * 1024) as client:
        # aioquic makes room when data is taken from the stream's buffer: it is told that there is none.
        client._quic._write_stream_limits = lambda builder, space, stream: None
        stream, answer = client.ask(head("/endless"))
        await within(answer.done.wait())
        return answer.seen()


async def flood():
    """Requests that are reset at once, again and again."""
    async with to_node() as client:
        for sent in range(2000):
            stream, _ = client.ask(head("/forever"))
            client.reset(stream)
            await asyncio.sleep(0)
            if client.gone.is_set():
                break
            if sent % 20 == 19:
                await asyncio.sleep(0.01)
        await within(client.gone.wait())
        return {"closed": client.closed, "sent": sent}


async def headless():
    """Streams that end before a request has begun, again and again."""
    async with to_node() as client:
        for sent in range(2000):
            stream, answer = client.open()
            client._quic.send_stream_data(stream, b"", end_stream=True)
            client.transmit()
            if sent % 20 == 19:
                await asyncio.sleep(0.01)
            if client.gone.is_set():
                break
        await within(client.gone.wait())
        return {"closed": client.closed, "sent": sent}


async def polite():
    """Requests that are given up now and then: nothing wrong with it."""
    async with to_node() as client:
        for _ in range(20):
            for _ in range(10):
                stream, _ = client.ask(head("/forever"))
                await asyncio.sleep(0)
                client.reset(stream)
            for _ in range(10):
                await client.get("/")
        return client.closed


async def frames():
    """Streams whose frames are wrong. How each connection ends."""
    fields = [(name.encode(), value.encode()) for name, value in head("/collect")]
    _, encoded = pylsqpack.Encoder().encode(0, fields)
    request = encode_uint_var(1) + encode_uint_var(len(encoded)) + encoded

    def frame(kind, payload, length=None):
        length = len(payload) if length is None else length
        return encode_uint_var(kind) + encode_uint_var(length) + payload

    cases = {
        "nothing": b"",
        "cut head": request[:-1],
        "cut body": request + frame(0, b"abc", 100),
        "data first": frame(0, b"abc"),
        "settings": request + frame(4, b""),
        "webtransport": encode_uint_var(0x41) + b"\0",
        "push": request + frame(5, b"\0"),
        "qpack": frame(1, b"\xff\xff\xff"),
        "http2": frame(8, b""),
        "unknown": frame(0x21, b"xyz") + request + frame(0, b"") + frame(0x40, b"x" * 70_000),
    }
    seen = {}
    for name, sent in cases.items():
        async with to_node() as client:
            stream, answer = client.open()
            client._quic.send_stream_data(stream, sent, end_stream=True)
            client.transmit()
            await within(answer.done.wait())
            await asyncio.sleep(0.05)
            seen[name] = ["closed", client.closed] if client.gone.is_set() else answer.seen()
    async with to_node() as client:
        # A head that never ends, and a control stream that says too much.
        stream, answer = client.open()
        client._quic.send_stream_data(stream, frame(1, b"\0" * 100, 1 << 40))
        client.transmit()
        await within(answer.done.wait())
        seen["endless head"] = answer.seen()
        client._quic.send_stream_data(client.h3._local_control_stream_id, frame(7, b"", 1 << 40))
        client.transmit()
        await within(client.gone.wait())
        seen["endless control"] = ["closed", client.closed]
    return seen


async def slow_head():
    """A request that is not sent whole."""
    async with to_node() as client:
        # So that the connection itself owes nothing.
        await client.get("/")
        stream, answer = client.open()
        client._quic.send_stream_data(stream, b"\x01\x20\0\0")
        client.transmit()
        await within(answer.done.wait())
        body, stalled = client.ask(
            head("/collect", ("content-length", "9"), method="POST"), b"abc", end=False
        )
        await within(stalled.done.wait())
        return [answer.seen(), stalled.status, (await client.get("/")).status]


async def idle():
    """A connection without requests. How long it was left, and how it ended."""
    async with to_node() as client:
        await client.get("/")
        since = time.monotonic()
        await within(client.gone.wait())
        return {"after": time.monotonic() - since, "goaway": client.goaway, "closed": client.closed}


async def drain():
    """A server that ends while it answers."""
    async with to_node() as client:
        _, slow = client.ask(head("/sleep"))
        await within(client.going.wait())
        _, late = client.ask(head("/"))
        await within(slow.done.wait())
        await within(late.done.wait())
        await within(client.gone.wait())
        return {
            "goaway": client.goaway,
            "slow": told(slow)["body"],
            "late": late.seen(),
            "closed": client.closed,
        }


async def cut():
    """A server that ends, and an answer that would not."""
    async with to_node() as client:
        _, answer = client.ask(head("/forever"))
        await within(client.gone.wait())
        return {"closed": client.closed, "status": answer.status}


async def names():
    """Which certificate is shown for each name, as the SHA-256 of it; or which alert."""
    shown = {}
    for name in sys.argv[4:]:
        try:
            async with to_node(name) as client:
                certificate = client._quic.tls._peer_certificate.public_bytes(Encoding.DER)
                shown[name] = hashlib.sha256(certificate).hexdigest()
        except ConnectionError:
            shown[name] = None
    return shown


async def busy():
    """Connections one above the limit."""
    async with to_node() as first:
        status = (await first.get("/")).status
        try:
            async with to_node():
                refused = False
        except ConnectionError:
            refused = True
    # The server has heard of the end.
    await asyncio.sleep(0.2)
    async with to_node() as again:
        return [status, refused, (await again.get("/")).status]


async def crowd():
    """Connections that are begun and left there, and then some that go on."""

    async def retried():
        async with to_node() as client:
            status = (await client.get("/")).status
            return [status, client._quic._retry_source_connection_id is not None]

    before = await retried()
    host, port = sys.argv[2].rsplit(":", 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        for _ in range(int(sys.argv[4])):
            configuration = QuicConfiguration(
                is_client=True, alpn_protocols=["h3"], server_name="a.example"
            )
            connection = QuicConnection(configuration=configuration)
            connection.connect((host, int(port)), now=0)
            for datagram, address in connection.datagrams_to_send(now=0):
                silent.sendto(datagram, address)
            await asyncio.sleep(0.005)
        seen = await asyncio.gather(*(retried() for _ in range(10)))
    return [before, seen]


async def early_data():
    """Whether a ticket says that early data would be taken."""
    tickets = []
    host, port = sys.argv[2].rsplit(":", 1)
    configuration = QuicConfiguration(is_client=True, alpn_protocols=["h3"], server_name="a.example")
    configuration.load_verify_locations(sys.argv[3])
    async with connect(
        host,
        int(port),
        configuration=configuration,
        create_protocol=Client,
        session_ticket_handler=tickets.append,
    ) as client:
        await client.get("/")
    return [bool(tickets), any(ticket.max_early_data_size for ticket in tickets)]


print(json.dumps(asyncio.run(globals()[sys.argv[1]]())))
