"""ST: how soon the chunks of a stream are ready, and how large they are."""

import pytest

from conformance.golden.inputs import OPTIONS, TEXTS, hidden_pool
from soprano.generate import Token


@pytest.mark.requirement("ST-03")
def test_a_stream_of_no_token_or_one_token_gives_no_samples(stages, vectors, judge):
    for count in (0, 1):
        tokens = [Token(0, 5, hidden, None) for hidden in hidden_pool(vectors.arrays)[:count]]
        chunks = list(stages.stream(stages, [*tokens, Token(0, None, None, "stop")], 1))
        judge.equal(f"{count} tokens", [len(samples) for samples, _ in chunks], [0])


@pytest.mark.requirement("ST-04")
def test_the_first_samples_are_ready_as_soon_as_the_receptive_field_allows(stages, vectors, judge):
    config = stages.config.decoder
    # A sample is final when every frame that overlaps it is; a frame, when all tokens in its
    # receptive field are known.
    last_frame = (config.samples_per_token - 1 + config.n_fft // 2) // config.hop_length
    needed = -(-(last_frame + config.receptive_frames) // config.frames_per_token) + 1
    taken = []

    def tokens():
        for hidden in hidden_pool(vectors.arrays)[: needed + 4]:
            taken.append(hidden)
            yield Token(0, 5, hidden, None)

    next(stages.stream(stages, tokens(), 1))
    judge.equal("tokens before the first chunk", len(taken), needed)


@pytest.mark.requirement("ST-05")
def test_every_chunk_but_the_last_holds_the_requested_samples(voice, judge):
    requested = 3 * voice.config.decoder.samples_per_token
    for chunk in voice.infer_stream(TEXTS[1], chunk_size=3, **OPTIONS):
        if chunk.finish_reason is None:
            judge.equal("enough samples", len(chunk.samples) >= requested, True)
