"""The probes of text, tokenizer, sampler, weights and WAV files."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib import import_module

import numpy as np

from conformance.diagnosis.probes import Array, Probed, probe
from conformance.judging import tolerances
from conformance.judging.judge import Judge
from conformance.judging.sequences import short
from conformance.judging.skips import NotDeclared
from conformance.laws import test_conventions, test_own_stages
from conformance.laws.support.text_cases import READINGS
from conformance.oracle.sampler import decide
from conformance.oracle.sampler_conventions import Question
from conformance.text_profiles import TextUnderTest
from soprano.config import SamplingOptions
from soprano.text import split_sentences
from soprano.tokenizer import Tokenizer

_TABLES = ("test_text", "test_text_numbers", "test_text_signs")
_SENTENCES = (
    "yes", "a b", "9", "Ab", "ab.", "a  b", " a", "a ", "10", "é", "don't", "what?  no!", "ж b",
    "hello there.", "it is 9, not 10.", "the quick brown fox jumps over the lazy dog.",
)  # fmt: skip
SPLIT_TEXTS = (
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
    for text in SPLIT_TEXTS:
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
