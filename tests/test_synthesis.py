"""SY: where the ids, samples and options of a sentence come from."""

import json
import shutil
from dataclasses import replace

import pytest

from conformance.golden.inputs import OPTIONS, TEXTS
from conformance.golden.observations import hidden_states
from conformance.golden.packs import is_trained_voice
from conformance.judging.skips import NotDeclared
from soprano.checkpoint.folder import ModelFolder
from soprano.config import SamplingOptions
from soprano.generate import Prompt
from soprano.sampling import uniforms  # the definition: the expected draws

# Of more than 17 tokens each, so that they can be detected as stuck.
SPEECH = ("The train leaves at half past nine tomorrow.", "Please open the window, it is hot here.")
HELD = 40  # repetitions of a held sound


def generated_ids(stages, prompt):
    """The ids of a single prompt by the generation loop."""
    return [token.id for token in stages.generate(stages, [prompt]) if token.id is not None]


@pytest.mark.requirement("SY-05")
def test_another_seed_gives_other_ids(voice, judge):
    runs = [voice.infer(TEXTS[0], **{**OPTIONS, "seed": seed}) for seed in range(6)]
    different = {tuple(audio.sentences[0].token_ids) for audio in runs}
    repeated = len(runs) - len(different)
    judge.below("runs that repeat another", repeated, 2, len(runs), wrong=len(runs) - 1)


@pytest.mark.requirement("SY-06")
def test_sentences_cover_the_audio_in_order(voice, judge):
    audio = voice.infer(TEXTS[1], **OPTIONS)
    edges = [edge for sentence in audio.sentences for edge in (sentence.start, sentence.stop)]
    judge.equal("edges", edges, sorted(edges))
    judge.equal("ends", (edges[0], edges[-1]), (0, len(audio.samples)))
    for sentence in audio.sentences:
        length = max(len(sentence.token_ids) - 1, 0) * voice.config.decoder.samples_per_token
        judge.equal("length", sentence.stop - sentence.start, length)


@pytest.mark.requirement("SY-07")
def test_max_new_tokens_gives_the_finish_reason_length(voice, judge):
    for limit in (1, 2, 3):
        audio = voice.infer(TEXTS[0], max_new_tokens=limit, seed=1, temperature=2.0, top_p=1.0)
        ids, reason = audio.sentences[0].token_ids, audio.finish_reasons[0]
        judge.equal(f"reason at {limit}", reason, "length" if len(ids) == limit else "stop")
        judge.equal(f"samples at {limit}", len(audio), voice.config.decoder.samples(len(ids)))


@pytest.mark.requirement("SY-08")
def test_text_without_anything_to_speak_is_rejected(voice, judge):
    for text in ("", "   ", "...", "\n\t"):
        judge.refuses(
            f"text {text!r}",
            lambda t=text: voice.infer(t),
            ValueError,
            accepts=lambda: voice.infer("Yes.", max_new_tokens=2),
        )


@pytest.mark.requirement("SY-10")
def test_the_ids_of_a_sentence_come_from_its_own_prompt_and_draws(voice, stages, judge):
    audio = voice.infer_batch([TEXTS[1]], batch_size=1, **OPTIONS)[0]
    sampling = replace(voice.defaults.sampling, temperature=0.8, top_p=0.95)
    for index, sentence in enumerate(audio.sentences):
        draws = uniforms(OPTIONS["seed"], index)
        limit = OPTIONS["max_new_tokens"]
        prompt = Prompt(stages.tokenize(sentence.text), draws, sampling, limit)
        expected = generated_ids(stages, prompt)
        judge.equal(f"ids of sentence {index}", sentence.token_ids, expected)
    judge.equal("there are several sentences", len(audio.sentences) > 1, True)


