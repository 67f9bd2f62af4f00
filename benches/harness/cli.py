"""The command line: `benches/run [SCENARIO…]`."""

import argparse
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from . import edge, provision, report, under_load
from .error import BenchError
from .measure import Options
from .report import Rows
from .scenarios import SCENARIOS, Scenario

# Each scenario has some of them.
SERVERS = tuple(dict.fromkeys(under_load.SERVERS + edge.SERVERS))

RESULTS = provision.BENCHES / "results"

Number = TypeVar("Number", int, float)

# 2, misused, is argparse's.
DONE, FAILED = 0, 1


def main() -> int:
    args = arguments()
    # So that a terminated run still ends the servers that it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(FAILED))
    try:
        program = None if args.peers_only else (args.wharf or provision.wharf())
        options = Options(
            rounds=args.rounds,
            seconds=args.seconds,
            connections=args.connections,
            only=args.only,
            functions=args.functions,
            wharf=program,
            other=args.other,
        )
        failed = [scenario.name for scenario in args.scenarios if not run(scenario, options)]
    except BenchError as error:
        provision.say(f"error: {error}")
        return FAILED
    except KeyboardInterrupt:
        return FAILED
    if failed:
        provision.say(f"failed: {', '.join(failed)}")
    return FAILED if failed else DONE


def run(scenario: Scenario, options: Options) -> bool:
    """Runs a scenario and prints it; whether nothing failed. A missed bar is a result, not a failure."""
    here = report.machine()
    provision.say(f"\n{scenario.name}: {scenario.text}")
    try:
        rows = Rows(list(scenario.run(options)))
    except BenchError as error:
        # Nothing of it could be measured; the next scenario may still be.
        provision.say(f"error: {error}")
        return False
    verdicts = report.judge(rows, scenario.bars)
    print(f"\n## {scenario.name}: {scenario.text}\n\n{conditions(options, here)}\n")
    if rows.samples:
        print(report.table(rows, scenario.columns), end="\n\n")
    print(report.bars_table(verdicts), flush=True)
    file = report.save(RESULTS, scenario.name, printable(options), here, rows, verdicts)
    provision.say(f"\nsaved in {file}")
    return not rows.failed()


def conditions(options: Options, here: dict) -> str:
    """What a reader must know of a run before its figures."""
    text = f"{options.rounds} round(s) of {options.seconds:g} s on {here['cores']} × {here['cpu']}, "
    text += f"Linux {here['kernel']}, load average {here['load_average']:.1f} before"
    return text + (f"; {options.functions} functions" if options.functions else "")


def printable(options: Options) -> dict:
    return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(options).items()}


def arguments() -> argparse.Namespace:
    usage = parser()
    args = usage.parse_args()
    args.scenarios = args.scenarios or [scenario for scenario in SCENARIOS if not scenario.wants_other]
    for scenario in args.scenarios:
        if scenario.wants_other and (args.other is None or args.peers_only):
            usage.error(f"{scenario.name} holds Wharf against another program: it wants --other FILE, and no --peers-only")
    return args


def parser() -> argparse.ArgumentParser:
    scenarios = "\n".join(f"  {s.name:<14} {s.text}" for s in SCENARIOS)
    parser = argparse.ArgumentParser(
        prog="benches/run",
        description="Measures Wharf beside its peers; prints tables and writes benches/results/*.json.",
        epilog=f"scenarios (when none is named, all but those that want --other):\n{scenarios}\n\n"
        "exit status: 0 done, 1 a row failed (a missed bar is a result, not a failure), 2 misused",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scenarios", nargs="*", type=scenario, metavar="SCENARIO", help="what to measure")
    parser.add_argument("--rounds", type=positive(int), default=5, help="interleaved rounds, for medians (5)")
    parser.add_argument("--seconds", type=positive(float), default=5.0, help="seconds of load a server and round (5)")
    parser.add_argument("--connections", type=connections, metavar="N,N…", help="instead of the scenario's own")
    parser.add_argument("--functions", type=positive(int), metavar="N", help="instead of the scenario's own")
    parser.add_argument("--only", type=servers, metavar="NAME,…", help=f"these servers alone: {', '.join(SERVERS)}")
    parser.add_argument("--other", type=program, metavar="FILE", help="the program that `turns` holds Wharf's against")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--wharf", type=program, metavar="FILE", help="this program instead of building the checkout")
    which.add_argument("--peers-only", action="store_true", help="without Wharf")
    return parser


def scenario(name: str) -> Scenario:
    for scenario in SCENARIOS:
        if scenario.name == name:
            return scenario
    raise argparse.ArgumentTypeError(f"no scenario is named {name}")


def program(text: str) -> Path:
    path = Path(text).resolve()
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"{text} is not a file")
    return path


def positive(kind: type[Number]) -> Callable[[str], Number]:
    def parse(text: str) -> Number:
        value = kind(text)
        if value <= 0:
            raise argparse.ArgumentTypeError("must be above zero")
        return value

    return parse


def connections(text: str) -> list[int]:
    return [positive(int)(part) for part in text.split(",")]


def servers(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in SERVERS:
            raise argparse.ArgumentTypeError(f"no server is named {name}")
    return names
