"""Whatever the texts, their company and the chunks: each sounds as it does alone and at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given
from hypothesis import strategies as st

from conformance.golden.packs import Vectors
from conformance.judging import tolerances
from conformance.judging.judge import Judge
from conformance.laws.hypothesis_profiles import examples
from soprano.audio import Audio, Sentence
from soprano.backends import Backend
from soprano.config import SamplingOptions
from soprano.sampling import distribution, draw, penalize, uniforms
from soprano.synthesis import SopranoTTS

# Not shrunk: a smaller example would cost more than it tells.
EXPLORED = examples(6, phases=[Phase.generate])
WORDS = ["the", "boat", "7", "21st", "£2.50", "8:05", "Dr.", "NASA", "don't", "naïve", "a—b", "…"]
TEXTS = st.lists(
    st.tuples(st.sampled_from(WORDS), st.sampled_from([" ", " ", ", ", ". ", "! ", "\n"])),
    min_size=1,
    max_size=24,
).map(lambda pairs: "so " + "".join(word + mark for word, mark in pairs))
SAMPLING = st.sampled_from([SamplingOptions(0.0, 1.0, 0, 1.2), SamplingOptions(1.0, 0.95, 0, 1.2)])


SEEDS = st.integers(0, 2**64 - 1)
# New tokens a sentence; the trained voice begins in silence, where nothing would be compared.
LIMITS = st.one_of(st.just(1), st.integers(6, 24))


@pytest.mark.requirement("BA-05")
def test_company_changes_nothing(
    voice: SopranoTTS, backend: Backend, vectors: Vectors, judge: Judge
) -> None:
    found = {"runs": 0, "ties": 0, "ids": 0}

    @EXPLORED
    @given(st.lists(TEXTS, min_size=1, max_size=4), st.integers(2, 5), LIMITS, SAMPLING, SEEDS)
    def explore(texts, batch_size, limit, sampling, seed):
        options: dict[str, Any] = {"seed": seed, "max_new_tokens": limit, **vars(sampling)}
        alone = [voice.infer_batch([text], batch_size=1, **options)[0] for text in texts]
        together = voice.infer_batch(texts, batch_size=batch_size, **options)
        for one, other in zip(alone, together, strict=True):
            tied = part_by_a_tie(voice, vectors, judge, one, other, sampling, seed)
            found["runs"] += 1
            found["ties"] += tied
            found["ids"] += sum(len(sentence.token_ids) for sentence in one.sentences)
            if not tied:
                same_sound(judge, vectors, backend, other.samples, one)

    explore()
    judge.count_ids(found["ids"], tied=found["ties"] > 0)
    allowed = tolerances.ties_allowed(found["ids"])
    judge.below("ties", found["ties"], allowed, found["runs"], wrong=found["runs"])


@pytest.mark.requirement("ST-09")
def test_chunks_change_nothing(
    voice: SopranoTTS, backend: Backend, vectors: Vectors, judge: Judge
) -> None:
    @EXPLORED
    @given(TEXTS, st.integers(1, 12), LIMITS, SAMPLING, SEEDS)
    def explore(text, chunk_size, limit, sampling, seed):
        options: dict[str, Any] = {"seed": seed, "max_new_tokens": limit, **vars(sampling)}
        whole = voice.infer_batch([text], batch_size=1, **options)[0]
        chunks = list(voice.infer_stream(text, chunk_size=chunk_size, **options))
        reasons = [chunk.finish_reason for chunk in chunks if chunk.finish_reason]
        judge.equal("finish reasons", reasons, whole.finish_reasons)
        streamed = np.concatenate([chunk.samples for chunk in chunks])
        same_sound(judge, vectors, backend, streamed, whole)

    explore()


def same_sound(
    judge: Judge, vectors: Vectors, backend: Backend, samples: np.ndarray, wanted: Audio
) -> None:
    if not len(wanted):
        judge.equal("samples", len(samples), 0)
        return
    # The floor of the golden utterances: it is twice that of short pieces.
    quantity = max(("greedy samples", "sampled samples"), key=lambda q: vectors.floors[q].rms)
    expected, floor = vectors.arrays[quantity], vectors.floors[quantity]
    limit = tolerances.between_own_outputs(quantity, floor, expected, backend.config)
    judge.close("samples", samples, wanted.samples, limit)


def part_by_a_tie(
    voice: SopranoTTS,
    vectors: Vectors,
    judge: Judge,
    one: Audio,
    other: Audio,
    sampling: SamplingOptions,
    seed: int,
) -> bool:
    """Whether two renderings part, where the margin of the decision excuses it; else an error."""
    for number, (a, b) in enumerate(zip(one.sentences, other.sentences, strict=True)):
        if a.token_ids == b.token_ids and a.finish_reason == b.finish_reason:
            judge.equal("ids", b.token_ids, list(a.token_ids))
            continue
        pairs = zip(a.token_ids, b.token_ids, strict=False)
        place = next(
            (i for i, (x, y) in enumerate(pairs) if x != y),
            min(len(a.token_ids), len(b.token_ids)),
        )
        limit = tolerances.against_oracle(
            "step logits",
            vectors.floors["step logits"],
            vectors.arrays["step logits"],
            voice.config,
        )
        excused = tolerances.tie_margin(limit, sampling.temperature)
        found = margin(voice, a, place, sampling, [*uniforms_of(seed, number, place)])
        judge.below(f"margin of id {place}", found, excused, place + 1, wrong=np.inf)
        return True
    return False


def uniforms_of(seed: int, number: int, place: int) -> list[float]:
    stream = uniforms(seed, number)
    return [next(stream) for _ in range(place + 1)]


def margin(
    voice: SopranoTTS,
    sentence: Sentence,
    place: int,
    sampling: SamplingOptions,
    draws: list[float],
) -> float:
    """How far the decision for one id was from another: a gap of scores, or of probabilities."""
    history = voice.tokenizer.prompt(sentence.text) + sentence.token_ids[:place]
    output = voice.backend.prefill(np.array([history]), np.array([len(history)]))
    scores = penalize(output.logits[0], history, sampling.repetition_penalty)
    if sampling.temperature == 0:
        second, first = np.sort(scores)[-2:]
        return float(first - second)
    probabilities = distribution(scores, sampling)
    chosen = draw(probabilities, draws[-1])
    upper = float(np.cumsum(probabilities)[chosen])
    return min(abs(upper - draws[-1]), abs(draws[-1] - (upper - probabilities[chosen])))
