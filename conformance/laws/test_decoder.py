"""The decoder: parity of complex frames with the float64 oracle, and the laws of its windows."""

from __future__ import annotations

import numpy as np
import pytest

from conformance.golden.inputs import decoder_inputs, long_states, states
from conformance.golden.observations import observe_decoder, spectrum
from conformance.golden.packs import Vectors, relative
from conformance.judging import tolerances
from conformance.judging.compare import Limit
from conformance.judging.judge import Judge
from soprano.backends import Backend


def law(backend: Backend, vectors: Vectors, quantity: str = "spectrum") -> Limit:
    expected = vectors.arrays["spectrum"]
    scale = expected if quantity == "spectrum" else relative(expected, expected)
    return tolerances.between_own_outputs(quantity, vectors.floors[quantity], scale, backend.config)


@pytest.fixture
def agree(backend: Backend, vectors: Vectors, judge: Judge):
    """Judges two spectra of the backend that a law says are equal.

    Once as they are, and once in units of each bin's magnitude: loud bins hide quiet ones.
    """

    def close(name: str, actual: np.ndarray, expected: np.ndarray) -> None:
        judge.close(f"{name}, spectrum", actual.ravel(), expected.ravel(), law(backend, vectors))
        scaled = relative(actual, expected), relative(expected, expected)
        quantity = "relative spectrum"
        judge.close(f"{name}, {quantity}", *scaled, law(backend, vectors, quantity))

    return close


@pytest.mark.requirement("DE-01")
def test_spectra_match_the_oracle(backend, vectors, judge):
    observed, expected = observe_decoder(backend, vectors.arrays), vectors.arrays["spectrum"]
    limit = tolerances.against_oracle(
        "spectrum", vectors.floors["spectrum"], expected, backend.config
    )
    judge.close("spectrum", observed["spectrum"], expected, limit)
    scaled = relative(expected, expected)
    limit = tolerances.against_oracle(
        "relative spectrum", vectors.floors["relative spectrum"], scaled, backend.config
    )
    judge.close("relative spectrum", relative(observed["spectrum"], expected), scaled, limit)


