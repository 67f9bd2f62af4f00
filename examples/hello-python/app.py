"""Answers every request with a greeting: a wasi:http 0.2 function in Python."""

from urllib.parse import parse_qs, urlsplit

from componentize_py_types import Ok
from wit_world import exports
from wit_world.imports.types import (
    Fields,
    IncomingRequest,
    OutgoingBody,
    OutgoingResponse,
    ResponseOutparam,
)

CHUNK = 4096
"""A stream takes at most this many bytes in one blocking write (wasi:io/streams)."""


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        query = parse_qs(urlsplit(request.path_with_query() or "/").query)
        name = query.get("name", ["world"])[0]
        respond(response_out, f"Hello, {name}!\n")


def respond(response_out: ResponseOutparam, text: str) -> None:
    headers = Fields.from_list([("content-type", b"text/plain; charset=utf-8")])
    response = OutgoingResponse(headers)
    body = response.body()

    # The head goes out here; the body follows as it is written.
    ResponseOutparam.set(response_out, Ok(response))

    content = text.encode()
    with body.write() as stream:
        for start in range(0, len(content), CHUNK):
            stream.blocking_write_and_flush(content[start : start + CHUNK])
    OutgoingBody.finish(body, None)
