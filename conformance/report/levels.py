"""Conformance levels: how much of the pipeline a port offers, and holds the requirements of.

They are computed from the verdicts alone, so that they can be computed for any report.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from conformance.contract.reader import requirements
from conformance.judging.records import backend_of
from conformance.report.verdicts import RED

LEVELS = {
    "L0": "audio only",
    "L1": "single stages",
    "L2": "all stages",
    "L3": "streaming and batching",
    "L4": "performance",
}
# A stage is offered if one of these was judged. Where the shared stages are judged with a backend,
# its networks are tried in the shared loops.
_SINGLE = {
    "text": ("TX-01",),
    "sentences": ("TX-34",),
    "tokenizer": ("TK-01",),
    "sampler": ("SA-06", "SA-02"),
    "language model": ("LM-01",),
    "decoder": ("DE-01", "DE-10"),
    "ISTFT": ("IS-01", "DE-10"),
}
_ALL = {"synthesis": ("SY-22", "SY-14")}
_SHARED_LOOPS = {"synthesis": ("SY-03", "SY-04"), "streaming": ("ST-01",)}
_STREAMING = {"streaming": ("ST-08",), "batches": ("BA-01",)}
_PERFORMANCE = ("ST-10", "SY-15")  # latency, memory
# The families of requirements that must hold from a level on.
_UTTERANCES = ("SY", "GE")
_STAGES = ("TX", "TK", "SA", "CK", "AT", "LM", "CA", "DE", "IS", "PR", "AO")
_COMBINATIONS = ("ST", "BA", "IN")
PARTIAL = "not every requirement was selected"
_UNJUDGED = ("not-applicable", "skipped")


@dataclass(frozen=True)
class Level:
    """What a backend reaches in one run."""

    level: str | None  # None: not even the lowest, or not every requirement was selected
    offered: list[str]
    not_offered: list[str]
    reason: str  # why it is not the next level


def levels(
    results: Mapping[str, Mapping[str, Mapping[str, Any]]], opened: Iterable[str] = ()
) -> dict[str, dict[str, Any]]:
    """The level of each backend of a document's results; `opened` are backends with models."""
    groups: dict[str, dict[str, set[str]]] = {}
    for subject, entries in results.items():
        own = groups.setdefault(backend_of(subject, {*results, *opened}), {})
        for name, entry in entries.items():
            own.setdefault(name, set()).add(entry["verdict"])
    shared = groups.pop("shared", {})
    return {
        backend: asdict(level_of(_with(own, shared), bool(shared)))
        for backend, own in groups.items()
    }


def _with(own: Mapping[str, set[str]], shared: Mapping[str, set[str]]) -> dict[str, set[str]]:
    return {name: own.get(name, set()) | shared.get(name, set()) for name in {*own, *shared}}


def level_of(verdicts: Mapping[str, set[str]], shared: bool = False) -> Level:
    """The highest level whose stages are offered and whose requirements hold.

    Args:
        verdicts: of each requirement, on all models.
        shared: whether the shared stages were judged with the backend.
    """
    stages = {**_SINGLE, **_ALL, **_STREAMING, **(_SHARED_LOOPS if shared else {})}
    judged = {name for name, found in verdicts.items() if found - set(_UNJUDGED)}
    offered = [stage for stage, names in stages.items() if judged & set(names)]
    lacking = [stage for stage in stages if stage not in offered]
    ports = {name for name, known in requirements().items() if known.scope == "port"}
    if ports - set(verdicts):
        return Level(None, offered, lacking, PARTIAL)
    failed = sorted(name for name in judged if verdicts[name] & set(RED))
    steps = {
        "L0": _lacks(["synthesis"], lacking, failed, _UTTERANCES),
        "L1": _lacks([], lacking, failed, _STAGES) if set(offered) & set(_SINGLE) else "no stages",
        "L2": _lacks([*_SINGLE, *_ALL], lacking, failed, (*_UTTERANCES, *_STAGES)),
        "L3": _lacks([*stages], lacking, failed, (*_UTTERANCES, *_STAGES, *_COMBINATIONS)),
        "L4": _lacks([*stages], lacking, failed, ("",))
        or ("" if judged >= set(_PERFORMANCE) else "latency and memory were not judged"),
    }
    reached = [level for level, why in steps.items() if not why]
    following = [why for level, why in steps.items() if why and level > max(reached, default="")]
    return Level(max(reached, default=None), offered, lacking, next(iter(following), ""))


def _lacks(wanted: list[str], lacking: list[str], failed: list[str], families: Any) -> str:
    """What a level needs and is not met, or ""."""
    late = () if families == ("",) else _PERFORMANCE
    missing = [stage for stage in wanted if stage in lacking]
    names = [name for name in failed if name.startswith(families) and name not in late]
    parts = [f"not offered: {', '.join(missing)}"] if missing else []
    return "; ".join(parts + ([f"failed: {', '.join(names)}"] if names else []))


def line(backend: str, found: Mapping[str, Any]) -> str:
    """One line of the terminal's summary."""
    level = found["level"]
    text = f"level of {backend}: " + (f"{level} ({LEVELS[level]})" if level else "none")
    return f"{text}; {found['reason']}" if found["reason"] else text
