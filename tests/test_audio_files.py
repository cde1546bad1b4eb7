"""AO: samples to WAV files, judged by the bytes of the RIFF container."""

from __future__ import annotations

import io
import struct
import wave
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from conformance.judging.judge import Judge
from soprano.audio import Audio, AudioChunk, read_wav
from soprano.audio_files import to_int16, write_wav

RATES = (8000, 16000, 22050, 24000, 32000, 48000)


def chunks(raw: bytes) -> dict[str, bytes]:
    """The chunks of a RIFF WAVE file by name; its sizes must add up to the file's."""
    tag, size, form = struct.unpack("<4sI4s", raw[:12])
    assert (tag, size, form) == (b"RIFF", len(raw) - 8, b"WAVE")
    found, place = {}, 12
    while place < len(raw):
        name, size = struct.unpack("<4sI", raw[place : place + 8])
        found[name.decode()] = raw[place + 8 : place + 8 + size]
        assert len(found[name.decode()]) == size
        place += 8 + size + size % 2
    return found


def written(samples: npt.ArrayLike, rate: int = 16000) -> dict[str, bytes]:
    file = io.BytesIO()
    write_wav(file, samples, rate)
    return chunks(file.getvalue())


def values_in(parts: dict[str, bytes]) -> list[int]:
    return list(struct.unpack(f"<{len(parts['data']) // 2}h", parts["data"]))


def defined(samples: npt.NDArray[Any]) -> list[int]:
    """Full scale is 32767; halves go to the even neighbour, and what is too loud is clipped."""
    return [max(-32768, min(32767, round(Fraction(float(x)) * 32767))) for x in samples]


@pytest.mark.requirement("AO-01")
@pytest.mark.parametrize("rate", RATES)
def test_a_wav_file_says_mono_16_bit_pcm_at_its_rate(judge: Judge, rate: int) -> None:
    fields = struct.unpack("<HHIIHH", written(np.zeros(10, np.float32), rate)["fmt "])
    # PCM, channels, frames a second, bytes a second, bytes a frame, bits a sample
    judge.equal("fmt", fields, (1, 1, rate, 2 * rate, 2, 16))


@pytest.mark.requirement("AO-01")
@pytest.mark.parametrize("count", [0, 1, 2, 2047, 2048])
def test_a_wav_file_holds_every_sample(judge: Judge, count: int) -> None:
    parts = written(np.zeros(count, np.float32))
    judge.equal("chunks", sorted(parts), ["data", "fmt "])
    judge.equal("bytes of data", len(parts["data"]), 2 * count)


@pytest.mark.requirement("AO-02")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_are_the_nearest_of_32767_steps(judge: Judge, dtype: Any) -> None:
    noise = np.random.default_rng(0).uniform(-1, 1, 4096)
    edges = [0, -0.0, 1, -1, 0.5, -0.5, 0.25, 1e-9, 2**-16, -(2**-16), 1 / 32767, 0.999999]
    samples = np.concatenate([edges, noise]).astype(dtype)
    judge.equal("data", values_in(written(samples)), defined(samples))
    judge.equal("to_int16", to_int16(samples).tolist(), defined(samples))


@pytest.mark.requirement("AO-03")
def test_what_is_too_loud_is_clipped_and_never_wraps(judge: Judge) -> None:
    loud = np.array([1.0001, 1.2, 2, 3.5, 1e9, 3e38], np.float32)
    judge.equal("above", values_in(written(loud)), [32767] * 6)
    judge.equal("below", values_in(written(-loud)), [-32768] * 6)
    wave_ = 1.2 * np.sin(np.arange(1000) / 7)
    judge.equal("a peak of 1.2", values_in(written(wave_)), defined(wave_))


@pytest.mark.requirement("AO-04")
@pytest.mark.parametrize("peak", [1e-4, 0.01, 0.3, 0.5, 0.95, 1.0, 1.2])
def test_the_level_is_kept(judge: Judge, peak: float) -> None:
    # Neither a gain that depends on the peak nor a soft clip below full scale.
    samples = (peak * np.sin(np.arange(2000) / 11)).astype(np.float32)
    judge.equal("values", values_in(written(samples)), defined(samples))


