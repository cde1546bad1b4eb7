"""The verdict on each stage of a subject, on one screen: the first wrong stage comes first."""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from conformance.contract.reader import requirements
from conformance.diagnosis import loop_probes, network_probes, text_and_sampler_probes
from conformance.diagnosis.probes import PROBES, CannotOpenError, Probed, ask
from conformance.diagnosis.replacement import (
    TEXTS,
    Replacements,
    reference_stages,
    replacements,
)
from conformance.diagnosis.subjects import Named, Vectors
from conformance.judging.compare import Comparison, of_limit
from conformance.judging.records import TestRecord
from conformance.report.verdicts import ORDER, RED, first_failure
from conformance.subject import Subject
from soprano.stages import with_own_stages

SCHEMA_VERSION = 1
STAGES = tuple(dict.fromkeys(probe.stage for probe in PROBES))
PIPELINE = (
    "normalise", "split", "tokenise", "sampler", "weights", "language model: prefill",
    "language model: step", "KV cache", "generation loop", "decoder", "ISTFT", "synthesis",
    "stream", "batches", "wav",
)  # fmt: skip
_WIDTH = 100
_MODULES = text_and_sampler_probes, network_probes, loop_probes  # which define the probes
assert set(STAGES) == set(PIPELINE), _MODULES


@dataclass(frozen=True)
class Row:
    """The verdict on one stage, over all models."""

    stage: str
    verdict: str  # of the contract, or "not offered"
    floors: float | None = None  # the largest error in noise floors
    used: float | None = None  # the largest error as a part of its limit
    compared: int = 0


@dataclass(frozen=True)
class Failure:
    """The first failing stage."""

    stage: str
    requirement: str
    subject: str
    convention: str  # the wrong convention that it follows, or ""
    message: str
    input: str  # the smallest input that was tried and shows the error
    repeat: str


@dataclass
class Answer:
    """What `check` prints."""

    subject: str
    models: list[str]
    rows: list[Row] = field(default_factory=list)
    failure: Failure | None = None
    seconds: float = 0.0
    contributions: list[str] = field(default_factory=list)

    @property
    def status(self) -> int:
        """The exit status: 0 every offered stage is right, 1 one is not, 2 none was judged."""
        if self.failure:
            return 1
        return 0 if any(row.compared for row in self.rows) else 2

    def document(self) -> dict[str, Any]:
        return {"schema_version": SCHEMA_VERSION, "passed": self.status == 0, **asdict(self)}

    def lines(self) -> list[str]:
        found = [self.first_line(), ""]
        found += [_line(row) for row in self.rows]
        if failure := self.failure:
            law = requirements()[failure.requirement].law
            found += ["", f"{failure.requirement}: {law}", _cut(failure.message)]
            if failure.input:
                found.append(f"smallest input tried that shows it: {failure.input}")
            found += self.contributions
            found.append(f"repeat with: {failure.repeat}")
        return found

    def first_line(self) -> str:
        where = f"{self.subject} on {', '.join(self.models)}"
        if self.failure is None:
            judged = [row for row in self.rows if row.compared]
            if not judged:
                return f"nothing of {where} could be judged"
            count = "the one stage" if len(judged) == 1 else f"all {len(judged)} stages"
            return f"{count} that {where} offers {'is' if len(judged) == 1 else 'are'} right"
        failure = self.failure
        if failure.convention:
            return f"{failure.stage}: {failure.convention} ({failure.requirement}, {where})"
        why = "fails, and no known convention explains it"
        return f"{failure.stage}: {failure.requirement} {why} ({where})"


def check(
    subject: Subject,
    name: str,
    models: Sequence[Path],
    reference: Path | None = None,
    *,
    replace: bool = True,
) -> Answer:
    """Judge the stages that a backend offers.

    Of one that is wrong, `replace` adds what each stage contributes to the error of the audio.
    """
    start = perf_counter()
    records: list[tuple[str, TestRecord]] = []
    judged: list[Path] = []
    for model in models:
        try:
            probed = Probed(subject, name, model, reference)
        except CannotOpenError:
            # A port may be bound to one model: the first one decides.
            if not judged:
                raise
            continue
        judged.append(model)
        try:
            for one in PROBES:
                record = ask(probed, one)
                record.repeat = _repeat(name, model, one.requirement)
                records.append((one.stage, record))
        finally:
            probed.backend.close()
    answer = _answer(name, [model.name for model in judged], records)
    if answer.failure and replace:
        model = next(m for m in models if answer.failure.subject == f"{name}-{m.name}")
        answer.contributions = _contributions(subject, name, model, reference)
    answer.seconds = round(perf_counter() - start, 1)
    return answer


def _contributions(subject: Subject, name: str, model: Path, reference: Path | None) -> list[str]:
    """The table of stage replacement; no line where the pipeline cannot be run."""
    try:
        return replaced(subject, name, model, reference).lines()
    except Exception:  # whatever a wrong stage raises
        return []


