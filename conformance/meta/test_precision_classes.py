"""The budget of the int8 class: honest ways of rounding keep it, products that saturate do not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from conformance.golden.expectations import expect_language_model
from conformance.golden.packs import fixture_models, weights_digest, read_pack, read_packs
from conformance.golden.rounded_packs import class_floors
from conformance.judging import tolerances
from conformance.oracle.precision_classes import CLASSES, Precision, RoundedLanguageModel
from soprano.checkpoint.folder import ModelFolder

MODEL = ModelFolder.open(next(path for path in fixture_models() if path.name == "v11"))
(MATRICES, _), *_ = CLASSES["int8"].matrices


def levels_of(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each row in 8 bits: levels from -127 to 127, and their step."""
    step = np.abs(x).max(axis=-1, keepdims=True) / 127
    step = np.where(step == 0, 1, step)
    return np.rint(x / step), step


def by_rows(x: np.ndarray) -> np.ndarray:
    levels, step = levels_of(x)
    return levels * step


class Saturating(RoundedLanguageModel):
    """Unsigned by signed bytes, summed in pairs of 16 bits: what CPUs without VNNI do."""

    def _product(self, x: np.ndarray, name: str) -> np.ndarray:
        rows = x.reshape(-1, x.shape[-1])
        (a, a_step), (b, b_step) = levels_of(rows), levels_of(self._exact[f"{name}.weight"])
        products = (a[:, None] + 128) * b  # (T, N, K)
        pairs = products.reshape(*products.shape[:2], -1, 2).sum(axis=-1)
        sums = np.clip(pairs, -(2**15), 2**15 - 1).sum(axis=-1) - 128 * b.sum(axis=-1)
        return (sums * a_step * b_step.T).reshape(*x.shape[:-1], len(b))


def plain(x: np.ndarray) -> np.ndarray:
    return x


@pytest.fixture(scope="module")
def excess() -> Callable[[RoundedLanguageModel], float]:
    """By how much an implementation's logits exceed what the class may err (1 is all of it)."""
    arrays = read_pack(read_packs()[weights_digest(MODEL) or ""]).arrays
    floors = class_floors(MODEL, arrays, CLASSES["int8"], "int8")

    def measured(model: RoundedLanguageModel) -> float:
        error = expect_language_model(model, arrays)["step logits"] - arrays["step logits"]
        limit = tolerances.against_oracle(
            "step logits", floors["step logits"], arrays["step logits"], MODEL.config
        )
        return float(np.sqrt(np.mean(error**2))) / limit.rms

    return measured


@pytest.mark.parametrize(
    ("matrices", "inputs"), [(by_rows, plain), (by_rows, by_rows)], ids=["weights", "both"]
)
def test_one_scale_a_row_is_within_the_class(excess, matrices, inputs):
    rounding = Precision(((MATRICES, matrices),), inputs)
    weights = MODEL.language_model_weights()
    model = RoundedLanguageModel(MODEL.config.language_model, weights, rounding)
    assert 0.2 < excess(model) < 1


def test_saturating_products_are_not(excess):
    weights = MODEL.language_model_weights()
    model = Saturating(MODEL.config.language_model, weights, CLASSES["int8"])
    assert excess(model) > 5
