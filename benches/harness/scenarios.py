"""The scenarios: what each measures, shows and promises. README.md has the promises as a table too."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from . import asynchronous, cold, collapse, edge, invoke, neighbour, stream, under_load
from .measure import Options, row
from .report import Bar, Column, Rows, Sample

WASM_PEERS = ("wasmtime", "wasmtime-tuned", "wasmtime-reuse", "envoy")


@dataclass(frozen=True)
class Scenario:
    name: str
    text: str
    run: Callable[[Options], Iterator[Sample]]
    columns: list[Column]
    bars: list[Bar]
    # Whether it holds a program against another one, and so is run only where that is named.
    wants_other: bool = False


def cpu_ratio(wharf: str, other: str, connections: int) -> Callable[[Rows], float]:
    return lambda rows: rows.median_ratio(row(wharf, connections), row(other, connections), "cpu")


def above_native(wharf: str) -> Callable[[Rows], float]:
    return lambda rows: rows.median(row(wharf, 1), "p50") - rows.median(row("native", 1), "p50")


def p99_to_best_peer(wharf: str, connections: int) -> Callable[[Rows], float]:
    def value(rows: Rows) -> float:
        best = min(rows.median(row(peer, connections), "p99") for peer in WASM_PEERS)
        return rows.median(row(wharf, connections), "p99") / best

    return value


def edge_bars(wharf: str, size: str, cpu: float | None, p99: float | None) -> Iterator[Bar]:
    """Of Wharf to nginx, in the same rounds."""
    ours, theirs = (row(f"{name}, {size}", edge.CONNECTIONS) for name in (wharf, "nginx"))
    for value, most, word in (("cpu", cpu, "CPU"), ("p99", p99, "p99")):
        if most is not None:
            yield Bar(
                f"{wharf}, {size}: {word} to nginx", most, "×", partial(Rows.median_ratio, row=ours, other=theirs, value=value)
            )


def added(name: str, base: str) -> Callable[[Rows], float]:
    """Microseconds of processor time a request."""
    mine, without = (row(f"{each}, 1 KB", edge.CONNECTIONS) for each in (name, base))
    return lambda rows: rows.median_difference(mine, without, "cpu") * 100


def added_to_native(name: str) -> Callable[[Rows], float]:
    """In requests that a native server answers with a hello in the same run: microseconds are a machine's."""
    hello = row(f"native, {edge.HELLO.label}", edge.CONNECTIONS)
    return lambda rows: added(name, "wharf")(rows) / (rows.median(hello, "cpu") * 100)


def added_to_envoy(rows: Rows) -> float:
    base = added("envoy-hook", "envoy")(rows)
    if base <= 0:
        raise KeyError("envoy-hook")  # the noise was larger than the filter
    return added("wharf-reuse", "wharf")(rows) / base


def memory_bar(kind: str) -> Bar:
    return Bar(f"{kind}: memory above idle", 64, "MiB", lambda rows: rows.highest(f"wharf, {kind}", "above_idle"))


RATE = Column("rps", "req/s", ",.0f")
CPU = Column("cpu", "CPU s/10k", ".3f")
P50 = Column("p50", "p50 µs", ",.0f")
P99 = Column("p99", "p99 µs", ",.0f")
MAX = Column("max", "max µs", ",.0f")
RESIDENT = Column("resident", "RSS MiB", ",.0f")
ANONYMOUS = Column("anonymous", "anonymous MiB", ",.0f")
SECONDS = Column("seconds", "seconds", ".3f")

LOAD_COLUMNS = [
    RATE,
    Column("rps_x_native", "× native", ".2f"),
    CPU,
    Column("cpu_x_native", "× native", ".2f"),
    P50,
    P99,
    RESIDENT,
]

