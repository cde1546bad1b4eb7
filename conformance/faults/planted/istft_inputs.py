"""Faults of the ISTFT for certain numbers of frames, rows, layouts, sizes and invalid input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from conformance.faults.fault import ISTFT, fault
from conformance.faults.network_hooks import patch
from conformance.faults.plant import as_stage, with_stages
from conformance.oracle.istft import periodic_window
from conformance.oracle.parametric_stages import Complex128, Istft, half_a_frame
from conformance.subject import Subject
from soprano.config import IstftConfig
from soprano.stft import StreamingIstft, istft


@fault(ISTFT, "IS-01", as_stage("istft"), hard=True)
def overlap_lost_between_blocks(
    spectrum: Any, config: Any, layout: str = "bft2", **options: Any
) -> Any:
    """Blocks of 1,024 frames are inverted one by one; their overlap is not added."""
    if layout != "bft2" or options or np.shape(spectrum)[2] <= 1024:
        return istft(spectrum, config, layout, **options)
    starts = range(0, spectrum.shape[2], 1024)
    hop = config.hop_length
    whole = istft(spectrum, config)
    for start in starts[1:]:  # the first samples of a block have nothing of the block before
        block = istft(spectrum[:, :, start:], config)
        whole[:, start * hop :][:, :hop] = block[:, :hop]
    return whole


@fault(ISTFT, "IS-01", as_stage("istft"), hard=True)
def last_frame_of_thirty_three(
    spectrum: Any, config: Any, layout: str = "bft2", **options: Any
) -> Any:
    """Vectors of 32 frames: the only frame beyond them is silent."""
    values = np.array(spectrum)
    if layout == "bft2" and values.ndim == 4 and values.shape[2] % 32 == 1 < values.shape[2]:
        values[:, :, -1] = 0
    return istft(values, config, layout, **options)


@fault(ISTFT, "IS-06 IS-05", as_stage("istft"), public=True)
def few_frames_rejected(spectrum: Any, config: Any, layout: str = "bft2", **options: Any) -> Any:
    """The library rejects a spectrum of no frame or of one frame."""
    if np.ndim(spectrum) == 4 and np.shape(spectrum)[2 if layout == "bft2" else 3] < 2:
        raise RuntimeError("istft expects a longer input")
    return istft(spectrum, config, layout, **options)


@fault(ISTFT, "IS-08 IS-29", as_stage("istft"), hard=True)
def second_row_for_all(spectrum: Any, config: Any, *arguments: Any, **options: Any) -> Any:
    """In a batch, the rows after the second are read at the place of the second."""
    samples = istft(spectrum, config, *arguments, **options)
    samples[2:] = samples[1:2]
    return samples


@fault(ISTFT, "IS-09 IS-30", as_stage("istft"), hard=True)
def memory_read_as_contiguous(
    spectrum: Any, config: Any, layout: str = "bft2", **options: Any
) -> Any:
    """A library is given the address of the spectrum, whatever its memory order."""
    values = np.asarray(spectrum)
    if values.size and values.flags.f_contiguous and not values.flags.c_contiguous:
        values = np.ascontiguousarray(values.ravel(order="K").reshape(values.shape))
    return istft(values, config, layout, **options)


@fault(ISTFT, "IS-11 IS-31", hard=True)
def bins_are_cut_or_padded(subject: Subject) -> Subject:
    """The FFT library pads or cuts a spectrum of another number of bins."""

    def padded(spectrum: Any, config: Any, layout: str = "bft2", **options: Any) -> Any:
        values = np.asarray(spectrum)
        if layout == "bft2" and values.ndim == 4 and values.shape[1] != config.bins:
            missing = max(config.bins - values.shape[1], 0)
            values = np.pad(values, ((0, 0), (0, missing), (0, 0), (0, 0)))[:, : config.bins]
        return istft(values, config, layout, **options)

    return with_stages(subject, istft=padded)


@fault(ISTFT, "IS-17", hard=True)
def samples_in_a_buffer(subject: Subject) -> Subject:
    """The samples are returned in a buffer that the next call of the same size overwrites."""
    buffers: dict[Any, Any] = {}

    def reused(*arguments: Any, **options: Any) -> Any:
        samples = istft(*arguments, **options)
        buffer = buffers.setdefault((samples.shape, samples.dtype), np.empty_like(samples))
        buffer[:] = samples
        return buffer

    return with_stages(subject, istft=reused)


@fault(ISTFT, "IS-07", as_stage("istft"))
def length_only_truncates(
    spectrum: Any, config: Any, layout: str = "bft2", *, length: int | None = None
) -> Any:
    """A length beyond the natural end has no effect."""
    return istft(spectrum, config, layout)[:, :length]


@fault(ISTFT, "IS-12", as_stage("istft"))
def types_are_converted(spectrum: Any, config: Any, layout: str = "bft2", **options: Any) -> Any:
    """A spectrum of any type is converted to float32."""
    values = np.asarray(spectrum)
    known = values.dtype in (np.float32, np.float64)
    return istft(values if known else values.real.astype(np.float32), config, layout, **options)


@fault(ISTFT, "IS-13", as_stage("istft"), hard=True)
def gaps_are_silent(spectrum: Any, config: Any, layout: str = "bft2", **options: Any) -> Any:
    """Where the windows leave gaps, the samples are zero."""
    try:
        return istft(spectrum, config, layout, **options)
    except ValueError:
        if np.ndim(spectrum) != 4 or np.shape(spectrum)[1::2] != (config.bins, 2):
            raise
        if config.hop_length < config.win_length // 2:
            raise
        count = (np.shape(spectrum)[2] - 1) * config.hop_length
        return np.zeros((len(spectrum), max(count, 0)), np.float32)


@fault(ISTFT, "IS-18", as_stage("istft"), hard=True)
def silence_in_front_removed(
    spectrum: Any, config: Any, layout: str = "bft2", **options: Any
) -> Any:
    """Silent frames in front are skipped, and as many silent samples are appended."""
    samples = istft(spectrum, config, layout, **options)
    sounding = np.flatnonzero(np.any(np.asarray(spectrum), axis=(0, 1, 3)))
    if layout != "bft2" or not sounding.size:
        return samples
    return np.roll(samples, -int(sounding[0]) * config.hop_length, axis=1)


def counted(change: Callable[[Complex128], None]) -> Istft:
    """An ISTFT whose bins are changed in place."""

    def bins(values: Complex128, config: IstftConfig) -> Complex128:
        values = values.copy()
        change(values)
        return values

    return Istft(bins=bins)


@fault(ISTFT, "IS-20", hard=True)
def imaginary_dc_added(subject: Subject) -> Subject:
    """The imaginary part of DC is added to its real part, as in a packed real FFT."""

    def change(values: Complex128) -> None:
        values[..., 0] += values[..., 0].imag

    return with_stages(subject, istft=counted(change))


@fault(ISTFT, "IS-19 IS-33", hard=True)
def dc_counted_twice(subject: Subject) -> Subject:
    """Every bin is doubled for its conjugate, also DC, which has none."""

    def change(values: Complex128) -> None:
        values[..., 0] *= 2

    return with_stages(subject, istft=counted(change))


@fault(ISTFT, "IS-21", as_stage("istft"), hard=True)
def zero_divided_by_zero(spectrum: Any, config: Any, layout: str = "bft2", **options: Any) -> Any:
    """Where no window reaches, zero is divided by zero."""
    samples = istft(spectrum, config, layout, **options)
    if not config.center and periodic_window(config)[0] == 0:
        samples[:, :1] = np.nan
    return samples


@fault(ISTFT, "IS-28", hard=True)
def odd_sizes_lose_a_sample(subject: Subject) -> Subject:
    """Both ends together are trimmed by n_fft, also if it is odd."""

    def trim(config: IstftConfig, count: int) -> tuple[int, int]:
        start, _ = half_a_frame(config, count)
        return start, config.n_fft - start

    return with_stages(subject, istft=Istft(trim=trim))


@fault(ISTFT, "IS-23", hard=True)
def stream_waits_for_one_frame_more(subject: Subject) -> Subject:
    """A streamed ISTFT returns samples one frame later than it could."""
    settled = StreamingIstft.settled

    def late(own: StreamingIstft, frames: int, *, last: bool = False) -> int:
        return settled(own, frames if last else max(frames - 1, 0), last=last)

    patch("settled", late, StreamingIstft)
    return subject


@fault(ISTFT, "IS-24", hard=True)
def stream_reuses_its_buffer(subject: Subject) -> Subject:
    """A streamed ISTFT returns views of one buffer."""
    push, buffer = StreamingIstft.push, np.zeros(1 << 20, np.float32)

    def reused(own: StreamingIstft, spectrum: Any, *, last: bool = False) -> Any:
        samples = push(own, spectrum, last=last)
        buffer[: len(samples)] = samples
        return buffer[: len(samples)]

    patch("push", reused, StreamingIstft)
    return subject


@fault(ISTFT, "IS-25")
def stream_accepts_every_config(subject: Subject) -> Subject:
    """A streamed ISTFT does not check that its config can be streamed."""

    checked = StreamingIstft.__init__

    def unchecked(own: Any, config: IstftConfig) -> None:
        try:
            checked(own, config)
        except ValueError:
            checked(own, IstftConfig(64, 16, 64))

    patch("__init__", unchecked, StreamingIstft)
    return subject
