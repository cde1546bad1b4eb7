"""AO: samples to WAV files, judged by the bytes of the RIFF container."""

import io
import struct
import wave
from fractions import Fraction

import numpy as np
import pytest

from soprano.audio import Audio, AudioChunk, read_wav

RATES = (8000, 16000, 22050, 24000, 32000, 48000)


def riff_chunks(raw):
    """The chunks of a RIFF WAVE file by name; the sizes must add up to the file's size."""
    tag, size, form = struct.unpack("<4sI4s", raw[:12])
    assert (tag, size, form) == (b"RIFF", len(raw) - 8, b"WAVE")
    chunks, offset = {}, 12
    while offset < len(raw):
        name, size = struct.unpack("<4sI", raw[offset : offset + 8])
        chunks[name.decode()] = raw[offset + 8 : offset + 8 + size]
        assert len(chunks[name.decode()]) == size
        offset += 8 + size + size % 2
    return chunks


def values_of(chunks):
    return list(struct.unpack(f"<{len(chunks['data']) // 2}h", chunks["data"]))


def defined(samples):
    """Full scale is 32767, halves are rounded to even, and louder samples are clipped."""
    return [max(-32768, min(32767, round(Fraction(float(x)) * 32767))) for x in samples]


@pytest.fixture
def written(shared):
    """`written(samples, rate)`: the chunks of a WAV file."""

    def write(samples, rate=16000):
        file = io.BytesIO()
        writer = shared.write(file, "wav", rate, np.size(samples))
        writer.write(samples)
        writer.close()
        return riff_chunks(file.getvalue())

    return write


@pytest.mark.requirement("AO-01")
@pytest.mark.parametrize("rate", RATES)
def test_wav_header_is_mono_16_bit_pcm_at_the_sample_rate(judge, written, rate):
    fields = struct.unpack("<HHIIHH", written(np.zeros(10, np.float32), rate)["fmt "])
    # PCM, channels, frames per second, bytes per second, bytes per frame, bits per sample
    judge.equal("fmt", fields, (1, 1, rate, 2 * rate, 2, 16))


@pytest.mark.requirement("AO-01")
@pytest.mark.parametrize("count", [0, 1, 2, 2047, 2048])
def test_wav_file_contains_every_sample(judge, written, count):
    chunks = written(np.zeros(count, np.float32))
    judge.equal("chunks", sorted(chunks), ["data", "fmt "])
    judge.equal("bytes of data", len(chunks["data"]), 2 * count)


@pytest.mark.requirement("AO-02")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_are_rounded_to_the_nearest_of_32767_steps(judge, written, dtype):
    noise = np.random.default_rng(0).uniform(-1, 1, 4096)
    edges = [0, -0.0, 1, -1, 0.5, -0.5, 0.25, 1e-9, 2**-16, -(2**-16), 1 / 32767, 0.999999]
    samples = np.concatenate([edges, noise]).astype(dtype)
    judge.equal("data", values_of(written(samples)), defined(samples))


@pytest.mark.requirement("AO-03")
def test_samples_beyond_full_scale_are_clipped_and_never_wrap(judge, written):
    loud = np.array([1.0001, 1.2, 2, 3.5, 1e9, 3e38], np.float32)
    judge.equal("above", values_of(written(loud)), [32767] * 6)
    judge.equal("below", values_of(written(-loud)), [-32768] * 6)
    sine = 1.2 * np.sin(np.arange(1000) / 7)
    judge.equal("a peak of 1.2", values_of(written(sine)), defined(sine))


@pytest.mark.requirement("AO-04")
@pytest.mark.parametrize("peak", [1e-4, 0.01, 0.3, 0.5, 0.95, 1.0, 1.2])
def test_no_gain_normalisation_or_soft_clipping(judge, written, peak):
    samples = (peak * np.sin(np.arange(2000) / 11)).astype(np.float32)
    judge.equal("values", values_of(written(samples)), defined(samples))


