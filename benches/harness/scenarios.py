"""What is measured, a function a scenario, and the bars that hold it against the promises in README.md.

Within a round every server is started, checked, loaded, checked again and stopped, one after the other; the next round
begins with another one. So what the machine does meanwhile falls on all of them, and a round's ratios hold when its
absolute figures do not.
"""

import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from . import provision, servers
from .error import BenchError
from .load import Load, LoadGenerator, Outcome
from .process import Process
from .report import Bar, Column, Rows, Sample
from .servers import FIB, HELLO, Function, Server, Wharf, Workload

WARM_UP_SECONDS = 1.0
MIB = 1 << 20

FRESH_PEERS = ("wasmtime", "wasmtime-tuned")
WASM_PEERS = (*FRESH_PEERS, "wasmtime-reuse", "envoy")


@dataclass(frozen=True)
class Options:
    rounds: int
    seconds: float
    connections: list[int] | None
    only: list[str] | None
    functions: int | None
    wharf: Path | None  # the program; None: peers alone


@dataclass(frozen=True)
class Scenario:
    name: str
    text: str
    run: Callable[[Options], Iterator[Sample]]
    columns: list[Column]
    bars: list[Bar]


# Under load: hello, latency, fib


def hello(options: Options) -> Iterator[Sample]:
    return under_load(options, HELLO, options.connections or [32])


def latency(options: Options) -> Iterator[Sample]:
    return under_load(options, HELLO, options.connections or [1, 32, 256])


def fib(options: Options) -> Iterator[Sample]:
    return under_load(options, FIB, options.connections or [8])


def under_load(options: Options, workload: Workload, connections: list[int]) -> Iterator[Sample]:
    load = LoadGenerator(provision.native("load"))
    contenders = list(choose(workload, options))
    for number in range(options.rounds):
        samples = []
        for server in rotated(contenders, number):
            samples += measured(server, load, connections, number, options.seconds)
        natives = {s.row: s.values for s in samples}
        for sample in samples:
            native = natives.get(row("native", int(sample.row.rpartition("=")[2])), {})
            for value in ("cpu", "rps"):
                if sample.values and native:
                    sample.values[f"{value}_x_native"] = sample.values[value] / native[value]
        # In one order in every round, whatever the order of the runs.
        yield from sorted(samples, key=lambda s: order_of(s, connections, contenders))


def choose(workload: Workload, options: Options) -> Iterator[Server]:
    """The servers that can do the workload, provisioned one by one."""
    makers: dict[str, Callable[[], Server]] = {
        "native": lambda: servers.native(workload),
        "wasmtime": lambda: servers.wasmtime(workload, "wasmtime", []),
        "wasmtime-tuned": lambda: servers.wasmtime(workload, "wasmtime-tuned", servers.WASMTIME_TUNED),
        "wasmtime-reuse": lambda: servers.wasmtime(workload, "wasmtime-reuse", servers.WASMTIME_REUSE),
    }
    if workload is HELLO:
        makers["workerd"] = lambda: servers.workerd(workload)
        makers["envoy"] = lambda: servers.envoy(workload)
    if program := options.wharf:
        makers["wharf-fresh"] = lambda: servers.wharf(workload, program, "fresh")
        makers["wharf-reuse"] = lambda: servers.wharf(workload, program, "reuse")
    unknown = set(options.only or []) - set(makers)
    if unknown:
        raise BenchError(f"no server is named {', '.join(sorted(unknown))}; there are {', '.join(makers)}")
    for name, make in makers.items():
        if options.only is None or name in options.only:
            yield make()


def measured(server: Server, load: LoadGenerator, connections: list[int], number: int, seconds: float) -> list[Sample]:
    """A sample for each number of connections; a server that cannot be started or loaded gives errors in their place."""
    workload = server.workload
    samples: list[Sample] = []
    try:
        with server.start_and_wait() as process:
            for count in connections:
                wanted = Load(workload.path, workload.body, count, seconds)
                load.run(Load(workload.path, workload.body, count, min(WARM_UP_SECONDS, seconds)), process.port)
                samples.append(loaded(row(server.name, count), number, process, load, wanted))
                process.check(workload.path, workload.body)
    except BenchError as error:
        samples = [s for s in samples if s.error is None]
        done = {s.row for s in samples}
        names = (row(server.name, count) for count in connections)
        samples += [Sample(name, number, {}, str(error)) for name in names if name not in done]
    return samples


