"""Time of each stage and the real-time factor: processing time over audio time, lower is better.

Each benchmark's name holds its backend and model; `extra_info` holds what a comparison needs to
know about the run.
"""

from __future__ import annotations

from resource import RUSAGE_SELF, getrusage

import numpy as np
import pytest

from soprano.backends import Backend
from soprano.stft import istft

TEXT = "The quick brown fox jumps over the lazy dog, and then it sleeps for a while."
TOKENS = 64


@pytest.fixture
def noted(backend: Backend, benchmark, request: pytest.FixtureRequest):
    """The benchmark, with the backend's effective configuration beside its figures.

    The group is its name without the backend, so that a table has the backends side by side.
    """
    benchmark.group = (
        f"{request.node.originalname}[{request.node.callspec.params['backend'][1].name}]"
    )
    benchmark.extra_info["backend"] = backend.name
    benchmark.extra_info["configuration"] = {
        name: str(field.value) for name, field in backend.attest().items()
    }
    yield benchmark
    # In kilobytes on Linux; of the whole process, so of everything that ran before, too.
    benchmark.extra_info["peak_memory_mb"] = getrusage(RUSAGE_SELF).ru_maxrss / 1024


@pytest.fixture
def hidden(backend: Backend) -> np.ndarray:
    """Hidden states (1, T, H) such as a decoder sees: of unit variance."""
    generator = np.random.default_rng(0)
    size = backend.config.language_model.hidden_size
    return generator.standard_normal((1, TOKENS, size), dtype=np.float32)


def note_audio(benchmark, seconds: float, tokens: int) -> None:
    """Audio seconds, real-time factor and tokens a second; without statistics when disabled."""
    benchmark.extra_info["audio_seconds"] = float(seconds)
    if benchmark.stats is not None:
        median = benchmark.stats.stats.median
        benchmark.extra_info["rtf"] = float(median / seconds)
        benchmark.extra_info["tokens_per_second"] = float(tokens / median)


def bench_prefill(backend, noted):
    ids = np.full((1, 64), 5)
    noted(backend.prefill, ids, np.array([64]))


def bench_step(backend, noted):
    """One token at a context of 64 to 64 + rounds."""
    state = backend.prefill(np.full((1, 64), 5), np.array([64])).state
    forked = backend.capabilities.fork

    def setup():
        nonlocal state
        start = (
            backend.fork(state)
            if forked
            else backend.prefill(np.full((1, 64), 5), np.array([64])).state
        )
        return (np.array([7]), start), {}

    noted.pedantic(backend.step, setup=setup, rounds=50, warmup_rounds=5)


def bench_decode(backend, noted, hidden):
    noted(backend.decode, hidden, np.array([TOKENS]))
    config = backend.config.decoder
    note_audio(noted, config.samples(TOKENS) / config.sample_rate, TOKENS)


def bench_istft(backend, noted, hidden):
    config = backend.config.decoder
    spectrum = backend.decode(hidden, np.array([TOKENS]))
    noted(istft, spectrum, config.istft)
    note_audio(noted, config.samples(TOKENS) / config.sample_rate, TOKENS)


def bench_synthesis(voice, noted):
    audio = noted(voice.infer, TEXT, seed=1, max_new_tokens=TOKENS)
    note_audio(noted, audio.duration, sum(len(s.token_ids) for s in audio.sentences))


def bench_first_sound(voice, noted):
    def first():
        stream = voice.infer_stream(TEXT, seed=1, max_new_tokens=TOKENS)
        chunk = next(stream)
        stream.close()
        return chunk

    noted(first)