def replaced(
    subject: Subject,
    name: str,
    model: Path,
    reference: Path | None = None,
    texts: Sequence[str] = TEXTS,
) -> Replacements:
    """Stage replacement of a backend on a model.

    Raises:
        LookupError: the backend lacks a network, or the weights of the model are not at hand.
    """
    probed = Probed(subject, name, model, reference)
    try:
        able = probed.capabilities
        if not (able.language_model and able.decoder):
            raise LookupError(f"{name} offers only one of the networks")
        stages = with_own_stages(probed.stages, probed.backend, model)
        networks = probed.vectors.pack.networks()
        return replacements(
            stages, reference_stages(stages, networks, model), probed.vectors, texts
        )
    finally:
        probed.backend.close()


def check_named(subject: Subject, named: Named) -> list[Answer]:
    """Judge each backend that a name stands for."""
    return [check(subject, name, named.models, named.reference) for name in named.backends]


def check_vectors(vectors: Vectors) -> Answer:
    """Judge the outputs that a port wrote for a vector pack."""
    from conformance.vectors.packs import check as judge_outputs
    from conformance.vectors.packs import export

    start = perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        pack = vectors.pack
        if pack is None:
            pack = Path(folder) / "pack"
            export(vectors.model, pack)
        evidence = judge_outputs(pack, vectors.outputs, vectors.outputs.name)
    records = [(_stage_of_case(r.node), r) for r in evidence.records.values()]
    for _, record in records:
        words = ["python", "-m", "conformance", "check", str(vectors.outputs)]
        record.repeat = shlex.join([*words, "--model", str(vectors.model)])
    answer = _answer(str(vectors.outputs), [vectors.model.name], records)
    answer.seconds = round(perf_counter() - start, 1)
    return answer


def _stage_of_case(node: str) -> str:
    stages = {
        "normalize": "normalise", "split": "split", "tokenize": "tokenise", "sample": "sampler",
        "prefill": "language model: prefill", "prefix": "language model: prefill",
        "step": "language model: step", "decode": "decoder", "decode_audio": "synthesis",
        "istft": "ISTFT", "generate": "generation loop",
    }  # fmt: skip
    return stages[node.split("::")[0].split("-")[0]]


def _repeat(name: str, model: Path, requirement: str) -> str:
    from conformance.golden.packs import fixture_models

    label = model.name if model in fixture_models() else str(model)
    words = ["python", "-m", "conformance", "run", "--backend", name, "--model", label]
    return shlex.join([*words, "--only-model", "--requirement", requirement])


def _answer(name: str, models: list[str], records: list[tuple[str, TestRecord]]) -> Answer:
    own: dict[str, list[TestRecord]] = {stage: [] for stage in PIPELINE}
    for stage, record in records:
        own[stage].append(record)
    rows = [_row(stage, found) for stage, found in own.items()]
    red = [stage for stage in PIPELINE if any(r.verdict in RED for r in own[stage])]
    failure = _failure(red[0], own[red[0]]) if red else None
    return Answer(name, models, rows, failure)


def _row(stage: str, records: list[TestRecord]) -> Row:
    verdicts = {record.verdict for record in records} or {"not-applicable"}
    worst = next(verdict for verdict in ORDER if verdict in verdicts)
    comparisons = [c for record in records for c in record.comparisons]
    failing = [c for r in records if r.verdict in RED for c in r.comparisons if c.fault]
    finite = [c for c in failing or comparisons if c.limit or c.rms_limit]
    floors = [c.rms / c.floor for c in finite if c.floor]
    used = [c.used() for c in finite if c.used() != float("inf")]
    return Row(
        stage,
        "not offered" if worst == "not-applicable" else worst,
        round(max(floors), 2) if floors else None,
        round(max(used), 3) if used else None,
        sum(c.elements for c in comparisons),
    )


def _failure(stage: str, records: list[TestRecord]) -> Failure:
    first = first_failure(records)
    assert first is not None
    conventions = {found["convention"] for r in records if (found := first_failure([r]))}
    named = " + ".join(sorted(conventions - {""}))
    failing = [c for r in records if r.verdict in RED for c in r.comparisons if c.fault]
    shown = [c for c in failing if not c.fault or "you follow the convention" not in c.fault]
    return Failure(
        stage,
        first["requirement"],
        first["subject"],
        named,
        str(shown[0]) if shown else first["message"],
        _input(shown[0]) if shown else "",
        first["repeat"],
    )


def _input(comparison: Comparison) -> str:
    place = f" ({comparison.place})" if comparison.place else ""
    return f"{comparison.quantity}{place}"


def _line(row: Row) -> str:
    size = ""
    if row.floors is not None:
        size = f"{row.floors:,.2f} x noise floor"
    elif row.used is not None:
        size = of_limit(row.used)
    elif row.compared:
        size = "exact"
    return f"{row.stage:24} {row.verdict:14} {size:>24} {row.compared:>12,} compared".rstrip()


def _cut(text: str) -> str:
    first = text.partition("\n")[0]
    return first if len(first) <= 4 * _WIDTH else f"{first[: 4 * _WIDTH]}..."


def text(answer: Answer) -> str:
    return "\n".join([*answer.lines(), f"{answer.seconds:.1f} s"])


def as_json(answers: Sequence[Answer]) -> str:
    documents = [answer.document() for answer in answers]
    return json.dumps(documents[0] if len(documents) == 1 else documents, indent=1)
