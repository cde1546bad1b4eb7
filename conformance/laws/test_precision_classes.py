"""PR: a backend of a lower precision class rounds no more than its class allows."""

import json
import shutil
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from conformance.golden.observations import (
    hidden_states,
    observe_decoder,
    observe_prefixes,
    observe_steps,
    observe_vocabulary,
)
from conformance.golden.packs import fitted, is_trained_voice, relative
from conformance.golden.quantised_weights import (
    count_matmuls,
    disable_input_rounding,
    read_quantised,
)
from conformance.golden.rounded_packs import (
    definition_of,
    find_rounded_pack,
    find_source,
    runtime_of,
    source_pack,
)
from conformance.judging import audio_metrics, tolerances
from conformance.judging.skips import NotDeclared
from conformance.judging.vectors import Vectors
from conformance.options import option
from soprano.checkpoint.folder import ModelFolder
from soprano.synthesis import DEFAULT_MODEL, SopranoTTS

TEXTS = (
    "The train leaves at half past nine tomorrow.",
    "Please open the window and close the door.",
    "She has seventeen small green boxes in the kitchen.",
)
# The layer class in the manifest, by a part of the module's name.
LAYERS = {
    "self_attn": "attention",
    "mlp": "mlp",
    "lm_head": "output",
    "embed_tokens": "output",
    "pwconv": "pointwise convolutions",
}


@pytest.fixture
def source(judge, model, request):
    """The checkpoint that the model was rounded from.

    `judge` comes first: it skips models to which the requirement does not apply.
    """
    named = option(request.config, "reference")
    return find_source(model, Path(named) if named else None)


@pytest.fixture
def budget(backend, source, model):
    """The source's golden values, with the error that the class's definition makes as floor."""
    precision = backend.capabilities.precision
    pack = source_pack(source.path, precision, definition_of(model, precision))
    return Vectors(fitted(pack, backend.capabilities.max_length), backend.config)


@pytest.fixture
def stored(backend, source, model):
    """The quantised matrices of the bundle by module."""
    known = (model / "manifest.json").is_file() and not ModelFolder.open(model).community_graphs
    if not known:
        raise NotDeclared("the model is not a bundle, so the form of its weights is not known")
    return read_quantised(model, runtime_of(backend, model))


def judge_errors(judge, budget, quantity, actual):
    """Judge the size of an error. The mutant is the inverted output.

    The mutants of `Judge.close` do not fit: a coarse class allows errors as large as the
    difference between the outputs of neighbouring inputs.
    """
    expected = budget.expected(quantity).astype(np.float64)
    judge.shape(quantity, actual, expected.shape, places=budget.places(quantity))
    limit = budget.limit(quantity)
    for name, allowed, size in (
        ("rms error", limit.rms, lambda error: np.sqrt(np.mean(error**2))),
        ("worst error", limit.worst, lambda error: np.abs(error).max()),
    ):
        error, wrong = (float(size(output - expected)) for output in (actual, -actual))
        judge.below(f"{quantity}: {name}", error, allowed, actual.size, wrong=wrong)


@pytest.mark.requirement("PR-01")
def test_logits_and_hidden_states_are_within_the_budget_of_the_class(backend, judge, budget):
    arrays = budget.arrays
    observed = observe_steps(backend, arrays) | observe_vocabulary(backend, arrays)
    for quantity, actual in (observed | observe_prefixes(backend, arrays)).items():
        judge_errors(judge, budget, quantity, actual)


@pytest.mark.requirement("PR-02")
def test_spectra_and_samples_are_within_the_budget_of_the_class(stages, judge, budget):
    observed = observe_decoder(stages, budget.arrays)
    for quantity, actual in observed.items():
        judge_errors(judge, budget, quantity, actual)
    scaled = relative(observed["spectrum"], budget.arrays["spectrum"])
    judge_errors(judge, budget, "relative spectrum", scaled)


@pytest.mark.requirement("PR-03")
def test_each_quantised_weight_is_the_nearest_level(judge, source, stored):
    weights = {**source.language_model_weights(), **source.decoder_weights()}
    for module, matrix in stored.items():
        expected, limit = weights[f"{module}.weight"], tolerances.HALF_STEP
        steps = np.where(matrix.steps, matrix.steps, 1)
        errors = np.abs(matrix.weights - expected) / steps
        shifted = float((np.abs(matrix.weights + steps - expected) / steps).max())
        # Four bits have one level less above zero: a value beyond it is off by up to a step.
        highest = (matrix.bits == 4) & (matrix.flat_codes == 15)
        judge.below(f"{module}: steps off", float(errors[~highest].max()), limit, wrong=shifted)
        worst = float(errors.max(where=highest, initial=0))
        quantity = f"{module}: steps off at the highest level"
        judge.below(quantity, worst, 2 * limit, wrong=2 * shifted)


