"""Faults of the inverse transform: a spectrum in, samples out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np

from conformance.faults.fault import FOLDER, ISTFT, SYNTHESIS, fault
from conformance.faults.plant import Plant
from soprano.stft import istft
from soprano.synthesis import SopranoTTS

stage = import_module("soprano.stft")  # its name in the package is the function


def enveloped(plant: Plant, squares: Callable[[Any], Any]) -> None:
    """Divide by another sum over frames than that of the squared windows."""

    def envelope(count: int, config: Any) -> Any:
        frames = np.broadcast_to(squares(stage.window(config)), (1, count, config.n_fft))
        return stage._overlap_add(frames, config.hop_length, config.n_fft)[0]

    plant.set(stage, "_envelope", envelope)


def transformed(plant: Plant, change: Callable[..., Any]) -> None:
    """`change(samples, spectrum, config)` after the whole transform, not in the stream."""

    def faulty(spectrum: Any, config: Any, layout: str = "bft2", **options: Any) -> Any:
        samples = istft(spectrum, config, layout, **options)
        return change(samples, spectrum, config).astype(samples.dtype)

    plant.replace(istft, faulty)


def sounded(plant: Plant, change: Callable[[Any, Any], Any]) -> None:
    """`change(voice, samples)` of every sentence that `infer` makes."""
    sound = SopranoTTS._sound

    def faulty(voice: Any, piece: Any) -> None:
        sound(voice, piece)
        piece.samples = change(voice, piece.samples).astype(np.float32)

    plant.set(SopranoTTS, "_sound", faulty)


@fault("IS-01", ISTFT, hard=True)
def divided_by_the_sum_of_windows(plant: Plant) -> None:
    """The overlapped frames are divided by the sum of windows, not of their squares."""
    enveloped(plant, lambda window: window)


@fault("IS-02", ISTFT)
def not_divided_at_all(plant: Plant) -> None:
    """The overlapped frames are not divided by the windows' envelope."""
    plant.set(
        stage,
        "_envelope",
        lambda count, config: np.ones(max(count - 1, 0) * config.hop_length + config.n_fft),
    )


@fault("IS-03", ISTFT)
def scale_hidden_by_a_normaliser(plant: Plant) -> None:
    """The inverse transform lacks its 1/N; a peak normaliser hides it offline, not in streams."""

    def change(samples: Any, spectrum: Any, config: Any) -> Any:
        peak = np.abs(samples).max(initial=0)
        return samples / peak if peak else samples

    transformed(plant, change)
    inner = stage.to_frames
    plant.set(stage, "to_frames", lambda s, c, layout="bft2": inner(s, c, layout) * c.n_fft)


@fault("IS-04", ISTFT, hard=True)
def symmetric_window(plant: Plant) -> None:
    """The window is the symmetric one of filter design, in synthesis and in the envelope."""
    window = stage.window

    def symmetric(config: Any) -> Any:
        if config.window != "hann" or config.win_length < 2:
            return window(config)
        values = 0.5 - 0.5 * np.cos(
            2 * np.pi * np.arange(config.win_length) / (config.win_length - 1)
        )
        left = (config.n_fft - config.win_length) // 2
        return np.pad(values, (left, config.n_fft - config.win_length - left))

    plant.replace(window, symmetric)


def trimmed(plant: Plant, margin: Callable[[Any, int], int]) -> None:
    """Trim `margin(config, frames)` samples at both ends of a centred transform."""

    def faulty(spectrum: Any, config: Any, layout: str = "bft2", **options: Any) -> Any:
        count = np.shape(spectrum)[2 if layout == "bft2" else 3] if np.ndim(spectrum) == 4 else 0
        if not config.center or not count or layout == "auto":
            return istft(spectrum, config, layout, **options)
        whole = istft(spectrum, replace(config, center=False), layout)
        edge = margin(config, count)
        return whole[:, edge : whole.shape[1] - edge]

    plant.replace(istft, faulty)


