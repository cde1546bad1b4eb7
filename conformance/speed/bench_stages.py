"""Benchmarks of each part of a synthesis and of the whole: time and real-time factor (RTF).

RTF is processing time over audio time; lower is faster. The name of a benchmark holds its backend
and model, and `extra_info` the backend's effective configuration.
"""

from __future__ import annotations

from resource import RUSAGE_SELF, getrusage

import pytest

from soprano.bench import PARTS, Workload

TEXT = "The quick brown fox jumps over the lazy dog, and then it sleeps for a while."
TOKENS = 64


@pytest.fixture
def timer(backend, benchmark, request):
    """The `benchmark` fixture with the backend's effective configuration."""
    parameters = request.node.callspec.params
    timed = parameters["part"].name if "part" in parameters else "synthesis"
    benchmark.group = f"{timed}[{parameters['backend'][1].name}]"  # the backends side by side
    benchmark.extra_info["backend"] = backend.name
    benchmark.extra_info["configuration"] = {
        name: str(field.value) for name, field in backend.attest().items()
    }
    yield benchmark
    # KiB on Linux; of the whole process, earlier benchmarks included.
    benchmark.extra_info["peak_memory_mb"] = getrusage(RUSAGE_SELF).ru_maxrss / 1024


def add_rates(benchmark, seconds, tokens):
    """Add the RTF and tokens per second to a benchmark of so many seconds of audio."""
    benchmark.extra_info["audio_seconds"] = float(seconds)
    if benchmark.stats is not None:  # benchmarks are not disabled
        median = benchmark.stats.stats.median
        benchmark.extra_info["rtf"] = float(median / seconds)
        benchmark.extra_info["tokens_per_second"] = float(tokens / median)


@pytest.mark.parametrize("part", PARTS, ids=[part.name.replace(" ", "_") for part in PARTS])
def bench_part(voice, timer, part):
    if not part.runs_on(voice.backend):
        pytest.skip(f"{voice.backend.name} does not declare {part.needs}")
    work = Workload(voice, TOKENS)
    timer.pedantic(
        part.run, setup=lambda: ((work, part.prepare(work)), {}), rounds=20, warmup_rounds=2
    )
    if part.per_token:
        decoder = voice.config.decoder
        add_rates(timer, decoder.samples(TOKENS) / decoder.sample_rate, TOKENS)


def bench_synthesis(voice, timer):
    audio = timer(voice.infer, TEXT, seed=1, max_new_tokens=TOKENS)
    add_rates(timer, audio.duration, sum(len(s.token_ids) for s in audio.sentences))
