"""One utterance from end to end: where ids, states, samples and options come from."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from conformance.golden.packs import Vectors, is_trained_voice
from conformance.judging import tolerances
from conformance.judging.skips import NotDeclared
from conformance.laws.test_synthesis import OPTIONS, TEXTS
from conformance.oracle.conventions import ALIGNMENTS, alignments_followed, sound_of, states_of
from soprano.backends import Backend
from soprano.checkpoint.folder import ModelFolder
from soprano.config import SamplingOptions
from soprano.generate import Prompt, generate
from soprano.hallucination import is_stuck
from soprano.sampling import uniforms
from soprano.synthesis import SopranoTTS

LIMIT = OPTIONS["max_new_tokens"]
# Of more than 17 tokens each, so that they could be taken for stuck.
SPOKEN = ("The train leaves at half past nine tomorrow.", "Please open the window, it is hot here.")
HELD = 40  # times that a sound is said again


def judge_sound(judge, backend: Backend, vectors: Vectors, prompt, ids, samples) -> None:
    """Samples of an utterance: no other convention's, and those of the states before its ids."""
    followed = alignments_followed(backend, prompt, ids, samples)
    for name in ALIGNMENTS:
        judge.not_following(name, followed)
    expected = sound_of(backend, states_of(backend, prompt, ids)[:-1])
    limit = tolerances.between_own_outputs(
        "samples", vectors.floors["samples"], vectors.arrays["samples"], backend.config
    )
    judge.close("samples", samples, expected, limit)


def streamed(voice: SopranoTTS, text: str) -> list[np.ndarray]:
    """The samples of each sentence of a stream."""
    chunks = list(voice.infer_stream(text, chunk_size=4, **OPTIONS))
    count = chunks[-1].sentence + 1
    return [
        np.concatenate([chunk.samples for chunk in chunks if chunk.sentence == number])
        for number in range(count)
    ]


@pytest.mark.requirement("SY-09")
def test_the_audio_is_that_of_the_states_that_predicted_the_ids(voice, backend, vectors, judge):
    audio = voice.infer(TEXTS[1], **OPTIONS)
    for sentence in audio.sentences:
        prompt = voice.tokenizer.prompt(sentence.text)
        samples = audio.samples[slice(*sentence.range)]
        judge_sound(judge, backend, vectors, prompt, sentence.token_ids, samples)


@pytest.mark.requirement("ST-07")
def test_a_stream_is_that_of_the_states_that_predicted_the_ids(voice, backend, vectors, judge):
    sentences = voice.infer_batch([TEXTS[1]], batch_size=1, **OPTIONS)[0].sentences
    pieces = streamed(voice, TEXTS[1])
    judge.equal("sentences", len(pieces), len(sentences))
    for sentence, samples in zip(sentences, pieces, strict=True):
        prompt = voice.tokenizer.prompt(sentence.text)
        judge_sound(judge, backend, vectors, prompt, sentence.token_ids, samples)


@pytest.mark.requirement("SY-10")
def test_a_sentences_ids_come_from_its_prompt_and_its_own_draws(voice, backend, judge):
    audio = voice.infer_batch([TEXTS[1]], batch_size=1, **OPTIONS)[0]
    sampling = replace(voice.defaults.sampling, temperature=0.8, top_p=0.95)
    for number, sentence in enumerate(audio.sentences):
        draws = uniforms(OPTIONS["seed"], number)
        prompt = Prompt(voice.tokenizer.prompt(sentence.text), draws, sampling, LIMIT)
        said = [token.id for token in generate(backend, [prompt]) if token.id is not None]
        judge.equal(f"ids of sentence {number}", sentence.token_ids, said)
    judge.equal("there are several sentences", len(audio.sentences) > 1, True)


@pytest.mark.requirement("SY-11")
def test_options_not_given_are_the_models(voice, backend, judge, tmp_path):
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(voice.model / name, tmp_path / name)
    sampling = {"temperature": 0.9, "top_p": 0.7, "top_k": 9, "repetition_penalty": 1.9}
    # Nothing is nearer than a distance of 0: no utterance is stuck, and the first one stays.
    told = {**sampling, "max_new_tokens": 20, "hallucination_distance": 0.0}
    other = {"temperature": 1.3, "top_p": 0.9, "top_k": 30, "repetition_penalty": 1.1}
    other |= {"max_new_tokens": 18, "hallucination_distance": 1e9}
    family = {**vars(SamplingOptions()), "hallucination_distance": 300.0}

    def said(options: dict[str, float]) -> list[int]:
        speaker = SopranoTTS.over(backend, tmp_path)
        return speaker.infer(TEXTS[0], seed=3, retries=1, **options).sentences[0].token_ids

    (tmp_path / "generation_config.json").write_text(json.dumps(told), "utf-8")
    judge.equal("the model's", said({}), said(told))
    for name in told:
        judge.equal(f"{name} given", said({name: other[name]}), said({**told, name: other[name]}))
    (tmp_path / "generation_config.json").unlink()
    for warm in ({}, {"temperature": 1.3}):  # only what is drawn by lot is tried again
        short = {**warm, "max_new_tokens": 20}
        judge.equal("the family's", said(short), said({**family, **short}))
    judge.equal("they differ", len({tuple(said(o)) for o in (told, other)}), 2)


@pytest.mark.requirement("SY-12")
def test_sound_has_the_models_rate(voice, judge):
    stated = json.loads((voice.model / "config.json").read_text("utf-8"))
    rate = stated.get("decoder", {"sample_rate": 32000})["sample_rate"]  # published: not stated
    judge.equal("audio", voice.infer(TEXTS[0], **OPTIONS).sample_rate, rate)
    for chunk in voice.infer_stream(TEXTS[0], **OPTIONS):
        judge.equal("chunk", chunk.sample_rate, rate)


