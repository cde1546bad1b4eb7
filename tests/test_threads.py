"""Threads that share one voice get the audio that each would get alone."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

from conformance.golden.packs import fixture_models
from soprano.backends import installed_backends
from soprano.synthesis import SopranoTTS

MODEL = next(path for path in fixture_models() if path.name == "v11")
THREADS = 16
CALLS = 12  # different ones, of which each thread makes half
TEXTS = (
    "The train leaves at half past nine tomorrow.",
    "It is hot here.",
    "Please open the window. The other one is closed, and nobody knows why it is.",
)
OPTIONS = {"temperature": 1.0, "max_new_tokens": 8}


def synthesize(voice: SopranoTTS, number: int) -> np.ndarray:
    """The samples of one call; calls differ in method, text, seed and chunk size."""
    text, options = TEXTS[number // 3 % len(TEXTS)], {**OPTIONS, "seed": number}
    if number % 3 == 0:
        return np.asarray(voice.infer(text, **options))
    if number % 3 == 1:
        audios = voice.infer_batch([text, *TEXTS], batch_size=3, **options)
        return np.concatenate([audio.samples for audio in audios])
    chunks = voice.infer_stream(text, chunk_size=1 + number % 4, **options)
    return np.concatenate([chunk.samples for chunk in chunks])


@pytest.mark.parametrize("backend", installed_backends())
def test_calls_from_an_asyncio_executor_return_the_samples_of_sequential_calls(backend):
    voice = SopranoTTS(MODEL, backend, threads=1)
    expected = [synthesize(voice, number) for number in range(6)]

    async def every():
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(THREADS) as pool:
            calls = [loop.run_in_executor(pool, synthesize, voice, n % 6) for n in range(18)]
            return await asyncio.gather(*calls)

    for number, samples in enumerate(asyncio.run(every())):
        assert np.array_equal(samples, expected[number % 6])


@pytest.mark.parametrize("backend", installed_backends())
def test_concurrent_calls_return_the_samples_of_sequential_calls(backend):
    voice = SopranoTTS(MODEL, backend, threads=2)
    expected = [synthesize(voice, number) for number in range(CALLS)]
    assert len({samples.tobytes() for samples in expected}) == CALLS
    start = Barrier(THREADS)

    def work(thread):
        start.wait()
        own = [(5 * thread + i) % CALLS for i in range(CALLS // 2)]
        return [(number, synthesize(voice, number)) for number in own]

    with ThreadPoolExecutor(THREADS) as pool:
        results = [result for own in pool.map(work, range(THREADS)) for result in own]
    wrong = [n for n, samples in results if not np.array_equal(samples, expected[n])]
    assert not wrong, f"{len(wrong)} of {len(results)} calls returned other samples: {wrong}"
