"""BA and ST: random texts, batches and chunk sizes give the audio of each text by itself."""

from itertools import islice

import numpy as np
import pytest
from hypothesis import Phase, given
from hypothesis import strategies as st

from conformance.golden.observations import prefill_and_step, prefill_one
from conformance.hypothesis_profiles import examples
from conformance.judging import tolerances
from conformance.judging.divergence import decision_margin, judge_ids
from conformance.judging.reanchored import reanchored
from soprano.config import SamplingOptions

# A failing example is not shrunk: that takes long, and smaller examples are seldom clearer.
EXPLORED = examples(6, phases=[Phase.generate])
WORDS = ["the", "boat", "7", "21st", "£2.50", "8:05", "Dr.", "NASA", "don't", "naïve", "a—b", "…"]
TEXTS = st.lists(
    st.tuples(st.sampled_from(WORDS), st.sampled_from([" ", " ", ", ", ". ", "! ", "\n"])),
    min_size=1,
    max_size=24,
).map(lambda pairs: "so " + "".join(word + mark for word, mark in pairs))
SAMPLING = st.sampled_from([SamplingOptions(0.0, 1.0, 0, 1.2), SamplingOptions(1.0, 0.95, 0, 1.2)])
SEEDS = st.integers(0, 2**64 - 1)
# New tokens of a sentence. The trained voice begins with silence, which proves nothing, so that
# few tokens are left out.
LIMITS = st.one_of(st.just(1), st.integers(6, 24))


@pytest.mark.requirement("BA-05")
def test_batched_output_equals_unbatched(voice, vectors, judge):
    vectors.require_same_weights()
    counts = {"runs": 0, "ties": 0, "ids": 0}

    @EXPLORED
    @given(st.lists(TEXTS, min_size=1, max_size=4), st.integers(2, 5), LIMITS, SAMPLING, SEEDS)
    def explore(texts, batch_size, limit, sampling, seed):
        options = {"seed": seed, "max_new_tokens": limit, **vars(sampling)}
        unbatched = [voice.infer_batch([text], batch_size=1, **options)[0] for text in texts]
        batched = voice.infer_batch(texts, batch_size=batch_size, **options)
        for actual, expected in zip(batched, unbatched, strict=True):
            tied = judge_sentences(judge, voice.stages, vectors, actual, expected, sampling, seed)
            counts["runs"] += 1
            counts["ties"] += tied
            counts["ids"] += sum(len(sentence.token_ids) for sentence in expected.sentences)
            if not tied:
                judge_samples(judge, vectors, actual.samples, expected)

    explore()
    judge.count_ids(counts["ids"], tied=counts["ties"] > 0)
    allowed = tolerances.ties_allowed(counts["ids"])
    judge.below("ties", counts["ties"], allowed, counts["runs"], wrong=counts["runs"])


@pytest.mark.requirement("ST-09")
def test_stream_equals_offline_for_any_chunk_size(voice, vectors, judge):
    @EXPLORED
    @given(TEXTS, st.integers(1, 12), LIMITS, SAMPLING, SEEDS)
    def explore(text, chunk_size, limit, sampling, seed):
        options = {"seed": seed, "max_new_tokens": limit, **vars(sampling)}
        offline = voice.infer_batch([text], batch_size=1, **options)[0]
        chunks = list(voice.infer_stream(text, chunk_size=chunk_size, **options))
        reasons = [chunk.finish_reason for chunk in chunks if chunk.finish_reason]
        judge.equal("finish reasons", reasons, offline.finish_reasons)
        judge_samples(judge, vectors, np.concatenate([c.samples for c in chunks]), offline)

    explore()


def judge_samples(judge, vectors, samples, expected):
    if not len(expected):
        judge.equal("samples", len(samples), 0)
        return
    # The noise floor of whole utterances: it is twice that of short ones.
    quantity = max(("greedy samples", "sampled samples"), key=lambda q: vectors.floors[q].rms)
    judge.waveform("samples", samples, expected.samples, vectors.own_limit(quantity))


def judge_sentences(judge, stages, vectors, actual, expected, sampling, seed):
    """Judge the ids of each sentence; returns whether one of them diverges by a tie."""
    excused = tolerances.tie_margin(vectors.limit("step logits"), sampling.temperature)
    tied = False
    for index, (one, other) in enumerate(zip(actual.sentences, expected.sentences, strict=True)):

        def margin(position, index=index, sentence=other):
            history = stages.tokenize(sentence.text) + sentence.token_ids[:position]
            output = prefill_one(stages.language_model, history)
            stream = stages.uniforms(seed, index, 0)
            draws = [next(stream) for _ in range(position + 1)]
            return decision_margin(output.logits[0], history, sampling, draws[-1])

        ids = [with_stop(stages, sentence) for sentence in (one, other)]
        if judge_ids(judge, *ids, margin, excused):
            tied = True
            judge_rest(judge, stages, vectors, one.text, ids[0], sampling, seed, index)
    return tied


def judge_rest(judge, stages, vectors, text, ids, sampling, seed, index):
    """Judge all ids of an utterance with a tie, by the logits that it has unbatched."""
    prompt = stages.tokenize(text)
    outputs = prefill_and_step(stages.language_model, prompt, ids[:-1])
    logits = np.concatenate([output.logits for output in outputs])
    draws = list(islice(stages.uniforms(seed, index, 0), len(ids)))
    limit = vectors.own_limit("step logits")
    found = reanchored(prompt, ids, sampling, draws, logits, limit, text=text)
    judge.equal(
        f"defects behind a tie: {'; '.join(map(str, found.defects))}", len(found.defects), 0
    )


def with_stop(stages, sentence):
    """The ids of a sentence, and `[STOP]` if it ended by it."""
    stop = stages.config.language_model.eos_token_id
    return [*sentence.token_ids, *[stop] * (sentence.finish_reason == "stop")]
