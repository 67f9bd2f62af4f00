"""What is measured, a function a scenario, and the bars that hold it against the promises in README.md.

Within a round every server is started, checked, loaded, checked again and stopped, one after the other; the next round
begins with another one. So what the machine does meanwhile falls on all of them, and a round's ratios hold when its
absolute figures do not.
"""

import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from . import provision, servers
from .error import BenchError
from .load import Load, LoadGenerator, Outcome
from .process import ENVIRONMENT, Process
from .report import Bar, Column, Rows, Sample
from .servers import FIB, HELLO, Function, Server, Wharf, Workload

T = TypeVar("T")

WARM_UP_SECONDS = 1.0
MIB = 1 << 20

WASM_PEERS = ("wasmtime", "wasmtime-tuned", "wasmtime-reuse", "envoy")


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
        samples: dict[str, Sample] = {}
        for server in rotated(contenders, number):
            provision.say(f"round {number + 1} of {options.rounds}: {server.name}")
            samples |= {s.row: s for s in measured(server, load, connections, number, options.seconds)}
        # In one order in every round, whatever the order of the runs.
        for count in connections:
            native = samples.get(row("native", count))
            for server in contenders:
                sample = samples[row(server.name, count)]
                if native and native.values and sample.values:
                    for value in ("cpu", "rps"):
                        sample.values[f"{value}_x_native"] = sample.values[value] / native.values[value]
                yield sample


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
    """A sample for each number of connections; each of them has the error when the server cannot be started."""
    samples = []
    try:
        with server.start_and_wait() as process:
            for count in connections:
                wanted = Load(server.workload.path, server.workload.body, count, seconds)
                with attempt(row(server.name, count), number) as sample:
                    load.run(replace(wanted, seconds=min(WARM_UP_SECONDS, seconds)), process.port)
                    measure(sample, process, load, wanted)
                    process.check(server.workload.path, server.workload.body)
                samples.append(sample)
    except BenchError as error:
        samples = [Sample(row(server.name, count), number, error=str(error)) for count in connections]
    return samples


def measure(sample: Sample, process: Process, load: LoadGenerator, wanted: Load) -> None:
    before = process.cpu_seconds()
    outcome = load.run(wanted, process.port)
    cpu = process.cpu_seconds() - before
    sample.values.update(
        rps=outcome.requests / outcome.seconds,
        cpu=cpu / outcome.requests * 10_000,
        p50=outcome.p50_us,
        p99=outcome.p99_us,
        resident=process.memory().resident / MIB,
    )
    sample.error = trouble(outcome)


@contextmanager
def attempt(name: str, number: int) -> Iterator[Sample]:
    """A sample to fill in. What goes wrong meanwhile is its error, and the run goes on."""
    sample = Sample(name, number)
    try:
        yield sample
    except BenchError as error:
        sample.error = str(error)


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
            wanted = Load("/f/{n}", HELLO.body, 32, options.seconds, targets=count, random=True)
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


# Beside a busy neighbour: neighbour

BUSY_GUESTS = 8
# A client that asks a thousand times a second: it measures the node, without being its load.
QUIET_PAUSE_US = 1_000
# By then the neighbour is at full load.
NEIGHBOUR_LEAD_SECONDS = 0.5


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


def rotated(items: list[T], number: int) -> list[T]:
    start = number % len(items) if items else 0
    return items[start:] + items[:start]


def row(server: str, connections: int) -> str:
    return f"{server} c={connections}"


# The promises. README.md has them as a table too.


def cpu_ratio(wharf: str, other: str, connections: int) -> Callable[[Rows], float]:
    return lambda rows: rows.median_ratio(row(wharf, connections), row(other, connections), "cpu")


def above_native(wharf: str) -> Callable[[Rows], float]:
    return lambda rows: rows.median(row(wharf, 1), "p50") - rows.median(row("native", 1), "p50")


def p99_to_best_peer(wharf: str, connections: int) -> Callable[[Rows], float]:
    def value(rows: Rows) -> float:
        best = min(rows.median(row(peer, connections), "p99") for peer in WASM_PEERS)
        return rows.median(row(wharf, connections), "p99") / best

    return value