def loaded(name: str, number: int, process: Process, load: LoadGenerator, wanted: Load) -> Sample:
    before = process.cpu_seconds()
    outcome = load.run(wanted, process.port)
    cpu = process.cpu_seconds() - before
    values = {
        "rps": outcome.requests / outcome.seconds,
        "cpu": cpu / outcome.requests * 10_000,
        "p50": outcome.p50_us,
        "p99": outcome.p99_us,
        "resident": process.memory().resident / MIB,
    }
    return Sample(name, number, values, trouble(outcome))


def trouble(outcome: Outcome) -> str | None:
    if outcome.errors == 0:
        return None
    return f"{outcome.errors} errors beside {outcome.requests} responses, the first: {outcome.first_error}"


# From cold: first-request, restart-1000, random-10000


def first_request(options: Options) -> Iterator[Sample]:
    """Each function's first request after the node's start, then its second; and each peer's start to its first answer."""
    load = LoadGenerator(provision.native("load"))
    count = options.functions or 200
    peers = [s for s in choose(HELLO, options) if not s.name.startswith("wharf-")]
    node = None
    if options.wharf and (options.only is None or any(name.startswith("wharf") for name in options.only)):
        node = many_functions(options.wharf, "first-request", count)
    for number in range(options.rounds):
        for server in rotated(peers, number):
            with server.start() as process:
                seconds = process.wait_until_answers(server.workload.path, server.workload.body, servers.READY_SECONDS)
            yield Sample(f"{server.name}: start to first answer", number, {"p50": seconds * 1e6})
        if node is None:
            continue
        with node.serve() as process:
            # The first is asked apart: it waits for the node's start, not for its component.
            seconds = process.wait_until_answers("/f/0", HELLO.body, servers.READY_SECONDS)
            yield Sample("wharf: start to first answer", number, {"p50": seconds * 1e6})
            once = Load("/f/{n}", HELLO.body, requests=count, targets=count, seconds=60)
            for which in ("first", "second"):
                outcome = load.run(once, process.port)
                values = {"p50": outcome.p50_us, "p99": outcome.p99_us, "max": outcome.max_us}
                yield Sample(f"wharf: {which} request", number, values, trouble(outcome))


def restart_1000(options: Options) -> Iterator[Sample]:
    """A node with many functions is stopped and started: how long until one of them, any one, answers."""
    if options.wharf is None:
        return
    count = options.functions or 1_000
    node = many_functions(options.wharf, "restart", count)
    for number in range(options.rounds):
        target = random.Random(number).randrange(count)
        with node.serve() as process:
            seconds = process.wait_until_answers(f"/f/{target}", HELLO.body, servers.READY_SECONDS)
            memory = process.memory()
        yield Sample("wharf", number, {"seconds": seconds, "resident": memory.resident / MIB})


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
            wanted = Load("/f/{n}", HELLO.body, 32, options.seconds, targets=count, random=True)
            sample = loaded("wharf c=32", number, process, load, wanted)
            memory = process.memory()
            sample.values.update(anonymous=memory.anonymous / MIB, round=number)
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
    node.deploy(HELLO.body)
    return node


# Beside a busy neighbour: neighbour

BUSY_GUESTS = 8
# A client that asks a thousand times a second: it measures the node, without being its load.
QUIET_PAUSE_US = 1_000


def neighbour(options: Options) -> Iterator[Sample]:
    """hello's latency alone, beside a native process on every core, and beside an endless loop in the same node.

    Eight looping guests on a node can burn what its worker threads are given, that is every core; so the native neighbour
    burns as many threads as there are cores.
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
    node.deploy_with_first(HELLO.body)
    quiet = Load(HELLO.path, HELLO.body, 1, options.seconds, pause_us=QUIET_PAUSE_US)
    busy = Load("/spin", None, BUSY_GUESTS, options.seconds + 30)
    for number in range(options.rounds):
        for beside in rotated(["nobody", "native", "guest"], number):
            with node.serve() as process:
                process.wait_until_answers(HELLO.path, HELLO.body, servers.READY_SECONDS)
                neighbours = {
                    "nobody": lambda: None,
                    "native": lambda: servers.burning(burn),
                    "guest": lambda: load.start(busy, process.port),
                }
    yield from ()
