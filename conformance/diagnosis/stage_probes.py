"""The probes of each stage, in the order of the pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from conformance.diagnosis.probes import Array, Probed, probe
from conformance.golden.expectations import stretch
from conformance.golden.inputs import (
    FREE_RUNS,
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
from conformance.laws import test_conventions, test_own_loops, test_own_stages, test_synthesis
from conformance.laws.support.alignment import defined_samples, tolerance
from conformance.laws.support.own_loops import LIMITS, Limited, joined, stated_positions
from conformance.laws.support.text_cases import READINGS
from conformance.oracle.istft import decoder_spectrum, inverse_stft
from conformance.oracle.istft_conventions import EDGES, ISTFTS, istfts_followed
from conformance.oracle.sampler import decide
from conformance.oracle.sampler_conventions import Question
from conformance.oracle.utterance_conventions import (
    LOOPS,
    Request,
    istfts_giving,
    loops_giving_ids,
    loops_giving_samples,
)
from conformance.text_profiles import TextUnderTest
from soprano.backends import SynthesisResult
from soprano.config import SamplingOptions
from soprano.text import split_sentences
from soprano.tokenizer import Tokenizer

_TABLES = ("test_text", "test_text_numbers", "test_text_signs")
_SENTENCES = (
    "yes", "a b", "9", "Ab", "ab.", "a  b", " a", "a ", "10", "é", "don't", "what?  no!", "ж b",
    "hello there.", "it is 9, not 10.", "the quick brown fox jumps over the lazy dog.",
)  # fmt: skip
_PASSED = test_own_loops.PASSED
_TEXTS = (
    "yes.", "yes. no.", "why? because. so!", "one two three four five six seven eight nine. ten.",
    "yes. the quick brown fox jumps over the lazy dog. no. the lazy dog sleeps all day, every day!",
    "word " * 90, "a" * 650, "",
)  # fmt: skip


@cache
def readings() -> list[tuple[str, str]]:
    """The texts of the laws with their normalised forms, the shortest first."""
    for name in _TABLES:
        import_module(f"conformance.laws.{name}")
    pairs = {text: read for table in READINGS.values() for text, read in table.items()}
    return sorted(pairs.items(), key=lambda pair: (len(pair[0]), pair[0]))


@probe("normalise", "TX-64")
def texts_are_read(probed: Probed, judge: Judge) -> None:
    normalize = probed.own("normalize", probed.stages.normalize)
    text = TextUnderTest(normalize, None)
    if text.profile:
        name = f"the text front end of {text.profile.name}"
        judge.not_following(name, [name])
    for each, normalised in readings():
        text.judge_reading(judge, each, normalised)


@probe("split", "TX-38")
def texts_are_split(probed: Probed, judge: Judge) -> None:
    split = probed.own("split", probed.stages.split)
    for text in _TEXTS:
        judge.equal(f"sentences of {short(text)}", list(split(text)), split_sentences(text))


@probe("tokenise", "TK-03")
def sentences_become_ids(probed: Probed, judge: Judge) -> None:
    own = Tokenizer(probed.model / "tokenizer.json")
    shared = probed.subject.load_tokenizer
    tokenizer = probed.own("tokenize", shared)(probed.model)
    for sentence in _SENTENCES:
        judge.equal(f"ids of '{sentence}'", list(tokenizer.prompt(sentence)), own.prompt(sentence))


def _small_questions(size: int) -> Iterator[Question]:
    """Questions about few ids, which need no other part of the sampler than one."""

    def among(scores: dict[int, float]) -> Array:
        logits = np.full(size, -1000, np.float32)
        logits[list(scores)] = list(scores.values())
        return logits

    plain, greedy = SamplingOptions(1.0, 1.0, 0, 1.0), SamplingOptions(0.0, 1.0, 0, 1.0)
    two, tied = among({5: 1.0, 9: 0.5}), among({5: 1.0, 9: 1.0})
    penalised = SamplingOptions(0.0, 1.0, 0, 2.0)
    yield Question(two, [], greedy, 0.5)
    yield Question(tied, [], greedy, 0.5)
    yield Question(among({5: 1.0, 9: 0.6}), [5], penalised, 0.5)
    yield Question(among({5: -0.6, 9: -1.0}), [5], penalised, 0.5)
    yield Question(among({5: 1.5, 9: 0.6}), [5, 5], penalised, 0.5)
    for uniform in (0.1, 0.5, 0.7, 0.9):
        yield Question(two, [], plain, uniform)
        yield Question(two, [], SamplingOptions(0.5, 1.0, 0, 1.0), uniform)
        three = among({5: 1.0, 9: 0.9, 12: 0.2})
        yield Question(three, [], SamplingOptions(1.0, 1.0, 2, 1.0), uniform)
        yield Question(three, [], SamplingOptions(1.0, 0.7, 0, 1.0), uniform)


@probe("sampler", "SA-22")
def samplers_follow_no_convention(probed: Probed, judge: Judge) -> None:
    test_conventions.test_sampler_follows_no_known_convention(judge, probed.sampler)


@probe("sampler", "SA-02")
def small_questions_are_answered(probed: Probed, judge: Judge) -> None:
    sampler = probed.sampler
    for q in _small_questions(sampler.size):
        if q.options.temperature and not sampler.capabilities.uniforms:
            continue
        actual = sampler(q.logits.copy(), list(q.history), q.options, q.uniform)
        options = ", ".join(f"{name} {value}" for name, value in vars(q.options).items())
        scores = {int(i): float(q.logits[i]) for i in np.flatnonzero(q.logits > -1000)}
        name = f"id drawn from logits {scores}, history {q.history}, {options}, u {q.uniform}"
        expected = decide(q.logits, q.history, q.options, q.uniform).id
        judge.equal(name, int(actual), expected)


@probe("sampler", "SA-04")
def questions_with_all_options_are_answered(probed: Probed, judge: Judge) -> None:
    sampler = probed.sampler
    if not sampler.capabilities.uniforms:
        raise NotDeclared("no uniforms")
    rng = np.random.default_rng(21)
    for turn in range(60):
        logits = rng.normal(0, 2, sampler.size).astype(np.float32)
        history = rng.integers(0, sampler.size, 30).tolist()
        top_k, top_p = (0, 5, 40)[turn % 3], (1.0, 0.9, 0.5, 0.99)[turn % 4]
        options = SamplingOptions((1.0, 0.6, 1.7)[turn % 3], top_p, top_k, (1.0, 1.3)[turn % 2])
        uniform = float(rng.random())
        decision = decide(logits, history, options, uniform)
        if decision.margin > tolerances.cumulative(logits, options.temperature):
            actual = int(sampler(logits.copy(), list(history), options, uniform))
            judge.equal(f"id drawn in question {turn}, {options}", actual, decision.id)


@probe("weights", "CK-18")
def weights_are_loaded(probed: Probed, judge: Judge) -> None:
    for network in ("language_model", "decoder"):
        test_own_stages.test_loaded_weights_are_those_of_the_checkpoint(
            judge, probed.own, probed.model, probed.backend, network
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


@probe("generation loop", "GE-17")
def stuck_utterances_are_found(probed: Probed, judge: Judge) -> None:
    law = test_own_stages.test_states_that_hardly_change_for_too_long_are_stuck
    law(judge, probed.own, probed.stages)


@probe("generation loop", "GE-16")
def loops_end_at_the_chosen_step(probed: Probed, judge: Judge) -> None:
    utterances = list(_utterances(probed))
    answers = [probed.loops.answer(utterance) for utterance in utterances]
    pairs = [
        (Limited(list(answer.ids), answer.finish), Limited(utterance.ids, utterance.finish))
        for answer, utterance in zip(answers, utterances, strict=True)
    ]
    rooms = [(stated_positions(probed.model) or 0) - len(u.prompt) for u in utterances]
    followed = [
        name
        for name, wrong in LIMITS.items()
        if any(actual != right for actual, right in pairs)
        and all(
            actual == wrong(right, room) for (actual, right), room in zip(pairs, rooms, strict=True)
        )
    ]
    with judge.together():
        for name in LIMITS:
            judge.not_following(name, followed)
        for (actual, right), utterance in zip(pairs, utterances, strict=True):
            judge.equal(f"finish reason, {utterance}", actual.finish, right.finish)
            judge.equal(f"ids, {utterance}", actual.ids, right.ids)


@probe("generation loop", "SY-03")
def free_running_ids_are_those_of_the_oracle(probed: Probed, judge: Judge) -> None:
    for name in FREE_RUNS:
        if hasattr(probed.backend, "sample") or not hasattr(probed.backend, "prefill"):
            raise NotDeclared("its own sampler is judged by itself")
        law = test_synthesis.test_free_running_ids_equal_the_oracles_up_to_a_tie
        law(probed.stages, probed.vectors, judge, name)


def _utterances(probed: Probed, method: str = "synthesize") -> Iterator[Any]:
    """What a port's own loop is asked for, the shortest utterances first."""
    loops = probed.loops
    loops.require(method)
    found = []
    for options in ("all ids", "filtered") if probed.capabilities.uniforms else ("greedy",):
        found += [*loops.ends(probed.vectors, options), *loops.cuts(probed.vectors, options)]
    return iter(sorted(found, key=lambda utterance: len(utterance.ids)))


