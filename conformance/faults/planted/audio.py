"""Faults of the last stage: samples in, a WAV file out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from conformance.faults.fault import AUDIO, fault
from conformance.faults.network_hooks import patch
from conformance.faults.plant import Wrapper, as_stage, with_stages
from conformance.subject import Subject
from soprano import audio
from soprano.audio_files import Writer, open_writer


def with_conversion(subject: Subject, convert: Callable[[Any], Any]) -> Subject:
    """Change how samples become 16-bit values: `convert(samples)` gives whole numbers."""

    class Converting(Wrapper):
        def write(self, samples: Any) -> None:
            values = np.asarray(samples, np.float64)
            if np.isfinite(values).all():  # other samples are rejected as before
                values = np.asarray(convert(values), np.float64) / 32767
            self.inner.write(values)

    def write(file: BinaryIO, container: str, rate: int, count: int | None = None) -> Any:
        return Converting(open_writer(file, container, rate, count))

    return with_stages(subject, write=write)


@fault(AUDIO, "AO-03", public=True)
def int16_wraps(subject: Subject) -> Subject:
    """Samples beyond full scale are cast without clipping and change their sign."""
    return with_conversion(
        subject, lambda values: np.rint(values * 32767).astype(np.int64).astype(np.int16)
    )


@fault(AUDIO, "AO-02", with_conversion, public=True)
def hidden_gain(values: Any) -> Any:
    """Audio is scaled to a peak of 0.5 and passed through a soft clip."""
    peak = np.abs(values).max(initial=0)
    return np.rint(32767 * np.tanh(values / peak / 2 if peak else values))


@fault(AUDIO, "AO-01", as_stage("write"), public=True)
def fixed_rate_in_the_header(
    file: BinaryIO, container: str, rate: int, count: int | None = None
) -> Writer:
    """Every file has a sample rate of 24,000 Hz, whatever the voice's."""
    return open_writer(file, container, 24000, count)


@fault(AUDIO, "AO-02", hard=True)
def truncated_instead_of_rounded(subject: Subject) -> Subject:
    """The cast to 16 bits truncates instead of rounding."""
    return with_conversion(subject, lambda values: np.clip(np.trunc(values * 32767), -32768, 32767))


@fault(AUDIO, "AO-02", hard=True)
def scaled_by_32768(subject: Subject) -> Subject:
    """Full scale is 32,768: the loudest samples clip, and all are louder by 1/32,768."""
    return with_conversion(subject, lambda values: np.clip(np.rint(values * 32768), -32768, 32767))


@fault(AUDIO, "AO-01", as_stage("write"), hard=True)
def older_file_keeps_its_tail(
    file: BinaryIO, container: str, rate: int, count: int | None = None
) -> Any:
    # A file is written as `.NAME.PID.part` and then renamed to NAME.
    """An existing file is overwritten from its beginning and not truncated."""
    part = Path(str(getattr(file, "name", "")))
    older = part.with_name(part.name.removeprefix(".").rsplit(".", 2)[0])
    before = older.read_bytes() if part.suffix == ".part" and older.is_file() else b""

    class Overwriting(Wrapper):
        def close(self) -> None:
            self.inner.close()
            file.write(before[file.tell() :])

    return Overwriting(open_writer(file, container, rate, count))


@fault(AUDIO, "AO-10", hard=True)
def not_a_number_becomes_silence(subject: Subject) -> Subject:
    """Samples that are NaN are written as zeros, without an error."""

    class Silencing(Wrapper):
        def write(self, samples: Any) -> None:
            self.inner.write(np.nan_to_num(np.asarray(samples, np.float64)))

    def write(file: BinaryIO, container: str, rate: int, count: int | None = None) -> Any:
        return Silencing(open_writer(file, container, rate, count))

    return with_stages(subject, write=write)


@fault(AUDIO, "AO-05", hard=True)
def read_back_by_another_scale(subject: Subject) -> Subject:
    """Files are read with a full scale of 32,768, and written with 32,767."""
    inner = audio.read_wav

    def read_wav(path: str | Path) -> audio.Audio:
        read = inner(path)
        return audio.Audio((read.samples * (32767 / 32768)).astype(np.float32), read.sample_rate)

    patch("read_wav", read_wav, audio)
    return subject


@fault(AUDIO, "AO-01", as_stage("write"), hard=True)
def size_without_the_last_block(
    file: BinaryIO, container: str, rate: int, count: int | None = None
) -> Writer:
    """The header counts whole blocks of 256 samples, and the rest lies after its end."""
    return open_writer(file, container, rate, count and count - count % 256)
