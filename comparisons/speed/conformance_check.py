"""Whether a program's output is correct: one that is not is not timed.

In float32 the ids must equal those of the PyTorch reference, up to ties. In a quantised precision
class the errors on the same utterance must be within the limits of the class. A language model that
is timed beside a peer's must be the same model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from comparisons.speed.models import Models
from comparisons.speed.programs import GENAI, Answer
from comparisons.speed.worker import ALONE, BATCH
from conformance.golden.observations import prefill_one, teacher_force
from conformance.golden.packs import noise_floor
from conformance.judging import tolerances
from conformance.oracle.networks import DecoderOracle, LanguageModelOracle
from conformance.oracle.precision_classes import CLASSES, RoundedDecoder, RoundedLanguageModel
from conformance.oracle.sampler import decide
from soprano.backends import Backend, open_backend
from soprano.checkpoint.folder import ModelFolder
from soprano.config import SamplingOptions

REFERENCE = "pytorch fp32"
STEPS = 96  # teacher-forced ids of the utterance on which a quantised class is judged
DECODED = 24  # hidden states of these that are decoded
SAME_WEIGHTS = {"fp32": 1e-4, "int8": 0.1}  # relative rms of logits; 1.4 for other weights

Float64 = npt.NDArray[np.float64]
Arrays = dict[str, Float64]


def check(once: Callable[[str, str], Answer], models: Models, program: str, task: str) -> str:
    """What is wrong with a program of ours at a task, or ""; `once` runs a task once."""
    backend, precision = program.split()
    precision = precision.partition("+")[0]  # a draft changes no id
    reference = once(REFERENCE, "one")
    if task == "step":
        ours, theirs = (
            once(f"{name} {precision}", "logits")["logits"] for name in (backend, GENAI)
        )
        if fault := check_logits(ours, theirs, precision):
            return fault
    if task == "batch":
        batched, alone = once(program, "batch")["ids"], once(program, "alone")
        opened = open_backend(backend, models.own(backend, precision), precision)
        try:
            for row, index in enumerate(ALONE):
                prompt, expected = alone["prompts"][row], alone["ids"][row]
                if fault := check_batched(opened, prompt, batched[index], expected):
                    return f"text {index} in a batch: {fault}"
        finally:
            opened.close()
    if precision == "fp32":
        ids = once(program, "one")["ids"]
        if ids == reference["ids"]:
            return ""
        return check_ids(
            reference["prompt"], ids,
            *(_logits(models, name, reference["prompt"], ids) for name in ("pytorch", backend)),
        )  # fmt: skip
    opened = open_backend(backend, models.own(backend, precision), precision)
    try:
        return check_precision(
            opened, models.checkpoint, precision, reference["prompt"], reference["ids"][:STEPS]
        )
    finally:
        opened.close()


def check_ids(prompt: list[int], actual: list[int], expected: Float64, own: Float64) -> str:
    """Greedy ids, by the logits (T, V) of the reference and of the program after the same ids.

    Every id is judged, also behind a tie, whose margin lies within the error of the program's
    logits; the logits themselves must be those of the same weights.
    """
    if fault := check_logits(own.ravel(), expected.ravel(), "fp32"):
        return fault
    return _first_defect(prompt, actual, expected, own)


def _logits(models: Models, name: str, prompt: list[int], ids: list[int]) -> Float64:
    backend = open_backend(name, models.own(name, "fp32"), "fp32")
    try:
        return teacher_forced_logits(backend, prompt, ids[:-1], 1)
    finally:
        backend.close()


def check_batched(
    backend: Backend, prompt: list[int], actual: list[int], expected: list[int]
) -> str:
    """Greedy ids of a batch: each is the one chosen alone after the same ids, up to ties."""
    if actual == expected:
        return ""
    rows = (teacher_forced_logits(backend, prompt, actual[:-1], copies) for copies in (1, BATCH))
    return _first_defect(prompt, actual, *rows)


def _first_defect(prompt: list[int], actual: list[int], expected: Float64, own: Float64) -> str:
    """The first id that is neither the expected one nor a tie."""
    options = SamplingOptions()
    for index, chosen in enumerate(actual):
        decision = decide(expected[index], [*prompt, *actual[:index]], options, None)
        error = 2 * float(np.abs(own[index] - expected[index]).max())
        if chosen != decision.id and decision.margin > error:
            return (
                f"id {chosen} instead of {decision.id} at token {index} of {len(actual)}, where "
                f"the margin is {decision.margin:.3g} and the error {error:.3g}"
            )
    return ""


def teacher_forced_logits(
    backend: Backend, prompt: list[int], ids: list[int], copies: int
) -> Float64:
    """The logits (T, V) that predict each id, of the first row of a batch of equal rows."""
    first = backend.prefill(np.array([prompt] * copies), np.full(copies, len(prompt)))
    outputs = [first, *teacher_force(backend, first, [ids] * copies)]
    return np.stack([output.logits[0].astype(np.float64) for output in outputs])


def check_logits(ours: npt.ArrayLike, theirs: npt.ArrayLike, precision: str) -> str:
    """Logits of two language models after the same ids."""
    expected = np.asarray(theirs)
    error = float(np.sqrt(np.mean((np.asarray(ours) - expected) ** 2) / np.mean(expected**2)))
    limit = SAME_WEIGHTS[precision]
    return "" if error <= limit else f"logits differ by {error:.3g}, over {limit}"


def check_precision(
    backend: Backend, checkpoint: Path, precision: str, prompt: list[int], ids: list[int]
) -> str:
    """The errors of a quantised backend against the limits of its precision class."""
    source = ModelFolder.open(checkpoint)
    config, definition = source.config, CLASSES[precision]
    language_model = config.language_model, source.language_model_weights()
    decoder = config.decoder, source.decoder_weights()

    def teacher_forced(network: Callable[[list[int]], tuple[Float64, Float64]]) -> Arrays:
        logits, hidden = (values[len(prompt) - 1 :] for values in network(prompt + ids))
        return {"step logits": logits, "step hidden": hidden}

    expected = teacher_forced(LanguageModelOracle(*language_model))
    defined = teacher_forced(RoundedLanguageModel(*language_model, definition))
    states = expected["step hidden"][:DECODED].astype(np.float32)
    expected["spectrum"] = DecoderOracle(*decoder)(states)
    defined["spectrum"] = RoundedDecoder(*decoder, definition)(states)
    first = prefill_one(backend, prompt)
    outputs = [first, *teacher_force(backend, first, [ids])]
    actual = {
        "step logits": np.concatenate([output.logits for output in outputs]),
        "step hidden": np.concatenate([output.hidden for output in outputs]),
        "spectrum": backend.decode(states[None], np.array([len(states)]))[0],
    }
    for quantity, wanted in expected.items():
        floor = replace(noise_floor(defined[quantity], wanted), precision=precision)
        limit = tolerances.against_oracle(quantity, floor, wanted, config)
        rms = noise_floor(actual[quantity], wanted).rms
        if not rms <= limit.rms:
            return f"{quantity}: rms error {rms:.3g}, {precision} allows {limit.rms:.3g}"
    return ""
