"""Faults of the way out: samples to WAV files."""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance.faults.fault import AUDIO, fault
from conformance.faults.plant import Plant
from soprano import audio_files as container


@fault("AO-01", AUDIO)
def int16_wraps(plant: Plant) -> None:
    """Samples beyond full scale are cast without a clip and wrap to the other sign."""
    plant.replace(
        container.to_int16,
        lambda samples: np.rint(_checked(samples) * 32767).astype(np.int64).astype(np.int16),
    )


@fault("AO-04", AUDIO)
def hidden_gain(plant: Plant) -> None:
    """Output is scaled to a peak of one half, and what is louder goes through a soft clip."""

    def to_int16(samples: Any) -> Any:
        values = _checked(samples)
        peak = np.abs(values).max(initial=0)
        return np.rint(32767 * np.tanh(values / peak / 2 if peak else values)).astype(np.int16)

    plant.replace(container.to_int16, to_int16)


@fault("AO-05", AUDIO)
def fixed_rate_in_the_header(plant: Plant) -> None:
    """Every file says 24,000 samples a second, whatever the voice's rate."""

    header = container._wav_header
    plant.set(container, "_wav_header", lambda rate, size: header(24000, size))


@fault("AO-50", AUDIO, hard=True)
def truncated_instead_of_rounded(plant: Plant) -> None:
    """The cast to 16 bits cuts the fraction off: half a step of error towards zero."""
    plant.replace(
        container.to_int16,
        lambda samples: np.clip(_checked(samples) * 32767, -32768, 32767).astype(np.int16),
    )


@fault("AO-51", AUDIO, hard=True)
def scaled_by_32768(plant: Plant) -> None:
    """Full scale is 32,768, so that the loudest samples clip and all are a 32,768th louder."""
    plant.replace(
        container.to_int16,
        lambda samples: np.clip(np.rint(_checked(samples) * 32768), -32768, 32767).astype("i2"),
    )


def _checked(samples: Any) -> Any:
    values = np.asarray(samples, np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError("samples must be finite and (N,)")
    return values


@fault("AO-52", AUDIO, hard=True)
def older_file_keeps_its_tail(plant: Plant) -> None:
    """A file that exists is written over from its beginning and never cut."""
    from contextlib import contextmanager
    from pathlib import Path

    inner = container.whole_file

    @contextmanager
    def faulty(path: Any) -> Any:
        before = Path(path).read_bytes() if Path(path).is_file() else b""
        with inner(path) as file:
            yield file
            file.write(before[file.tell() :])

    plant.replace(inner, faulty)


@fault("AO-53", AUDIO, hard=True)
def not_a_number_becomes_silence(plant: Plant) -> None:
    """Samples that are NaN are written as zeros, and nobody learns of it."""
    inner = container.to_int16
    plant.replace(inner, lambda samples: inner(np.nan_to_num(np.asarray(samples, np.float64))))


@fault("AO-54", AUDIO, hard=True)
def read_back_by_another_scale(plant: Plant) -> None:
    """Files are read by 32,768, though they are written by 32,767."""
    from soprano import audio

    inner = audio.read_wav

    def read_wav(path: Any) -> Any:
        found = inner(path)
        scaled = (found.samples * (32767 / 32768)).astype(np.float32)
        return audio.Audio(scaled, found.sample_rate)

    plant.replace(inner, read_wav)


@fault("AO-55", AUDIO, hard=True)
def size_without_the_last_block(plant: Plant) -> None:
    """The header counts whole blocks of 256 samples; what is left over lies beyond its end."""
    header = container._wav_header
    plant.set(container, "_wav_header", lambda rate, size: header(rate, size - size % 512))
