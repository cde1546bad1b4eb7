"""The int8 class accepts correct roundings and rejects matmuls whose sums saturate."""

from __future__ import annotations

import numpy as np
import pytest

from conformance.golden.expectations import expect_language_model
from conformance.golden.packs import find_pack, fixture_models
from conformance.golden.rounded_packs import class_floors
from conformance.judging import tolerances
from conformance.oracle.networks import LanguageModelOracle
from conformance.oracle.precision_classes import CLASSES, Precision, RoundedLanguageModel, exact
from soprano.checkpoint.folder import ModelFolder

MODEL = ModelFolder.open(next(path for path in fixture_models() if path.name == "v11"))
(MATRICES, _), *_ = CLASSES["int8"].matrices


def quantise(x):
    """Each row as codes from -127 to 127, and their scale."""
    scale = np.abs(x).max(axis=-1, keepdims=True) / 127
    scale = np.where(scale == 0, 1, scale)
    return np.rint(x / scale), scale


def rounded_rows(x):
    codes, scale = quantise(x)
    return codes * scale


def saturating_matmul(x, matrix, module):
    """Pairs of unsigned times signed bytes are summed in 16 bits, as on CPUs without VNNI."""
    (a, a_scale), (b, b_scale) = quantise(x.reshape(-1, x.shape[-1])), quantise(matrix)
    products = (a[:, None] + 128) * b  # (T, N, K)
    pairs = products.reshape(*products.shape[:2], -1, 2).sum(axis=-1)
    sums = np.clip(pairs, -(2**15), 2**15 - 1).sum(axis=-1) - 128 * b.sum(axis=-1)
    return (sums * a_scale * b_scale.T).reshape(*x.shape[:-1], len(b))


@pytest.fixture(scope="module")
def used():
    """The error of an implementation's logits relative to the limit of the class."""
    arrays = find_pack(MODEL.path).arrays
    floors = class_floors(MODEL, arrays, CLASSES["int8"], "int8")

    def measure(model):
        error = expect_language_model(model, arrays)["step logits"] - arrays["step logits"]
        limit = tolerances.against_oracle(
            "step logits", floors["step logits"], arrays["step logits"], MODEL.config
        )
        return float(np.sqrt(np.mean(error**2))) / limit.rms

    return measure


@pytest.mark.parametrize(
    ("matrices", "inputs"),
    [(rounded_rows, exact), (rounded_rows, rounded_rows)],
    ids=["weights", "weights and inputs"],
)
def test_one_scale_per_row_is_within_the_limit_of_the_class(used, matrices, inputs):
    rounding = Precision(((MATRICES, matrices),), inputs)
    weights = MODEL.language_model_weights()
    model = RoundedLanguageModel(MODEL.config.language_model, weights, rounding)
    assert 0.2 < used(model) < 1


def test_saturating_sums_exceed_the_limit_of_the_class(used):
    weights = MODEL.language_model_weights()
    model = LanguageModelOracle(MODEL.config.language_model, weights, saturating_matmul)
    assert used(model) > 5
