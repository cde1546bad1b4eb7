"""Faults of the way out: samples to WAV files."""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance.meta.faults.fault import AUDIO, fault
from conformance.meta.faults.plant import Plant
from soprano import container


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
