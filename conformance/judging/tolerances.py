"""The limits of errors against float64 expectations, each with its reason.

The yardstick is the noise floor, the float32 reference's own error on the same input.
A quantity's limits are
  rms:   FACTOR times the floor's rms error;
  row:   ROW times the floor's worst rms error of a row;
  worst: an element's error, the smaller of PEAK times the floor's worst element and
         k * eps * (largest expected magnitude), k counting the roundings on the longest path.
There is no additive slack.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from conformance.golden.packs import Floor
from conformance.judging.compare import Limit
from soprano.config import IstftConfig, ModelConfig

EPS = float(np.finfo(np.float32).eps)

# Correct float32 runtimes were measured at 0.9 to 2.0 times the floor (ONNX Runtime, OpenVINO, at
# the published size and on the fixtures); subtle faults begin at 24 times.
FACTOR = 4.0

# The worst of n errors is less stable than their rms: correct runtimes were measured at up to 2.1
# times the reference's worst, on the fixtures and at the published size.
PEAK = 8.0

# A row (the logits of one position, the hidden state of one token) has its rms error too, so that
# what goes wrong in one row of many is not lost among the others.
ROW = 4.0

# The other classes are judged against the error that their own definition makes on the same model
# and inputs (precision.py): half and bfloat classes round every operand of a product, int8 and int4
# round large matrices, by blocks, and the products' inputs to 8 bits.
# Correct exports were measured at 0.4 to 1.15 times that error (rms) and 0.3 to 1.6 times its worst
# element: below 1 where activations stay float, at 1.00 where ONNX Runtime rounds them as defined.
# Products that saturate (8-bit pairs summed in 16 bits) lie at 16 times and more, a zero point of
# 127 in one matrix above 1.5. Faults smaller than the class's own error, such as one scale for all
# depthwise kernels (1.0 times), are seen where the graph is judged by the weights that it holds.


@dataclass(frozen=True)
class Row:
    """How many times a class's floor an error may be, and the class's relative rounding."""

    factor: float  # of the rms of all
    peak: float  # of the worst element
    row: float  # of the rms of the worst row
    unit: float


ROWS = {
    "fp32": Row(FACTOR, PEAK, ROW, EPS),
    "fp16": Row(2.0, 4.0, 2.0, 2.0**-11),
    "bf16": Row(2.0, 4.0, 2.0, 2.0**-8),
    # The worst of a few rows is less stable than the rms of all: a correct int8 export of the
    # trained voice was measured at 1.53 times the class's worst row.
    "int8": Row(1.5, 2.5, 2.0, 1 / 254),
    "int4": Row(1.5, 2.5, 2.0, 1 / 14),
}

# Roundings on the longest path, counted from the definitions:
# a layer of the language model: two norms (3 each), q/k norm and rotation (5), scores, softmax and
# mix (5), four projections in a row (4), SiLU and product (3), two residual sums (2) -> 25;
# embedding, final norm and head: 6.
# A decoder block: depthwise convolution, norm (4), two products, GELU (3), scale, sum -> 12;
# interpolation, input convolution, two norms, head product, exp, cos or sin, product -> 16.
# Each rounding is of a dot product over hundreds of terms whose error grows with their root: 16.
_DOT = 16.0
_LAYER, _ENDS = 25, 6
_BLOCK, _DECODER_ENDS = 12, 16

# A phase of many turns loses its leading digits before cos and sin: its error is in proportion to
# the phase, which reaches some tens of radians.
_PHASE = 32.0

# Two outputs of one backend that must agree (cached or not, batched or not): both may err, in
# opposite directions.
SELF_CONSISTENCY = 2.0


def roundings(quantity: str, config: ModelConfig) -> float:
    """k of a quantity: how many roundings lie on its longest path."""
    if quantity.split()[-1] in ("spectrum", "samples"):
        return _DOT * _PHASE * (_BLOCK * config.decoder.num_layers + _DECODER_ENDS)
    if quantity.split()[-1] in ("logits", "hidden"):
        return _DOT * (_LAYER * config.language_model.num_hidden_layers + _ENDS)
    raise LookupError(f"no tolerance for {quantity!r}")


def against_oracle(
    quantity: str, floor: Floor, expected: npt.NDArray[np.floating], config: ModelConfig
) -> Limit:
    """The limit of an output against its float64 expectation, in the precision of the floor."""
    row, scale = ROWS[floor.precision], float(np.abs(expected).max())
    counted = roundings(quantity, config) * row.unit * scale
    worst = min(row.peak * floor.worst, counted)
    return Limit(row.factor * floor.rms, worst, row.row * floor.row, floor.rms)


def between_own_outputs(
    quantity: str, floor: Floor, expected: npt.NDArray[np.floating], config: ModelConfig
) -> Limit:
    """The limit of two outputs of one backend that must agree."""
    limit = against_oracle(quantity, floor, expected, config)
    return Limit(
        SELF_CONSISTENCY * limit.rms,
        SELF_CONSISTENCY * limit.worst,
        SELF_CONSISTENCY * (limit.row or limit.rms),
    )


# The ISTFT against its defining sums: an FFT of n points rounds log2(n) times, then window,
# overlap-add (up to n/hop terms) and division.
def istft(expected: npt.ArrayLike, config: IstftConfig, dtype: npt.DTypeLike = np.float32) -> Limit:
    """The limit of the samples of an ISTFT."""
    eps = float(np.finfo(np.dtype(dtype)).eps)
    scale = float(np.abs(np.asarray(expected)).max(initial=0.0)) or 1.0
    k = 2 * (np.log2(max(config.n_fft, 2)) + config.win_length / config.hop_length + 2)
    return Limit(k * eps * scale, 4 * k * eps * scale)


# A divergence of ids is a tie where the decision's margin is below what the measured error of the
# scores can move: both competitors may err by the limit, in opposite directions.
def tie_margin(limit: Limit, temperature: float) -> float:
    """The margin (a gap of scores, or a distance of probabilities) under which a tie is excused."""
    if temperature == 0:
        return 2 * limit.worst
    # d(probability) <= d(score) / temperature / 2, for the id and for all before it.
    return limit.worst / temperature


# The chance of a chi-square this large for right draws: a fixed stream gives one fixed number, so
# nothing fails now and then, and a temperature 8 % off is far beyond it.
SIGNIFICANCE = 0.001

# Ties come from luck, not from a bug: at temperature 1 some 6 % of runs of 512 ids met one, one in
# 8,500 ids. Eight times that, and one more for short runs, is no longer luck.
TIES = 1e-3


def ties_allowed(decisions: int) -> int:
    """How many runs may be tied when so many ids were decided."""
    return 1 + int(TIES * decisions)


# A probability is the exponential of a score, so the score's absolute error is its relative one:
# logit, penalty, temperature and the shift by the maximum round once each; the exponential, the
# sum of all (in pairs) and the division add a dozen.
def probabilities(logits: npt.NDArray[np.floating], temperature: float) -> Limit:
    """The limit of float32 sampling probabilities made from these logits."""
    largest = float(np.abs(logits).max()) / temperature
    worst = (4 * largest + 12) * EPS
    return Limit(worst, worst)


# Rounding to the nearest level moves a weight by half a step, and float32 scales by a little more.
HALF_STEP = 0.5 * (1 + 2.0**-16)


@dataclass(frozen=True)
class AudioMetrics:
    """How far the trained voice's audio may be from the reference's audio of the same ids."""

    log_mel: float  # dB, the mean over 40 bands
    stoi_lost: float  # of 1
    words: float  # changed, of those recognised in the reference's audio


# Measured on correct exports: int8 0.03 to 0.06 dB, STOI 0.998 and no word changed; int4 0.32 to
# 0.39 dB, STOI 0.989 and one word in 25. Noise at a third of the signal: 17 dB and STOI 0.80.
# bfloat's own error is a third of that of int8, that of half precision a fiftieth.
AUDIO_METRICS = {
    "fp16": AudioMetrics(0.05, 0.002, 0.05),
    "bf16": AudioMetrics(0.2, 0.01, 0.05),
    "int8": AudioMetrics(0.2, 0.01, 0.05),
    "int4": AudioMetrics(1.0, 0.03, 0.15),
}

# KiB a sentence of 40 tokens by which a process may grow beyond its audio. Measured: 2 to 10
# (PyTorch, ONNX Runtime), -4 to 14 (OpenVINO); kernels kept for every shape 112 to 143, spectra
# that a decoder keeps 632.
MEMORY_PER_SENTENCE, KERNELS_KEPT = 60.0, 110.0
