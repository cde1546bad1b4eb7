"""IN: calls from several threads at the same time return what each returns alone."""

from functools import partial

import numpy as np
import pytest

from conformance.golden.inputs import hidden_pool, sequence
from conformance.golden.observations import prefill_one
from conformance.judging.skips import NotDeclared
from conformance.laws.support.agreement import judge_same
from conformance.laws.support.coverage import share
from conformance.laws.support.interleaving import STEPS, TOKENS, concurrently, decoded, farthest
from soprano.config import SamplingOptions

MANY = 8  # threads
CASES = (("prefill", 2), ("prefill", MANY), ("step", MANY), ("decode", 2), ("decode", MANY),
         ("mixed", 2), ("mixed", MANY))  # fmt: skip
OPTIONS = SamplingOptions(0.9, 0.95, 0, 1.2)
GREEDY = SamplingOptions(0.0, 1.0, 0, 1.2)
SPOKEN = 6  # new tokens
OWN = ("normalize", "sample", "synthesize", "synthesize_batch", "stream", "decode_audio", "istft")


def judge_concurrent(judge, vectors, jobs):
    """Judge each job's results, repeated in threads, against its result before.

    A job returns arrays of floats by quantity, and other values, which must be equal.
    """
    alone = [job() for job in jobs]
    results = concurrently(jobs)
    with judge.together():
        for thread, (expected, own) in enumerate(zip(alone, results, strict=True)):
            name = f"thread {thread} of {len(jobs)}"
            for quantity, value in expected.items():
                repeated = [result[quantity] for result in own]
                judge_value(judge, vectors, f"{name}, {quantity}", repeated, value)


def judge_value(judge, vectors, quantity, repeated, expected):
    if not isinstance(expected, np.ndarray):
        wrong = [value for value in repeated if value != expected]
        judge.equal(quantity, [*wrong, *repeated][0], expected)
        return
    what = quantity.split()[-1]
    limit = vectors.own_limit(f"step {what}" if what in ("logits", "hidden") else what)
    judge_same(judge, quantity, farthest(repeated, expected), expected, limit)


@pytest.fixture
def calls(backend, vectors):
    """Jobs by their number: each use of a call has other inputs, some of the same shape."""
    pool, arrays = hidden_pool(vectors.arrays), vectors.arrays

    def prompt(number):
        return sequence(arrays, number)[: 5 + number % 3]

    def prefill(number):
        output = prefill_one(backend, prompt(number))
        return {"prefill: logits": output.logits, "prefill: hidden": output.hidden}

    def step(number):
        output = prefill_one(backend, prompt(number))
        outputs = []
        for i in arrays["step ids"][number, :STEPS]:
            output = backend.step(np.array([i]), output.state)
            outputs.append(output)
        return {
            "steps: logits": np.concatenate([output.logits for output in outputs]),
            "steps: hidden": np.concatenate([output.hidden for output in outputs]),
        }

    def decode(number):
        tokens = TOKENS - number % 2
        return dict([decoded(backend, pool[13 * number :][:tokens])])

    return {"prefill": prefill, "step": step, "decode": decode}


@pytest.mark.requirement("IN-04")
@pytest.mark.parametrize(("call", "threads"), CASES)
def test_concurrent_calls_return_what_each_returns_alone(
    request, vectors, judge, calls, call, threads
):
    if (call, threads) not in share(request, CASES):
        raise NotDeclared("other models of the run take this number of threads")
    kinds = list(calls.values()) if call == "mixed" else [calls[call]]
    jobs = [partial(kinds[number % len(kinds)], number) for number in range(threads)]
    judge_concurrent(judge, vectors, jobs)


SENTENCES = ("It is 8:15.", "Dr. Jones paid $5.", "NASA is 60 years old.", "No!")


@pytest.fixture
def own_calls(backend, stages, vectors):
    """Jobs of the methods that a backend may have of its own, by the name of the method."""
    arrays, config = vectors.arrays, vectors.config
    pool, random = hidden_pool(arrays), np.random.default_rng(2)
    options = OPTIONS if backend.capabilities.uniforms else GREEDY
    spectra = random.normal(size=(MANY, 1, config.decoder.bins, 9, 2)).astype(np.float32)
    spectra[:, :, [0, -1]] = 0
    layout = backend.capabilities.layouts[0]

    def utterance(number):
        stream = stages.uniforms(23, number, 0)
        draws = [next(stream) for _ in range(SPOKEN)]
        return sequence(arrays, number)[: 5 + number % 3].tolist(), options, draws, SPOKEN

    def spoken(result):
        ids, samples, finish = result
        return {"ids": [int(i) for i in ids], "samples": samples, "finish": finish}

    def sample(number):
        prompt, _, draws, _ = utterance(number)
        logits = arrays["step logits"][number, 0].astype(np.float32)
        return {"id": int(backend.sample(logits, prompt, options, draws[0]))}

    def synthesize_batch(number):
        (prompt, _, draws, limit), (other, _, more, _) = utterance(number), utterance(number + 1)
        results = backend.synthesize_batch([prompt, other], options, [draws, more], limit)
        return spoken(results[number % 2])

    def istft(number):
        spectrum = spectra[number] if layout == "bft2" else np.moveaxis(spectra[number], 3, 1)
        return {"samples": backend.istft(spectrum, config.decoder.istft, layout)}

    def decode_audio(number):
        hidden = pool[13 * number :][None, : TOKENS - number % 2]
        return {"samples": backend.decode_audio(hidden, np.array([hidden.shape[1]]))}

    return {
        "normalize": lambda number: {"text": backend.normalize(SENTENCES[number % 4])},
        "sample": sample,
        "synthesize": lambda number: spoken(backend.synthesize(*utterance(number))),
        "synthesize_batch": synthesize_batch,
        "stream": lambda number: {
            "samples": np.concatenate([*backend.stream(*utterance(number), 2)])
        },
        "decode_audio": decode_audio,
        "istft": istft,
    }


@pytest.mark.requirement("IN-05")
@pytest.mark.parametrize("method", OWN)
def test_concurrent_calls_of_own_stages_return_what_each_returns_alone(
    backend, vectors, judge, own_calls, method
):
    if not hasattr(backend, method):
        raise NotDeclared(f"{backend.name} has no {method} of its own")
    judge_concurrent(judge, vectors, [partial(own_calls[method], n) for n in range(MANY)])
