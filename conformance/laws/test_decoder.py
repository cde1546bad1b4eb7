"""DE: complex spectra against the float64 oracle, and windows of hidden states."""

import numpy as np
import pytest

from conformance.golden.expectations import expect_beginnings
from conformance.golden.inputs import COUNTS, TOKENS, decoder_inputs, hidden_pool, long_hidden
from conformance.golden.observations import spectrum
from conformance.golden.packs import relative
from conformance.judging import tolerances
from conformance.judging.skips import NotDeclared
from conformance.laws.support.coverage import longest, share
from conformance.laws.support.memory_orders import memory_orders, unchanged
from conformance.oracle.istft import inverse_stft

LENGTHS_OF_WINDOWED = (*range(17, 34), 63, 64, 65, 127, 255, 256, 257, 511, 512, 513, 700)
SIZES = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33)  # of batches
WINDOW = 10  # tokens of a window without its context; with it, a length covered by the oracle


def require_batch(stages, rows):
    if rows > 1 and not stages.language_model.capabilities.batch:
        raise NotDeclared("the backend does not declare batches")


@pytest.fixture
def judge_spectra(vectors, judge):
    """Judges two spectra that must agree, of which one is the backend's.

    Once as they are, and once relative to the magnitude of each bin: loud bins hide quiet ones.
    """

    def close(name, actual, expected, bins=slice(None), frames=None):
        judge.shape(f"{name}, spectrum", actual, expected.shape)
        judge.equal(f"{name}: the spectrum is silent", not expected.any(), False)
        scaled = relative(actual, expected), relative(expected, expected)
        pairs = {"relative spectrum": scaled}
        if vectors.pack.same_weights:  # a class's error in loud bins is as large as quiet ones
            pairs["spectrum"] = actual.ravel(), expected.ravel()
        with judge.together():
            for quantity, pair in pairs.items():
                places = vectors.flat_places(expected, quantity, bins, frames)
                limit = vectors.own_limit(quantity)
                judge.close(f"{name}, {quantity}", *pair, limit, places=places)

    return close


@pytest.mark.requirement("DE-01")
def test_spectra_match_the_oracle(stages, vectors, judge):
    config, expected = stages.config.decoder, vectors.arrays["spectrum"]
    spectra = [spectrum(stages, hidden) for hidden in decoder_inputs(vectors.arrays)]
    for tokens, own in zip(TOKENS, spectra, strict=True):
        judge.shape(f"spectrum of {tokens} tokens", own, (config.bins, config.frames(tokens), 2))
    actual = np.concatenate([own.ravel() for own in spectra])
    scaled = relative(actual, expected), vectors.expected("relative spectrum")
    with judge.together():
        for quantity, pair in (("spectrum", (actual, expected)), ("relative spectrum", scaled)):
            judge.close(quantity, *pair, vectors.limit(quantity), places=vectors.places(quantity))


@pytest.mark.requirement("DE-15")
def test_every_number_of_tokens_matches_the_oracle(request, stages, vectors, judge, judge_spectra):
    most = longest(stages.language_model, COUNTS[-1])
    counts = [count for count in share(request, COUNTS[1:]) if count <= most]
    if not counts:
        raise NotDeclared("other models of the run take these numbers of tokens")
    config, hidden = stages.config.decoder, long_hidden(vectors.arrays, COUNTS[-1])
    decoder = vectors.pack.networks().decoder
    for count, expected in zip(
        counts, expect_beginnings(decoder, config, hidden, counts), strict=True
    ):
        if stages.language_model.capabilities.spectrum:
            step = 1 + expected.size // 10_000
            bins = slice(count % step, None, step)  # of long utterances, some of the bins
            actual = spectrum(stages, hidden[:count])
            judge_spectra(f"{count} tokens", actual[bins], expected[bins], bins)
        elif count > 1:
            samples = inverse_stft(expected, config.istft)
            limit = vectors.own_limit("samples")
            judge.waveform(f"{count} tokens", stages.vocode(hidden[:count]), samples, limit)