@pytest.mark.requirement("SY-13")
def test_a_stuck_utterance_is_tried_again_with_the_next_draws(voice, backend, judge):
    # Under an endless distance every utterance of more than 17 states counts as stuck.
    stuck = {**OPTIONS, "max_new_tokens": 20, "hallucination_distance": 1e9}
    sampling = replace(voice.defaults.sampling, temperature=0.8, top_p=0.95)

    def attempt(number: int, temperature: float = 0.8) -> list[int]:
        how = replace(sampling, temperature=temperature)
        text = voice.infer(TEXTS[0], **stuck).sentences[0].text
        prompt = Prompt(voice.tokenizer.prompt(text), uniforms(stuck["seed"], 0, number), how, 20)
        return [token.id for token in generate(backend, [prompt]) if token.id is not None]

    def said(**changes: float) -> list[int]:
        return voice.infer(TEXTS[0], **{**stuck, **changes}).sentences[0].token_ids

    runs = [attempt(number) for number in range(3)]
    for retries in range(3):
        last = next((i for i in range(retries) if len(runs[i]) < 18), retries)
        judge.equal(f"{retries} retries", said(retries=retries), runs[last])
    judge.equal("attempts differ", len({tuple(run) for run in runs}) > 1, True)
    judge.equal("not stuck", said(retries=2, hallucination_distance=0.0), runs[0])
    greedy = said(temperature=0.0)
    judge.equal("greedy", said(temperature=0.0, retries=2), greedy)
    if len(greedy) > 17:
        warmer = said(temperature=0.0, retries=1, retry_temperature=1.1)
        judge.equal("greedy, warmer", warmer, attempt(1, 1.1))


@pytest.mark.requirement("SY-19")
def test_the_trained_voice_is_stuck_where_it_holds_a_sound_and_nowhere_else(voice, backend, judge):
    if not is_trained_voice(ModelFolder.open(voice.model)):
        raise NotDeclared("the model is not the trained voice")
    for text in SPOKEN:
        said = voice.infer(text).sentences[0]
        prompt, start = voice.tokenizer.prompt(said.text), said.token_ids[:10]
        for name, ids, wanted in (
            ("spoken", said.token_ids, False),
            ("held", [*start, *start[-1:] * HELD], True),
            ("two in turns", [*start, *start[-2:] * HELD], True),
        ):
            states = states_of(backend, prompt, ids)[:-1]
            stuck = is_stuck(states, voice.defaults.hallucination_distance)
            judge.equal(f"{name}: {text}", stuck, wanted)


# Prompt, options, draws and limit in; what a port that brings its own loop must make of them.
ASKED = {
    "greedy": SamplingOptions(0.0, 1.0, 0, 1.2),
    "sampled": SamplingOptions(0.8, 0.95, 0, 1.2),
    "narrow": SamplingOptions(0.3, 0.5, 0, 1.2),  # often one id alone is left: it takes its draw
    "of few": SamplingOptions(1.0, 1.0, 3, 1.0),
}
MOST = 150  # tokens: beyond whatever a port keeps in a ring


def question(vectors: Vectors, row: int) -> tuple[list[int], list[float]]:
    length = int(vectors.arrays["prompt lengths"][row])
    draws = uniforms(11, row)
    return vectors.arrays["prompt ids"][row, :length].tolist(), [next(draws) for _ in range(MOST)]


def answered(backend: Backend, ids: list[int], options: SamplingOptions, draws, limit):
    """Ids and finish reason by the shared loop over the backend's own networks."""
    tokens = list(generate(backend, [Prompt(ids, iter(draws), options, limit)]))
    return [token.id for token in tokens if token.id is not None], tokens[-1].finish


@pytest.mark.requirement("SY-14")
@pytest.mark.parametrize("name", ASKED)
def test_an_own_synthesis_is_the_backends_own_stages(backend, vectors, judge, name):
    if not hasattr(backend, "synthesize"):
        raise NotDeclared(f"{backend.name} brings no synthesize of its own")
    for row in range(3):
        for limit in (1, 2, 3, MOST if row == 0 else 20):
            prompt, draws = question(vectors, row)
            ids, finish = answered(backend, prompt, ASKED[name], draws, limit)
            spoken = backend.synthesize(prompt, ASKED[name], draws, limit)
            judge.equal("ids and finish", (list(spoken.ids), spoken.finish), (ids, finish))
            size = max(len(ids) - 1, 0) * backend.config.decoder.samples_per_token
            if size:
                judge_sound(judge, backend, vectors, prompt, ids, spoken.samples)
            judge.equal("samples", np.shape(spoken.samples), (size,))


@pytest.mark.requirement("ST-08")
@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize("chunk_size", [1, 3, 31, 64, 100])
def test_an_own_stream_is_the_backends_own_stages(backend, vectors, judge, name, chunk_size):
    if not hasattr(backend, "stream"):
        raise NotDeclared(f"{backend.name} brings no stream of its own")
    for row in range(3):
        for limit in (1, 2, 9, MOST if row == 0 else 30):
            prompt, draws = question(vectors, row)
            ids, _ = answered(backend, prompt, ASKED[name], draws, limit)
            pieces = list(backend.stream(prompt, ASKED[name], draws, limit, chunk_size))
            samples = np.concatenate([np.zeros(0, np.float32), *pieces])
            size = max(len(ids) - 1, 0) * backend.config.decoder.samples_per_token
            if size:
                judge_sound(judge, backend, vectors, prompt, ids, samples)
            judge.equal("samples", samples.shape, (size,))
