"""CK, GE, SY and AO: small stages that a port may bring."""

import io
import json
import struct
import wave

import numpy as np
import pytest

from conformance.judging.skips import NotDeclared
from conformance.laws.support.coverage import share
from conformance.laws.support.memory_orders import accepted, memory_orders, unchanged
from conformance.oracle.stage_conventions import CONVERSIONS, STUCK, Stuck, convert
from soprano.backends import BUILT_IN
from soprano.checkpoint.folder import ModelFolder
from soprano.config import SamplingOptions

RATES = (8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 65535, 65536, 96000, 192000)
COUNTS = (0, 1, 2, 3, 4095, 65535, 65536, 65537, 200001)  # samples: more than a block
LARGE = (2**20 - 1, 2**20 + 1, 2**21 + 1, 3_000_001)  # samples: blocks of any size end within them
SILENT = {  # the silent parts of 100,000 samples, whose silence lasts seconds
    "silence at the beginning": [slice(0, 40_000)],
    "silence at the end": [slice(60_000, None)],
    "silence between": [slice(30_000, 70_000)],
    "nothing but silence": [slice(None)],
    "one sample that is not silent": [slice(0, 50_000), slice(50_001, None)],
}
NEAR, FAR = 299.0, 301.0
STEPS = {
    "16 near": [NEAR] * 16,
    "17 near": [NEAR] * 17,
    "18 near": [NEAR] * 18,
    "17 near after 50 far": [FAR] * 50 + [NEAR] * 17,
    "16 near after 50 far": [FAR] * 50 + [NEAR] * 16,
    "16 near, 1 far, 1 near": [NEAR] * 16 + [FAR] + [NEAR],
    "16 near, 1 far, 2 near": [NEAR] * 16 + [FAR] + [NEAR] * 2,
    "16 near, 16 far, 16 near": [NEAR] * 16 + [FAR] * 16 + [NEAR] * 16,
    "near and far in turn": [NEAR, FAR] * 100,
    "two near, one far": [NEAR, NEAR, FAR] * 15,
    "two near, one far, more often": [NEAR, NEAR, FAR] * 16,
    "17 near, then far": [NEAR] * 17 + [FAR] * 100,
    "far": [FAR] * 100,
    "exactly the distance": [300.0] * 20,
    "no change": [0.0] * 17,
    "one state": [],
    # In an utterance of 512 states, wherever they are.
    **{
        f"{near} near after {before} far of 511": [FAR] * before
        + [NEAR] * near
        + [FAR] * (511 - near - before)
        for near in (16, 17)
        for before in (0, 1, 110, 247, 367, 493, 511 - near)
    },
}
OPTIONS = {"temperature": 0.7, "top_p": 0.85, "top_k": 11, "repetition_penalty": 1.35}


@pytest.fixture
def own(backend, request):
    """`own(method, shared)`: the backend's own stage, or the shared one of a built-in backend."""

    def choose(method, shared=None):
        if hasattr(backend, method):
            return getattr(backend, method)
        if shared is None or request.node.callspec.params["backend"][0] not in BUILT_IN:
            raise NotDeclared(f"{backend.name} has no {method} of its own")
        return shared

    return choose


def shared_wav(stages):
    def wav(samples, rate):
        file = io.BytesIO()
        writer = stages.write(file, "wav", rate, len(samples))
        writer.write(samples)
        writer.close()
        return file.getvalue()

    return wav


@pytest.fixture
def wav(own, stages, judge):
    """`(samples, rate) -> the bytes of a WAV file`."""
    return own("wav", shared_wav(stages))


def riff_chunks(raw):
    """The chunks of a RIFF file by name, and the size that its header states."""
    chunks, offset = {}, 12
    while offset + 8 <= len(raw):
        name, size = struct.unpack("<4sI", raw[offset : offset + 8])
        chunks[name] = raw[offset + 8 : offset + 8 + size]
        offset += 8 + size + size % 2
    return chunks, struct.unpack("<4sI4s", raw[:12])


def values_of(raw):
    """The 16-bit values of a WAV file."""
    return np.frombuffer(riff_chunks(raw)[0].get(b"data", b""), "<i2").astype(np.int64)


def ramp(count):
    """Samples (N,), each of another value than its neighbours', none near a half of a value."""
    values = (np.arange(count) * 7919) % 60013 - 30006
    return ((values + 0.2) / 32767).astype(np.float32)


@pytest.mark.requirement("AO-11")
def test_wav_bytes_are_mono_16_bit_pcm_at_the_sample_rate(judge, wav):
    for rate in RATES:
        raw = wav(ramp(101), rate)
        chunks, (tag, size, form) = riff_chunks(raw)
        judge.equal("RIFF", (tag.decode(), form.decode()), ("RIFF", "WAVE"))
        judge.equal("size in the header", size, len(raw) - 8)
        fields = struct.unpack("<HHIIHH", chunks[b"fmt "][:16])
        # PCM, channels, frames per second, bytes per second, bytes per frame, bits per sample
        judge.equal("fmt", fields, (1, 1, rate, 2 * rate, 2, 16))
        with wave.open(io.BytesIO(raw)) as file:
            read = (file.getnchannels(), file.getsampwidth(), file.getframerate())
        judge.equal("channels, bytes and rate", read, (1, 2, rate))