@probe("sampler", "SA-24")
def own_loops_follow_no_convention_of_sampling(probed: Probed, judge: Judge) -> None:
    loops = probed.loops
    loops.require("synthesize")
    loops.require_uniforms()
    stop = probed.backend.config.language_model.eos_token_id
    # The options that tell most conventions from each other come first.
    utterances = [
        utterance
        for options in ("filtered", "penalty", "narrow", "all ids")
        for found in (loops.ends, loops.cuts)
        for utterance in found(probed.vectors, options)[:1]
    ]
    for utterance in utterances:
        answer = probed.loops.answer(utterance)
        ids, expected = ([*u.ids, *[stop] * (u.finish == "stop")] for u in (answer, utterance))
        followed = []
        if ids != expected and ids[: len(expected)] != expected[: len(ids)]:
            request = Request(*utterance.arguments)
            followed = probed.loops.likeliest(loops_giving_ids(probed.backend, request, ids))
        for name in LOOPS:
            judge.not_following(name, followed)


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


def _samples_are_those_of_the_states(
    probed: Probed, judge: Judge, name: str, utterance: Any, samples: Any
) -> None:
    """Judge samples without a search for the convention that they follow."""
    expected = defined_samples(probed.stages, utterance.hidden[:-1])
    if len(expected):
        judge.waveform(name, samples, expected, probed.vectors.own_limit("samples"))
    else:
        judge.shape(name, samples, expected.shape)


