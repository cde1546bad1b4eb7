"""Whether what would be timed is right: a backend that does not conform is not timed.

float32 must say the ids that the PyTorch reference says. A quantised class must err no more than
its definition allows, on the same utterance. A language model beside a peer's must be the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from comparisons.speed.models import Models
from comparisons.speed.serve import ALONE
from comparisons.speed.speakers import GENAI, Answer
from conformance.golden.packs import Floor
from conformance.judging import tolerances
from conformance.judging.compare import row_rms
from conformance.oracle.networks import DecoderOracle, LanguageModelOracle
from conformance.oracle.precision_classes import CLASSES, RoundedDecoder, RoundedLanguageModel
from soprano.backends import Backend, open_backend
from soprano.checkpoint.folder import ModelFolder

REFERENCE = "pytorch fp32"
STEPS = 96  # teacher-forced ids of the utterance that a quantised class is judged on
SOUND = 24  # of whose states the decoder is judged on
SAME_WEIGHTS = {"fp32": 1e-4, "int8": 0.1}  # relative rms of logits; other weights are at 1.4

Arrays = dict[str, npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Utterance:
    """What the PyTorch reference says."""

    prompt: list[int]
    ids: list[int]

    @classmethod
    def spoken(cls, answer: Answer) -> Utterance:
        return cls(answer["prompt"], answer["ids"])


def same_ids(wanted: list[int], found: list[int]) -> str:
    """What is wrong, or nothing."""
    if wanted == found:
        return ""
    pairs = zip(wanted, found, strict=False)
    place = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(wanted), len(found)))
    return f"other ids from token {place} of {len(wanted)}"


def within_class(backend: Backend, checkpoint: Path, precision: str, said: Utterance) -> str:
    """What exceeds the class's limit, or nothing."""
    source = ModelFolder.open(checkpoint)
    language_model, decoder = source.language_model_weights(), source.decoder_weights()
    numbers, rounding = source.config, CLASSES[precision]
    ids = np.array(said.prompt + said.ids[:STEPS])
    kept = slice(len(said.prompt) - 1, None)

    def read(network: LanguageModelOracle) -> Arrays:
        logits, hidden = network(ids)
        return {"step logits": logits[kept], "step hidden": hidden[kept]}

    expected = read(LanguageModelOracle(numbers.language_model, language_model))
    defined = read(RoundedLanguageModel(numbers.language_model, language_model, rounding))
    states = expected["step hidden"][:SOUND].astype(np.float32)
    expected["spectrum"] = DecoderOracle(numbers.decoder, decoder)(states)
    defined["spectrum"] = RoundedDecoder(numbers.decoder, decoder, rounding)(states)
    found = _observed(backend, ids, len(said.prompt))
    found["spectrum"] = backend.decode(states[None], np.array([len(states)]))[0].astype(np.float64)
    for quantity, wanted in expected.items():
        limit = tolerances.against_oracle(
            quantity, _floor(defined[quantity] - wanted, precision), wanted, numbers
        )
        rms = float(np.sqrt(np.mean((found[quantity] - wanted) ** 2)))
        if not rms <= limit.rms:
            return f"{quantity}: rms error {rms:.3g}, {precision} allows {limit.rms:.3g}"
    return ""


def _observed(backend: Backend, ids: npt.NDArray[np.int64], prompt: int) -> Arrays:
    outputs = [backend.prefill(ids[None, :prompt], np.array([prompt]))]
    for number in ids[prompt:]:
        outputs.append(backend.step(np.array([number]), outputs[-1].state))
    return {
        f"step {name}": np.concatenate([getattr(output, name) for output in outputs]).astype(float)
        for name in ("logits", "hidden")
    }


def _floor(error: npt.NDArray[np.float64], precision: str) -> Floor:
    size = np.abs(error)
    rms = float(np.sqrt(np.mean(error**2)))
    return Floor(rms, float(size.max()), float(row_rms(size).max()), precision)


def same_model(ours: list[float], theirs: list[float], precision: str) -> str:
    """What is wrong with our logits beside a peer's after the same ids, or nothing."""
    wanted = np.array(theirs)
    off = float(np.sqrt(np.mean((np.array(ours) - wanted) ** 2) / np.mean(wanted**2)))
    limit = SAME_WEIGHTS[precision]
    return "" if off <= limit else f"logits differ from {GENAI}'s by {off:.3g}, over {limit}"


def verdict(once: Callable[[str, str], Answer], models: Models, who: str, task: str) -> str:
    """What is wrong with a speaker of ours at a task, or nothing; `once` asks, or remembers."""
    backend, precision = who.split()
    said = Utterance.spoken(once(REFERENCE, "one"))
    if task == "step":
        known = (once(f"{name} {precision}", "logits")["logits"] for name in (backend, GENAI))
        if wrong := same_model(*known, precision):
            return wrong
    if task == "batch":
        found = once(who, "batch")["ids"]
        for place, wanted in zip(ALONE, once(who, "alone")["ids"], strict=True):
            if wrong := same_ids(wanted, found[place]):
                return f"text {place} in a batch: {wrong}"
    if precision == "fp32":
        return same_ids(said.ids, once(who, "one")["ids"])
    opened = open_backend(backend, models.own(backend, precision), precision)
    try:
        return within_class(opened, models.checkpoint, precision, said)
    finally:
        opened.close()
