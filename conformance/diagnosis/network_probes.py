"""The probes of the networks, the KV cache and the inverse STFT."""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance.diagnosis.probes import Array, Probed, probe
from conformance.golden.expectations import stretch
from conformance.golden.inputs import (
    PREFIXES,
    STRETCHES,
    TOKENS,
    decoder_inputs,
    long_hidden,
)
from conformance.golden.observations import (
    observe_free_run_samples,
    observe_prefixes,
    observe_steps,
    prefill_and_step,
    prefill_one,
    spectrum,
)
from conformance.golden.packs import relative
from conformance.judging import tolerances
from conformance.judging.compare import Limit
from conformance.judging.judge import Judge
from conformance.judging.sequences import short
from conformance.judging.skips import NotDeclared
from conformance.judging.vectors import Vectors
from conformance.laws import test_conventions
from conformance.oracle.istft import decoder_spectrum, inverse_stft
from conformance.oracle.istft_conventions import EDGES, ISTFTS, istfts_followed
from conformance.oracle.utterance_conventions import (
    istfts_giving,
)


def _row_limit(vectors: Vectors, quantity: str, *, own: bool = False) -> Limit:
    """The limit of one row of a quantity."""
    whole = vectors.own_limit(quantity) if own else vectors.limit(quantity)
    floor = vectors.floors[quantity]
    return Limit(whole.row or whole.rms, whole.worst, floor=floor.rms)


def _both(judge: Judge, name: str, actual: Any, expected: Any, limits: list[Limit]) -> None:
    """Logits and hidden states of one place."""
    with judge.together():
        for index, kind in enumerate(("logits", "hidden")):
            judge.close(f"{name}, {kind}", actual[index], expected[index], limits[index])


@probe("language model: prefill", "LM-01")
def prefill_matches_the_oracle(probed: Probed, judge: Judge) -> None:
    vectors = probed.vectors
    vectors.require_fine_class()
    arrays = vectors.arrays
    observed = observe_prefixes(probed.backend, arrays)
    limits = [_row_limit(vectors, f"prefix {kind}") for kind in ("logits", "hidden")]
    for row, length in enumerate(PREFIXES[: len(observed["prefix hidden"])]):
        ids = arrays["long ids"][:length].tolist()
        name = f"prefill of {length} ids {short(ids) if length < 4 else ''}".rstrip()
        pairs = [(observed[f"prefix {k}"], arrays[f"prefix {k}"]) for k in ("logits", "hidden")]
        _both(judge, name, [a[row] for a, _ in pairs], [e[row] for _, e in pairs], limits)


@probe("language model: prefill", "LM-01")
def padded_prompts_match_the_oracle(probed: Probed, judge: Judge) -> None:
    vectors = probed.vectors
    vectors.require_fine_class()
    observed = observe_steps(probed.backend, vectors.arrays)
    for call in ("prefill", "step"):
        with judge.together():
            for kind in ("logits", "hidden"):
                name = f"{call} {kind}"
                limit, places = vectors.limit(name), vectors.places(name)
                judge.close(name, observed[name], vectors.arrays[name], limit, places=places)


@probe("language model: step", "LM-02")
def steps_match_the_oracle(probed: Probed, judge: Judge) -> None:
    vectors = probed.vectors
    vectors.require_fine_class()
    arrays = vectors.arrays
    limits = [_row_limit(vectors, f"step {kind}") for kind in ("logits", "hidden")]
    for row in np.argsort(arrays["prompt lengths"], kind="stable")[:2]:
        length = int(arrays["prompt lengths"][row])
        prompt, after = arrays["prompt ids"][row, :length], arrays["step ids"][row][:6]
        outputs = prefill_and_step(probed.backend, prompt, after)[1:]
        for step, output in enumerate(outputs):
            name = f"step {step} (id {after[step]}) after a prefill of {length} ids"
            expected = arrays["step logits"][row, step], arrays["step hidden"][row, step]
            _both(judge, name, (output.logits[0], output.hidden[0]), expected, limits)


