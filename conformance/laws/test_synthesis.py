"""SY and BA: free-running ids, their audio, and what batches and seeds must not change."""

import numpy as np
import pytest

from conformance.golden.inputs import (
    FREE,
    FREE_RUNS,
    OPTIONS,
    TEXTS,
    TOKENS,
    decoder_inputs,
    free_prompt,
    free_uniforms,
)
from conformance.golden.observations import observe_decoder, observe_free_run_samples
from conformance.judging import tolerances
from conformance.judging.divergence import judge_ids
from conformance.judging.reanchored import judge_whole_utterance
from conformance.judging.skips import NotDeclared
from soprano.generate import Prompt


@pytest.mark.requirement("SY-01")
def test_samples_of_golden_hidden_states_match_the_oracle(stages, vectors, judge):
    arrays = vectors.arrays
    observed = observe_decoder(stages, arrays) | observe_free_run_samples(stages, arrays)
    with judge.together():
        for quantity in ("samples", *(f"{name} samples" for name in FREE_RUNS)):
            limit, places = vectors.limit(quantity), vectors.places(quantity)
            judge.waveform(quantity, observed[quantity], arrays[quantity], limit, places=places)


@pytest.mark.requirement("SY-02")
def test_the_number_of_samples_follows_from_the_tokens(stages, vectors, judge):
    config = stages.config.decoder
    for tokens, hidden in zip(TOKENS, decoder_inputs(vectors.arrays), strict=True):
        expected = (tokens - 1) * config.frames_per_token * config.hop_length
        judge.shape(f"samples of {tokens} tokens", stages.vocode(hidden), (expected,))


@pytest.mark.requirement("SY-03")
@pytest.mark.parametrize("name", FREE_RUNS)
def test_free_running_ids_equal_the_oracles_up_to_a_tie(stages, vectors, judge, name):
    vectors.require_same_weights()
    arrays, options = vectors.arrays, FREE_RUNS[name]
    stop = stages.config.language_model.eos_token_id
    prompt = Prompt(free_prompt(arrays), iter(free_uniforms()), options, FREE)
    tokens = stages.generate(stages, [prompt])
    ids = [stop if token.id is None else token.id for token in tokens]
    expected, margins = arrays[f"{name} ids"].tolist(), arrays[f"{name} margins"]
    expected = expected[: expected.index(stop) + 1] if stop in expected else expected
    excused = tolerances.tie_margin(vectors.limit("step logits"), options.temperature)
    wrong = float(np.median(margins))
    if judge_ids(judge, ids, expected, lambda i: float(margins[i]), excused, wrong=wrong):
        draws = free_uniforms()
        judge_whole_utterance(judge, vectors, prompt.ids, ids, options, draws, wrong=wrong)
    else:
        judge.count_ids(len(ids))


@pytest.mark.requirement("SY-22")
@pytest.mark.parametrize("name", FREE_RUNS)
def test_an_own_synthesize_speaks_golden_prompts_as_the_oracle(backend, vectors, judge, name):
    if not hasattr(backend, "synthesize"):
        raise NotDeclared(f"{backend.name} has no synthesize of its own")
    arrays, options = vectors.arrays, FREE_RUNS[name]
    if options.temperature and not backend.capabilities.uniforms:
        raise NotDeclared(f"SY-22 needs uniforms, which {backend.name} does not declare")
    config = backend.config
    result = backend.synthesize(free_prompt(arrays), options, free_uniforms(), FREE)
    expected, stop = arrays[f"{name} ids"].tolist(), config.language_model.eos_token_id
    said = expected[: expected.index(stop)] if stop in expected else expected
    margins = arrays[f"{name} margins"]
    excused = tolerances.tie_margin(vectors.limit("step logits"), options.temperature)
    wrong = float(np.median(margins))
    ids, ends = list(result.ids), [stop] * (stop in expected)
    if judge_ids(judge, ids + ends, said + ends, lambda i: margins[i], excused, wrong=wrong):
        draws = free_uniforms()
        own = [*ids, *[stop] * (result.finish == "stop")]
        prompt = free_prompt(arrays)
        judge_whole_utterance(judge, vectors, prompt, own, options, draws, wrong=wrong)
        return
    judge.equal("finish", result.finish, "stop" if ends else "length")
    size = config.decoder.samples(len(said))
    judge.shape(f"samples of {len(said)} tokens", result.samples, (size,))
    # The golden samples go on behind a [STOP]: they differ where the decoder sees what follows.
    reach = config.decoder.receptive_frames * config.decoder.hop_length + config.decoder.n_fft
    whole = max(size - len(ends) * reach, 0)
    golden, limit = arrays[f"{name} samples"][:whole], vectors.limit(f"{name} samples")
    judge.waveform("samples", np.asarray(result.samples)[:whole], golden, limit)


@pytest.mark.requirement("SY-04")
def test_the_same_seed_gives_the_same_samples(voice, judge):
    first = voice.infer(TEXTS[0], **OPTIONS)
    voice.infer(TEXTS[1], **OPTIONS)
    judge.bits("samples", voice.infer(TEXTS[0], **OPTIONS).samples, first.samples)


@pytest.mark.requirement("BA-04")
def test_batched_texts_equal_unbatched(voice, vectors, judge):
    vectors.require_same_weights()
    unbatched = [voice.infer_batch([text], batch_size=1, **OPTIONS)[0] for text in TEXTS]
    for size in (2, 8):
        batched = voice.infer_batch(TEXTS, batch_size=size, **OPTIONS)
        for actual, expected in zip(batched, unbatched, strict=True):
            judge.equal("finish reasons", actual.finish_reasons, expected.finish_reasons)
            ids = ([s.token_ids for s in audio.sentences] for audio in (actual, expected))
            judge.equal("ids", *ids)
            limit = vectors.own_limit("samples")
            judge.waveform("samples", actual.samples, expected.samples, limit)