@fault("IS-09", ISTFT)
def trimmed_for_same_padding(plant: Plant) -> None:
    """(win - hop) / 2 samples are trimmed at the ends, as for the other padding of Vocos."""
    trimmed(plant, lambda config, count: (config.win_length - config.hop_length) // 2)


@fault("IS-10", ISTFT, hard=True)
def short_input_trimmed_less(plant: Plant) -> None:
    """Under five frames only a hop is trimmed, so that one token gives samples."""
    trimmed(plant, lambda config, count: config.hop_length if count < 5 else config.n_fft // 2)


@fault("IS-11", ISTFT)
def a_librarys_own_scaling(plant: Plant) -> None:
    """The library scales spectra by the window's sum, and its inverse multiplies by it."""
    transformed(plant, lambda samples, spectrum, config: samples * stage.window(config).sum())


@fault("IS-12", FOLDER, blame=("CK",))
def signal_numbers_guessed(plant: Plant) -> None:
    """Without numbers in the config, those of another vocoder are assumed."""
    from soprano.checkpoint import config_json as configfile

    guessed = {"sample_rate": 22050, "n_fft": 1024, "hop_length": 256, "win_length": 1024}
    plant.set(configfile, "_PUBLISHED_SIGNAL", {**configfile._PUBLISHED_SIGNAL, **guessed})


@fault("IS-13", SYNTHESIS)
def lead_in_silenced(plant: Plant) -> None:
    """The first quarter of a second is set to zero to hide a click."""

    def change(voice: Any, samples: Any) -> Any:
        samples = samples.copy()
        samples[: voice.sample_rate // 4] = 0
        return samples

    sounded(plant, change)
    stream = SopranoTTS._stream

    def faulty(voice: Any, *arguments: Any) -> Any:
        begun: dict[int, int] = {}
        for chunk in stream(voice, *arguments):
            given = begun.get(chunk.sentence, 0)
            begun[chunk.sentence] = given + len(chunk.samples)
            samples = chunk.samples.copy()
            samples[: max(voice.sample_rate // 4 - given, 0)] = 0
            yield replace(chunk, samples=samples)

    plant.set(SopranoTTS, "_stream", faulty)


@fault("ST-07", SYNTHESIS, blame=("SY", "ST"))
def level_of_the_offline_path(plant: Plant) -> None:
    """Offline audio is normalised to its peak; a stream, which cannot know it, is not."""
    sounded(
        plant, lambda voice, samples: samples / np.abs(samples).max() if samples.any() else samples
    )


@fault("IS-50", ISTFT, hard=True)
def envelope_of_the_steady_state(plant: Plant) -> None:
    """The envelope is that of an endless signal, so that both ends are too quiet."""

    def envelope(count: int, config: Any) -> Any:
        squares, hop = stage.window(config) ** 2, config.hop_length
        steady = np.zeros(hop)
        for start in range(0, config.n_fft, hop):
            piece = squares[start : start + hop]
            steady[: len(piece)] += piece
        size = max(count - 1, 0) * hop + config.n_fft
        return np.tile(steady, -(-size // hop))[:size]

    plant.set(stage, "_envelope", envelope)


@fault("IS-51", ISTFT, hard=True)
def small_number_added_to_the_envelope(plant: Plant) -> None:
    """A small number is added to the envelope against division by zero: all is too quiet."""
    inner = stage._envelope
    plant.set(stage, "_envelope", lambda count, config: inner(count, config) + 1e-5)


@fault("IS-52", ISTFT, hard=True)
def frames_in_half_precision(plant: Plant) -> None:
    """The inverse transforms of frames are kept in half precision before they overlap."""
    inner = stage._windowed
    plant.set(
        stage,
        "_windowed",
        lambda frames, config: inner(frames.astype(np.float16).astype(frames.dtype), config),
    )


@fault("IS-53", ISTFT, hard=True)
def sizes_rounded_to_powers_of_two(plant: Plant) -> None:
    """A transform library takes powers of two only: frames of other sizes are resampled."""
    inner = stage.to_frames

    def to_frames(spectrum: Any, config: Any, layout: str = "bft2") -> Any:
        frames = inner(spectrum, config, layout)
        size = config.n_fft
        if size & (size - 1) == 0 or not frames.size:
            return frames
        larger = 1 << size.bit_length()
        bins = np.fft.rfft(frames, axis=-1)
        places = np.arange(size) * larger / size
        wide = np.fft.irfft(bins, larger, axis=-1) * larger / size
        return wide[..., np.rint(places).astype(int) % larger].astype(frames.dtype)

    plant.set(stage, "to_frames", to_frames)


@fault("IS-54", ISTFT, hard=True)
def hop_assumed_a_quarter(plant: Plant) -> None:
    """The hop is taken to be a quarter of the window, as in every published model."""

    def faulty(spectrum: Any, config: Any, layout: str = "bft2", **options: Any) -> Any:
        return istft(
            spectrum, replace(config, hop_length=max(config.win_length // 4, 1)), layout, **options
        )

    plant.replace(istft, faulty)


@fault("IS-55", ISTFT, hard=True)
def layouts_guessed_by_size(plant: Plant) -> None:
    """A spectrum's layout is guessed from where an axis of two stands."""

    def faulty(spectrum: Any, config: Any, layout: str = "bft2", **options: Any) -> Any:
        found = "bft2" if np.shape(spectrum)[-1:] == (2,) else "b2ft"
        return istft(spectrum, config, found, **options)

    plant.replace(istft, faulty)


@fault("IS-56", SYNTHESIS, hard=True, blame=("SY",))
def first_sample_lost(plant: Plant) -> None:
    """A ring buffer begins at its second sample: all audio is one sample early."""

    def change(voice: Any, samples: Any) -> Any:
        return np.append(samples[1:], samples[-1:])

    sounded(plant, change)
    stream = SopranoTTS._stream

    def faulty(voice: Any, *arguments: Any) -> Any:
        chunks = list(stream(voice, *arguments))
        for i, chunk in enumerate(chunks):
            after = [c.samples for c in chunks[i + 1 :] if c.sentence == chunk.sentence]
            rest = np.concatenate([*after, chunk.samples[-1:]])[:1]
            yield replace(chunk, samples=np.append(chunk.samples[1:], rest).astype(np.float32))

    plant.set(SopranoTTS, "_stream", faulty)


@fault("IS-57", SYNTHESIS, hard=True, blame=("SY",))
def noise_gate(plant: Plant) -> None:
    """A gate silences what is quieter than a thousandth, offline and streamed alike."""
    sounded(
        plant,
        lambda voice, samples: np.where(np.abs(samples) < 1e-3, np.float32(0), samples),
    )
    stream = SopranoTTS._stream

    def faulty(voice: Any, *arguments: Any) -> Any:
        for chunk in stream(voice, *arguments):
            quiet = np.abs(chunk.samples) < 1e-3
            yield replace(chunk, samples=np.where(quiet, np.float32(0), chunk.samples))

    plant.set(SopranoTTS, "_stream", faulty)


@fault("IS-58", ISTFT, hard=True)
def envelope_bounded_from_below(plant: Plant) -> None:
    """The envelope is clamped at a hundredth, so that the first samples of the edge are quiet."""
    inner = stage._envelope
    plant.set(stage, "_envelope", lambda count, config: np.maximum(inner(count, config), 1e-2))


@fault("IS-59", ISTFT, hard=True)
def shorter_window_at_the_left(plant: Plant) -> None:
    """A window shorter than the frame begins at its first sample instead of in its middle."""
    inner = stage.window

    def window(config: Any) -> Any:
        return np.roll(inner(config), -((config.n_fft - config.win_length) // 2))

    plant.replace(inner, window)


@fault("IS-60", ISTFT, hard=True)
def last_half_window_missing(plant: Plant) -> None:
    """A stream forgets what the frame before its last piece still adds to it."""
    push = stage.StreamingIstft.push

    def faulty(stream: Any, spectrum: Any, *, last: bool = False) -> Any:
        if last and stream._tail.shape[1] > 1:
            stream._tail = stream._tail.copy()
            stream._tail[:, 0] = 0
        return push(stream, spectrum, last=last)

    plant.set(stage.StreamingIstft, "push", faulty)
