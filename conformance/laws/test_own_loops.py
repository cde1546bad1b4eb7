"""SY and ST: the `synthesize` and `stream` that a port implements itself."""

import numpy as np
import pytest

from conformance.judging.skips import NotDeclared
from conformance.laws.alignment import judge_alignment
from soprano.config import SamplingOptions
from soprano.generate import Prompt

OPTIONS = {
    "greedy": SamplingOptions(0.0, 1.0, 0, 1.2),
    "sampled": SamplingOptions(0.8, 0.95, 0, 1.2),
    "narrow": SamplingOptions(0.3, 0.5, 0, 1.2),  # often one id alone is left, and uses its draw
    "of few": SamplingOptions(1.0, 1.0, 3, 1.0),
}
MOST = 150  # new tokens: more than the ring buffer of a port holds


@pytest.fixture
def query(stages, vectors):
    """A prompt of the golden inputs, its draws, and what the shared loop makes of them."""

    def make(row, options, limit):
        length = int(vectors.arrays["prompt lengths"][row])
        prompt = vectors.arrays["prompt ids"][row, :length].tolist()
        stream = stages.uniforms(11, row, 0)
        draws = [next(stream) for _ in range(MOST)]
        tokens = list(stages.generate(stages, [Prompt(prompt, iter(draws), options, limit)]))
        ids = [token.id for token in tokens if token.id is not None]
        return prompt, draws, ids, tokens[-1].finish

    return make


def judge_samples(judge, stages, vectors, prompt, ids, samples):
    size = max(len(ids) - 1, 0) * stages.config.decoder.samples_per_token
    if size:
        judge_alignment(judge, stages, vectors, prompt, ids, samples)
    judge.equal("samples", np.shape(samples), (size,))


@pytest.mark.requirement("SY-14")
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_an_own_synthesize_equals_the_shared_loop(stages, backend, vectors, judge, query, options):
    if not hasattr(backend, "synthesize"):
        raise NotDeclared(f"{backend.name} has no synthesize of its own")
    for row in range(3):
        for limit in (1, 2, 3, MOST if row == 0 else 20):
            prompt, draws, ids, finish = query(row, options, limit)
            result = backend.synthesize(prompt, options, draws, limit)
            judge.equal("ids and finish", (list(result.ids), result.finish), (ids, finish))
            judge_samples(judge, stages, vectors, prompt, ids, result.samples)


@pytest.mark.requirement("ST-08")
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("chunk_size", [1, 3, 31, 64, 100])
def test_an_own_stream_equals_the_shared_loop_for_any_chunk_size(
    stages, backend, vectors, judge, query, options, chunk_size
):
    if not hasattr(backend, "stream"):
        raise NotDeclared(f"{backend.name} has no stream of its own")
    for row in range(3):
        for limit in (1, 2, 9, MOST if row == 0 else 30):
            prompt, draws, ids, _ = query(row, options, limit)
            chunks = list(backend.stream(prompt, options, draws, limit, chunk_size))
            samples = np.concatenate([np.zeros(0, np.float32), *chunks])
            judge_samples(judge, stages, vectors, prompt, ids, samples)
