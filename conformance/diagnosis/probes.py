"""What `check` asks of each stage: few inputs, the smallest first.

A probe judges as the laws do, with their limits and their known conventions, and stops at the
first input that shows an error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy.typing as npt

from conformance.contract.reader import requirements
from conformance.golden.packs import fitted
from conformance.golden.rounded_packs import find_rounded_pack, find_source, is_checkpoint
from conformance.judging.judge import Judge
from conformance.judging.records import TestRecord, is_third_party
from conformance.judging.skips import NotDeclared
from conformance.judging.vectors import Vectors
from conformance.laws.support.own_loops import OwnLoops
from conformance.opening import require_backend
from conformance.own_stages import IstftUnderTest, SamplerUnderTest
from conformance.report.failures import message
from conformance.subject import Subject
from soprano.backends import Backend, Capabilities
from soprano.checkpoint.folder import ModelFolder
from soprano.stages import Stages

Array = npt.NDArray[Any]
_LARGE = 2048  # layers times width


class CannotOpenError(ValueError):
    """A backend that does not open a model, in one sentence."""


class Probed:
    """An open backend on a model, with the golden values that it is judged by."""

    def __init__(self, subject: Subject, name: str, model: Path, reference: Path | None) -> None:
        self.subject, self.name, self.model, self.reference = subject, name, model, reference
        folder = ModelFolder.open(model)
        # Small networks gain nothing from threads, and on a busy machine threads wait.
        config = folder.config.language_model
        small = config.num_hidden_layers * config.hidden_size < _LARGE and not is_third_party(name)
        try:
            self.backend: Any = subject.open(name, model, folder.precision, 1 if small else None)
            require_backend(self.backend)
        except (Exception, SystemExit) as error:  # whatever a port raises
            why = " ".join(str(error).split()) or type(error).__name__
            raise CannotOpenError(f"backend {name} cannot open {model.name}: {why}") from error
        self.stages: Stages = subject.stages_of(self.backend, model)
        self.label = f"{name}-{model.name}"

    @property
    def capabilities(self) -> Capabilities:
        declared: Capabilities = self.backend.capabilities
        return declared

    def own(self, method: str, shared: Any = None) -> Any:
        """The backend's own stage, or the shared one of a backend of this package."""
        if hasattr(self.backend, method):
            return getattr(self.backend, method)
        if shared is None or is_third_party(self.name):
            raise NotDeclared(f"{self.backend.name} has no {method} of its own")
        return shared

    @cached_property
    def vectors(self) -> Vectors:
        """The golden values of the model and their limits."""
        folder, able = ModelFolder.open(self.model), self.capabilities
        if able.rounded and (is_checkpoint(folder) or not folder.has_weights):
            source = find_source(self.model, self.reference)
            pack = find_rounded_pack(self.backend, self.model, source)
        else:
            pack = self.subject.find_pack(self.model, self.reference)
        return Vectors(fitted(pack, able.max_length), self.backend.config)

    @cached_property
    def sampler(self) -> SamplerUnderTest:
        self.own("sample", self.stages.sample)
        opened: Backend | None = self.backend if hasattr(self.backend, "sample") else None
        return SamplerUnderTest(self.stages, opened)

    @cached_property
    def istft(self) -> IstftUnderTest:
        self.own("istft", self.stages.istft)
        own = hasattr(self.backend, "istft")
        opened = {self.backend.config.decoder.istft: self.backend} if own else {}
        return IstftUnderTest(self.stages, opened)

    @cached_property
    def loops(self) -> OwnLoops:
        return OwnLoops(self.backend)


@dataclass(frozen=True)
class Probe:
    """A question about a stage."""

    stage: str
    requirement: str
    ask: Callable[[Probed, Judge], None]


PROBES: list[Probe] = []


def probe(stage: str, requirement: str) -> Callable[[Any], Any]:
    """Add a function to the questions about a stage."""

    def add(ask: Callable[[Probed, Judge], None]) -> Any:
        PROBES.append(Probe(stage, requirement, ask))
        return ask

    return add


def ask(probed: Probed, one: Probe) -> TestRecord:
    """The evidence of one probe."""
    record = TestRecord(one.ask.__name__, (one.requirement,), probed.label)
    known = requirements()[one.requirement]
    able, config = probed.capabilities, probed.backend.config.decoder
    try:
        for need in known.needs.split():
            if not getattr(able, need):
                raise NotDeclared(f"{probed.backend.name} does not declare {need}")
        one.ask(probed, Judge(record, config))
        record.verdict = "deviation" if record.differences else "pass"
        record.verdict = "tie" if record.ties else record.verdict
    except (Exception, SystemExit, NotDeclared) as error:  # whatever a port raises
        record.message = message(error)
        record.verdict = _verdict(error)
        if record.verdict == "fail" and known.level == "should" and is_third_party(probed.name):
            record.verdict = "warning"
    return record


def _verdict(error: BaseException) -> str:
    from conformance.judging.judge import MistrustedError
    from conformance.ports.wire import PortFailureError

    kinds: dict[type[BaseException], str] = {
        NotDeclared: "not-applicable",
        MistrustedError: "mistrusted",
        PortFailureError: "error",
        LookupError: "error",
    }
    return next((verdict for kind, verdict in kinds.items() if isinstance(error, kind)), "fail")
