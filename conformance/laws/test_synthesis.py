"""Text in, sound out: free-running ids, audio, and what batches and seeds may not change."""

from __future__ import annotations

import numpy as np
import pytest

from conformance.golden.inputs import FREE, FREE_RUNS, SEED, TOKENS, decoder_inputs, free_prompt
from conformance.golden.observations import observe_decoder, observe_spoken_sound, sound
from conformance.golden.packs import Vectors
from conformance.judging import tolerances
from soprano.audio import Audio
from soprano.backends import Backend
from soprano.generate import Prompt, generate
from soprano.sampling import uniforms

TEXTS = (
    "Hello there.",
    "One two three, four five six seven. And then another sentence follows it.",
)

# A seed that is no double: 2^53 is its nearest.
OPTIONS = {"seed": 2**53 + 1, "temperature": 0.8, "top_p": 0.95, "max_new_tokens": 30}


def compare_sentences(judge, vectors: Vectors, backend: Backend, one: Audio, two: Audio) -> None:
    """Two renderings of one text: the same ids, and audio within the float noise of two ways."""
    judge.equal("finish reasons", one.finish_reasons, two.finish_reasons)
    judge.equal("ids", *([s.token_ids for s in audio.sentences] for audio in (one, two)))
    limit = tolerances.between_own_outputs(
        "samples", vectors.floors["samples"], vectors.arrays["samples"], backend.config
    )
    judge.waveform("samples", one.samples, two.samples, limit)


@pytest.mark.requirement("SY-01")
def test_audio_from_golden_states_matches_the_oracle(backend, vectors, judge):
    arrays = vectors.arrays
    observed = observe_decoder(backend, arrays) | observe_spoken_sound(backend, arrays)
    for quantity in ("samples", *(f"{name} samples" for name in FREE_RUNS)):
        expected, floor = vectors.arrays[quantity], vectors.floors[quantity]
        limit = tolerances.against_oracle(quantity, floor, expected, backend.config)
        judge.waveform(quantity, observed[quantity], expected, limit)


@pytest.mark.requirement("SY-02")
def test_tokens_give_samples_by_the_length_law(backend, vectors, judge):
    numbers = backend.config.decoder
    for tokens, hidden in zip(TOKENS, decoder_inputs(vectors.arrays), strict=True):
        wanted = (tokens - 1) * numbers.frames_per_token * numbers.hop_length
        judge.equal(f"{tokens} tokens", len(sound(backend, hidden)), wanted)


@pytest.mark.requirement("SY-03")
@pytest.mark.parametrize("name", FREE_RUNS)
def test_free_running_ids_are_the_oracles_up_to_a_tie(backend, vectors, judge, name):
    arrays = vectors.arrays
    options = FREE_RUNS[name]
    prompt = free_prompt(arrays)
    tokens = generate(backend, [Prompt(prompt, uniforms(SEED, 0), options, FREE)])
    stop = backend.config.language_model.eos_token_id
    ids = [stop if token.id is None else token.id for token in tokens]
    wanted, margins = arrays[f"{name} ids"].tolist(), arrays[f"{name} margins"]
    wanted = wanted[: wanted.index(stop) + 1] if stop in wanted else wanted
    differs = [i for i, (a, b) in enumerate(zip(ids, wanted, strict=False)) if a != b]
    judge.count_ids(len(ids), tied=bool(differs))
    if not differs:
        judge.equal("ids", ids, wanted)
        return
    limit = tolerances.against_oracle(
        "step logits", vectors.floors["step logits"], arrays["step logits"], backend.config
    )
    excused = tolerances.tie_margin(limit, options.temperature)
    judge.below(
        f"margin of id {differs[0]}",
        float(margins[differs[0]]),
        excused,
        differs[0] + 1,
        wrong=float(np.median(margins)),
    )


@pytest.mark.requirement("SY-04")
def test_one_seed_gives_one_audio(voice, judge):
    first = voice.infer(TEXTS[0], **OPTIONS)
    voice.infer(TEXTS[1], **OPTIONS)
    judge.bits("samples", voice.infer(TEXTS[0], **OPTIONS).samples, first.samples)


@pytest.mark.requirement("SY-05")
def test_another_seed_gives_other_ids(voice, judge):
    runs = [voice.infer(TEXTS[0], **{**OPTIONS, "seed": seed}) for seed in range(6)]
    different = {tuple(audio.sentences[0].token_ids) for audio in runs}
    repeated = len(runs) - len(different)
    judge.below("runs that repeat another", repeated, 2, len(runs), wrong=len(runs) - 1)


@pytest.mark.requirement("SY-06")
def test_sentences_cover_the_audio_in_order(voice, judge):
    audio = voice.infer(TEXTS[1], **OPTIONS)
    numbers = voice.config.decoder
    edges = [edge for sentence in audio.sentences for edge in (sentence.start, sentence.stop)]
    judge.equal("edges", edges, sorted(edges))
    judge.equal("ends", (edges[0], edges[-1]), (0, len(audio.samples)))
    for sentence in audio.sentences:
        length = max(len(sentence.token_ids) - 1, 0) * numbers.samples_per_token
        judge.equal("length", sentence.stop - sentence.start, length)


@pytest.mark.requirement("SY-07")
def test_the_limit_of_new_tokens_is_a_finish_reason(voice, judge):
    for count in (1, 2, 3):
        audio = voice.infer(TEXTS[0], max_new_tokens=count, seed=1, temperature=2.0, top_p=1.0)
        ids, reason = audio.sentences[0].token_ids, audio.finish_reasons[0]
        judge.equal(f"reason at {count}", reason, "length" if len(ids) == count else "stop")
        judge.equal(f"samples at {count}", len(audio), voice.config.decoder.samples(len(ids)))


@pytest.mark.requirement("BA-04")
def test_a_text_in_a_batch_is_what_it_is_alone(voice, backend, vectors, judge):
    alone = [voice.infer_batch([text], batch_size=1, **OPTIONS)[0] for text in TEXTS]
    for size in (2, 8):
        together = voice.infer_batch(TEXTS, batch_size=size, **OPTIONS)
        for one, two in zip(together, alone, strict=True):
            compare_sentences(judge, vectors, backend, one, two)


@pytest.mark.requirement("SY-08")
def test_text_with_nothing_to_say_is_refused(voice, judge):
    for text in ("", "   ", "...", "\n\t"):
        judge.refuses(
            f"text {text!r}",
            lambda t=text: voice.infer(t),
            ValueError,
            accepts=lambda: voice.infer("Yes.", max_new_tokens=2),
        )