@probe("synthesis", "SY-14")
def short_utterances_have_the_samples_of_their_states(probed: Probed, judge: Judge) -> None:
    for utterance in _utterances(probed):
        answer = probed.loops.answer(utterance)
        if list(answer.ids) == utterance.ids:
            name = f"samples, {utterance}"
            _samples_are_those_of_the_states(probed, judge, name, utterance, answer.samples)


@probe("synthesis", "SY-14")
def own_loops_decode_the_states_that_predict_their_ids(probed: Probed, judge: Judge) -> None:
    own = probed.loops
    for utterance in _longest(probed, "synthesize"):
        answer = own.answer(utterance)
        test_own_loops.judge_answer(
            judge, own, probed.stages, probed.vectors, utterance, answer, str(utterance)
        )


def _longest(probed: Probed, method: str) -> list[Any]:
    """The utterances that show every convention."""
    return list(_utterances(probed, method))[-2:]


@probe("synthesis", "SY-21")
def default_options_are_those_of_the_folder(probed: Probed, judge: Judge) -> None:
    options = probed.own("default_options")()
    from soprano.checkpoint.folder import ModelFolder

    stated = ModelFolder.open(probed.model).generation_defaults.sampling
    for field, value in vars(stated).items():
        judge.equal(field, str(getattr(options, field)), str(value))


