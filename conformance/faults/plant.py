"""Ways to plant a fault: each function takes a subject and returns the faulty one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.subject import Subject, open_in_process
from soprano.audio import AudioChunk
from soprano.backends import Backend
from soprano.checkpoint.folder import ModelFolder, locate
from soprano.generate import generate
from soprano.stages import Stages
from soprano.synthesis import SopranoTTS
from soprano.text import ENGLISH, RuleSet, normalize
from soprano.text.rules import Rule
from soprano.tokenizer import Tokenizer

Float32 = npt.NDArray[np.float32]
Change = Callable[[Stages], Stages]


def with_stages(subject: Subject, **faulty: Any) -> Subject:
    """Replace fields of `Stages` wherever the pipeline is used."""
    return replace(subject, stages=lambda stages: replace(subject.stages(stages), **faulty))


def as_stage(name: str) -> Callable[[Subject, Any], Subject]:
    """Plants a function as the stage of this name."""
    return lambda subject, faulty: with_stages(subject, **{name: faulty})


def with_rule(subject: Subject, name: str, change: Callable[[Rule], Rule | None]) -> Subject:
    """Change the text rules of a name; None removes them."""
    if not any(rule.name == name for rules in ENGLISH for rule in rules):
        raise LookupError(f"no rule is named {name!r}")

    def changed(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        kept = (change(rule) if rule.name == name else rule for rule in rules)
        return tuple(rule for rule in kept if rule is not None)

    rules = RuleSet(*map(changed, ENGLISH))
    return with_stages(subject, normalize=partial(normalize, rules=rules))


def with_spoken(subject: Subject, name: str, spoken: Any) -> Subject:
    """Change what the text rules of a name write."""
    return with_rule(subject, name, lambda rule: rule._replace(spoken=spoken))


def with_tokenizer(subject: Subject, tokenizer: type[Tokenizer]) -> Subject:
    return replace(
        subject, load_tokenizer=lambda model: tokenizer(locate(model) / "tokenizer.json")
    )


def with_advance(subject: Subject, advance: Any) -> Subject:
    """Replace what the generation loop does with one step's outputs."""
    return with_stages(subject, generate=partial(generate, advance=advance))


class Wrapper:
    """A backend that passes everything to another; faults override a method."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def with_backend(subject: Subject, wrap: Callable[[Any], Any]) -> Subject:
    """Wrap every backend that is opened."""

    def open_backend(*args: Any, **options: Any) -> Backend:
        wrapped: Backend = wrap(subject.open_backend(*args, **options))
        return wrapped

    return replace(subject, open_backend=open_backend)


def with_voice(subject: Subject, change: Change) -> Subject:
    """Change the stages of the synthesis object only."""
    return replace(subject, voice=lambda model, stages: subject.voice(model, change(stages)))


class SplitVoice(SopranoTTS):
    """A voice whose offline and streamed paths have stages of their own."""

    def __init__(self, model: Path, stages: Stages, streamed: Stages) -> None:
        super().__init__(model, stages=stages)
        self.streamed = SopranoTTS(model, stages=streamed)

    def infer_stream(self, text: str, **options: Any) -> Iterator[AudioChunk]:
        return self.streamed.infer_stream(text, **options)


def with_offline_path(subject: Subject, change: Change) -> Subject:
    """Change the stages of `infer` and `infer_batch`."""
    return replace(subject, voice=lambda model, own: SplitVoice(model, change(own), own))


def with_streamed_path(subject: Subject, change: Change) -> Subject:
    """Change the stages of `infer_stream`."""
    return replace(subject, voice=lambda model, own: SplitVoice(model, own, change(own)))


def to_bfloat16(values: npt.ArrayLike) -> Float32:
    """Rounded to bfloat16, halves to even, and widened again."""
    words = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    rounded = (words + 0x7FFF + ((words >> 16) & 1)) & 0xFFFF0000
    return rounded.astype(np.uint32).view(np.float32).reshape(np.shape(values))


def as_if_contiguous(array: Any) -> Any:
    """The values that lie in memory from the beginning of an array's buffer."""
    buffer = array
    while isinstance(buffer.base, np.ndarray):
        buffer = buffer.base
    return buffer.ravel(order="K")[: array.size].reshape(array.shape)


def set_defaults(options: type, **values: Any) -> None:
    """Change the defaults of a dataclass in this process."""
    known = [field for field in fields(options) if field.default is not MISSING]
    defaults = tuple(values.get(field.name, field.default) for field in known)
    options.__init__.__defaults__ = defaults  # type: ignore[misc]


PORT_STAGES = (
    "text", "tokenizer", "sampler", "language model", "KV cache", "hidden states", "decoder",
    "ISTFT", "runtime", "interleaving",
)  # fmt: skip


def can_be_port(fault: Any) -> bool:
    """Whether a fault is in a part that a port provides."""
    # What is planted in the helper that forks is not in the port.
    return fault.stage.name in PORT_STAGES and "opened-before-fork" not in fault.id


def open_faulty(fault: Any, folder: ModelFolder, *, precision: str, threads: int | None) -> Any:
    """`onnx_cpu` with a fault, as a backend with stages of its own."""
    subject = fault.plant(Subject(open_in_process))
    inner = subject.open_backend("onnx_cpu", folder.path, precision, threads)
    opened = Wrapper(inner)
    stages = subject.stages_of(opened, folder.path)
    own = {name: getattr(stages, name) for name in ("normalize", "split", "sample", "istft")}
    own["tokenize"] = subject.load_tokenizer
    # A fault may be in a stage that the backend itself has.
    missing = {name: stage for name, stage in own.items() if not hasattr(inner, name)}
    vars(opened).update(missing, decode=stages.decode)
    return opened


def __getattr__(name: str) -> Any:
    """`conformance.faults.plant:STAGE/NAME` is a fault as a port of a third party."""
    if "/" in name:  # the import of this module asks for other names
        from conformance.faults import catalogue

        if fault := catalogue().get(name):
            return partial(open_faulty, fault)
    raise AttributeError(name)