@pytest.mark.requirement("AO-11")
def test_wav_bytes_contain_every_sample(request, judge, wav):
    for count in (*COUNTS, *share(request, LARGE)):
        samples = ramp(count)
        raw = wav(samples.copy(), 16000)
        judge.equal(f"beginning of {count:,} samples", raw[:4].decode("latin-1"), "RIFF")
        with wave.open(io.BytesIO(raw)) as file:
            frames = file.readframes(count + 1)
        judge.equal(f"samples of {count:,}", len(frames) // 2, count)
        values = np.frombuffer(frames, "<i2").astype(np.int64)
        differing = np.abs(values - convert(samples)) > 1  # how they are rounded is AO-12
        judge.equal(f"wrong samples of {count:,}", int(differing.sum()), 0)


@pytest.mark.requirement("AO-11")
def test_wav_bytes_contain_silence(judge, wav):
    for name, parts in SILENT.items():
        samples = ramp(100_000)
        for part in parts:
            samples[part] = 0
        values = values_of(wav(samples.copy(), 16000))
        judge.equal(f"samples, {name}", len(values), len(samples))
        wrong = np.abs(values - convert(samples)) > 1  # how they are rounded is AO-12
        judge.equal(f"wrong samples, {name}", int(wrong.sum()), 0)


@pytest.mark.requirement("AO-12")
@pytest.mark.parametrize("peak", [0.01, 0.95, 1.2])
def test_wav_values_are_rounded_to_the_nearest_of_32767_steps(judge, wav, peak):
    noise = np.random.default_rng(3).uniform(-peak, peak, 5000).astype(np.float32)
    fraction = np.abs(noise.astype(np.float64) * 32767) % 1
    # In float32 the product is not exact, so values near a half may be rounded either way.
    samples = np.concatenate([[0, 0.5, 1, -1], noise[np.abs(fraction - 0.5) > 0.01]])
    samples = samples.astype(np.float32)
    actual, expected = values_of(wav(samples.copy(), 16000)), convert(samples)
    # Of two ways to clip, both are right: to -32768, or at -1 before scaling.
    clipped = convert(samples, bounds=(-32767, 32767))
    followed = [
        name
        for name, conversion in CONVERSIONS.items()
        if not np.array_equal(actual, expected) and np.array_equal(actual, conversion(samples))
    ]
    for name in CONVERSIONS:
        judge.not_following(name, followed)
    judge.equal("values", actual, clipped if np.array_equal(actual, clipped) else expected)


@pytest.mark.requirement("AO-13")
def test_wav_bytes_do_not_depend_on_the_memory_order_of_the_samples(judge, wav):
    for count in (1, 100, 5000):
        samples = ramp(count)
        expected = wav(samples.copy(), 16000)
        for order, given in memory_orders(samples):
            name = f"{count:,} samples, {order}"
            with unchanged(judge, given, name):
                raw = accepted(lambda given=given: wav(given, 16000))
            if raw is not None:
                judge.bits(f"{name}: values", values_of(raw), values_of(expected))


def hidden_of(steps, size):
    """Hidden states (T, H) whose successive L1 distances are the steps, in two halves."""
    sums = np.cumsum([0.0, *steps])
    hidden = np.full((len(sums), size), 7, np.float32)
    hidden[:, 0], hidden[:, 1] = sums / 2, -sums / 2
    return hidden


@pytest.mark.requirement("GE-17")
def test_states_that_hardly_change_for_too_long_are_stuck(judge, own, stages):
    is_stuck, right = own("is_stuck", stages.is_stuck), Stuck()
    size = stages.config.language_model.hidden_size
    # At another distance too: a power of two less, so that the sums stay exact.
    questions = [(hidden_of(s, size) / f, 300.0 / f) for s in STEPS.values() for f in (1, 4)]
    names = [name for name in STEPS for _ in (1, 4)]
    answers = [bool(is_stuck(hidden.copy(), distance)) for hidden, distance in questions]
    expected = [right(*question) for question in questions]
    followed = [
        name
        for name, rule in STUCK.items()
        if answers != expected and answers == [rule(*question) for question in questions]
    ]
    for name in STUCK:
        judge.not_following(name, followed)
    for name, answer, stuck in zip(names, answers, expected, strict=True):
        judge.equal(name, answer, stuck)
    judge.equal("no states", bool(is_stuck(np.zeros((0, size), np.float32), 300.0)), False)


@pytest.mark.requirement("GE-18")
def test_the_memory_order_of_hidden_states_does_not_decide_what_is_stuck(judge, own, stages):
    is_stuck, size = own("is_stuck", stages.is_stuck), stages.config.language_model.hidden_size
    for case in ("17 near after 50 far", "16 near after 50 far", "two near, one far"):
        hidden = hidden_of(STEPS[case], size)
        for order, given in memory_orders(hidden):
            with unchanged(judge, given, f"{case}, {order}"):
                answer = accepted(lambda given=given: is_stuck(given, 300.0))
            if answer is not None:
                judge.equal(f"{case}, {order}", bool(answer), Stuck()(hidden, 300.0))


def folder_with(model, target, options):
    """A copy of a model folder with these generation options, or with none."""
    target.mkdir()
    for path in model.iterdir():
        if path.name != "generation_config.json":
            (target / path.name).symlink_to(path.resolve())
    if options:
        text = json.dumps({**options, "do_sample": True})
        (target / "generation_config.json").write_text(text, "utf-8")
    return target


@pytest.mark.requirement("SY-21")
@pytest.mark.parametrize("stated", [OPTIONS, {}], ids=["stated", "not stated"])
def test_own_default_options_are_those_of_the_model_folder(
    judge, own, subject, request, model, backend, stated, tmp_path
):
    own("default_options")
    name = request.node.callspec.params["backend"][0]
    folder = folder_with(model, tmp_path / model.name, stated)
    opened = subject.open(name, folder, backend.capabilities.precision)
    try:
        options = opened.default_options()
    finally:
        opened.close()
    expected = vars(SamplingOptions(**stated))
    judge.equal("names", sorted(vars(options)), sorted(expected))
    for field, value in expected.items():
        # A port in another language may have one type of numbers.
        judge.equal(field, str(float(getattr(options, field))), str(float(value)))


def rounded_to_bfloat16(values):
    words = values.view(np.uint32).astype(np.uint64)
    rounded = (words + 0x7FFF + ((words >> 16) & 1)) & 0xFFFF0000
    return rounded.astype(np.uint32).view(np.float32)


def rounded_to_float16(values):
    return values.astype(np.float16).astype(np.float32)


ROUNDED = {"fp16": rounded_to_float16, "bf16": rounded_to_bfloat16}
WRONG = {  # what a loader makes of tensors; the first that explains all is named
    "transposed": lambda actual, stored: np.array_equal(actual.T, stored),
    "rounded to bfloat16": lambda actual, stored: np.array_equal(
        actual, rounded_to_bfloat16(stored)
    ),
    "rounded to float16": lambda actual, stored: np.array_equal(actual, rounded_to_float16(stored)),
    "random values: never loaded": lambda actual, stored: unrelated(actual, stored),
    "those of another geometry": lambda actual, stored: actual.shape != stored.shape,
}
# The least part of the tensors that must be explained; else all.
LEAST = {"random values: never loaded": 0.9, "those of another geometry": 0.5}


def unrelated(actual, stored):
    """Whether two tensors of one shape have little in common, or the first is constant."""
    if actual.shape != stored.shape:
        return False
    if np.ptp(actual) == 0:  # biases and weights of norms begin so
        return True
    one, other = actual.astype(np.float64).ravel(), stored.astype(np.float64).ravel()
    return bool(abs(one @ other) <= 0.5 * np.linalg.norm(one) * np.linalg.norm(other))


@pytest.mark.requirement("CK-18")
@pytest.mark.parametrize("network", ["language_model", "decoder"])
def test_loaded_weights_are_those_of_the_checkpoint(judge, own, model, backend, network):
    loaded = own("loaded_weights")()[network]
    folder, precision = ModelFolder.open(model), backend.capabilities.precision
    if not folder.has_weights or backend.capabilities.quantised:
        raise NotDeclared("the weights are quantised, or the folder has none")
    stored = getattr(folder, f"{network}_weights")()
    tied = {"lm_head.weight"} if folder.config.language_model.tie_word_embeddings else set()
    judge.equal("missing tensors", sorted(set(stored) - set(loaded)), [])
    judge.equal("unknown tensors", sorted(set(loaded) - set(stored) - tied), [])
    allowed = ROUNDED.get(precision, np.asarray)
    differing = {
        name: (np.asarray(loaded[name]), values)
        for name, values in stored.items()
        if not np.array_equal(loaded[name], values)
        and not np.array_equal(loaded[name], allowed(values))
    }
    followed = [
        f"tensors are {name}"
        for name, explains in WRONG.items()
        if differing
        and np.mean([explains(*pair) for pair in differing.values()]) >= LEAST.get(name, 1)
    ][:1]
    with judge.together():
        for name in WRONG:
            judge.not_following(f"tensors are {name}", followed)
        judge.equal("tensors with other values", sorted(differing), [])