@pytest.mark.requirement("DE-02")
def test_the_number_of_frames_follows_from_the_tokens(stages, vectors, judge):
    config = stages.config.decoder
    pool = hidden_pool(vectors.arrays)
    for tokens in range(25):
        frames = max(config.frames_per_token * (tokens - 1) + 1, 0)
        shape = (config.n_fft // 2 + 1, frames, 2)
        judge.shape(f"spectrum of {tokens} tokens", spectrum(stages, pool[:tokens]), shape)


@pytest.mark.requirement("DE-03")
def test_dc_and_nyquist_are_zero(stages, vectors, judge):
    for hidden in decoder_inputs(vectors.arrays):
        edges = np.abs(spectrum(stages, hidden)[[0, -1]])
        judge.bits("DC and Nyquist", edges, np.zeros_like(edges))


@pytest.mark.requirement("DE-04")
def test_magnitudes_do_not_exceed_the_clip(stages, vectors, judge):
    pool = hidden_pool(vectors.arrays)
    hidden = pool[: longest(stages.language_model, len(pool))]
    pairs = spectrum(stages, hidden).astype(np.float64)
    magnitude = np.hypot(pairs[..., 0], pairs[..., 1])
    limit = tolerances.clip(vectors.floors["spectrum"].precision)
    largest = float(magnitude.max())
    judge.below("largest magnitude", largest, limit, magnitude.size, wrong=limit + 0.01)


@pytest.mark.requirement("BA-03")
def test_batched_decoding_equals_unbatched(stages, vectors, judge, judge_spectra):
    more = [long_hidden(vectors.arrays, tokens) for tokens in (24, 4, 7, 16, 11)]
    utterances = [*decoder_inputs(vectors.arrays), *more]
    lengths = np.array([*map(len, utterances), 0])
    batch = np.full((len(lengths), max(lengths), utterances[0].shape[1]), 7, np.float32)
    for row, hidden in enumerate(utterances):
        batch[row, : len(hidden)] = hidden
    batched = stages.decode(batch, lengths)
    for row, hidden in enumerate(utterances):
        unbatched = spectrum(stages, hidden)
        frames = unbatched.shape[1]
        judge_spectra(f"{len(hidden)} tokens", batched[row, :, :frames], unbatched)
        beyond = int(np.count_nonzero(batched[row, :, frames:]))
        judge.equal(f"beyond {len(hidden)} tokens", beyond, 0)
    judge.equal("a row of no tokens", int(np.count_nonzero(batched[-1])), 0)


@pytest.mark.requirement("BA-03")
def test_every_batch_size_is_decoded_as_unbatched(request, stages, vectors, judge_spectra):
    sizes = share(request, SIZES)
    if not sizes:
        raise NotDeclared("other models of the run take these batch sizes")
    pool, longest = hidden_pool(vectors.arrays), 6
    windows = [pool[7 * row :][:longest] for row in range(max(SIZES))]
    unbatched = [spectrum(stages, window) for window in windows[: max(sizes)]]
    for size in sizes:
        batch = stages.decode(np.stack(windows[:size]), np.full(size, longest))
        # The rows one after the other: (F, rows * T', 2).
        rows = [np.concatenate(list(spectra), axis=1) for spectra in (batch, unbatched[:size])]
        bins = slice(size % 5, None, 5)
        judge_spectra(f"{size} rows", *(row[bins] for row in rows), bins)


@pytest.mark.requirement("DE-05")
def test_a_hidden_state_affects_only_frames_in_its_receptive_field(
    stages, vectors, judge, judge_spectra
):
    config = stages.config.decoder
    pool = hidden_pool(vectors.arrays)
    changed = pool[:24].copy()
    changed[12] = pool[40]
    before, after = spectrum(stages, pool[:24]), spectrum(stages, changed)
    reach = config.receptive_frames + config.frames_per_token  # interpolation reaches one token
    middle = 12 * config.frames_per_token
    far = [frame for frame in range(before.shape[1]) if abs(frame - middle) >= reach]
    judge_spectra("far frames", after[:, far], before[:, far], frames=far)
    change = (after - before)[:, middle - 3 : middle + 4].astype(np.float64)
    near = np.sqrt(np.mean(change**2, axis=(0, 2)))
    limit = vectors.own_limit("spectrum")
    judge.equal("near frames that changed", int((near > limit.rms).sum()), 7)


@pytest.mark.requirement("DE-06")
def test_windows_with_context_equal_the_whole_utterance(request, stages, vectors, judge_spectra):
    most = longest(stages.language_model, LENGTHS_OF_WINDOWED[-1])
    lengths = [length for length in share(request, LENGTHS_OF_WINDOWED) if length <= most]
    if not lengths:
        raise NotDeclared("other models of the run take these numbers of tokens")
    windows = {}  # by content; most windows are those of a shorter utterance too
    for tokens in lengths:
        hidden = long_hidden(vectors.arrays, tokens)
        whole = spectrum(stages, hidden)
        joined = windowed(stages, hidden, windows)
        bins = slice(tokens % 5, None, 1 if tokens < 65 else 7)  # of long ones, some of the bins
        judge_spectra(f"{tokens} tokens", joined[bins], whole[bins], bins)


def windowed(stages, hidden, known):
    """The spectrum (F, T', 2) of an utterance (T, H), decoded in windows with their context.

    A window in `known` is not decoded again.
    """
    config = stages.config.decoder
    context = -(-config.receptive_frames // config.frames_per_token)
    parts = []
    for start in range(0, len(hidden), WINDOW):
        stop = min(start + WINDOW, len(hidden))
        first = max(start - context, 0)
        window = hidden[first : stop + context + 1]
        key = window.tobytes()
        if key not in known:
            known[key] = spectrum(stages, window)
        last = config.frames(len(hidden)) if stop == len(hidden) else stop * config.frames_per_token
        offset = first * config.frames_per_token
        parts.append(known[key][:, start * config.frames_per_token - offset : last - offset])
    return np.concatenate(parts, axis=1)


@pytest.mark.requirement("DE-07")
def test_the_same_call_gives_the_same_bits_and_keeps_earlier_results(stages, vectors, judge):
    utterances = decoder_inputs(vectors.arrays)
    first = [spectrum(stages, hidden) for hidden in utterances]
    copies = [array.copy() for array in first]
    again = [spectrum(stages, hidden) for hidden in reversed(utterances)][::-1]
    for held, copy, repeated in zip(first, copies, again, strict=True):
        judge.bits("held", held, copy)
        judge.bits("repeated", repeated, copy)


@pytest.mark.requirement("DE-07")
def test_the_arguments_of_decode_are_not_modified(stages, vectors, judge):
    hidden = vectors.arrays["step hidden"].astype(np.float32)
    lengths = np.arange(1, len(hidden) + 1) % hidden.shape[1] + 1
    before = hidden.copy(), lengths.copy()
    stages.decode(hidden, lengths)
    judge.bits("hidden states", hidden, before[0])
    judge.equal("lengths", lengths.tolist(), before[1].tolist())


@pytest.mark.requirement("DE-16")
@pytest.mark.parametrize("lengths", [(5,), (5, 1, 9, 0, 3)], ids=["one row", "five rows"])
def test_hidden_states_beyond_a_row_have_no_effect(stages, vectors, judge, judge_spectra, lengths):
    require_batch(stages, len(lengths))
    pool, lengths = hidden_pool(vectors.arrays), np.array(lengths)
    plain = np.zeros((len(lengths), 11, pool.shape[1]), np.float32)
    for row, length in enumerate(lengths):
        plain[row, :length] = pool[17 * row :][:length]
    beyond = np.arange(plain.shape[1]) >= lengths[:, None]
    expected = stages.decode(plain, lengths)
    config, frames = stages.config.decoder, stages.config.decoder.frames(5)
    shape = (len(lengths), config.bins, config.frames(max(lengths)), 2)
    judge.shape("spectrum of padded rows", expected, shape)
    if len(lengths) == 1:  # rows of a batch: BA-03
        unpadded = spectrum(stages, plain[0, :5])
        judge_spectra("with and without padding", expected[0, :, :frames], unpadded)
    noise = np.random.default_rng(3).normal(0, 100, plain.shape).astype(np.float32)
    for value in (7, np.nan, np.inf, -np.inf, 3e38, noise):
        hidden = np.where(beyond[..., None], np.float32(value), plain)
        name = "noise" if value is noise else f"{value:g}"
        judge.bits(f"padding of {name}: spectrum", stages.decode(hidden, lengths), expected)


@pytest.mark.requirement("DE-17")
@pytest.mark.parametrize("lengths", [(6,), (4, 6, 1)], ids=["one row", "three rows"])
def test_the_memory_order_of_hidden_states_has_no_effect(stages, vectors, judge, lengths):
    require_batch(stages, len(lengths))
    lengths = np.array(lengths)
    hidden = hidden_pool(vectors.arrays)[: 6 * len(lengths)].reshape(len(lengths), 6, -1)
    expected = stages.decode(hidden.copy(), lengths)
    for order, given in memory_orders(hidden):
        with unchanged(judge, given, f"hidden states in {order}"):
            judge.bits(
                f"hidden states in {order}: spectrum", stages.decode(given, lengths), expected
            )
    for order, given in memory_orders(lengths):
        with unchanged(judge, given, f"lengths in {order}"):
            judge.bits(f"lengths in {order}: spectrum", stages.decode(hidden, given), expected)


@pytest.mark.requirement("DE-08")
def test_hidden_states_of_a_wrong_width_are_rejected(stages, judge):
    size = stages.config.language_model.hidden_size
    for width in (size - 1, size + 1):
        judge.refuses(
            f"width {width}",
            lambda w=width: stages.decode(np.zeros((1, 3, w), np.float32), np.array([3])),
            ValueError,
            accepts=lambda: stages.decode(np.zeros((1, 3, size), np.float32), np.array([3])),
        )
