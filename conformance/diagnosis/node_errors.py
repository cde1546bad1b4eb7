"""The errors of a network's nodes, and the answer of a search for the first wrong one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

# A runtime rounds in another order than NumPy: the largest ratios of correct runtimes, measured
# on the fixture models, are below a third of this.
RATIO = 6.0
_GROWN, _SHOWN = 1.8, 4  # growth of an error that is worth a line, and the number of such nodes


@dataclass(frozen=True)
class Row:
    """One compared node."""

    node: str
    error: float  # RMS, of the sample where it is largest in noise floors
    floor: float
    sample: str
    relative: float = 0.0  # error divided by the RMS of the golden values
    growth: float = 0.0  # relative error divided by the largest of the node's inputs

    @property
    def ratio(self) -> float:
        return self.error / self.floor if self.floor else float(self.error > 0) * np.inf

    def line(self) -> str:
        return f"{self.node:46} {self.error:12.2e} {self.floor:12.2e} {self.ratio:10,.1f}"


@dataclass
class Found:
    """The answer for one network."""

    network: str
    rows: list[Row] = field(default_factory=list)
    first: str = ""  # the node, or ""
    convention: str = ""
    runs: int = 0
    changed: float = 0.0  # by which added outputs change the final ones, in noise floors
    notes: list[str] = field(default_factory=list)
    trace: list[Row] = field(default_factory=list)  # of one run of the whole network

    @property
    def start(self) -> str:
        """The first node above the noise floor in one run of the whole network, or ""."""
        return next((row.node for row in self.trace if row.ratio > RATIO), "")

    @property
    def amplifiers(self) -> list[Row]:
        """The nodes behind the start of the error that multiply it most, largest first."""
        grown = [row for row in self._behind if row.growth > _GROWN]
        return sorted(grown, key=lambda row: -row.growth)[:_SHOWN]

    @property
    def _behind(self) -> list[Row]:
        nodes = [row.node for row in self.trace]
        return self.trace[nodes.index(self.start) + 1 :] if self.start else []

    def document(self) -> dict[str, Any]:
        tables = {name: [{**asdict(r), "ratio": r.ratio} for r in rows]
                  for name, rows in (("rows", self.rows), ("trace", self.trace))}  # fmt: skip
        amplifiers = [row.node for row in self.amplifiers]
        return {**asdict(self), **tables, "start": self.start, "amplifiers": amplifiers}

    def lines(self) -> list[str]:
        if self.first:
            named = f": {self.convention}" if self.convention else ""
            head = f"{self.network}: {self.first} is the first wrong node{named}"
        else:
            head = f"{self.network}: no node is above the noise floor"
        columns = f"{'node':46} {'worst error':>12} {'noise floor':>12} {'ratio':>10}"
        found = [head, *self.notes]
        if self.rows:
            found += [columns, *(row.line() for row in self.rows)]
        if self.trace:
            found += ["", *_traced(self)]
            found.append(f"{columns} {'relative':>10} {'growth':>7}")
            for row in self.trace:
                growth = f"{row.growth:8.2f}" if row in self._behind else ""
                found.append(f"{row.line()} {row.relative:10.2e}{growth}")
        return found


def _traced(found: Found) -> Sequence[str]:
    """Where an error starts in one run of the whole network, and what multiplies it."""
    head = f"one run of the whole network, on {found.trace[0].sample}"
    if not found.start:
        return [f"{head}: no node is above the noise floor"]
    grown = ", ".join(f"{row.node} ({row.growth:.1f} times)" for row in found.amplifiers)
    return [
        f"{head}: the error starts at {found.start}",
        f"multiplied most by: {grown or 'no node'}",
    ]
