"""Known wrong inverse STFTs, and which of them explain an inverse STFT's samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.oracle.combinations import smallest_explanations
from conformance.oracle.istft import Complex128, Float64, periodic_window
from conformance.oracle.parametric_stages import Istft, complex_bins, envelope
from soprano.config import IstftConfig

Array = npt.NDArray[Any]


def symmetric_window(config: IstftConfig) -> Float64:
    """The window of filter design, whose first and last values are equal."""
    size = config.win_length
    if size < 2:
        return periodic_window(config)
    points = periodic_window(replace(config, n_fft=size - 1, win_length=size - 1, hop_length=1))
    left = (config.n_fft - size) // 2
    return np.pad(np.append(points, points[0]), (left, config.n_fft - size - left))


def another_window(name: str) -> Callable[[IstftConfig], Float64]:
    return lambda config: periodic_window(replace(config, window=name))


def left_aligned_window(config: IstftConfig) -> Float64:
    return np.roll(periodic_window(config), -((config.n_fft - config.win_length) // 2))


def endless_envelope(window: Float64, count: int, hop: int) -> Float64:
    blocks = -(-len(window) // hop)
    period = np.pad(window**2, (0, blocks * hop - len(window))).reshape(blocks, hop).sum(axis=0)
    return np.resize(period, len(envelope(window, count, hop)))


def without(*bins: int) -> Callable[[Complex128, IstftConfig], Complex128]:
    """Sets bins to zero."""

    def zeroed(values: Complex128, config: IstftConfig) -> Complex128:
        values = values.copy()
        values[..., list(bins)] = 0
        return values

    return zeroed


def rounded(values: Any, dtype: Any) -> Any:
    """Real or complex numbers as another type holds them."""
    if np.iscomplexobj(values):
        return rounded(values.real, dtype) + 1j * rounded(values.imag, dtype)
    return values.astype(dtype).astype(np.float64)


def bfloat16(bins: Complex128, config: IstftConfig) -> Complex128:
    def upper(values: Array) -> Array:
        words = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
        kept = (words + 0x7FFF + ((words >> 16) & 1)) & 0xFFFF0000
        return kept.astype(np.uint32).view(np.float32).reshape(values.shape).astype(np.float64)

    return upper(bins.real) + 1j * upper(bins.imag)


def from_power_of_two(frames: Float64, config: IstftConfig) -> Float64:
    """Frames computed with the next power of two samples, of which the nearest are taken."""
    size = config.n_fft
    if size & (size - 1) == 0 or not frames.size:
        return frames
    larger = 1 << size.bit_length()
    wide = np.fft.irfft(np.fft.rfft(frames, axis=-1), larger, axis=-1) * larger / size
    return wide[..., np.rint(np.arange(size) * larger / size).astype(int) % larger]


def level(factor: Callable[[IstftConfig], float]) -> Istft:
    return Istft(samples=lambda samples, config: samples * factor(config))


def hop(length: Callable[[IstftConfig], int]) -> Istft:
    return Istft(lambda config: replace(config, hop_length=min(length(config), config.win_length)))


def of_geometry(n_fft: int, hop_length: int) -> Istft:
    return Istft(
        lambda config: replace(config, n_fft=n_fft, hop_length=hop_length, win_length=n_fft)
    )


def trimmed(start: Callable[[IstftConfig, int], int], *, end: bool = True) -> Istft:
    return Istft(trim=lambda config, count: (start(config, count), end * start(config, count)))


def to_its_peak(samples: Float64, config: IstftConfig) -> Float64:
    peaks = np.abs(samples).max(axis=-1, keepdims=True, initial=0)
    return samples / np.where(peaks, peaks, 1)


ISTFTS: dict[str, Istft] = {
    "a symmetric window": Istft(window=symmetric_window),
    "a rectangular window": Istft(window=another_window("rectangular")),
    "a Hamming window": Istft(window=another_window("hamming")),
    "the square root of the window": Istft(window=lambda c: np.sqrt(np.abs(periodic_window(c)))),
    "a shorter window at the left of the frame": Istft(window=left_aligned_window),
    "frames are not windowed": Istft(synthesis=lambda frames, window: frames),
    "frames are windowed twice": Istft(synthesis=lambda frames, window: frames * window**2),
    "the sum of windows instead of squares": Istft(
        envelope=lambda window, count, hop: envelope(np.sqrt(np.abs(window)), count, hop)
    ),
    "no division by the envelope": Istft(
        envelope=lambda window, count, hop: np.ones_like(envelope(window, count, hop))
    ),
    "the envelope of an endless signal": Istft(envelope=endless_envelope),
    "the envelope plus 1e-5": Istft(
        envelope=lambda window, count, hop: envelope(window, count, hop) + 1e-5
    ),
    "the envelope clamped at 0.01": Istft(
        envelope=lambda window, count, hop: np.maximum(envelope(window, count, hop), 1e-2)
    ),
    "no 1/n_fft": level(lambda config: config.n_fft),
    "1/n_fft twice": level(lambda config: 1 / config.n_fft),
    "1/sqrt(n_fft)": level(lambda config: config.n_fft**0.5),
    "scaled by the window's sum": level(lambda config: periodic_window(config).sum()),
    "inverted polarity": level(lambda config: -1),
    "scaled to its peak": Istft(samples=to_its_peak),
    "the conjugate spectrum": Istft(bins=lambda bins, config: bins.conj()),
    "real and imaginary parts exchanged": Istft(bins=lambda bins, config: 1j * bins.conj()),
    "the imaginary parts are ignored": Istft(bins=lambda bins, config: bins.real + 0j),
    "the real parts are ignored": Istft(bins=lambda bins, config: 1j * bins.imag),
    "a spectrum in half precision": Istft(bins=lambda bins, config: rounded(bins, np.float16)),
    "a spectrum in bfloat16": Istft(bins=bfloat16),
    "frames in half precision": Istft(frames=lambda frames, config: rounded(frames, np.float16)),
    "an FFT of the next power of two": Istft(frames=from_power_of_two),
    "frames in reversed order": Istft(frames=lambda frames, config: frames[:, ::-1]),
    "frames rotated by half": Istft(
        frames=lambda frames, config: np.roll(frames, config.n_fft // 2, axis=-1)
    ),
    "the first frame is dropped": Istft(frames=lambda frames, config: frames[:, 1:]),
    "the last frame is dropped": Istft(frames=lambda frames, config: frames[:, :-1]),
    "a hop of a quarter of the window": hop(lambda config: max(config.win_length // 4, 1)),
    "a hop of half the window": hop(lambda config: max(config.win_length // 2, 1)),
    "a hop one too long": hop(lambda config: config.hop_length + 1),
    "a hop one too short": hop(lambda config: max(config.hop_length - 1, 1)),
    "n_fft 1024 and hop 256 whatever the config": of_geometry(1024, 256),
    "n_fft 2048 and hop 512 whatever the config": of_geometry(2048, 512),
    'trimmed for "same" padding': trimmed(
        lambda config, count: (config.win_length - config.hop_length) // 2
    ),
    "not trimmed": trimmed(lambda config, count: 0),
    "trimmed by a hop": trimmed(lambda config, count: config.hop_length),
    "fewer than five frames trimmed by a hop": trimmed(
        lambda config, count: config.hop_length if count < 5 else config.n_fft // 2
    ),
    "not trimmed at the end": trimmed(lambda config, count: config.n_fft // 2, end=False),
    "the first hop is missing": Istft(samples=lambda s, config: s[:, config.hop_length :]),
    "the last hop is missing": Istft(samples=lambda s, config: s[:, : -config.hop_length]),
}
# Visible only in spectra that no conforming decoder gives: with energy in DC or Nyquist.
EDGES: dict[str, Istft] = {
    "DC and Nyquist zeroed in the ISTFT": Istft(bins=without(0, -1)),
    "DC zeroed in the ISTFT": Istft(bins=without(0)),
    "Nyquist zeroed in the ISTFT": Istft(bins=without(-1)),
}

SMALL = (IstftConfig(64, 16, 64), IstftConfig(600, 200, 600))
# Geometries that are not the family's: a shorter window; an envelope below 0.01 at the edges.
OTHERS = (IstftConfig(60, 20, 48), IstftConfig(64, 64, 64, "hamming"))
COUNTS = (3, 9)  # frames


class _Asked:
    """A random spectrum, the samples (N,) that an inverse STFT gives, and the right ones."""

    def __init__(
        self, istft: Callable[..., Array], config: IstftConfig, count: int, edges: bool
    ) -> None:
        rng = np.random.default_rng([9, config.n_fft, count])
        spectrum = rng.standard_normal((1, config.bins, count, 2)).astype(np.float32)
        if edges:
            spectrum[:, [0, -1], :, 1] = 0
        else:
            spectrum[:, [0, -1]] = 0  # as every decoder of the family gives them
        self.config = config
        self.memo: dict[Any, Any] = {}
        self.bins = complex_bins(spectrum, config, "bft2")
        self.right = self.given_by(Istft())
        self.answered, self.answer = False, np.zeros(0)
        # A port may raise anything for a size that it does not support; this decides nothing.
        with suppress(Exception):
            self.answer = np.asarray(istft(spectrum, config)[0], np.float64)
            self.answered = True

    def given_by(self, stage: Istft) -> Float64:
        recovered, start, end = stage.recovered(self.bins, self.config, self.memo)
        kept = recovered[:, start : max(recovered.shape[1] - end, 0)]
        return stage.samples(kept, stage.config(self.config))[0]


def istfts_followed(
    istft: Callable[..., Array],
    configs: Sequence[IstftConfig] = SMALL,
    *,
    edges: bool = False,
) -> list[str]:
    """The smallest combinations of conventions that give the samples of an inverse STFT.

    Args:
        istft: takes a spectrum (1, F, T, 2) and a config.
        configs: those that it is asked for.
        edges: whether the spectra have energy in DC and Nyquist, and the conventions are those
            about them.
    """
    questions = [_Asked(istft, config, count, edges) for config in configs for count in COUNTS]
    asked = [q for q in questions if q.answered]
    if not all(q.answer.ndim == 1 and np.isfinite(q.answer).all() for q in asked):
        return []
    if asked and not any(q.answer.any() for q in asked):
        return _silent_start(istft, configs[0])
    known = EDGES if edges else ISTFTS
    return smallest_explanations(known, Istft(), lambda stage: _explains(stage, asked))


def _silent_start(istft: Callable[..., Array], config: IstftConfig) -> list[str]:
    """The name of a fault that silences the first samples, at most `_LONGEST_SILENCE`."""
    question = _Asked(istft, config, 2 + _LONGEST_SILENCE // config.hop_length, False)
    given, right = question.answer, question.right
    if given.shape != right.shape or not given.any():
        return []
    silent = int(np.flatnonzero(given)[0])
    if _difference(given[silent:], right[silent:]) > _SAME:
        return []
    return [f"the first {silent:,} samples are silent"]


_LONGEST_SILENCE = 10_000  # samples: a quarter of a second, and more
_SAME = 2e-6  # relative rms difference of two float32 results of the same definition


def _explains(stage: Istft, asked: Sequence[_Asked]) -> str | None:
    """Whether a stage gives all answers (""), or gives them but for the level (which it names)."""
    exact, levels = True, []
    for question in asked:
        given, wrong = question.answer, question.given_by(stage)
        if wrong.shape != given.shape or not wrong.any():
            return None
        far = _difference(wrong, question.right)
        near = max(min(0.1 * far, 1e-4), _SAME if far < _SAME else 0)
        exact = exact and _difference(given, wrong) < near
        levels.append(float(given @ wrong / (wrong @ wrong)))
        if not exact and not _difference(given, levels[-1] * wrong) < 1e-5:
            return None
    if exact:
        return ""
    factor = levels[0]
    # A factor of 1 is no fault, and one of -1 has a name.
    if abs(abs(factor) - 1) > 1e-3 and max(levels) - min(levels) < 1e-4 * abs(factor):
        return f"the level is wrong by a factor of {factor:.4g}"
    return None


def _difference(one: Float64, other: Float64) -> float:
    """The rms difference of two arrays, relative to the second; inf where the shapes differ."""
    if one.shape != other.shape:
        return np.inf
    error, scale = one - other, float(other @ other)
    return float(error @ error / scale) ** 0.5 if scale else np.inf