EDGE_COLUMNS = [
    RATE,
    CPU,
    Column("cpu_x_nginx", "× nginx", ".2f"),
    P50,
    Column("p50_x_nginx", "× nginx", ".2f"),
    P99,
    Column("p99_x_nginx", "× nginx", ".2f"),
    RESIDENT,
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
    Scenario("hello", "server CPU a request under load", under_load.hello, LOAD_COLUMNS, HELLO_BARS),
    Scenario(
        "fib",
        "a CPU-bound, call-heavy guest",
        under_load.fib,
        LOAD_COLUMNS,
        [Bar("fresh: CPU to wasmtime serve without limits", 1.3, "×", cpu_ratio("wharf-fresh", "wasmtime", 8))],
    ),
    Scenario("latency", "p50 and p99 at concurrency 1, 32, 256", under_load.latency, LOAD_COLUMNS, LATENCY_BARS),
    Scenario(
        "first-request",
        "the first request to a function that is not in memory; a server's start to its first answer",
        cold.first_request,
        [P50, P99, MAX],
        [Bar("first request, median", 1.5, "ms", lambda rows: rows.median("wharf: first request", "p50") / 1_000)],
    ),
    Scenario(
        "restart-1000",
        "a node with 1,000 deployed functions: start to first answer",
        cold.restart_1000,
        [SECONDS, RESIDENT],
        [Bar("restart to first answer", 1.0, "s", lambda rows: rows.median("wharf", "seconds"))],
    ),
    Scenario(
        "random-10000",
        "10,000 deployed functions asked at random",
        cold.random_10000,
        [RATE, CPU, P50, P99, RESIDENT, ANONYMOUS],
        [Bar("memory in the last round to that half-way", 1.1, "×", cold.memory_growth)],
    ),
    Scenario(
        "neighbour",
        "hello beside an endless loop in the same node, and beside a native process",
        neighbour.neighbour,
        [P50, P99],
        [
            Bar(
                "p50 beside a looping guest above that beside a native process",
                0,
                "µs",
                lambda rows: rows.median("hello beside guest", "p50") - rows.median("hello beside native", "p50"),
            )
        ],
    ),
    Scenario(
        "invoke",
        "an event function by its route and through the API, signed as AWS's clients do",
        invoke.invoke,
        [RATE, CPU, P50, P99],
        [
            Bar(
                "CPU of a signed Invoke to that of plain HTTP",
                2.0,
                "×",
                lambda rows: rows.median("signed Invoke", "cpu") / rows.median("plain HTTP", "cpu"),
            )
        ],
    ),
    Scenario(
        "async",
        "durable acceptance of events at 64 clients, beside SQLite committing the same rows; how fast they are run",
        asynchronous.asynchronous,
        [
            RATE,
            Column("rps_x_raw", "× raw", ".2f"),
            Column("drained", "run/s", ",.0f"),
            CPU,
            P50,
            P99,
        ],
        [
            Bar("10,000 a second to acceptances", 1.0, "×", lambda rows: 10_000 / rows.median("wharf", "rps")),
            Bar(
                "acceptances to events run",
                2.0,
                "×",
                lambda rows: rows.median("wharf", "rps") / rows.median("wharf", "drained"),
            ),
        ],
    ),
    Scenario(
        "cache-hit",
        "stored objects of 1 KB and 100 KB, beside nginx's proxy_cache",
        edge.cache_hit,
        EDGE_COLUMNS,
        [*edge_bars("wharf", "1 KB", 1.5, 1.5), *edge_bars("wharf", "100 KB", 1.5, 1.5)],
    ),
    Scenario(
        "pass-through",
        "1 KB that is not stored, beside nginx's proxy_pass, and with a cache that it asks",
        edge.pass_through,
        EDGE_COLUMNS,
        [*edge_bars("wharf", "1 KB", 1.5, None), *edge_bars("wharf, no cache", "1 KB", 1.5, None)],
    ),
    Scenario(
        "hook",
        "a viewer-request hook before a stored object, beside a proxy-wasm filter of Envoy's before a direct response",
        edge.hook,
        [RATE, CPU, P50, P99, RESIDENT],
        [
            Bar("reuse: CPU that the hook adds", 10, "µs", added("wharf-reuse", "wharf")),
            Bar("fresh: CPU that the hook adds", 40, "µs", added("wharf-fresh", "wharf")),
            # As 10 and 40 µs are to the 7.1 µs that the native server takes on the machine that they were set for.
            Bar("reuse: CPU that the hook adds, to a native hello", 1.41, "×", added_to_native("wharf-reuse")),
            Bar("fresh: CPU that the hook adds, to a native hello", 5.63, "×", added_to_native("wharf-fresh")),
            Bar("reuse: CPU that the hook adds, to what Envoy's filter adds", 1.0, "×", added_to_envoy),
        ],
    ),
    Scenario(
        "turns",
        "one program beside another, a slice of a second each in turn: what a change gives",
        edge.turns,
        [RATE, CPU, Column("cpu_x_other", "× other", ".3f"), P50, P99],
        [],
        wants_other=True,
    ),
    Scenario(
        "collapse",
        "1,000 clients ask for what nobody has stored, at once",
        collapse.collapse,
        [Column("asked", "asked the origin", ",.0f"), SECONDS, CPU],
        [
            Bar(f"{kind}: requests to it", 1, "", lambda rows, kind=kind: rows.highest(f"wharf, {kind}", "asked"))
            for kind in collapse.ORIGINS
        ],
    ),
    Scenario(
        "stream",
        "1 GiB to a fast client, while a slow one reads the same",
        stream.stream,
        [
            Column("rate", "MiB/s", ",.0f"),
            Column("cpu_gib", "CPU s/GiB", ".3f"),
            Column("idle", "idle MiB", ",.0f"),
            Column("above_idle", "above idle MiB", ",.1f"),
            Column("slow", "slow client's MiB", ",.0f"),
        ],
        [memory_bar(kind) for kind in stream.KINDS],
    ),
]
