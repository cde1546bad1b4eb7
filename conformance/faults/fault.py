"""What a planted fault is: where it sits, what happens in life, and who is right to be blamed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from conformance.faults.plant import Plant

# Requirements in the order of the data flow, by the first letters of their numbers.
FLOW = (
    "TX",
    "TK",
    "SA",
    "CK",
    "EX",
    "AT",
    "LM",
    "CA",
    "GE",
    "DE",
    "IS",
    "SY",
    "PR",
    "ST",
    "BA",
    "AO",
)


@dataclass(frozen=True)
class Stage:
    """A place of the data flow."""

    name: str
    blame: tuple[str, ...]  # the requirements whose failure points here
    reach: tuple[str, ...]  # the requirements whose tests run code of this stage


# TX-33 measures time on a machine that the faults keep busy.
_TEXT = ("TX-0", "TX-1", "TX-2", "TX-30", "TX-31", "TX-32", *(f"TX-3{i}" for i in range(4, 9)))
_SOUND = ("DE", "SY", "ST", "BA")

TEXT = Stage("text", ("TX",), (*_TEXT, "SY-0"))
TOKENIZER = Stage("tokenizer", ("TK",), ("TK", "SY-0"))
SAMPLER = Stage("sampler", ("SA",), ("SA", "GE", "SY-0", "BA-04"))
FOLDER = Stage("model folder", ("CK", "EX"), ("CK", "EX", "LM", "CA", *_SOUND))
RUNTIME = Stage("runtime", ("AT",), ("AT", "LM", "CA", *_SOUND))
LANGUAGE_MODEL = Stage("language model", ("LM",), ("LM", "CA", *_SOUND))
CACHE = Stage("cache", ("LM", "CA"), ("LM", "CA", *_SOUND))
HIDDEN = Stage("hidden states", ("LM", "GE", "SY"), ("LM", "CA", "GE", *_SOUND))
DECODER = Stage("decoder", ("DE",), ("LM", "CA", *_SOUND))
ISTFT = Stage("inverse transform", ("IS",), ("IS", *_SOUND))
SYNTHESIS = Stage("synthesis", ("SY",), ("GE", *_SOUND, "AO"))
STREAMING = Stage("streaming", ("ST",), ("GE", *_SOUND))
BATCHING = Stage("batching", ("BA",), ("LM", "CA", "GE", *_SOUND))
AUDIO = Stage("audio", ("AO",), ("AO", "SY", "ST"))


@dataclass(frozen=True)
class Fault:
    """One fault, or one harmless variation; `number` is its place in the catalogue."""

    number: str
    name: str
    stage: Stage
    story: str
    plant: Callable[[Plant], None] = field(repr=False)
    hard: bool = False
    harmless: bool = False
    model: str = "v11"
    threads: int = 1  # asked of the runtime
    blame: tuple[str, ...] = ()  # where it is not the stage's own
    backends: tuple[str, ...] = ()  # those it can be planted in; empty: all

    @property
    def rightly_blamed(self) -> tuple[str, ...]:
        return self.blame or self.stage.blame


CATALOGUE: dict[str, Fault] = {}


def fault(
    number: str,
    stage: Stage,
    *,
    hard: bool = False,
    harmless: bool = False,
    model: str = "v11",
    threads: int = 1,
    blame: tuple[str, ...] = (),
    backends: tuple[str, ...] = (),
) -> Callable[[Callable[[Plant], None]], Callable[[Plant], None]]:
    """Enter a function that plants a fault; its name and first sentence are the fault's.

    `hard` means small in size, or seen only in batches, in long sequences, at a boundary, for
    certain inputs or after many steps.
    """

    def enter(plant: Callable[[Plant], None]) -> Callable[[Plant], None]:
        name = plant.__name__.replace("_", "-")
        story = " ".join((plant.__doc__ or "").split())
        if number in CATALOGUE or not story:
            raise ValueError(f"{number} ({name}) stands twice in the catalogue, or tells nothing")
        CATALOGUE[number] = Fault(
            number, name, stage, story, plant, hard, harmless, model, threads, blame, backends
        )
        return plant

    return enter
