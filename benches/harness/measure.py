"""What every scenario does: measures a server under a load, and keeps an error in the place of a figure."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from .error import BenchError
from .load import Load, LoadGenerator, Outcome
from .process import Process
from .report import Sample

T = TypeVar("T")

MIB = 1 << 20


@dataclass(frozen=True)
class Options:
    rounds: int
    seconds: float
    connections: list[int] | None
    only: list[str] | None
    functions: int | None
    wharf: Path | None  # the program; None: peers alone
    other: Path | None = None  # the program that it is held against, in `turns`


def measure(
    sample: Sample, process: Process, load: LoadGenerator, wanted: Load, port: int | None = None
) -> None:
    """Under a load of the port that the process answers at, or of another one of it."""
    before = process.cpu_seconds()
    outcome = load.run(wanted, port or process.port)
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


def rotated(items: list[T], number: int) -> list[T]:
    start = number % len(items) if items else 0
    return items[start:] + items[:start]


def row(server: str, connections: int) -> str:
    return f"{server} c={connections}"
