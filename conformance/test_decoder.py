"""The decoder: parity of complex frames with the float64 oracle, and the laws of its windows."""

from __future__ import annotations

import numpy as np
import pytest

from conformance import tolerances
from conformance.compare import Limit
from conformance.ledger import Judge
from conformance.vectors import TOKENS, Vectors, decoder_inputs, observe_decoder, relative
from soprano.backends import Backend


def spectrum(backend: Backend, hidden: np.ndarray) -> np.ndarray:
    """(F, T', 2) of one utterance (T, H)."""
    return backend.decode(hidden[None], np.array([len(hidden)]))[0]


def law(backend: Backend, vectors: Vectors, quantity: str = "spectrum") -> Limit:
    expected = vectors.arrays["spectrum"]
    scale = expected if quantity == "spectrum" else relative(expected, expected)
    return tolerances.between_ways(quantity, vectors.floors[quantity], scale, backend.config)


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
    states = vectors.arrays["decoder hidden"]
    for tokens in range(25):
        shape = spectrum(backend, states[:tokens]).shape
        frames = max(config.frames_per_token * (tokens - 1) + 1, 0)
        judge.equal(f"shape of {tokens} tokens", shape, (config.n_fft // 2 + 1, frames, 2))


@pytest.mark.requirement("DE-03")
def test_dc_and_nyquist_are_zero(backend, vectors, judge):
    for hidden in decoder_inputs(vectors.arrays):
        edges = np.abs(spectrum(backend, hidden)[[0, -1]])
        judge.same("DC and Nyquist", edges, np.zeros_like(edges))


@pytest.mark.requirement("DE-04")
def test_magnitudes_end_at_the_clip(backend, vectors, judge):
    pairs = spectrum(backend, vectors.arrays["decoder hidden"]).astype(np.float64)
    magnitude = np.hypot(pairs[..., 0], pairs[..., 1])
    limit = 100 * (1 + 4 * tolerances.EPS)
    judge.below("largest magnitude", float(magnitude.max()), limit, magnitude.size, wrong=100.01)


@pytest.mark.requirement("BA-03")
def test_a_row_in_a_ragged_batch_decodes_as_alone(backend, vectors, judge, agree):
    rows = decoder_inputs(vectors.arrays)
    lengths = np.array([*TOKENS, 0])
    batch = np.full((len(lengths), max(TOKENS), rows[0].shape[1]), 7, np.float32)
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
    states = vectors.arrays["decoder hidden"][:24]
    changed = states.copy()
    changed[12] = vectors.arrays["decoder hidden"][40]
    before, after = spectrum(backend, states), spectrum(backend, changed)
    reach = config.receptive_frames + config.frames_per_token  # of interpolation: one token
    middle = 12 * config.frames_per_token
    far = [frame for frame in range(before.shape[1]) if abs(frame - middle) >= reach]
    agree("far frames", after[:, far], before[:, far])
    near = np.abs(after - before)[:, middle - 3 : middle + 4].max(axis=(0, 2))
    judge.equal("near frames that moved", int((near > law(backend, vectors).worst).sum()), 7)


@pytest.mark.requirement("DE-06")
def test_context_of_the_receptive_field_makes_a_window_exact(backend, vectors, agree):
    config = backend.config.decoder
    states = vectors.arrays["decoder hidden"][:40]
    whole = spectrum(backend, states)
    context = -(-config.receptive_frames // config.frames_per_token)
    start, stop = 10, 30
    window = spectrum(backend, states[start:stop])
    first = (start + context) * config.frames_per_token
    last = (stop - 1 - context) * config.frames_per_token
    offset = start * config.frames_per_token
    agree("window", window[:, first - offset : last - offset], whole[:, first:last])


@pytest.mark.requirement("DE-07")
def test_the_same_call_gives_the_same_bits_and_keeps_earlier_results(backend, vectors, judge):
    rows = decoder_inputs(vectors.arrays)
    first = [spectrum(backend, row) for row in rows]
    copies = [array.copy() for array in first]
    again = [spectrum(backend, row) for row in reversed(rows)][::-1]
    for held, copy, repeated in zip(first, copies, again, strict=True):
        judge.same("held", held, copy)
        judge.same("repeated", repeated, copy)


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
