"""Precision classes: rounded no more than their class allows, and run as what they claim to be."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from conformance.golden.observations import (
    observe_decoder,
    observe_long,
    observe_steps,
    observe_vocabulary,
    sound,
)
from conformance.golden.packs import Vectors, is_trained_voice, relative
from conformance.golden.quantised_weights import (
    Stored,
    count_products,
    exact_arithmetic,
    read_stored,
)
from conformance.golden.rounded_packs import find_source, held_vectors, runtime_of, source_vectors
from conformance.judging import audio_metrics as hearing
from conformance.judging import tolerances
from conformance.judging.skips import NotDeclared
from conformance.options import option
from soprano.backends import Backend, open_backend
from soprano.checkpoint.folder import ModelFolder
from soprano.synthesis import DEFAULT_MODEL, SopranoTTS

TEXTS = (
    "The train leaves at half past nine tomorrow.",
    "Please open the window and close the door.",
    "She has seventeen small green boxes in the kitchen.",
)
# Which class of layers the manifest counts a module among.
LAYERS = {
    "self_attn": "attention",
    "mlp": "mlp",
    "lm_head": "output",
    "embed_tokens": "output",
    "pwconv": "pointwise convolutions",
}

_BUDGETS: dict[tuple[Path, str], Vectors] = {}


@pytest.fixture
def model(request) -> Path:
    return request.node.callspec.params["backend"][1]


@pytest.fixture
def source(judge, model, request) -> ModelFolder:
    """The checkpoint that the model was rounded from (`judge` first: it asks what is declared)."""
    named = option(request.config, "reference")
    return find_source(model, Path(named) if named else None)


@pytest.fixture
def budget(backend, source) -> Vectors:
    """The source's expectations, and the error that the class's definition makes on them."""
    key = (source.path, backend.capabilities.precision)
    if key not in _BUDGETS:
        _BUDGETS[key] = source_vectors(*key)
    return _BUDGETS[key]


@pytest.fixture
def stored(backend, source, model) -> dict[str, Stored]:
    if not (model / "manifest.json").is_file():
        raise NotDeclared("the model is no bundle: how its weights are held is not known")
    return read_stored(model, runtime_of(backend, model))


def within(judge, budget: Vectors, backend: Backend, quantity: str, actual: np.ndarray) -> None:
    """Judges the size of an error; the output turned upside down must exceed what is allowed.

    Coarse classes leave less between one input's output and the next than a float check needs.
    """
    expected, floor = budget.arrays[quantity].astype(np.float64), budget.floors[quantity]
    judge.equal(f"{quantity}: shape", actual.shape, expected.shape)
    limit = tolerances.against_oracle(quantity, floor, expected, backend.config)
    for name, allowed, size in (
        ("rms error", limit.rms, lambda error: np.sqrt(np.mean(error**2))),
        ("worst error", limit.worst, lambda error: np.abs(error).max()),
    ):
        sizes = (float(size(output - expected)) for output in (actual, -actual))
        judge.below(f"{quantity}: {name}", next(sizes), allowed, actual.size, wrong=next(sizes))


@pytest.mark.requirement("PR-01")
def test_the_language_model_rounds_no_more_than_its_class(backend, judge, budget):
    arrays = budget.arrays
    observed = observe_steps(backend, arrays) | observe_vocabulary(backend, arrays)
    for quantity, actual in (observed | observe_long(backend, arrays)).items():
        within(judge, budget, backend, quantity, actual)


@pytest.mark.requirement("PR-02")
def test_the_decoder_rounds_no_more_than_its_class(backend, judge, budget):
    observed, expected = observe_decoder(backend, budget.arrays), budget.arrays["spectrum"]
    for quantity, actual in observed.items():
        within(judge, budget, backend, quantity, actual)
    scaled = {"relative spectrum": relative(expected, expected)}
    in_units = replace(budget, arrays=budget.arrays | scaled)
    actual = relative(observed["spectrum"], expected)
    within(judge, in_units, backend, "relative spectrum", actual)


@pytest.mark.requirement("PR-03")
def test_each_stored_weight_is_the_nearest_level(judge, source, stored):
    weights = {**source.language_model_weights(), **source.decoder_weights()}
    for module, matrix in stored.items():
        wanted, limit = weights[f"{module}.weight"], tolerances.HALF_STEP
        steps = np.where(matrix.steps, matrix.steps, 1)
        off = np.abs(matrix.weights - wanted) / steps
        moved = float((np.abs(matrix.weights + steps - wanted) / steps).max())
        # Four bits have one level less above zero: what lies beyond it is off by up to a step.
        highest = (matrix.bits == 4) & (matrix.flat_levels == 15)
        judge.below(f"{module}: steps off", float(off[~highest].max()), limit, wrong=moved)
        worst = float(off.max(where=highest, initial=0))
        judge.below(f"{module}: steps off at the end", worst, 2 * limit, wrong=2 * moved)


@pytest.mark.requirement("PR-04")
def test_the_manifest_tells_what_was_rounded(judge, stored, model):
    layers = json.loads((model / "manifest.json").read_text(encoding="utf-8"))["precision"][
        "layers"
    ]
    found: dict[str, set[str]] = {}
    for module, matrix in stored.items():
        layer = next(layer for part, layer in LAYERS.items() if part in module)
        found.setdefault(layer, set()).add(f"int{matrix.bits}")
    told = {name: {text.split(",")[0]} for name, text in layers.items() if text.startswith("int")}
    judge.equal("rounded layers", sorted(found), sorted(told))
    for layer, kinds in found.items():
        judge.equal(f"bits of {layer}", sorted(kinds), sorted(told[layer]))


@pytest.mark.requirement("PR-05")
def test_products_run_on_the_stored_levels(backend, judge, stored, model):
    attested = backend.attest()
    found = Counter[str]()
    for entry in attested["weights"].value.split(", "):
        kind, count = entry.split()
        found[kind] = int(count)
    unrounded = found.pop("float32", 0)
    allowed = count_products(model, runtime_of(backend, model))
    judge.equal("the model is quantised", all(allowed), True)
    kinds = [dict(sorted(counts.items())) for counts in allowed]
    judge.equal("products by type", dict(sorted(found.items())) in kinds, True)
    # Of the products with a matrix, only the head's stays float.
    judge.below("float products", unrounded, 1, wrong=unrounded + found.total())
    judge.equal("activations", attested["activations"].value, backend.capabilities.activations)


@pytest.mark.requirement("PR-06")
def test_in_float_arithmetic_a_graph_is_the_model_that_it_holds(
    backend, judge, source, stored, model, tmp_path
):
    """Activations that are rounded hide small faults of the graph: here they are not."""
    if runtime_of(backend, model) != "onnx":
        raise NotDeclared("only the graphs of ONNX Runtime can be told to compute in float32")
    folder = exact_arithmetic(shutil.copytree(model, tmp_path / "exact"))
    exact = open_backend("onnx_cpu", folder, backend.capabilities.precision, threads=1)
    vectors = held_vectors(exact, folder, source)
    observed = observe_steps(exact, vectors.arrays) | observe_decoder(exact, vectors.arrays)
    for quantity, actual in observed.items():
        expected, floor = vectors.arrays[quantity], vectors.floors[quantity]
        limit = tolerances.against_oracle(quantity, floor, expected, exact.config)
        judge.close(quantity, actual, expected, limit)


def sound_of(backend: Backend, prompt: list[int], ids: list[int]) -> np.ndarray:
    """Samples of given ids, from the backend's own states and spectrum."""
    output = backend.prefill(np.array([prompt]), np.array([len(prompt)]))
    states = []
    for number in ids:
        states.append(output.hidden[0])
        output = backend.step(np.array([number]), output.state)
    return sound(backend, np.stack(states))


