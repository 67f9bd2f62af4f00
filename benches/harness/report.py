"""Samples in, medians out: tables to read, bars to hold them against, JSON to keep."""

import json
import os
import platform
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path


@dataclass
class Sample:
    """One row in one round: measured values by name, and what was wrong with them, if anything."""

    row: str
    round: int
    values: dict[str, float] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class Column:
    """A value's name, how it is headed and how it is printed."""

    value: str
    heading: str
    form: str


@dataclass(frozen=True)
class Bar:
    """A promise: `value` of the rows, in `unit`, is at most `limit`."""

    text: str
    limit: float
    unit: str
    value: Callable[["Rows"], float]


@dataclass(frozen=True)
class Verdict:
    text: str
    limit: float
    unit: str
    reached: float | None  # None: a row that it needs was not measured, or failed

    @property
    def word(self) -> str:
        if self.reached is None:
            return "not measured"
        return "holds" if self.reached <= self.limit else "MISSED"


class Rows:
    """The samples of a scenario, by row."""

    def __init__(self, samples: list[Sample]) -> None:
        self.samples = samples
        self.names = list(dict.fromkeys(sample.row for sample in samples))

    def errors(self, row: str) -> list[str]:
        return [f"round {s.round + 1}: {s.error}" for s in self.samples if s.row == row and s.error]

    def failed(self) -> bool:
        return any(sample.error for sample in self.samples)

    def median(self, row: str, value: str) -> float:
        """Raises KeyError for a row that was not measured, and for one with an error: its figures mean nothing."""
        values = [s.values[value] for s in self.samples if s.row == row and value in s.values]
        if not values or self.errors(row):
            raise KeyError(row)
        return statistics.median(values)

    def highest(self, row: str, value: str) -> float:
        """For promises that hold in every round. Raises as `median` does."""
        self.median(row, value)
        return max(s.values[value] for s in self.samples if s.row == row and value in s.values)

    def median_ratio(self, row: str, other: str, value: str) -> float:
        """The median of the rounds' own ratios: what changes from round to round cancels out."""
        ratios = [mine / theirs for mine, theirs in self._pairs(row, other, value) if theirs]
        if not ratios:
            raise KeyError(row)
        return statistics.median(ratios)

    def median_difference(self, row: str, other: str, value: str) -> float:
        """Likewise of the rounds' own differences."""
        return statistics.median(mine - theirs for mine, theirs in self._pairs(row, other, value))

    def _pairs(self, row: str, other: str, value: str) -> list[tuple[float, float]]:
        """The values of both in each round that has both. Raises as `median` does."""
        if self.errors(row) or self.errors(other):
            raise KeyError(row)
        others = {s.round: s.values[value] for s in self.samples if s.row == other and value in s.values}
        pairs = [
            (s.values[value], others[s.round])
            for s in self.samples
            if s.row == row and value in s.values and s.round in others
        ]
        if not pairs:
            raise KeyError(row)
        return pairs


def judge(rows: Rows, bars: list[Bar]) -> list[Verdict]:
    verdicts = []
    for bar in bars:
        try:
            reached = bar.value(rows)
        except KeyError:
            reached = None
        verdicts.append(Verdict(bar.text, bar.limit, bar.unit, reached))
    return verdicts


def table(rows: Rows, columns: list[Column]) -> str:
    lines = [["", *(column.heading for column in columns)]]
    for row in rows.names:
        lines.append([row, *(cell(rows, row, column) for column in columns)])
    text = aligned(lines)
    for row in rows.names:
        if errors := rows.errors(row):
            text += f"\n  {row} FAILED {len(errors)} time(s), first in {errors[0]}"
    return text


def cell(rows: Rows, row: str, column: Column) -> str:
    try:
        return format(rows.median(row, column.value), column.form)
    except KeyError:
        return "failed" if rows.errors(row) else "-"


def bars_table(verdicts: list[Verdict]) -> str:
    lines = [["bar", "at most", "reached", ""]]
    for verdict in verdicts:
        reached = "-" if verdict.reached is None else f"{verdict.reached:.2f} {verdict.unit}"
        lines.append([verdict.text, f"{verdict.limit:g} {verdict.unit}", reached, verdict.word])
    return aligned(lines)


def aligned(lines: list[list[str]]) -> str:
    """A Markdown table, so that it can be pasted; the first column to the left, figures to the right."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    texts = []
    for line in lines:
        cells = [line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]
        texts.append("| " + " | ".join(cells) + " |")
    rule = "| " + " | ".join(["-" * widths[0], *("-" * (w - 1) + ":" for w in widths[1:] if w)])
    rule += " |" + (" --- |" if widths[-1] == 0 else "")
    return "\n".join([texts[0], rule, *texts[1:]])


def save(folder: Path, scenario: str, options: dict, here: dict, rows: Rows, verdicts: list[Verdict]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{datetime.now():%Y%m%d-%H%M%S}-{scenario}.json"
    document = {
        "scenario": scenario,
        "options": options,
        "machine": here,
        "samples": [asdict(sample) for sample in rows.samples],
        "bars": [{**asdict(verdict), "verdict": verdict.word} for verdict in verdicts],
    }
    file.write_text(json.dumps(document, indent=1) + "\n")
    return file


def machine() -> dict:
    """Where it runs, and the load that is on it now."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "load_average": os.getloadavg()[0],
    }