@pytest.mark.requirement("AO-05")
@pytest.mark.parametrize("rate", RATES)
def test_wav_file_read_back_equals_what_was_written(judge, shared, rate, tmp_path):
    samples = np.random.default_rng(1).uniform(-1, 1, 5000).astype(np.float32)
    audio = read_wav(Audio(samples, rate).save(tmp_path / "audio.wav", write=shared.write))
    judge.equal("rate", audio.sample_rate, rate)
    judge.bits("samples", audio.samples, (np.array(defined(samples)) / 32767).astype(np.float32))
    again = read_wav(audio.save(tmp_path / "again.wav", write=shared.write))
    judge.bits("written again", again.samples, audio.samples)


@pytest.mark.requirement("AO-05")
def test_save_takes_a_string_or_a_path_and_replaces_the_file(judge, shared, tmp_path):
    for path in (tmp_path / "audio.wav", str(tmp_path / "audio.wav")):
        for count in (900, 3):
            saved = Audio(np.full(count, 0.5, np.float32), 16000).save(path, write=shared.write)
            judge.equal("path", saved, tmp_path / "audio.wav")
            judge.equal("values", values_of(riff_chunks(saved.read_bytes())), [16384] * count)


@pytest.mark.requirement("AO-06")
def test_empty_audio_writes_a_valid_header(judge, shared, tmp_path):
    empty = Audio(np.zeros(0, np.float32), 32000)
    path = empty.save(tmp_path / "empty.wav", write=shared.write)
    judge.equal("bytes", len(path.read_bytes()), 44)
    audio = read_wav(path)
    judge.equal("read back", (audio.samples.shape, audio.sample_rate), ((0,), 32000))
    judge.equal("type", audio.samples.dtype.name, "float32")


@pytest.mark.requirement("AO-07")
@pytest.mark.parametrize(("channels", "width"), [(2, 2), (1, 1), (1, 3), (1, 4), (2, 1)])
def test_wav_file_that_is_not_mono_16_bit_is_rejected(judge, tmp_path, channels, width):
    for name, form in {"other.wav": (channels, width), "own.wav": (1, 2)}.items():
        with wave.open(str(tmp_path / name), "wb") as file:
            file.setnchannels(form[0])
            file.setsampwidth(form[1])
            file.setframerate(16000)
            file.writeframes(bytes(12 * form[0] * form[1]))
    judge.refuses(
        "form",
        lambda: read_wav(tmp_path / "other.wav"),
        ValueError,
        accepts=lambda: read_wav(tmp_path / "own.wav"),
    )


@pytest.mark.requirement("AO-08")
def test_audio_and_chunks_convert_to_arrays_of_their_samples(judge):
    samples = np.linspace(-1, 1, 7, dtype=np.float32)
    for audio in (Audio(samples, 16000), AudioChunk(samples, 16000, 0)):
        judge.bits("array", np.asarray(audio), samples.copy())
        judge.bits("as float64", np.asarray(audio, np.float64), samples.astype(np.float64))
        copied = np.array(audio)
        copied[:] = 0
        judge.equal("a copy is independent", bool(audio.samples.any()), True)
    judge.equal("length", len(Audio(samples, 16000)), 7)


@pytest.mark.requirement("AO-09")
def test_duration_is_samples_divided_by_rate(judge):
    for count, rate, seconds in ((0, 32000, 0), (16000, 32000, 0.5), (48000, 16000, 3)):
        duration = Audio(np.zeros(count, np.float32), rate).duration
        judge.equal(f"{count} at {rate}", Fraction(duration), Fraction(seconds))


@pytest.mark.requirement("AO-10")
@pytest.mark.parametrize("wrong", [[0.1, np.nan], [np.inf, 0.0], np.zeros((4, 2)), 0.5])
def test_samples_with_nan_or_inf_or_another_shape_are_rejected(judge, written, wrong):
    judge.refuses(
        "samples",
        lambda: written(wrong),
        ValueError,
        accepts=lambda: written(np.array([0.1, -1.0], np.float32)),
    )