@probe("language model: step", "LM-03")
def late_steps_match_the_oracle(probed: Probed, judge: Judge) -> None:
    vectors = probed.vectors
    vectors.require_fine_class()
    ids = vectors.arrays["long ids"]
    for start, stop in STRETCHES:
        golden = stretch(start, stop, "hidden")
        places = [place for place in golden if place < len(ids)][-6:]
        if not places:
            continue
        first = places[0] - 1
        outputs = prefill_and_step(probed.backend, ids[:first], ids[first : places[-1] + 1])
        quantity = f"long {start}-{stop} hidden"
        for place in places:
            expected = vectors.arrays[quantity][golden.index(place)]
            name = f"step at position {place}, hidden"
            actual = outputs[place - first + 1].hidden[0]
            judge.close(name, actual, expected, _row_limit(vectors, quantity))


@probe("KV cache", "CA-07")
def states_continue_as_one_prefill(probed: Probed, judge: Judge) -> None:
    """After fork, join and select, each row continues as a prefill of its ids."""
    vectors, backend, able = probed.vectors, probed.backend, probed.capabilities
    ids = vectors.arrays["long ids"]
    rows = [ids[:5], ids[7:10]]
    more = ids[20:23]
    whole = [prefill_one(backend, np.concatenate([row, more])) for row in rows]
    limits = [_row_limit(vectors, f"step {kind}", own=True) for kind in ("logits", "hidden")]
    states = [prefill_one(backend, row).state for row in rows]
    if able.fork:
        kept = backend.fork(states[0])
        backend.step(ids[30:31], states[0])
        states[0] = kept
    joined = able.batch and able.join
    if joined:
        states = [backend.join(*states)]
        if able.select:
            states = [backend.select(states[0], [1, 0])]
            whole = whole[::-1]
    for index, state in enumerate(states):
        count = 2 if joined else 1
        for new in more:
            output = backend.step(np.full(count, new), state)
            state = output.state
        for row in range(count):
            expected = whole[row if joined else index]
            name = f"row {row} after {'fork, join and select' if joined else 'fork'}"
            pair = (output.logits[row], output.hidden[row])
            _both(judge, name, pair, (expected.logits[0], expected.hidden[0]), limits)


@probe("decoder", "DE-09")
def dc_and_nyquist_are_zero(probed: Probed, judge: Judge) -> None:
    law = test_conventions.test_spectrum_has_zero_dc_and_nyquist
    law(judge, probed.backend, probed.vectors)


@probe("decoder", "DE-01")
def spectra_match_the_oracle(probed: Probed, judge: Judge) -> None:
    vectors, config = probed.vectors, probed.backend.config.decoder
    golden = _golden_spectra(vectors)
    limits = {name: vectors.limit(name) for name in ("spectrum", "relative spectrum")}
    for tokens, hidden, expected in zip(
        TOKENS, decoder_inputs(vectors.arrays), golden, strict=True
    ):
        actual = spectrum(probed.stages, hidden)
        name = f"{tokens} token{'s' * (tokens != 1)}"
        judge.shape(f"spectrum of {name}", actual, (config.bins, config.frames(tokens), 2))
        pairs = {"spectrum": (actual.ravel(), expected.ravel())}
        if expected.any():
            scaled = relative(actual, expected), relative(expected, expected)
            pairs["relative spectrum"] = scaled
        for quantity, pair in pairs.items():
            limit = _loosest(limits[quantity], vectors.floors[quantity].rms)
            places = vectors.flat_places(expected, quantity)
            judge.close(f"{quantity} of {name}", *pair, limit, places=places)


def _loosest(limit: Limit, floor: float) -> Limit:
    """The limit of one utterance, whose error may be larger than that of all together."""
    return Limit(limit.worst / 2, limit.worst, floor=floor)


@probe("decoder", "DE-01")
def all_spectra_match_the_oracle(probed: Probed, judge: Judge) -> None:
    from conformance.laws.test_decoder import test_spectra_match_the_oracle

    test_spectra_match_the_oracle(probed.stages, probed.vectors, judge)


def _golden_spectra(vectors: Vectors) -> list[Array]:
    """The spectrum (F, T', 2) of each golden utterance."""
    config = vectors.config.decoder
    sizes = [(config.bins, config.frames(tokens), 2) for tokens in TOKENS]
    edges = np.cumsum([int(np.prod(size)) for size in sizes])[:-1]
    parts = np.split(vectors.arrays["spectrum"], edges)
    return [part.reshape(size) for part, size in zip(parts, sizes, strict=True)]


