"""Under load: `hello`, `latency` and `fib`.

Within a round every server is started, checked, loaded, checked again and stopped, one after the other; the next round
begins with another one. So what the machine does meanwhile falls on all of them, and a round's ratios hold when its
absolute figures do not.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

from . import provision, servers
from .error import BenchError
from .load import Load, LoadGenerator
from .measure import Options, attempt, measure, rotated, row
from .report import Sample
from .servers import FIB, HELLO, Server, Workload

WARM_UP_SECONDS = 1.0

SERVERS = (
    "native",
    "wasmtime",
    "wasmtime-tuned",
    "wasmtime-reuse",
    "workerd",
    "envoy",
    "wharf-fresh",
    "wharf-reuse",
)


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
    for name, make in makers.items():
        if options.only is None or name in options.only:
            yield make()


def measured(server: Server, load: LoadGenerator, connections: list[int], number: int, seconds: float) -> list[Sample]:
    """A sample for each number of connections; each of them has the error when the server cannot be started."""
    samples = []
    try:
        with server.start_and_wait() as process:
            for count in connections:
                wanted = Load(server.workload.path, server.workload.body, count, seconds, settle=True)
                with attempt(row(server.name, count), number) as sample:
                    load.run(replace(wanted, seconds=min(WARM_UP_SECONDS, seconds)), process.port)
                    measure(sample, process, load, wanted)
                    process.check(server.workload.path, server.workload.body)
                samples.append(sample)
    except BenchError as error:
        samples = [Sample(row(server.name, count), number, error=str(error)) for count in connections]
    return samples