LOAD_COLUMNS = [
    Column("rps", "req/s", ",.0f"),
    Column("rps_x_native", "× native", ".2f"),
    Column("cpu", "CPU s/10k", ".3f"),
    Column("cpu_x_native", "× native", ".2f"),
    Column("p50", "p50 µs", ",.0f"),
    Column("p99", "p99 µs", ",.0f"),
    Column("resident", "RSS MiB", ",.0f"),
]

HELLO_BARS = [
    Bar("fresh: CPU to native", 4.5, "×", cpu_ratio("wharf-fresh", "native", 32)),
    Bar("fresh: CPU to wasmtime serve", 0.25, "×", cpu_ratio("wharf-fresh", "wasmtime", 32)),
    Bar("fresh: CPU to wasmtime serve, tuned", 0.5, "×", cpu_ratio("wharf-fresh", "wasmtime-tuned", 32)),
    Bar("reuse: CPU to native", 2.5, "×", cpu_ratio("wharf-reuse", "native", 32)),
    Bar("reuse: CPU to wasmtime serve, reusing", 1.0, "×", cpu_ratio("wharf-reuse", "wasmtime-reuse", 32)),
    Bar("reuse: CPU to workerd", 1.0, "×", cpu_ratio("wharf-reuse", "workerd", 32)),
    Bar("reuse: CPU to Envoy with a filter", 1.0, "×", cpu_ratio("wharf-reuse", "envoy", 32)),
]

LATENCY_BARS = [
    Bar("fresh: p50 above native, c=1", 40, "µs", above_native("wharf-fresh")),
    Bar("reuse: p50 above native, c=1", 15, "µs", above_native("wharf-reuse")),
    *(
        Bar(f"{kind}: p99 to the best wasm peer, c={count}", 1.0, "×", p99_to_best_peer(f"wharf-{kind}", count))
        for kind in ("fresh", "reuse")
        for count in (32, 256)
    ),
]

SCENARIOS = [
    Scenario("hello", "server CPU a request under load", hello, LOAD_COLUMNS, HELLO_BARS),
    Scenario(
        "fib",
        "a CPU-bound, call-heavy guest",
        fib,
        LOAD_COLUMNS,
        [Bar("fresh: CPU to wasmtime serve without limits", 1.3, "×", cpu_ratio("wharf-fresh", "wasmtime", 8))],
    ),
    Scenario("latency", "p50 and p99 at concurrency 1, 32, 256", latency, LOAD_COLUMNS, LATENCY_BARS),
    Scenario(
        "first-request",
        "the first request to a function that is not in memory; a server's start to its first answer",
        first_request,
        [Column("p50", "p50 µs", ",.0f"), Column("p99", "p99 µs", ",.0f"), Column("max", "max µs", ",.0f")],
        [Bar("first request, median", 1.5, "ms", lambda rows: rows.median("wharf: first request", "p50") / 1_000)],
    ),
    Scenario(
        "restart-1000",
        "a node with 1,000 deployed functions: start to first answer",
        restart_1000,
        [Column("seconds", "seconds", ".3f"), Column("resident", "RSS MiB", ",.0f")],
        [Bar("restart to first answer", 1.0, "s", lambda rows: rows.median("wharf", "seconds"))],
    ),
    Scenario(
        "random-10000",
        "10,000 deployed functions asked at random",
        random_10000,
        [*LOAD_COLUMNS[:1], *LOAD_COLUMNS[2:3], *LOAD_COLUMNS[4:], Column("anonymous", "anonymous MiB", ",.0f")],
        [Bar("memory in the last round to that half-way", 1.1, "×", memory_growth)],
    ),
    Scenario(
        "neighbour",
        "hello beside an endless loop in the same node, and beside a native process",
        neighbour,
        LOAD_COLUMNS[4:6],
        [
            Bar(
                "p50 beside a looping guest above that beside a native process",
                0,
                "µs",
                lambda rows: rows.median("hello beside guest", "p50") - rows.median("hello beside native", "p50"),
            )
        ],
    ),
]
