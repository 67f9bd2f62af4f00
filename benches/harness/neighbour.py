"""Beside a busy neighbour: `neighbour`."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from . import provision, servers
from .error import BenchError
from .load import Load, LoadGenerator
from .measure import Options, attempt, measure, rotated
from .process import ENVIRONMENT
from .report import Sample
from .servers import HELLO, Function, Wharf

BUSY_GUESTS = 8
# A client that asks a thousand times a second: it measures the node, without being its load.
QUIET_PAUSE_US = 1_000
# By then the neighbour is at full load.
NEIGHBOUR_LEAD_SECONDS = 0.5


def neighbour(options: Options) -> Iterator[Sample]:
    """hello's latency alone, beside a native process on every core, and beside an endless loop in the same node.

    Eight looping guests on a node can burn what its worker threads are given, that is every core; so the native
    neighbour burns as many threads as there are cores.
    """
    if options.wharf is None:
        return
    load = LoadGenerator(provision.native("load"))
    burn = provision.native("burn")
    functions = [
        Function("hello", provision.guest("hello"), "/hello"),
        Function("spin", provision.guest("spin"), "/spin"),
    ]
    node = Wharf(options.wharf, "neighbour", functions)
    node.deploy([HELLO.path], HELLO.body)
    quiet = Load(HELLO.path, HELLO.body, 1, options.seconds, pause_us=QUIET_PAUSE_US)
    busy = Load("/spin", None, BUSY_GUESTS, options.seconds + 30)
    for number in range(options.rounds):
        for kind in rotated(["nobody", "native", "guest"], number):
            with attempt(f"hello beside {kind}", number) as sample, node.serve() as process:
                process.wait_until_answers(HELLO.path, HELLO.body, servers.READY_SECONDS)
                neighbours = {
                    "nobody": [],
                    "native": [str(burn), str(os.cpu_count())],
                    "guest": load.argv(busy, process.port),
                }
                with beside(neighbours[kind]):
                    measure(sample, process, load, quiet)
            yield sample


@contextmanager
def beside(argv: list[str]) -> Iterator[None]:
    """Runs a program while the block runs; an empty command is nobody."""
    if not argv:
        yield
        return
    with subprocess.Popen(argv, env=ENVIRONMENT, stdout=subprocess.DEVNULL) as program:
        try:
            time.sleep(NEIGHBOUR_LEAD_SECONDS)
            yield
            if program.poll() is not None:
                raise BenchError(f"{argv[0]} ended early with {program.returncode}")
        finally:
            program.kill()