@pytest.mark.requirement("SY-11")
def test_options_not_given_are_taken_from_the_model_folder(voice, stages, subject, judge, tmp_path):
    shutil.copy(voice.model / "config.json", tmp_path)
    sampling = {"temperature": 0.9, "top_p": 0.7, "top_k": 9, "repetition_penalty": 1.9}
    # No distance is below 0: no utterance is stuck, and the first attempt is kept.
    stated = {**sampling, "max_new_tokens": 20, "hallucination_distance": 0.0}
    other = {"temperature": 1.3, "top_p": 0.9, "top_k": 30, "repetition_penalty": 1.1}
    other |= {"max_new_tokens": 18, "hallucination_distance": 1e9}
    family = {**vars(SamplingOptions()), "hallucination_distance": 300.0}

    def ids(options):
        opened = subject.voice(tmp_path, stages)
        return opened.infer(TEXTS[0], seed=3, retries=1, **options).sentences[0].token_ids

    (tmp_path / "generation_config.json").write_text(json.dumps(stated), "utf-8")
    judge.equal("the model's", ids({}), ids(stated))
    for name in stated:
        given = {name: other[name]}
        judge.equal(f"{name} given", ids(given), ids({**stated, **given}))
    (tmp_path / "generation_config.json").unlink()
    for options in ({}, {"temperature": 1.3}):  # only a sampled utterance is generated again
        short = {**options, "max_new_tokens": 20}
        judge.equal("the family's", ids(short), ids({**family, **short}))
    judge.equal("they differ", len({tuple(ids(options)) for options in (stated, other)}), 2)


@pytest.mark.requirement("SY-12")
def test_audio_and_chunks_have_the_sample_rate_of_the_model(voice, judge):
    stated = json.loads((voice.model / "config.json").read_text("utf-8"))
    published = {"sample_rate": 32000}  # which states none
    rate = stated.get("soprano_decoder", published)["sample_rate"]
    judge.equal("audio", voice.infer(TEXTS[0], **OPTIONS).sample_rate, rate)
    for chunk in voice.infer_stream(TEXTS[0], **OPTIONS):
        judge.equal("chunk", chunk.sample_rate, rate)


@pytest.mark.requirement("SY-13")
def test_a_stuck_utterance_is_generated_again_with_the_next_draws(voice, stages, judge):
    # With an unlimited distance every utterance of more than 17 states is stuck.
    stuck = {**OPTIONS, "max_new_tokens": 20, "hallucination_distance": 1e9}
    sampling = replace(voice.defaults.sampling, temperature=0.8, top_p=0.95)
    text = voice.infer(TEXTS[0], **stuck).sentences[0].text

    def attempt(number, temperature=0.8):
        options = replace(sampling, temperature=temperature)
        draws = uniforms(stuck["seed"], 0, number)
        return generated_ids(stages, Prompt(stages.tokenize(text), draws, options, 20))

    def ids(**changes):
        return voice.infer(TEXTS[0], **{**stuck, **changes}).sentences[0].token_ids

    attempts = [attempt(number) for number in range(3)]
    for retries in range(3):
        last = next((i for i in range(retries) if len(attempts[i]) < 18), retries)
        judge.equal(f"{retries} retries", ids(retries=retries), attempts[last])
    judge.equal("attempts differ", len({tuple(attempt) for attempt in attempts}) > 1, True)
    judge.equal("not stuck", ids(retries=2, hallucination_distance=0.0), attempts[0])
    greedy = ids(temperature=0.0)
    judge.equal("greedy", ids(temperature=0.0, retries=2), greedy)
    if len(greedy) > 17:
        warmer = ids(temperature=0.0, retries=1, retry_temperature=1.1)
        judge.equal("greedy, warmer", warmer, attempt(1, 1.1))


@pytest.mark.requirement("SY-19")
def test_the_trained_voice_is_stuck_only_where_a_sound_is_held(voice, stages, judge):
    if not is_trained_voice(ModelFolder.open(voice.model)):
        raise NotDeclared("the model is not the trained voice")
    for text in SPEECH:
        sentence = voice.infer(text).sentences[0]
        prompt, start = stages.tokenize(sentence.text), sentence.token_ids[:10]
        for name, ids, expected in (
            ("speech", sentence.token_ids, False),
            ("held", [*start, *start[-1:] * HELD], True),
            ("two in turns", [*start, *start[-2:] * HELD], True),
        ):
            hidden = hidden_states(stages.language_model, prompt, ids)[:-1]
            stuck = stages.is_stuck(hidden, voice.defaults.hallucination_distance)
            judge.equal(f"{name}: {text}", stuck, expected)
