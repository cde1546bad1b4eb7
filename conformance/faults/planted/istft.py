"""Faults of the ISTFT, and of the samples that it returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from conformance.faults.fault import ISTFT, SYNTHESIS, fault
from conformance.faults.network_hooks import patch
from conformance.faults.plant import as_stage, with_offline_path, with_stages, with_voice
from conformance.oracle.combinations import combine
from conformance.oracle.istft_conventions import EDGES, ISTFTS, level
from conformance.subject import Subject
from soprano.stages import Stages
from soprano.stft import StreamingIstft, istft
from soprano.streaming import stream


def with_convention(subject: Subject, name: str) -> Subject:
    return with_stages(subject, istft=ISTFTS[name])


@fault(ISTFT, "IS-01 IS-26", hard=True, public=True)
def divided_by_the_sum_of_windows(subject: Subject) -> Subject:
    """The overlap-added frames are divided by the sum of the windows, not of their squares."""
    return with_convention(subject, "the sum of windows instead of squares")


@fault(ISTFT, "IS-01 IS-15 IS-26", public=True)
def not_divided_at_all(subject: Subject) -> Subject:
    """The overlap-added frames are not divided by the envelope."""
    return with_convention(subject, "no division by the envelope")


@fault(ISTFT, "IS-01 IS-14 IS-26", public=True)
def scale_hidden_by_a_normaliser(subject: Subject) -> Subject:
    """The ISTFT lacks 1/n_fft; a peak normaliser hides it offline, but not in a stream."""
    unscaled = ISTFTS["no 1/n_fft"]

    def normalised(*arguments: Any, **options: Any) -> Any:
        samples = unscaled(*arguments, **options)
        peak = np.abs(samples).max(initial=0)
        return samples / peak if peak else samples

    def unscaled_stream(stages: Stages, tokens: Any, size: int) -> Iterator[tuple[Any, Any]]:
        for samples, finish in stream(stages, tokens, size):
            yield samples * np.float32(stages.config.decoder.n_fft), finish

    return with_stages(subject, istft=normalised, stream=unscaled_stream)


@fault(ISTFT, "IS-01 IS-02 IS-03 IS-26", hard=True, public=True)
def symmetric_window(subject: Subject) -> Subject:
    """The window is the symmetric one of filter design, in synthesis and in the envelope."""
    return with_convention(subject, "a symmetric window")


@fault(ISTFT, "IS-04 IS-26", public=True)
def trimmed_for_same_padding(subject: Subject) -> Subject:
    """(win_length - hop) / 2 samples are trimmed at both ends, for the other padding of Vocos."""
    return with_convention(subject, 'trimmed for "same" padding')


@fault(ISTFT, "IS-06 IS-26", hard=True, public=True)
def short_input_trimmed_less(subject: Subject) -> Subject:
    """Fewer than five frames are trimmed by one hop only, so that one token gives samples."""
    return with_convention(subject, "fewer than five frames trimmed by a hop")


@fault(ISTFT, "IS-01 IS-16 IS-26", public=True)
def a_librarys_own_scaling(subject: Subject) -> Subject:
    """The library scales spectra by the window's sum, and its inverse multiplies by it."""
    return with_convention(subject, "scaled by the window's sum")


@fault(ISTFT, "IS-01 IS-26", hard=True)
def envelope_of_the_steady_state(subject: Subject) -> Subject:
    """The envelope is that of an endless signal, so that both ends are too quiet."""
    return with_convention(subject, "the envelope of an endless signal")


@fault(ISTFT, "IS-01 IS-26", hard=True)
def small_number_added_to_the_envelope(subject: Subject) -> Subject:
    """1e-5 is added to the envelope to avoid a division by zero: all samples are too quiet."""
    return with_convention(subject, "the envelope plus 1e-5")


@fault(ISTFT, "IS-01 IS-26", hard=True)
def frames_in_half_precision(subject: Subject) -> Subject:
    """Frames are stored in half precision before they are overlap-added."""
    return with_convention(subject, "frames in half precision")


@fault(ISTFT, "IS-01 IS-26", hard=True)
def sizes_rounded_to_powers_of_two(subject: Subject) -> Subject:
    """The FFT library supports powers of two only: frames of other sizes are resampled."""
    return with_convention(subject, "an FFT of the next power of two")


@fault(ISTFT, "IS-01 IS-26", hard=True)
def hop_assumed_a_quarter(subject: Subject) -> Subject:
    """The hop is assumed to be a quarter of the window, as in every published model."""
    return with_convention(subject, "a hop of a quarter of the window")


@fault(ISTFT, "IS-10 IS-31", as_stage("istft"), hard=True)
def layouts_guessed_by_size(
    spectrum: Any, config: Any, layout: str = "bft2", **options: Any
) -> Any:
    """The layout is guessed from the axis that has two elements, and the given one is ignored."""
    guessed = "bft2" if np.shape(spectrum)[-1:] == (2,) else "b2ft"
    return istft(spectrum, config, guessed, **options)


@fault(ISTFT, "IS-27 IS-32", hard=True)
def envelope_bounded_from_below(subject: Subject) -> Subject:
    """The envelope is clamped at 0.01, so that samples near an edge are too quiet."""
    return with_convention(subject, "the envelope clamped at 0.01")


