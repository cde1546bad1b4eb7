"""A stream is the offline audio in pieces."""

from __future__ import annotations

import numpy as np
import pytest

from conformance.golden.inputs import states
from conformance.golden.observations import sound
from conformance.golden.packs import Vectors
from conformance.judging import tolerances
from conformance.laws.test_synthesis import OPTIONS, TEXTS
from soprano.backends import Backend
from soprano.streaming import StreamingDecoder


def law(backend: Backend, vectors: Vectors):
    return tolerances.between_own_outputs(
        "samples", vectors.floors["samples"], vectors.arrays["samples"], backend.config
    )


@pytest.mark.requirement("ST-01")
@pytest.mark.parametrize("chunk_size", [1, 2, 3, 8, 100])
def test_a_stream_equals_the_offline_audio(voice, backend, vectors, judge, chunk_size):
    # None of them the family's default.
    options = {**OPTIONS, "top_p": 0.7, "top_k": 9, "repetition_penalty": 1.6}
    offline = voice.infer_batch([TEXTS[1]], batch_size=1, **options)[0]
    chunks = list(voice.infer_stream(TEXTS[1], chunk_size=chunk_size, **options))
    streamed = np.concatenate([chunk.samples for chunk in chunks])
    judge.close("samples", streamed, offline.samples, law(backend, vectors))
    reasons = [chunk.finish_reason for chunk in chunks if chunk.finish_reason]
    judge.equal("finish reasons", reasons, offline.finish_reasons)


def loudest(backend: Backend, pool: np.ndarray) -> int:
    """Where two states give the loudest sound: silence would be compared with nothing."""
    return max(range(0, len(pool) - 24, 8), key=lambda i: float(sound(backend, pool[i:][:2]).std()))


@pytest.mark.requirement("ST-02")
def test_every_length_streams_as_it_decodes(backend, vectors, judge):
    pool = states(vectors.arrays)
    pool = pool[loudest(backend, pool) :]
    for tokens in range(2, 25):
        decoder = StreamingDecoder(backend)
        pieces = []
        for hidden in pool[:tokens]:
            decoder.add(hidden)
            pieces.append(decoder.flush())
        pieces.append(decoder.flush(last=True))
        whole = sound(backend, pool[:tokens])
        judge.close(f"{tokens} tokens", np.concatenate(pieces), whole, law(backend, vectors))


@pytest.mark.requirement("ST-03")
def test_no_or_one_token_streams_no_samples(backend, vectors, judge):
    for tokens in (0, 1):
        decoder = StreamingDecoder(backend)
        for hidden in states(vectors.arrays)[:tokens]:
            decoder.add(hidden)
        judge.equal(f"{tokens} tokens", len(decoder.flush(last=True)), 0)


@pytest.mark.requirement("ST-04")
def test_sound_comes_as_soon_as_the_receptive_field_allows(backend, vectors, judge):
    config = backend.config.decoder
    # A sample is settled when every frame that overlaps it is; a frame, when the frames within
    # the receptive field are known.
    last_frame = (config.samples_per_token - 1 + config.n_fft // 2) // config.hop_length
    needed = -(-(last_frame + config.receptive_frames) // config.frames_per_token) + 1
    decoder = StreamingDecoder(backend)
    counts = []
    for hidden in states(vectors.arrays)[:needed]:
        decoder.add(hidden)
        counts.append(decoder.ready >= config.samples_per_token)
    judge.equal("ready", counts, [False] * (needed - 1) + [True])


@pytest.mark.requirement("ST-05")
def test_chunks_hold_at_least_what_was_asked_for(voice, judge):
    wanted = 3 * voice.config.decoder.samples_per_token
    for chunk in voice.infer_stream(TEXTS[1], chunk_size=3, **OPTIONS):
        if chunk.finish_reason is None:
            judge.equal("enough samples", len(chunk.samples) >= wanted, True)


@pytest.mark.requirement("ST-06")
def test_a_stream_that_is_dropped_leaves_nothing_behind(voice, judge):
    before = voice.infer(TEXTS[0], **OPTIONS)
    stream = voice.infer_stream(TEXTS[1], **OPTIONS)
    next(stream)
    stream.close()
    judge.bits("samples", voice.infer(TEXTS[0], **OPTIONS).samples, before.samples)
