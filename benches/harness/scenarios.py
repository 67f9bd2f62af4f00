"""The scenarios: what each measures, shows and promises. README.md has the promises as a table too."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from . import asynchronous, cold, invoke, neighbour, under_load
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


def cpu_ratio(wharf: str, other: str, connections: int) -> Callable[[Rows], float]:
    return lambda rows: rows.median_ratio(row(wharf, connections), row(other, connections), "cpu")


def above_native(wharf: str) -> Callable[[Rows], float]:
    return lambda rows: rows.median(row(wharf, 1), "p50") - rows.median(row("native", 1), "p50")


def p99_to_best_peer(wharf: str, connections: int) -> Callable[[Rows], float]:
    def value(rows: Rows) -> float:
        best = min(rows.median(row(peer, connections), "p99") for peer in WASM_PEERS)
        return rows.median(row(wharf, connections), "p99") / best

    return value


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
]