@pytest.mark.requirement("PR-04")
def test_the_manifest_lists_exactly_the_quantised_layers(judge, stored, model):
    manifest = json.loads((model / "manifest.json").read_text(encoding="utf-8"))
    quantised = {}
    for module, matrix in stored.items():
        layer = next(layer for part, layer in LAYERS.items() if part in module)
        quantised.setdefault(layer, set()).add(f"int{matrix.bits}")
    stated = {
        name: {text.split(",")[0]}
        for name, text in manifest["precision"]["layers"].items()
        if text.startswith("int")
    }
    judge.equal("quantised layers", sorted(quantised), sorted(stated))
    for layer, kinds in quantised.items():
        judge.equal(f"bits of {layer}", sorted(kinds), sorted(stated[layer]))


@pytest.mark.requirement("PR-05")
def test_matmuls_read_the_quantised_weights(backend, judge, stored, model):
    attested = backend.attest()
    counts = Counter()
    for entry in attested["weights"].value.split(", "):
        kind, count = entry.split()
        counts[kind] = int(count)
    unrounded = counts.pop("float32", 0)
    allowed = count_matmuls(model, runtime_of(backend, model))
    judge.equal("the model is quantised", all(allowed), True)
    kinds = [dict(sorted(expected.items())) for expected in allowed]
    judge.equal("matmuls by type", dict(sorted(counts.items())) in kinds, True)
    # The decoder head is the only matmul with weights in float.
    judge.below("float matmuls", unrounded, 1, wrong=unrounded + counts.total())
    judge.equal("activations", attested["activations"].value, backend.capabilities.activations)


@pytest.mark.requirement("PR-06")
def test_without_rounded_inputs_the_graphs_are_the_float_model_of_their_weights(
    backend, subject, judge, source, stored, model, tmp_path
):
    """Rounded activations hide small faults of a graph, so this test disables them."""
    if runtime_of(backend, model) != "onnx":
        raise NotDeclared("only the graphs of ONNX Runtime can be set to compute in float32")
    folder = disable_input_rounding(shutil.copytree(model, tmp_path / "exact"))
    exact = subject.open("onnx_cpu", folder, backend.capabilities.precision, 1)
    vectors = Vectors(find_rounded_pack(exact, folder, source), exact.config)
    observed = observe_steps(exact, vectors.arrays)
    observed |= observe_decoder(subject.stages_of(exact, folder), vectors.arrays)
    for quantity, actual in observed.items():
        expected, limit = vectors.arrays[quantity], vectors.limit(quantity)
        judge.close(quantity, actual, expected, limit, places=vectors.places(quantity))


@pytest.fixture
def reference_voice(source):
    """The trained voice in float32; models with random weights speak no words."""
    if not is_trained_voice(source):
        raise NotDeclared("the model is not the trained voice")
    pytest.importorskip("torch")
    return _reference_voice()


@cache
def _reference_voice():
    return SopranoTTS(DEFAULT_MODEL, "pytorch", threads=1)


@pytest.mark.requirement("PR-07")
def test_log_mel_distance_and_stoi_on_the_ids_of_the_reference(stages, judge, reference_voice):
    rate = reference_voice.sample_rate
    backend, reference = stages.language_model, reference_voice.stages
    allowed = tolerances.AUDIO_METRICS[backend.capabilities.precision]
    for text in TEXTS:
        sentence = reference_voice.infer(text).sentences[0]
        prompt, ids = reference.tokenize(sentence.text), sentence.token_ids[:-1]
        actual, expected = (
            each.vocode(hidden_states(each.language_model, prompt, ids))
            for each in (stages, reference)
        )
        noise = np.random.default_rng(0).normal(0, expected.std() / 3, len(expected))
        noisy = expected + noise
        judge.below(
            "log-mel distance",
            audio_metrics.log_mel_distance(actual, expected, rate),
            allowed.log_mel,
            len(expected),
            wrong=audio_metrics.log_mel_distance(noisy, expected, rate),
        )
        judge.below(
            "intelligibility lost",
            1 - audio_metrics.intelligibility(actual, expected, rate),
            allowed.stoi_lost,
            len(expected),
            wrong=1 - audio_metrics.intelligibility(noisy, expected, rate),
        )


@pytest.mark.requirement("PR-08")
def test_a_recogniser_understands_the_same_words(voice, backend, judge, reference_voice):
    rate, errors, count = reference_voice.sample_rate, 0, 0
    for text in TEXTS:
        expected, actual = (
            audio_metrics.recognised_words(each.infer(text).samples, rate)
            for each in (reference_voice, voice)
        )
        errors += audio_metrics.word_errors(expected, actual)
        count += len(expected)
    allowed = tolerances.AUDIO_METRICS[backend.capabilities.precision].words * count
    judge.below("words changed", errors, allowed, count, wrong=count)