@probe("stream", "ST-08")
def short_streams_equal_the_decoded_utterance(probed: Probed, judge: Judge) -> None:
    for utterance in _utterances(probed, "stream"):
        for chunk in (1, 8):
            samples = joined(list(probed.backend.stream(*utterance.arguments, chunk)))
            name = f"samples, {utterance}, chunks of {chunk}"
            _samples_are_those_of_the_states(probed, judge, name, utterance, samples)


@probe("stream", "ST-08")
def own_streams_equal_the_decoded_utterance(probed: Probed, judge: Judge) -> None:
    own, vectors = probed.loops, probed.vectors
    limit = vectors.own_limit("samples")
    for utterance in _longest(probed, "stream"):
        for chunk in (8, 31):
            samples = joined(list(own.backend.stream(*utterance.arguments, chunk)))
            request = Request(*utterance.arguments, chunk_size=chunk)
            own.judge_samples(
                judge, probed.stages, vectors, utterance, samples,
                name=f"samples, {utterance}, chunks of {chunk}", chunk_size=chunk,
                others=lambda r=request, s=samples: loops_giving_samples(  # type: ignore[misc]
                    probed.stages, r, s, tolerance(limit, s)
                ),
            )  # fmt: skip


@probe("stream", "ST-01")
def the_shared_stream_equals_offline(probed: Probed, judge: Judge) -> None:
    probed.own("stream", probed.stages.stream)
    if hasattr(probed.backend, "stream"):
        raise NotDeclared("its own stream is judged")
    from conformance.laws.test_streaming import test_stream_equals_offline

    voice = probed.subject.voice(probed.model, probed.stages)
    for chunk in (1, 8):
        test_stream_equals_offline(voice, probed.vectors, judge, chunk)


@probe("batches", "BA-06")
def own_batches_give_what_each_prompt_has_unbatched(probed: Probed, judge: Judge) -> None:
    own, limit = probed.loops, test_own_loops.LIMIT
    own.require("synthesize_batch")
    utterances = own.batch(probed.vectors, 3, limit)
    prompts, uniforms = (
        [list(getattr(u, part)) for u in utterances] for part in test_own_loops.PASSED
    )
    answers = own.backend.synthesize_batch(prompts, utterances[0].options, uniforms, limit)
    judge.equal("answers", len(answers), len(utterances))
    for row, (answer, utterance) in enumerate(zip(answers, utterances, strict=True)):
        test_own_loops.judge_answer(
            judge, own, probed.stages, probed.vectors, utterance,
            SynthesisResult(*answer), f"row {row} of 3, {utterance}",
        )  # fmt: skip


@probe("wav", "AO-12")
def wav_values_are_rounded(probed: Probed, judge: Judge) -> None:
    wav = probed.own("wav", test_own_stages.shared_wav(probed.stages))
    for peak in (0.01, 0.95, 1.2):
        test_own_stages.test_wav_values_are_rounded_to_the_nearest_of_32767_steps(judge, wav, peak)


@probe("wav", "AO-11")
def wav_files_contain_every_sample(probed: Probed, judge: Judge) -> None:
    wav = probed.own("wav", test_own_stages.shared_wav(probed.stages))
    for rate in (16000, 32000):
        for count in (0, 1, 101, 65537):
            raw = wav(test_own_stages.ramp(count), rate)
            stored = test_own_stages.riff_chunks(raw)[0]
            judge.equal(f"bytes of {count} samples", len(stored.get(b"data", b"")), 2 * count)
            judge.equal("rate", int.from_bytes(stored[b"fmt "][4:8], "little"), rate)
