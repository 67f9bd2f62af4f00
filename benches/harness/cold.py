"""From cold: `first-request`, `restart-1000` and `random-10000`.

What is cold is the node: its files may still be in the kernel's page cache, as they are on a node that restarts.
"""

import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from . import provision, servers
from .load import Load, LoadGenerator
from .measure import MIB, Options, attempt, measure, rotated, trouble
from .report import Rows, Sample
from .servers import HELLO, Function, Wharf
from .under_load import choose


def first_request(options: Options) -> Iterator[Sample]:
    """Each function's first request after the node's start, then its second; each peer's start to its first answer."""
    load = LoadGenerator(provision.native("load"))
    count = options.functions or 200
    peers = list(choose(HELLO, replace(options, wharf=None)))
    node = many_functions(options.wharf, "first-request", count) if options.wharf else None
    for number in range(options.rounds):
        for server in rotated(peers, number):
            name = f"{server.name}: start to first answer"
            with attempt(name, number) as sample, server.start() as process:
                seconds = process.wait_until_answers(server.workload.path, server.workload.body, servers.READY_SECONDS)
                sample.values["p50"] = seconds * 1e6
            yield sample
        if node is not None:
            yield from first_and_second(node, load, count, number)


def first_and_second(node: Wharf, load: LoadGenerator, count: int, number: int) -> Iterator[Sample]:
    with node.serve() as process:
        with attempt("wharf: start to first answer", number) as sample:
            # Asked apart: it waits for the node's start, not for its component.
            seconds = process.wait_until_answers("/f/0", HELLO.body, servers.READY_SECONDS)
            sample.values["p50"] = seconds * 1e6
        yield sample
        once = Load("/f/{n}", HELLO.body, requests=count, targets=count, seconds=60)
        for which in ("first", "second"):
            with attempt(f"wharf: {which} request", number) as sample:
                outcome = load.run(once, process.port)
                sample.values.update(p50=outcome.p50_us, p99=outcome.p99_us, max=outcome.max_us)
                sample.error = trouble(outcome)
            yield sample


def restart_1000(options: Options) -> Iterator[Sample]:
    """A node with many functions is stopped and started: how long until one of them, any one, answers."""
    if options.wharf is None:
        return
    count = options.functions or 1_000
    node = many_functions(options.wharf, "restart", count)
    for number in range(options.rounds):
        target = random.Random(number).randrange(count)
        with attempt("wharf", number) as sample, node.serve() as process:
            seconds = process.wait_until_answers(f"/f/{target}", HELLO.body, servers.READY_SECONDS)
            sample.values.update(seconds=seconds, resident=process.memory().resident / MIB)
        yield sample


def random_10000(options: Options) -> Iterator[Sample]:
    """Random functions out of many on one node that is never restarted: a round is a stretch of its life."""
    if options.wharf is None:
        return
    load = LoadGenerator(provision.native("load"))
    count = options.functions or 10_000
    node = many_functions(options.wharf, "random", count)
    with node.serve() as process:
        process.wait_until_answers("/f/0", HELLO.body, servers.READY_SECONDS)
        for number in range(options.rounds):
            wanted = Load("/f/{n}", HELLO.body, 32, options.seconds, targets=count, random=True, settle=True)
            with attempt("wharf c=32", number) as sample:
                measure(sample, process, load, wanted)
                sample.values["anonymous"] = process.memory().anonymous / MIB
            yield sample


def memory_growth(rows: Rows) -> float:
    """The last round's anonymous memory as a multiple of that of the round in the middle of the run."""
    values = [s.values["anonymous"] for s in rows.samples if "anonymous" in s.values]
    if len(values) < 3 or rows.failed():
        raise KeyError("wharf")
    return values[-1] / values[len(values) // 2]


def many_functions(program: Path, name: str, count: int) -> Wharf:
    """Functions f0, f1, … at /f/0, /f/1, …, each with a component of its own."""
    hello = provision.guest("hello")
    place = provision.CACHE / "components" / str(count)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    components = [provision.distinct_copy(hello, place, number) for number in range(count)]
    functions = [Function(f"f{n}", component, f"/f/{n}") for n, component in enumerate(components)]
    node = Wharf(program, f"{name}-{count}", functions)
    node.deploy(["/f/0", f"/f/{count - 1}"], HELLO.body)
    return node