@probe("decoder", "DE-15")
def longer_utterances_match_the_oracle(probed: Probed, judge: Judge) -> None:
    vectors = probed.vectors
    try:
        decoder = vectors.pack.networks().decoder
    except LookupError:
        raise NotDeclared("the weights of the model are not at hand") from None
    for tokens in (17, 33, 65):
        hidden = long_hidden(vectors.arrays, tokens)
        expected = decoder(hidden)
        if probed.stages.decode_audio is None:
            actual = spectrum(probed.stages, hidden)
            judge.shape(f"spectrum of {tokens} tokens", actual, expected.shape)
            scaled = relative(actual, expected), relative(expected, expected)
            pairs = {"relative spectrum": scaled}
            if vectors.pack.same_weights:
                pairs["spectrum"] = actual.ravel(), expected.ravel()
            for quantity, pair in pairs.items():
                limit, places = vectors.own_limit(quantity), vectors.flat_places(expected, quantity)
                judge.close(f"{quantity} of {tokens} tokens", *pair, limit, places=places)
        else:
            samples = inverse_stft(expected, vectors.config.decoder.istft)
            limit = vectors.own_limit("samples")
            judge.waveform(
                f"samples of {tokens} tokens", probed.stages.vocode(hidden), samples, limit
            )


@probe("decoder", "DE-10")
def samples_of_a_decoder_match_the_oracle(probed: Probed, judge: Judge) -> None:
    decode, vectors = probed.own("decode_audio"), probed.vectors
    inputs, limit = decoder_inputs(vectors.arrays), vectors.limit("samples")
    config = vectors.config.decoder
    actual = [decode(hidden[None], np.array([len(hidden)]))[0] for hidden in inputs]
    sizes = np.cumsum([config.samples(tokens) for tokens in TOKENS])[:-1]
    expected = np.split(vectors.arrays["samples"], sizes)
    pairs = zip(actual, expected, strict=True)
    right = [a.shape == e.shape and np.allclose(a, e, 0, limit.worst) for a, e in pairs]
    followed = [] if all(right) else istfts_giving(_golden_spectra(vectors), actual, config.istft)
    with judge.together():
        for name in (*ISTFTS, *followed):
            judge.not_following(name, followed)
        for tokens, samples, wanted in zip(TOKENS, actual, expected, strict=True):
            if len(wanted):
                judge.waveform(f"samples of {tokens} tokens", samples, wanted, limit)
            else:
                judge.shape(f"samples of {tokens} tokens", samples, wanted.shape)


@probe("ISTFT", "IS-26")
def istfts_follow_no_convention(probed: Probed, judge: Judge) -> None:
    stage = probed.istft
    followed = istfts_followed(stage, stage.geometries[:3])
    for name in dict.fromkeys([*followed, *ISTFTS]):
        judge.not_following(name, followed)


@probe("ISTFT", "IS-19")
def istfts_keep_dc_and_nyquist(probed: Probed, judge: Judge) -> None:
    followed = istfts_followed(probed.istft, probed.istft.geometries[:2], edges=True)
    for name in EDGES:
        judge.not_following(name, followed)


@probe("ISTFT", "IS-01")
def istfts_equal_their_definition(probed: Probed, judge: Judge) -> None:
    stage = probed.istft
    for config in stage.geometries[:3]:
        for frames in (2, 3, 5, 9, 33, 70):
            given = decoder_spectrum(config, frames)
            expected = inverse_stft(given, config)
            name = f"samples of {frames} frames, n_fft {config.n_fft}, hop {config.hop_length}"
            actual = stage(given[None].copy(), config)[0]
            judge.waveform(name, actual, expected, tolerances.istft(expected, config))


@probe("synthesis", "SY-01")
def samples_match_the_oracle(probed: Probed, judge: Judge) -> None:
    vectors = probed.vectors
    observed = observe_free_run_samples(probed.stages, vectors.arrays)
    for quantity, samples in observed.items():
        judge.waveform(quantity, samples, vectors.arrays[quantity], vectors.limit(quantity))
