"""Asynchronous invocation: `async`.

Each acceptance is a row on the disk before it is answered, so the disk sets the pace; the ceiling is SQLite committing
the same rows, as many at a time as there are clients, with nothing else to do.
"""

import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from . import provision, servers
from .error import BenchError
from .load import Load, LoadGenerator
from .measure import Options, attempt, measure
from .report import Sample
from .servers import HELLO, Function, Wharf

CONNECTIONS = 64
EVENT = json.dumps({"order": "A-1", "lines": [{"item": "book", "count": 2}], "note": "x" * 64})
DRAIN_SECONDS = 300.0
# As the node's own: what is committed is on the disk.
PRAGMAS = ["journal_mode = WAL", "synchronous = FULL"]
TABLE = """
    CREATE TABLE event (
        id INTEGER PRIMARY KEY AUTOINCREMENT, target TEXT NOT NULL, body BLOB NOT NULL, enqueued_ms INTEGER NOT NULL,
        due_ms INTEGER NOT NULL, attempt INTEGER NOT NULL, errors INTEGER NOT NULL, leased INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX event_by_target ON event (target, due_ms, leased);
"""
INSERT = "INSERT INTO event (target, body, enqueued_ms, due_ms, attempt, errors, leased) VALUES (?, ?, ?, ?, 0, 0, 0)"


def asynchronous(options: Options) -> Iterator[Sample]:
    """Raw commits, acceptances at 64 clients, and how fast a function that does nothing has had all of them."""
    if options.wharf is None:
        return
    load = LoadGenerator(provision.native("load"))
    node = Wharf(options.wharf, "async", [Function("noop", provision.guest("noop"), HELLO.path)])
    node.deploy([HELLO.path], HELLO.body)
    connections = (options.connections or [CONNECTIONS])[0]
    for number in range(options.rounds):
        provision.say(f"round {number + 1} of {options.rounds}")
        with attempt("raw SQLite", number) as raw:
            raw.values["rps"] = committed(node.data.parent, connections, options.seconds)
        yield raw
        with attempt("wharf", number) as sample, node.serve() as process:
            process.wait_until_answers(HELLO.path, HELLO.body, servers.READY_SECONDS)
            asked = time.perf_counter()
            before = run(node)
            measure(sample, process, load, invocations(node, connections, options.seconds), node.api)
            drained(sample, node, before, asked)
            if rate := raw.values.get("rps"):
                sample.values["rps_x_raw"] = sample.values["rps"] / rate
        yield sample


def invocations(node: Wharf, connections: int, seconds: float) -> Load:
    return Load(
        "/2015-03-31/functions/noop/invocations",
        "",
        connections,
        seconds,
        method="POST",
        headers=(f"authorization: Bearer {node.token}", "x-amz-invocation-type: Event"),
        send=EVENT,
        settle=True,
    )


def run(node: Wharf) -> float:
    """How many invocations of the function have ended."""
    return node.metric('wharf_requests_total{function="noop"')


def drained(sample: Sample, node: Wharf, before: float, asked: float) -> None:
    """Waits until every event was run. The rate is over all of the time, from the first acceptance on."""
    accepted = node.metric("wharf_async_events_received_total")
    deadline = time.perf_counter() + DRAIN_SECONDS
    while (done := run(node) - before) < accepted:
        if time.perf_counter() > deadline:
            raise BenchError(f"{done:.0f} of {accepted:.0f} accepted events were run in {DRAIN_SECONDS:.0f} s")
        time.sleep(0.05)
    failed = node.metric("wharf_async_events_dropped_total")
    # An event whose client had gone before it was answered is run, and was not acknowledged.
    if done < accepted or failed:
        raise BenchError(f"{accepted:.0f} events accepted, {done:.0f} invocations, {failed:.0f} dropped")
    sample.values["drained"] = done / (time.perf_counter() - asked)


def committed(folder: Path, rows: int, seconds: float) -> float:
    """Rows a second that SQLite commits, so many a transaction, to a file of its own beside the node's."""
    file = folder / "raw.db"
    for each in folder.glob("raw.db*"):
        each.unlink()
    body = json.dumps({"request_id": "00000000-0000-4000-8000-000000000000", "event": EVENT}).encode()
    connection = sqlite3.connect(file, isolation_level=None)
    try:
        for pragma in PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        connection.executescript(TABLE)
        count, started = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - started) < seconds:
            now = int(time.time() * 1000)
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(INSERT, [("noop", body, now, now)] * rows)
            connection.execute("COMMIT")
            count += rows
        return count / elapsed
    except sqlite3.Error as error:
        raise BenchError(f"raw SQLite: {error}") from error
    finally:
        connection.close()
        for each in folder.glob("raw.db*"):
            each.unlink()