@pytest.mark.requirement("AO-05")
@pytest.mark.parametrize("rate", RATES)
def test_a_file_read_back_is_what_was_written(judge: Judge, rate: int, tmp_path: Path) -> None:
    samples = np.random.default_rng(1).uniform(-1, 1, 5000).astype(np.float32)
    path = Audio(samples, rate).save(tmp_path / "sound.wav")
    audio = read_wav(path)
    judge.equal("rate", audio.sample_rate, rate)
    judge.bits("samples", audio.samples, (np.array(defined(samples)) / 32767).astype(np.float32))
    again = read_wav(Audio(audio.samples, rate).save(tmp_path / "again.wav"))
    judge.bits("written once more", again.samples, audio.samples)


@pytest.mark.requirement("AO-05")
def test_saving_takes_a_name_or_a_path_and_replaces(judge: Judge, tmp_path: Path) -> None:
    for place in (tmp_path / "sound.wav", str(tmp_path / "sound.wav")):
        for count in (900, 3):
            saved = Audio(np.full(count, 0.5, np.float32), 16000).save(place)
            judge.equal("path", saved, tmp_path / "sound.wav")
            judge.equal("values", values_in(chunks(saved.read_bytes())), [16384] * count)


@pytest.mark.requirement("AO-06")
def test_no_sound_makes_a_valid_file(judge: Judge, tmp_path: Path) -> None:
    path = Audio(np.zeros(0, np.float32), 32000).save(tmp_path / "empty.wav")
    judge.equal("bytes", len(path.read_bytes()), 44)
    audio = read_wav(path)
    judge.equal("read back", (audio.samples.shape, audio.sample_rate), ((0,), 32000))
    judge.equal("type", audio.samples.dtype.name, "float32")


@pytest.mark.requirement("AO-07")
@pytest.mark.parametrize(("channels", "width"), [(2, 2), (1, 1), (1, 3), (1, 4), (2, 1)])
def test_other_forms_of_wav_are_refused(
    judge: Judge, tmp_path: Path, channels: int, width: int
) -> None:
    forms = {"other.wav": (channels, width), "own.wav": (1, 2)}
    for name, (count, size) in forms.items():
        with wave.open(str(tmp_path / name), "wb") as out:
            out.setnchannels(count)
            out.setsampwidth(size)
            out.setframerate(16000)
            out.writeframes(bytes(12 * count * size))
    judge.refuses(
        "form",
        lambda: read_wav(tmp_path / "other.wav"),
        ValueError,
        accepts=lambda: read_wav(tmp_path / "own.wav"),
    )


@pytest.mark.requirement("AO-08")
def test_audio_is_an_array_of_its_samples(judge: Judge) -> None:
    samples = np.linspace(-1, 1, 7, dtype=np.float32)
    for sound in (Audio(samples, 16000), AudioChunk(samples, 16000, 0)):
        judge.bits("as it is", np.asarray(sound), samples.copy())
        judge.bits("as float64", np.asarray(sound, np.float64), samples.astype(np.float64))
        copied = np.array(sound)
        copied[:] = 0
        judge.equal("a copy is one", bool(sound.samples.any()), True)
    judge.equal("length", len(Audio(samples, 16000)), 7)


@pytest.mark.requirement("AO-09")
def test_duration_is_samples_over_rate(judge: Judge) -> None:
    for count, rate, seconds in ((0, 32000, 0), (16000, 32000, 0.5), (48000, 16000, 3)):
        duration = Audio(np.zeros(count, np.float32), rate).duration
        judge.equal(f"{count} at {rate}", Fraction(duration), Fraction(seconds))


@pytest.mark.requirement("AO-10")
@pytest.mark.parametrize("wrong", [[0.1, np.nan], [np.inf, 0.0], np.zeros((4, 2)), 0.5])
def test_what_is_no_sound_is_refused(judge, wrong):
    judge.refuses(
        "samples",
        lambda: to_int16(wrong),
        ValueError,
        accepts=lambda: to_int16(np.array([0.1, -1.0], np.float32)),
    )