@fault(ISTFT, "IS-27 IS-32", hard=True)
def shorter_window_at_the_left(subject: Subject) -> Subject:
    """A window shorter than the frame begins at its first sample instead of being centred."""
    return with_convention(subject, "a shorter window at the left of the frame")


@fault(ISTFT, "IS-01 IS-26", public=True)
def symmetric_window_and_its_sum(subject: Subject) -> Subject:
    """The window is symmetric, and the frames are divided by the sum of windows: 24 % too quiet."""
    both = combine(ISTFTS["a symmetric window"], ISTFTS["the sum of windows instead of squares"])
    return with_stages(subject, istft=both)


@fault(ISTFT, "IS-01 IS-26")
def another_level(subject: Subject) -> Subject:
    """The samples are scaled by 0.7 to leave headroom."""
    return with_stages(subject, istft=level(lambda config: 0.7))


@fault(ISTFT, "IS-19", hard=True)
def dc_and_nyquist_zeroed(subject: Subject) -> Subject:
    """The ISTFT sets DC and Nyquist to zero, as some decoders leave it to do."""
    return with_stages(subject, istft=EDGES["DC and Nyquist zeroed in the ISTFT"])


@fault(ISTFT, "IS-22", hard=True)
def last_half_window_missing(subject: Subject) -> Subject:
    """A streamed ISTFT loses what the frame before the last push adds to its samples."""
    push, held = StreamingIstft.push, WeakKeyDictionary[StreamingIstft, Any]()

    def forgetful(own: StreamingIstft, spectrum: Any, *, last: bool = False) -> Any:
        # The last frame of a push is held back; the last push finds it silent.
        frames = np.concatenate([held.pop(own, spectrum[:, :, :0]), spectrum], axis=2)
        if not last:
            held[own] = frames[:, :, -1:]
            return push(own, frames[:, :, :-1])
        frames[:, :, : frames.shape[2] - spectrum.shape[2]] = 0
        return push(own, frames, last=True)

    patch("push", forgetful, StreamingIstft)  # no field of `Stages`
    return subject


def with_samples_changed(
    subject: Subject, offline: Callable[[Stages, Any], Any], streamed: Callable[..., Any]
) -> Subject:
    """Change the samples of a sentence: all (N,) at once, and chunk by chunk in a stream.

    `streamed(stages, samples, start)` changes the chunk that begins at sample `start`.
    """

    def changed(stages: Stages) -> Stages:
        def faulty_istft(*arguments: Any, **options: Any) -> Any:
            return offline(stages, stages.istft(*arguments, **options)[0])[None]

        def faulty_stream(own: Stages, tokens: Any, size: int) -> Iterator[tuple[Any, Any]]:
            start = 0
            for samples, finish in stages.stream(own, tokens, size):
                yield streamed(stages, samples, start), finish
                start += len(samples)

        return replace(stages, istft=faulty_istft, stream=faulty_stream)

    return with_voice(subject, changed)


@fault(SYNTHESIS, "SY-09", public=True)
def lead_in_silenced(subject: Subject) -> Subject:
    """The first quarter of a second is set to zero to hide a click."""

    def streamed(stages: Stages, samples: Any, start: int) -> Any:
        samples = samples.copy()
        samples[: max(stages.config.sample_rate // 4 - start, 0)] = 0
        return samples

    return with_samples_changed(subject, lambda stages, s: streamed(stages, s, 0), streamed)


@fault(SYNTHESIS, "SY-09", with_offline_path, blame=("SY", "ST"), public=True)
def level_of_the_offline_path(stages: Stages) -> Stages:
    """Offline audio is scaled to its peak; a stream, whose peak is unknown, is not."""

    def normalised(*arguments: Any, **options: Any) -> Any:
        samples = stages.istft(*arguments, **options)
        return samples / np.abs(samples).max() if samples.any() else samples

    return replace(stages, istft=normalised)


@fault(SYNTHESIS, "SY-09", with_voice, hard=True, blame=("SY",))
def first_sample_lost(stages: Stages) -> Stages:
    """A ring buffer begins at its second sample: all audio is one sample early."""

    def early_istft(*arguments: Any, **options: Any) -> Any:
        samples = stages.istft(*arguments, **options)
        return np.concatenate([samples[:, 1:], samples[:, -1:]], axis=1)

    def early_stream(own: Stages, tokens: Any, size: int) -> Iterator[tuple[Any, Any]]:
        chunks = list(stages.stream(own, tokens, size))
        whole = np.concatenate([samples for samples, _ in chunks])
        whole = np.append(whole[1:], whole[-1:])
        start = 0
        for samples, finish in chunks:
            yield whole[start : start + len(samples)], finish
            start += len(samples)

    return replace(stages, istft=early_istft, stream=early_stream)


@fault(SYNTHESIS, "SY-09", hard=True, blame=("SY",))
def noise_gate(subject: Subject) -> Subject:
    """A gate silences samples below a thousandth, offline and streamed."""

    def gated(stages: Stages, samples: Any, start: int = 0) -> Any:
        return np.where(np.abs(samples) < 1e-3, np.float32(0), samples)

    return with_samples_changed(subject, gated, gated)
