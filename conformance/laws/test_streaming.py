"""ST: a stream gives the offline audio in chunks."""

import numpy as np
import pytest

from conformance.golden.inputs import OPTIONS, TEXTS, hidden_pool
from soprano.generate import Token


@pytest.mark.requirement("ST-01")
@pytest.mark.parametrize("chunk_size", [1, 2, 3, 8, 100])
def test_stream_equals_offline(voice, vectors, judge, chunk_size):
    # No option has its default value.
    options = {**OPTIONS, "top_p": 0.7, "top_k": 9, "repetition_penalty": 1.6}
    offline = voice.infer_batch([TEXTS[1]], batch_size=1, **options)[0]
    chunks = list(voice.infer_stream(TEXTS[1], chunk_size=chunk_size, **options))
    streamed = np.concatenate([chunk.samples for chunk in chunks])
    judge.waveform("samples", streamed, offline.samples, vectors.own_limit("samples"))
    reasons = [chunk.finish_reason for chunk in chunks if chunk.finish_reason]
    judge.equal("finish reasons", reasons, offline.finish_reasons)


@pytest.mark.requirement("ST-02")
def test_stream_flushed_after_every_token_equals_offline(stages, vectors, judge):
    pool = hidden_pool(vectors.arrays)
    # Begin where two tokens give the loudest samples: a comparison of silence proves nothing.
    starts = range(0, len(pool) - 24, 8)
    loudest = max(starts, key=lambda i: float(stages.vocode(pool[i:][:2]).std()))
    for count in range(2, 25):
        hidden = pool[loudest:][:count]
        tokens = [Token(0, 5, state, None) for state in hidden]
        # A chunk size of 0 flushes after every token, however few samples are ready.
        chunks = [samples for samples, _ in stages.stream(stages, tokens, 0)]
        limit = vectors.own_limit("samples")
        streamed = np.concatenate(chunks)
        judge.waveform(f"samples of {count} tokens", streamed, stages.vocode(hidden), limit)


@pytest.mark.requirement("ST-06")
def test_a_closed_stream_changes_nothing_that_follows(voice, judge):
    before = voice.infer(TEXTS[0], **OPTIONS)
    stream = voice.infer_stream(TEXTS[1], **OPTIONS)
    next(stream)
    stream.close()
    judge.bits("samples", voice.infer(TEXTS[0], **OPTIONS).samples, before.samples)
