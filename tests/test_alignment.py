"""SY and ST: the hidden states that become samples are those that predicted the ids."""

import numpy as np
import pytest

from conformance.golden.inputs import OPTIONS, TEXTS
from conformance.laws.support.alignment import judge_alignment


@pytest.mark.requirement("SY-09")
def test_samples_are_those_of_the_hidden_states_that_predicted_the_ids(
    voice, stages, vectors, judge
):
    audio = voice.infer(TEXTS[1], **OPTIONS)
    for sentence in audio.sentences:
        prompt = stages.tokenize(sentence.text)
        samples = audio.samples[slice(*sentence.range)]
        judge_alignment(judge, stages, vectors, prompt, sentence.token_ids, samples)


@pytest.mark.requirement("ST-07")
def test_streamed_samples_are_those_of_the_hidden_states_that_predicted_the_ids(
    voice, stages, vectors, judge
):
    sentences = voice.infer_batch([TEXTS[1]], batch_size=1, **OPTIONS)[0].sentences
    chunks = list(voice.infer_stream(TEXTS[1], chunk_size=4, **OPTIONS))
    judge.equal("sentences", chunks[-1].sentence + 1, len(sentences))
    for index, sentence in enumerate(sentences):
        own = [chunk.samples for chunk in chunks if chunk.sentence == index]
        prompt = stages.tokenize(sentence.text)
        judge_alignment(judge, stages, vectors, prompt, sentence.token_ids, np.concatenate(own))
