"""Several runs as one table: a row for each requirement, a column for each backend of a run."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from conformance.contract.reader import pipeline_order
from conformance.judging.compare import of_limit
from conformance.judging.records import backend_of
from conformance.report.documents import Json, Run
from conformance.report.verdicts import ORDER, RED


@dataclass(frozen=True)
class Column:
    """The subjects of one run that have the same backend."""

    title: str
    backend: str
    run: Run
    subjects: tuple[str, ...]

    def entries(self, requirement: str) -> dict[str, Json]:
        """What the run states about a requirement, by subject."""
        results = self.run.document["results"]
        return {s: results[s][requirement] for s in self.subjects if requirement in results[s]}

    def verdict(self, requirement: str) -> str | None:
        """The worst of the subjects; None if none was judged."""
        found = {entry["verdict"] for entry in self.entries(requirement).values()}
        return next((verdict for verdict in ORDER if verdict in found), None)

    @property
    def level(self) -> Json | None:
        """The conformance level, if the run states it."""
        found: Json | None = self.run.document["levels"].get(self.backend)
        return found

    def command(self, requirement: str) -> str:
        """The command that judges a requirement again."""
        words = ["python", "-m", "conformance", "run", "--requirement", requirement]
        return shlex.join(words + ["--backend", self.backend] * (self.backend != "shared"))


@dataclass(frozen=True)
class Table:
    """The columns of several runs, and the requirements of any of them in pipeline order."""

    columns: tuple[Column, ...]
    requirements: tuple[str, ...]

    def contract(self, requirement: str) -> Json:
        """The entry of a requirement that states its level and law."""
        return next(e for column in self.columns for e in column.entries(requirement).values())

    def red(self) -> Iterator[tuple[str, Column, str]]:
        """Requirement, column and verdict of each cell that fails its run."""
        for requirement in self.requirements:
            for column in self.columns:
                verdict = column.verdict(requirement)
                if verdict in RED:
                    yield requirement, column, verdict

    def counts(self, column: Column) -> dict[str, int]:
        """The number of requirements by verdict, from worst to best."""
        found = [column.verdict(requirement) for requirement in self.requirements]
        return {verdict: found.count(verdict) for verdict in ORDER if verdict in found}


def merge(runs: list[Run]) -> Table:
    """The table of runs; a backend that several runs judged has a column of each."""
    groups = [(run, backend, own) for run in runs for backend, own in _by_backend(run)]
    backends = [backend for _, backend, _ in groups]
    columns = [
        Column(
            f"{backend} ({run.name})" if backends.count(backend) > 1 else backend, backend, run, own
        )
        for run, backend, own in groups
    ]
    names = {
        name for run in runs for entries in run.document["results"].values() for name in entries
    }
    return Table(tuple(columns), tuple(sorted(names, key=pipeline_order)))


def _by_backend(run: Run) -> Iterator[tuple[str, tuple[str, ...]]]:
    groups: dict[str, list[str]] = {}
    subjects = {*run.document["results"], *run.document["backends"]}
    for subject in run.document["results"]:
        groups.setdefault(backend_of(subject, subjects), []).append(subject)
    for backend in sorted(groups, key=lambda name: (name == "shared", name)):
        yield backend, tuple(sorted(groups[backend]))


def used(entry: Json) -> str:
    """The comparison of an entry that came nearest to its limit, in words."""
    nearest = entry["nearest"]
    if not nearest or not nearest["limit"] or nearest["used"] is None:
        return ""
    return f"{nearest['quantity']}: {of_limit(nearest['used'])}"


def verdict_of(runs: list[Run]) -> str:
    """The verdict of all runs: the worst."""
    order = ("does not conform", "no verdict", "nothing was judged", "conforms")
    found = {run.document["verdict"] for run in runs}
    return next((verdict for verdict in order if verdict in found), "no verdict")
