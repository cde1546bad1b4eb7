"""Whether stage replacement names the stages of planted faults, alone and in pairs."""

from __future__ import annotations

import itertools
import math
import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from conformance.diagnosis.check import replaced
from conformance.diagnosis.probes import Probed
from conformance.diagnosis.replacement import TEXTS, Pipeline
from conformance.diagnosis.text_and_sampler_probes import SPLIT_TEXTS, readings
from conformance.faults import catalogue
from conformance.faults.fault import Fault
from conformance.golden.packs import find_pack, fixture_models
from conformance.subject import Subject
from soprano.stages import Stages, with_own_stages

BACKEND = "onnx_cpu"
# The stages of the catalogue, and the replaced stages that may be named for them.
NAMED = {
    "text": ("normalise", "split"),
    "tokenizer": ("tokenise",),
    "sampler": ("sampler",),
    "language model": ("language model",),
    "KV cache": ("language model",),
    "generation loop": ("generation loop",),
    "decoder": ("decoder",),
    "ISTFT": ("ISTFT",),
}
PAIRED = (  # one of each stage
    "text/no-normaliser", "tokenizer/spaces-dropped", "sampler/penalty-absent",
    "language-model/one-layers-epsilon", "decoder/gelu-by-tanh", "istft/symmetric-window",
)  # fmt: skip
_SECONDS = 120
_AUDIBLE = 1e-5  # relative audio error; that of correct backends is a tenth of it


@dataclass(frozen=True)
class Outcome:
    """What stage replacement named for one fault, or for two at once."""

    faults: tuple[str, ...]
    named: tuple[str, ...]
    error: float  # of the audio; 0 if the texts give equal audio, infinite without an answer
    note: str = ""

    @property
    def hit(self) -> bool:
        """Whether each planted stage is named, and no other one."""
        wanted = [_names(catalogue()[name]) for name in self.faults]
        each = all(set(names) & set(self.named) for names in wanted)
        return each and set(self.named) <= {name for names in wanted for name in names}

    def __str__(self) -> str:
        verdict = "hit" if self.hit else "MISSED" if self.audible else "silent"
        named = ", ".join(self.named) or "-"
        return f"{' + '.join(self.faults):78} {verdict:6} {self.error:9.1e} {named} {self.note}"

    @property
    def audible(self) -> bool:
        return self.error > _AUDIBLE


def _names(fault: Fault) -> tuple[str, ...]:
    """The stages that may be named: also the loop, of a fault that a loop may be blamed for."""
    loop = NAMED["generation loop"] if "GE" in fault.rightly_blamed else ()
    return (*NAMED[fault.stage.name], *loop)


def outcome(faults: Sequence[str]) -> Outcome:
    """Plant faults in this process, and replace each stage in turn."""
    known = [catalogue()[name] for name in faults]
    model = next(path for path in fixture_models() if path.name == known[0].model)
    pack = find_pack(model)
    pack.networks()  # of the weights before the faults
    right = _stages(Subject(), model)
    subject = Subject(find_pack=lambda *_: pack)
    for fault in known:
        subject = fault.plant(subject)
    text = any(fault.stage.name in ("text", "tokenizer") for fault in known)
    # What a cache keeps between utterances shows in the second one.
    usual = TEXTS if any(fault.stage.name == "KV cache" for fault in known) else TEXTS[:1]
    texts = _shown(_stages(subject, model), right) if text else usual
    found = replaced(subject, BACKEND, model, texts=texts)
    return Outcome(tuple(faults), tuple(found.named), found.error)


def _stages(subject: Subject, model: Path) -> Stages:
    probed = Probed(subject, BACKEND, model, None)
    return with_own_stages(probed.stages, probed.backend, model)


def _shown(stages: Stages, right: Stages) -> Sequence[str]:
    """The shortest text of the suite whose prompts differ, or the usual one."""
    for text in sorted({*SPLIT_TEXTS, *(text for text, _ in readings())}, key=len):
        wanted = _prompts(right, text)
        if wanted and _prompts(stages, text) != wanted:
            return [text]
    return TEXTS[:1]


def _prompts(stages: Stages, text: str) -> list[list[int]]:
    try:
        return Pipeline(stages).prompts([text])
    except ValueError:  # a prompt is too long
        return []


def _in_child(faults: tuple[str, ...]) -> Outcome:
    try:
        return outcome(faults)
    except Exception as error:  # a fault may raise anything
        return Outcome(faults, (), math.inf, f"{type(error).__name__}: {error}"[:90])


def outcomes(wanted: Sequence[tuple[str, ...]]) -> Iterator[Outcome]:
    """Each in a process of its own."""
    for faults in wanted:
        with multiprocessing.get_context("fork").Pool(1) as pool:
            try:
                yield pool.apply_async(_in_child, (faults,)).get(_SECONDS)
            except multiprocessing.TimeoutError:  # a fault may wait for ever
                yield Outcome(faults, (), math.inf, f"no answer in {_SECONDS} s")


def cases() -> list[tuple[str, ...]]:
    """Every fault of a replaced stage, and the pairs."""
    known = catalogue().values()
    single = [(f.id,) for f in known if f.stage.name in NAMED and not f.harmless]
    usable = [names for names in single if BACKEND in (catalogue()[names[0]].backends or BACKEND)]
    return [*usable, *itertools.combinations(PAIRED, 2)]


def main() -> int:
    """Print the table; the number of audible faults whose stages are not those that are named."""
    found = []
    for each in outcomes([c for c in cases() if not sys.argv[1:] or set(c) & set(sys.argv[1:])]):
        found.append(each)
        print(each, flush=True)
    audible = [each for each in found if each.audible]
    for size, what in ((1, "faults"), (2, "pairs")):
        own = [each for each in audible if len(each.faults) == size]
        print(f"{sum(each.hit for each in own)} of {len(own)} audible {what} are named")
    return sum(not each.hit for each in audible)


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