@pytest.mark.requirement("DE-02")
def test_frames_follow_from_tokens(backend, vectors, judge):
    config = backend.config.decoder
    pool = states(vectors.arrays)
    for tokens in range(25):
        shape = spectrum(backend, pool[:tokens]).shape
        frames = max(config.frames_per_token * (tokens - 1) + 1, 0)
        judge.equal(f"shape of {tokens} tokens", shape, (config.n_fft // 2 + 1, frames, 2))


@pytest.mark.requirement("DE-03")
def test_dc_and_nyquist_are_zero(backend, vectors, judge):
    for hidden in decoder_inputs(vectors.arrays):
        edges = np.abs(spectrum(backend, hidden)[[0, -1]])
        judge.bits("DC and Nyquist", edges, np.zeros_like(edges))


@pytest.mark.requirement("DE-04")
def test_magnitudes_end_at_the_clip(backend, vectors, judge):
    pairs = spectrum(backend, states(vectors.arrays)).astype(np.float64)
    magnitude = np.hypot(pairs[..., 0], pairs[..., 1])
    limit = 100 * (1 + 4 * tolerances.EPS)
    judge.below("largest magnitude", float(magnitude.max()), limit, magnitude.size, wrong=100.01)


@pytest.mark.requirement("BA-03")
def test_a_row_in_a_ragged_batch_decodes_as_alone(backend, vectors, judge, agree):
    more = [long_states(vectors.arrays, tokens) for tokens in (24, 4, 7, 16, 11)]
    rows = [*decoder_inputs(vectors.arrays), *more]
    lengths = np.array([*map(len, rows), 0])
    batch = np.full((len(lengths), max(lengths), rows[0].shape[1]), 7, np.float32)
    for place, row in enumerate(rows):
        batch[place, : len(row)] = row
    together = backend.decode(batch, lengths)
    for place, row in enumerate(rows):
        alone = spectrum(backend, row)
        agree(f"{len(row)} tokens", together[place, :, : alone.shape[1]], alone)
        rest = together[place, :, alone.shape[1] :]
        judge.equal(f"beyond {len(row)} tokens", int(np.count_nonzero(rest)), 0)
    judge.equal("a row of no tokens", int(np.count_nonzero(together[-1])), 0)


@pytest.mark.requirement("DE-05")
def test_a_frame_depends_on_its_neighbourhood_only(backend, vectors, judge, agree):
    config = backend.config.decoder
    pool = states(vectors.arrays)
    changed = pool[:24].copy()
    changed[12] = pool[40]
    before, after = spectrum(backend, pool[:24]), spectrum(backend, changed)
    reach = config.receptive_frames + config.frames_per_token  # of interpolation: one token
    middle = 12 * config.frames_per_token
    far = [frame for frame in range(before.shape[1]) if abs(frame - middle) >= reach]
    agree("far frames", after[:, far], before[:, far])
    near = np.abs(after - before)[:, middle - 3 : middle + 4].max(axis=(0, 2))
    judge.equal("near frames that moved", int((near > law(backend, vectors).worst).sum()), 7)


WINDOW = 10  # tokens of a window that count; with their context, a length that the oracle judged


@pytest.mark.requirement("DE-06")
@pytest.mark.parametrize(
    "lengths", [range(17, 34), (63, 64, 65, 127, 255, 256, 257), (511, 512, 513, 700)]
)
def test_every_frame_of_every_length_is_that_of_a_window_around_it(
    backend, vectors, agree, lengths
):
    windows: dict[bytes, np.ndarray] = {}  # most are those of a shorter utterance too
    for tokens in lengths:
        hidden = long_states(vectors.arrays, tokens)
        whole = spectrum(backend, hidden)
        joined = windowed(backend, hidden, windows)
        bins = slice(tokens % 5, None, 1 if tokens < 65 else 7)  # long ones: some of the bins
        agree(f"{tokens} tokens", joined[bins], whole[bins])


def windowed(backend: Backend, hidden: np.ndarray, known: dict[bytes, np.ndarray]) -> np.ndarray:
    """The spectrum (F, T', 2) of an utterance, decoded in windows with the context they need.

    Windows that are known are not decoded again.
    """
    config = backend.config.decoder
    context = -(-config.receptive_frames // config.frames_per_token)
    pieces = []
    for start in range(0, len(hidden), WINDOW):
        stop = min(start + WINDOW, len(hidden))
        first = max(start - context, 0)
        window = hidden[first : stop + context + 1]
        key = window.tobytes()
        if key not in known:
            known[key] = spectrum(backend, window)
        frames = known[key]
        last = config.frames(len(hidden)) if stop == len(hidden) else stop * config.frames_per_token
        offset = first * config.frames_per_token
        pieces.append(frames[:, start * config.frames_per_token - offset : last - offset])
    return np.concatenate(pieces, axis=1)


@pytest.mark.requirement("DE-07")
def test_the_same_call_gives_the_same_bits_and_keeps_earlier_results(backend, vectors, judge):
    rows = decoder_inputs(vectors.arrays)
    first = [spectrum(backend, row) for row in rows]
    copies = [array.copy() for array in first]
    again = [spectrum(backend, row) for row in reversed(rows)][::-1]
    for held, copy, repeated in zip(first, copies, again, strict=True):
        judge.bits("held", held, copy)
        judge.bits("repeated", repeated, copy)


@pytest.mark.requirement("DE-07")
def test_states_given_to_the_decoder_are_not_written(backend, vectors, judge):
    hidden = vectors.arrays["step hidden"].astype(np.float32)
    before = hidden.copy()
    lengths = np.arange(1, len(hidden) + 1) % hidden.shape[1] + 1
    kept = lengths.copy()
    backend.decode(hidden, lengths)
    judge.bits("hidden states", hidden, before)
    judge.equal("lengths", lengths.tolist(), kept.tolist())


@pytest.mark.requirement("DE-08")
def test_hidden_states_of_another_width_are_refused(backend, judge):
    size = backend.config.language_model.hidden_size
    for width in (size - 1, size + 1):
        judge.refuses(
            f"width {width}",
            lambda w=width: backend.decode(np.zeros((1, 3, w), np.float32), np.array([3])),
            ValueError,
            accepts=lambda: backend.decode(np.zeros((1, 3, size), np.float32), np.array([3])),
        )
