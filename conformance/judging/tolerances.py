"""The limits of errors against float64 expectations, each with its reason.

The yardstick is the noise floor, the float32 reference's own error on the same input.
A quantity's limits are
  rms:   FACTOR times the floor's rms error;
  row:   ROW times the floor's worst rms error of a row;
  worst: an element's error, the smaller of PEAK times the floor's worst element and
         k * eps * (largest expected magnitude), k counting the roundings on the longest path,
         and LARGEST times that magnitude.
There is no additive slack.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from conformance.golden.packs import Floor
from conformance.judging.compare import Limit
from soprano.config import MAGNITUDE_LIMIT, IstftConfig, ModelConfig

EPS = float(np.finfo(np.float32).eps)

# Correct float32 runtimes were measured at 0.9 to 2.0 times the floor (ONNX Runtime, OpenVINO, at
# the published size and on the fixtures); subtle faults begin at 24 times.
FACTOR = 4.0

# The worst of n errors is less stable than their rms: correct runtimes were measured at up to 2.1
# times the reference's worst, on the fixtures and at the published size.
PEAK = 8.0

# The rms error of a row (the logits of one position, the hidden state of one token) has its own
# limit, because an error in one row of many is lost in the rms of all elements.
ROW = 4.0

# The other classes are judged against the error that the definition of the class makes on the same
# model and inputs (oracle/precision_classes.py). Correct ports were measured at 0.25 to 1.7 times
# that error (rms), and up to 2.7 times its worst element and 2.1 times its worst row: below 1 where
# only the weights are rounded, at 1.0 to 1.4 where everything is. Matmuls that saturate (8-bit
# pairs summed in 16 bits) were measured at 10 times and more. Smaller faults of a bundle, such as
# one scale for all depthwise kernels, fail where its graph is judged by its own weights.


@dataclass(frozen=True)
class ClassLimits:
    """How many times the noise floor of a precision class an error may be."""

    factor: float  # of the rms of all elements
    peak: float  # of the worst element
    row: float  # of the rms of the worst row
    unit: float  # the relative rounding of the class


CLASS_LIMITS = {
    "fp32": ClassLimits(FACTOR, PEAK, ROW, EPS),
    "fp16": ClassLimits(2.0, 5.0, 3.0, 2.0**-11),
    "bf16": ClassLimits(2.0, 5.0, 3.0, 2.0**-8),
    "int8": ClassLimits(2.0, 5.0, 3.0, 1 / 254),
    "int4": ClassLimits(1.5, 2.5, 2.0, 1 / 14),
}

# A coarse class may be off by as much as an element is large; no error may be as large as that of
# the inverted output, which is twice the largest element.
LARGEST = 1.5

# The error at 64, 256 and 512 tokens, in errors of the class, relative to that at 16: correct
# ports were measured at 0.6 to 1.5. Errors far below the class's are those of float32.
GROWTH, LEAST = 2.0, 0.25


def growth(first: float) -> float:
    """The limit of an error at a larger number of tokens, in errors of the class."""
    return GROWTH * max(first, LEAST)


# Roundings on the longest path, counted from the definitions:
# a layer of the language model: two norms (3 each), q/k norm and RoPE (5), attention weights and
# attention output (5), four projections (4), SiLU and its multiplication (3), two residual sums (2)
# -> 25; embedding, final norm and head: 6.
# A decoder block: depthwise convolution, norm (4), two matmuls, GELU (3), scale, sum -> 12;
# interpolation, input convolution, two norms, head matmul, exp, cos or sin, multiplication -> 16.
# A rounding stands for a dot product over hundreds of terms, whose error grows with the square root
# of their number: 16.
_DOT = 16.0
_LAYER, _ENDS = 25, 6
_BLOCK, _DECODER_ENDS = 12, 16

# The error of cos and sin is proportional to the phase, which reaches some tens of radians.
_PHASE = 32.0


# exp, cos and sin round a magnitude after it was clipped, and so does the type of the results.
def clip(precision: str) -> float:
    """The largest magnitude of a spectrum."""
    unit = CLASS_LIMITS[precision].unit if precision in ("fp16", "bf16") else EPS
    return MAGNITUDE_LIMIT * (1 + 4 * unit)


# Of two outputs of one backend that must agree (with and without KV cache, batched and unbatched),
# both may be off, in opposite directions.
SELF_CONSISTENCY = 2.0


def roundings(quantity: str, config: ModelConfig) -> float:
    """The number k of roundings on the longest path of a quantity."""
    if quantity.split()[-1] in ("spectrum", "samples"):
        return _DOT * _PHASE * (_BLOCK * config.decoder.num_layers + _DECODER_ENDS)
    if quantity.split()[-1] in ("logits", "hidden"):
        return _DOT * (_LAYER * config.language_model.num_hidden_layers + _ENDS)
    raise LookupError(f"no tolerance for {quantity!r}")


def against_oracle(
    quantity: str, floor: Floor, expected: npt.NDArray[np.floating], config: ModelConfig
) -> Limit:
    """The limit of an output against its float64 expectation, in the precision of the floor."""
    limits, scale = CLASS_LIMITS[floor.precision], float(np.abs(expected).max())
    counted = roundings(quantity, config) * limits.unit * scale
    worst = min(limits.peak * floor.worst, counted, LARGEST * scale)
    return Limit(limits.factor * floor.rms, worst, limits.row * floor.row, floor.rms)


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


# Roundings of an ISTFT: log2(n) of an FFT of n points, then the window, the overlap-add (up to
# n/hop terms) and the division. Correct float32 results were measured at 0.7 to 1.5 eps (rms, of
# the rms of the samples); 1e-5 added to the envelope is 56 to 75 eps.
def istft(expected: npt.ArrayLike, config: IstftConfig, dtype: npt.DTypeLike = np.float32) -> Limit:
    """The limit of the samples of an ISTFT."""
    eps = float(np.finfo(np.dtype(dtype)).eps)
    samples = np.asarray(expected)
    peak = float(np.abs(samples).max(initial=0.0)) or 1.0
    rms = float(np.sqrt(np.mean(np.square(samples)))) if samples.any() else 1.0
    k = 2 * (np.log2(max(config.n_fft, 2)) + config.win_length / config.hop_length + 2)
    return Limit(k * eps * rms, 4 * k * eps * peak)


# A divergence of ids is a tie if the measured error of the logits can change the decision: the
# logits of both ids may be off by the limit, in opposite directions.
def tie_margin(limit: Limit, temperature: float) -> float:
    """The largest margin of a tie: a gap of logits, or a distance of probabilities."""
    if temperature == 0:
        return 2 * limit.worst
    # d(probability) <= d(logit) / temperature / 2, for the id and for all before it.
    return limit.worst / temperature


# The probability that correct draws exceed the limit of chi-square. The random stream is fixed, so
# that the test gives the same result in every run; a temperature 8 % off is far beyond the limit.
SIGNIFICANCE = 0.001

# How often ties occur by chance: at temperature 1 about 6 % of runs of 512 ids contained one, which
# is one in 8,500 ids. The limit is eight times that, and one more for short runs.
TIES = 1e-3


def ties_allowed(ids: int) -> int:
    """How many runs may be tied among this number of ids."""
    return 1 + int(TIES * ids)


# A probability is the exponential of a logit, so the absolute error of the logit is the relative
# error of the probability. Logit, penalty, temperature and the subtraction of the maximum round
# once each; the exponential, the sum (in pairs) and the division add a dozen roundings.
def probabilities(logits: npt.NDArray[np.floating], temperature: float) -> Limit:
    """The limit of float32 sampling probabilities made from these logits."""
    largest = float(np.abs(logits).max()) / temperature
    worst = (4 * largest + 12) * EPS
    return Limit(worst, worst)


# A sum of n probabilities one after another rounds n times, by half an eps of at most 1. An id
# whose logit is 25 temperatures below the largest has a probability of 1e-11.
def cumulative(logits: npt.NDArray[np.floating], temperature: float) -> float:
    """How far cumulative probabilities in float32 may be off."""
    likely = logits[logits > logits.max() - 25 * temperature]
    return probabilities(likely, temperature).worst + len(likely) * EPS / 2


# Rounding to the nearest level changes a weight by up to half a step, float32 scales by a bit more.
HALF_STEP = 0.5 * (1 + 2.0**-16)


@dataclass(frozen=True)
class AudioMetrics:
    """How far the trained voice's audio may be from the reference's audio of the same ids."""

    log_mel: float  # dB, the mean over 40 bands
    stoi_lost: float  # from 1
    words: float  # changed, as a fraction of those recognised in the reference's audio


# Measured on correct exports: int8 0.03 to 0.06 dB, STOI 0.998 and no word changed; int4 0.32 to
# 0.39 dB, STOI 0.989 and one word in 25. Noise at a third of the signal: 17 dB and STOI 0.80.
# The error of the class bf16 is a third of that of int8, the error of fp16 a fiftieth.
AUDIO_METRICS = {
    "fp16": AudioMetrics(0.05, 0.002, 0.05),
    "bf16": AudioMetrics(0.2, 0.01, 0.05),
    "int8": AudioMetrics(0.2, 0.01, 0.05),
    "int4": AudioMetrics(1.0, 0.03, 0.15),
}

# KiB per sentence of 40 tokens by which a process may grow beyond its audio. Measured: 2 to 10
# (PyTorch, ONNX Runtime), -4 to 14 (OpenVINO); 112 to 143 if kernels are kept for every shape, 632
# if the decoder keeps its spectra.
MEMORY_PER_SENTENCE, KERNELS_KEPT = 60.0, 110.0

# The first samples of a stream of 256 tokens in chunks of 32 are possible after 15 % of the tokens;
# a loop that generates all ids first was measured at 80 % and more.
FIRST_CHUNK = 0.4

# Each chunk is possible after as much of the time as it has of the samples, and after the tokens
# that its windows look ahead, which are two chunks of 256 tokens in chunks of 32. A chunk that
# waits for the last token is late by all that remains.
LATE_CHUNK = 0.25

# After a stream was closed, what was begun may be completed: a step, or the tokens of a chunk, one
# of 32. A loop that goes on to its end was measured at 80 %.
AFTER_THE_END = 0.3

# Threads that share the work, for each thread that is attested: one that hands its work over to
# another one was measured at 1.1, two threads at 1.8 and more, and at 1.5 where other processes
# took most of the two cores.
THREADS = 1.4

# Chunks have about the requested number of tokens: receptive field and overlap are rounded up to
# whole chunks by some ports.
CHUNK_FACTOR, CHUNK_TOKENS = 2, 16
