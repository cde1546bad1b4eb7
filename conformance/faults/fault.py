"""What a planted fault is: its stage, its story, and the requirements that should fail."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from conformance.contract.reader import STAGES
from conformance.subject import Subject

FLOW = tuple(STAGES)  # the families of requirements in the order of the pipeline


@dataclass(frozen=True)
class Stage:
    """A part of the data flow."""

    name: str
    blame: tuple[str, ...]  # the families whose failure points to this stage
    reach: tuple[str, ...]  # prefixes of the requirements whose tests run this stage


# Without TX-33, which measures processing time.
_TEXT = tuple(f"TX-{number:02}" for number in range(1, 65) if number != 33)
_AUDIO = ("DE", "SY", "ST", "BA")

TEXT = Stage("text", ("TX",), (*_TEXT, "SY-0"))
TOKENIZER = Stage("tokenizer", ("TK",), ("TK", "SY-0"))
SAMPLER = Stage("sampler", ("SA",), ("SA", "GE", "SY-0", "BA-04"))
FOLDER = Stage("model folder", ("CK", "EX"), ("CK", "EX", "LM", "CA", *_AUDIO))
RUNTIME = Stage("runtime", ("AT",), ("AT", "LM", "CA", *_AUDIO))
LANGUAGE_MODEL = Stage("language model", ("LM",), ("LM", "CA", *_AUDIO))
CACHE = Stage("KV cache", ("LM", "CA"), ("LM", "CA", *_AUDIO))
LOOP = Stage("generation loop", ("GE",), SAMPLER.reach[1:])
HIDDEN = Stage("hidden states", ("LM", "GE", "SY"), ("LM", "CA", "GE", *_AUDIO))
DECODER = Stage("decoder", ("DE",), ("LM", "CA", *_AUDIO))
ISTFT = Stage("ISTFT", ("IS",), ("IS", *_AUDIO))
SYNTHESIS = Stage("synthesis", ("SY",), ("GE", *_AUDIO, "AO"))
STREAMING = Stage("streaming", ("ST",), ("GE", *_AUDIO))
BATCHING = Stage("batching", ("BA",), ("LM", "CA", "GE", *_AUDIO))
INTERLEAVING = Stage("interleaving", ("IN",), ("LM", "CA", *_AUDIO, "IN"))
AUDIO = Stage("audio file", ("AO",), ("AO", "SY", "ST"))

Plant = Callable[[Subject], Subject]


@dataclass(frozen=True)
class Fault:
    """One fault, or one harmless variation."""

    id: str  # "stage/name", or "harmless/name"
    stage: Stage
    aims: tuple[str, ...]  # requirements that must fail; empty for a variation
    story: str
    plant: Plant = field(repr=False)
    public: bool = False  # found in a public port
    hard: bool = False
    model: str = "v11"
    threads: int = 1  # of the runtime
    blame: tuple[str, ...] = ()  # the families to blame, where not the stage's
    backends: tuple[str, ...] = ()  # where it can be planted; empty: everywhere

    @property
    def harmless(self) -> bool:
        return not self.aims

    def is_named(self, key: str) -> bool:
        """Whether a key is the id, a beginning of it, the name, or a requirement aimed at."""
        return self.id.startswith(key) or key in (self.id.partition("/")[2], *self.aims)

    @property
    def rightly_blamed(self) -> tuple[str, ...]:
        return self.blame or self.stage.blame


CATALOGUE: dict[str, Fault] = {}


def fault(
    stage: Stage,
    aims: str,
    by: Callable[[Subject, Any], Subject] | None = None,
    **properties: Any,
) -> Callable[[Any], Any]:
    """Add a fault to the catalogue under the decorated object's name, with its docstring as story.

    The object is a function `Subject -> Subject`; or, with `by`, a faulty part that
    `by(subject, part)` plants. `aims` are the requirements that must fail, separated by spaces;
    `properties` are other fields of `Fault`.
    `hard` means small in size, or visible only in batches, in long sequences, at a boundary, for
    certain inputs or after many steps.
    """
    return partial(_add, stage.name.replace(" ", "-"), stage, tuple(aims.split()), by, properties)


def variation(
    stage: Stage, by: Callable[[Subject, Any], Subject] | None = None, **properties: Any
) -> Callable[[Any], Any]:
    """Add a harmless variation to the catalogue, in the same way."""
    return partial(_add, "harmless", stage, (), by, properties)


def _add(
    group: str,
    stage: Stage,
    aims: tuple[str, ...],
    by: Callable[[Subject, Any], Subject] | None,
    properties: dict[str, Any],
    part: Any,
) -> Any:
    # A class is named like a function: FirstSampleLost -> first-sample-lost.
    name = re.sub(r"_|(?<!^)(?=[A-Z])", "-", part.__name__)
    key = f"{group}/{name}".lower()
    story = " ".join((part.__doc__ or "").split())
    if key in CATALOGUE or not story:
        raise ValueError(f"{key} is in the catalogue already, or has no docstring")
    plant: Plant = partial(_plant, by, part) if by else part
    CATALOGUE[key] = Fault(key, stage, aims, story, plant, **properties)
    return part


def _plant(by: Callable[[Subject, Any], Subject], part: Any, subject: Subject) -> Subject:
    return by(subject, part)
