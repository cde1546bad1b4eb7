"""DE: a decoder whose output is audio, `decode_audio`."""

import numpy as np
import pytest

from conformance.golden.inputs import TOKENS, decoder_inputs, hidden_pool, long_hidden
from conformance.judging.compare import floats
from conformance.judging.skips import NotDeclared
from conformance.laws.support.coverage import longest, share
from conformance.laws.support.memory_orders import memory_orders
from conformance.oracle.istft_conventions import ISTFTS
from conformance.oracle.utterance_conventions import istfts_giving

LENGTHS = (*range(17, 34), 63, 64, 65, 127, 255, 256, 257, 511, 512)
WINDOW = 10  # tokens of a window without its context


@pytest.fixture
def decode_audio(backend, judge):
    """`hidden states (T, H) -> samples (N,)` of one utterance."""
    if not hasattr(backend, "decode_audio"):
        raise NotDeclared(f"{backend.name} has no decode_audio of its own")
    return lambda hidden: backend.decode_audio(hidden[None], np.array([len(hidden)]))[0]


@pytest.mark.requirement("DE-10")
def test_samples_of_an_audio_decoder_match_the_oracle(backend, vectors, judge, decode_audio):
    actual = [decode_audio(hidden) for hidden in decoder_inputs(vectors.arrays)]
    joined, expected = np.concatenate(actual), vectors.arrays["samples"]
    places, limit = vectors.places("samples"), vectors.limit("samples")
    followed = []
    if floats("samples", joined, expected, limit).fault is not None:
        followed = istfts_giving(golden_spectra(vectors), actual, backend.config.decoder.istft)
    with judge.together():
        for name in (*ISTFTS, *followed):
            judge.not_following(name, followed)
        judge.waveform("samples", joined, expected, limit, places=places)


def golden_spectra(vectors):
    """The spectrum (F, T', 2) of each golden utterance."""
    config = vectors.config.decoder
    sizes = [(config.bins, config.frames(tokens), 2) for tokens in TOKENS]
    edges = np.cumsum([np.prod(size) for size in sizes])[:-1]
    parts = np.split(vectors.arrays["spectrum"], edges)
    return [part.reshape(size) for part, size in zip(parts, sizes, strict=True)]


@pytest.mark.requirement("DE-11")
def test_the_number_of_samples_of_an_audio_decoder_follows_from_the_tokens(
    backend, vectors, judge, decode_audio
):
    config, pool = backend.config.decoder, hidden_pool(vectors.arrays)
    for tokens in range(25):
        size = max(tokens - 1, 0) * config.frames_per_token * config.hop_length
        judge.shape(f"samples of {tokens} tokens", decode_audio(pool[:tokens]), (size,))


@pytest.mark.requirement("DE-12")
def test_batched_audio_equals_unbatched(backend, vectors, judge, decode_audio):
    if not backend.capabilities.batch:
        raise NotDeclared("the backend declares no batches")
    utterances = [long_hidden(vectors.arrays, n) for n in (9, 24, 1, 4, 16, 2, 0)]
    lengths = np.array([*map(len, utterances)])
    noise = np.random.default_rng(4).normal(0, 100, (len(lengths), 26, utterances[0].shape[1]))
    limit = vectors.own_limit("samples")
    for padding in (noise.astype(np.float32), np.float32(np.nan), np.float32(np.inf)):
        batch = np.full(noise.shape, padding, np.float32)
        for row, hidden in enumerate(utterances):
            batch[row, : len(hidden)] = hidden
        batched = backend.decode_audio(batch, lengths)
        for samples, hidden in zip(batched, utterances, strict=True):
            alone = decode_audio(hidden)
            name = f"samples of {len(hidden)} tokens"
            if len(alone):
                judge.waveform(name, samples[: len(alone)], alone, limit)
            judge.equal(f"beyond the {name}", int(np.count_nonzero(samples[len(alone) :])), 0)


@pytest.mark.requirement("DE-12")
def test_audio_of_hidden_states_beyond_a_row_has_no_effect(backend, vectors, judge, decode_audio):
    hidden = hidden_pool(vectors.arrays)[:14]
    for padding in (7, np.nan, np.inf):
        padded = np.full((1, 20, hidden.shape[1]), padding, np.float32)
        padded[0, :14] = hidden
        samples = backend.decode_audio(padded, np.array([14]))[0]
        limit = vectors.own_limit("samples")
        judge.waveform(f"samples before padding of {padding}", samples, decode_audio(hidden), limit)


@pytest.mark.requirement("DE-13")
def test_windows_of_an_audio_decoder_equal_the_whole_utterance(
    request, backend, vectors, judge, decode_audio
):
    lengths = [n for n in share(request, LENGTHS) if n <= longest(backend, LENGTHS[-1])]
    if not lengths:
        raise NotDeclared("other models of the run take these numbers of tokens")
    config, limit = backend.config.decoder, vectors.own_limit("samples")
    overlap = -(-config.n_fft // config.hop_length)  # frames that reach a sample
    context = -(-(config.receptive_frames + overlap) // config.frames_per_token)
    for tokens in lengths:
        hidden, parts = long_hidden(vectors.arrays, tokens), []
        for start in range(0, tokens - 1, WINDOW):
            first = max(start - context, 0)
            window = decode_audio(hidden[first : start + WINDOW + context + 1])
            offset = (start - first) * config.samples_per_token
            parts.append(window[offset:][: WINDOW * config.samples_per_token])
        whole = decode_audio(hidden)
        joined = np.concatenate(parts)[: len(whole)]
        judge.waveform(f"samples of {tokens} tokens", joined, whole, limit)


@pytest.mark.requirement("DE-14")
def test_an_audio_decoder_gives_the_same_bits_and_keeps_its_arguments(
    backend, vectors, judge, decode_audio
):
    hidden = hidden_pool(vectors.arrays)[:12]
    first = decode_audio(hidden)
    held = first.copy()
    decode_audio(hidden[3:9])
    judge.bits("samples held", first, held)
    judge.bits("samples repeated", decode_audio(hidden), held)
    for order, given in memory_orders(hidden[None]):
        before, lengths = np.array(given), np.array([12])
        judge.bits(f"{order}: samples", backend.decode_audio(given, lengths)[0], held)
        judge.bits(f"{order}: hidden states", np.array(given), before)
        judge.equal(f"{order}: lengths", lengths.tolist(), [12])


@pytest.mark.requirement("DE-14")
def test_an_audio_decoder_rejects_hidden_states_of_a_wrong_width(backend, judge, decode_audio):
    size = backend.config.language_model.hidden_size
    for width in (size - 1, size + 1):
        judge.refuses(
            f"width {width}",
            lambda w=width: decode_audio(np.zeros((3, w), np.float32)),
            ValueError,
            accepts=lambda: decode_audio(np.zeros((3, size), np.float32)),
        )
