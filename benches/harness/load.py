"""Runs the load generator, `native/src/bin/load.rs`, and reads what it prints."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .error import BenchError
from .process import ENVIRONMENT


@dataclass(frozen=True)
class Load:
    """What is asked of a server: the load generator's flags."""

    path: str
    body: str | None = None  # None: any status and body will do
    connections: int = 1
    seconds: float = 5.0
    requests: int | None = None
    targets: int = 1
    random: bool = False
    pause_us: int = 0
    method: str = "GET"
    headers: tuple[str, ...] = ()
    send: str = ""  # the body of each request
    settle: bool = False  # every connection has been answered once when the clock starts

    def argv(self, program: Path, port: int) -> list[str]:
        argv = [str(program), f"127.0.0.1:{port}", "--path", self.path]
        argv += ["--connections", str(self.connections), "--seconds", str(self.seconds)]
        argv += ["--targets", str(self.targets), "--order", "random" if self.random else "sequence"]
        argv += ["--any"] if self.body is None else ["--body", self.body]
        argv += ["--requests", str(self.requests)] if self.requests is not None else []
        argv += ["--pause", str(self.pause_us)] if self.pause_us else []
        argv += ["--method", self.method, *(part for header in self.headers for part in ("--header", header))]
        argv += ["--send", self.send] if self.send else []
        argv += ["--settle"] if self.settle else []
        return argv


@dataclass(frozen=True)
class Outcome:
    """What came back, as the load generator counted it."""

    requests: int
    seconds: float
    p50_us: float
    p99_us: float
    max_us: float
    errors: int
    statuses: dict[str, int]
    first_error: str | None


class LoadGenerator:
    def __init__(self, program: Path) -> None:
        self._program = program

    def argv(self, load: Load, port: int) -> list[str]:
        return load.argv(self._program, port)

    def run(self, load: Load, port: int) -> Outcome:
        done = subprocess.run(
            self.argv(load, port), env=ENVIRONMENT, capture_output=True, text=True, timeout=load.seconds + 60
        )
        if done.returncode != 0:
            raise BenchError(f"the load generator failed: {done.stderr.strip()}")
        return outcome(json.loads(done.stdout))


def outcome(printed: dict) -> Outcome:
    errors = sum(printed["errors"].values())
    if printed["requests"] == 0:
        raise BenchError(f"no request succeeded: {printed['errors']}, the first: {printed['first_error']}")
    return Outcome(
        requests=printed["requests"],
        seconds=printed["seconds"],
        p50_us=printed["p50_us"],
        p99_us=printed["p99_us"],
        max_us=printed["max_us"],
        errors=errors,
        statuses=printed["statuses"],
        first_error=printed["first_error"],
    )
