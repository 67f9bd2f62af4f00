"""Synchronous invocation through the API: `invoke`.

The same function and the same event, once over plain HTTP, as its URL takes it, and once as AWS's clients send it: signed,
to Lambda's Invoke. What lies between is what the API costs.
"""

import configparser
import datetime
import hashlib
import hmac
import json
from collections.abc import Iterator

from . import provision, servers
from .load import Load, LoadGenerator
from .measure import Options, attempt, measure
from .report import Sample
from .servers import HELLO, Function, Wharf

CONNECTIONS = 32
EVENT = json.dumps({"order": "A-1", "lines": [{"item": "book", "count": 2}]})
# What benches/guests/noop gives, as it gives it.
ANSWER = r'{"statusCode": 200, "body": "Hello, world!\n"}'
PATH = "/2015-03-31/functions/noop/invocations"


def invoke(options: Options) -> Iterator[Sample]:
    """An event function that does nothing, by its route and through the API."""
    if options.wharf is None:
        return
    load = LoadGenerator(provision.native("load"))
    node = Wharf(options.wharf, "invoke", [Function("noop", provision.guest("noop"), HELLO.path)])
    node.deploy([HELLO.path], HELLO.body)
    connections = (options.connections or [CONNECTIONS])[0]
    with node.serve() as process:
        process.wait_until_answers(HELLO.path, HELLO.body, servers.READY_SECONDS)
        for number in range(options.rounds):
            provision.say(f"round {number + 1} of {options.rounds}")
            plain = Load(HELLO.path, HELLO.body, connections, options.seconds, method="POST", send=EVENT, settle=True)
            with attempt("plain HTTP", number) as sample:
                measure(sample, process, load, plain)
            yield sample
            signed = Load(
                PATH,
                ANSWER,
                connections,
                options.seconds,
                method="POST",
                headers=tuple(f"{name}: {value}" for name, value in sign(node).items()),
                send=EVENT,
                settle=True,
            )
            with attempt("signed Invoke", number) as sample:
                measure(sample, process, load, signed, node.api)
            yield sample


def sign(node: Wharf) -> dict[str, str]:
    """The header fields of a signed Invoke (AWS Signature Version 4), good for five minutes."""
    file = configparser.ConfigParser()
    file.read(node.data / "credentials")
    user = file["default"]
    now = datetime.datetime.now(datetime.UTC)
    time, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    payload = hashlib.sha256(EVENT.encode()).hexdigest()
    headers = {"host": f"127.0.0.1:{node.api}", "x-amz-content-sha256": payload, "x-amz-date": time}
    names = ";".join(headers)
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    canonical = f"POST\n{PATH}\n\n{lines}\n{names}\n{payload}"
    scope = f"{day}/{user['region']}/lambda/aws4_request"
    to_sign = f"AWS4-HMAC-SHA256\n{time}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{user['aws_secret_access_key']}".encode()
    for part in [*scope.split("/"), to_sign]:
        key = hmac.digest(key, part.encode(), "sha256")
    credential = f"{user['aws_access_key_id']}/{scope}"
    del headers["host"]  # the load generator sends it
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={key.hex()}"
    )
    return headers