@pytest.fixture
def reference_voice(source) -> SopranoTTS:
    """What the trained voice is compared with; random weights speak no words."""
    if not is_trained_voice(source):
        raise NotDeclared("the model is not the trained voice")
    pytest.importorskip("torch")
    return _reference_voice()


@cache
def _reference_voice() -> SopranoTTS:
    return SopranoTTS(DEFAULT_MODEL, "pytorch", threads=1)


@pytest.mark.requirement("PR-07")
def test_the_same_ids_sound_the_same(backend, judge, reference_voice):
    rate = reference_voice.sample_rate
    allowed = tolerances.AUDIO_METRICS[backend.capabilities.precision]
    for text in TEXTS:
        sentence = reference_voice.infer(text).sentences[0]
        prompt = reference_voice.tokenizer.prompt(sentence.text)
        ours, theirs = (
            sound_of(each, prompt, sentence.token_ids)
            for each in (backend, reference_voice.backend)
        )
        noisy = theirs + np.random.default_rng(0).normal(0, theirs.std() / 3, len(theirs))
        judge.below(
            "log-mel distance",
            hearing.log_mel_distance(ours, theirs, rate),
            allowed.log_mel,
            len(theirs),
            wrong=hearing.log_mel_distance(noisy, theirs, rate),
        )
        judge.below(
            "intelligibility lost",
            1 - hearing.intelligibility(ours, theirs, rate),
            allowed.stoi_lost,
            len(theirs),
            wrong=1 - hearing.intelligibility(noisy, theirs, rate),
        )


@pytest.mark.requirement("PR-08")
def test_the_same_words_are_recognised(voice, backend, judge, reference_voice):
    rate, wrong = reference_voice.sample_rate, 0
    heard: list[str] = []
    for text in TEXTS:
        wanted = hearing.recognised_words(reference_voice.infer(text).samples, rate)
        words = hearing.recognised_words(voice.infer(text).samples, rate)
        wrong += hearing.word_errors(wanted, words)
        heard += wanted
    allowed = tolerances.AUDIO_METRICS[backend.capabilities.precision].words * len(heard)
    judge.below("words changed", wrong, allowed, len(heard), wrong=len(heard))
