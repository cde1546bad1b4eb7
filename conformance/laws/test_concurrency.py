"""IN: calls in threads, after refused calls, and after results were changed."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

from conformance.golden.inputs import hidden_pool, long_hidden, sequence
from conformance.golden.observations import prefill_and_step, prefill_one
from conformance.judging.skips import NotDeclared
from conformance.laws.support.coverage import longest, share
from conformance.laws.support.interleaving import (
    PATIENCE,
    STEPS,
    TOKENS,
    decoded,
    judge_concurrent,
    judge_value,
    uses,
)
from conformance.laws.support.invalid_calls import attempt
from conformance.laws.support.own_calls import MANY, METHODS, OwnCalls, spoil
from soprano.backends import BUILT_IN

MIXED = ("prefill", "step", "decode")
LONG = 4  # threads with long inputs of equal shapes
CASES = (
    ("prefill", 2), ("prefill", MANY), ("step", MANY), ("decode", 2), ("decode", MANY),
    ("mixed", 2), ("mixed", MANY), ("long prompts", LONG), ("long utterances", LONG),
)  # fmt: skip
IDS, STATES = 200, (64, 160)  # of long prompts; hidden states of two threads each


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

    def long_prompt(number):
        ids = np.roll(arrays["long ids"], number)[: longest(backend, IDS) - 1]
        output = prefill_one(backend, ids)
        after = backend.step(ids[:1], output.state)
        return {
            "prefill: logits": output.logits,
            "prefill: hidden": output.hidden,
            "step: logits": after.logits,
        }

    def long_utterance(number):
        hidden = np.roll(long_hidden(arrays, STATES[number % 2]), number, axis=0)
        return dict([decoded(backend, hidden)])

    return {
        "prefill": prefill,
        "step": step,
        "decode": decode,
        "long prompts": long_prompt,
        "long utterances": long_utterance,
    }


@pytest.mark.requirement("IN-04")
@pytest.mark.parametrize(("call", "threads"), CASES)
def test_concurrent_calls_return_what_each_returns_alone(
    request, vectors, judge, calls, call, threads
):
    if (call, threads) not in share(request, CASES):
        raise NotDeclared("other models of the run take this number of threads")
    kinds = [calls[name] for name in MIXED] if call == "mixed" else [calls[call]]
    jobs = [partial(kinds[number % len(kinds)], number) for number in range(threads)]
    judge_concurrent(judge, vectors, jobs)


def in_a_new_thread(call):
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(call).result(PATIENCE)


@pytest.mark.requirement("IN-04")
def test_a_state_continues_in_another_thread(backend, vectors, judge):
    ids = sequence(vectors.arrays, 3)
    expected = prefill_and_step(backend, ids[:5], ids[5:9])
    outputs = [in_a_new_thread(lambda: prefill_one(backend, ids[:5]))]
    for i in ids[5:9]:
        state = outputs[-1].state
        if backend.capabilities.fork:
            state = in_a_new_thread(partial(backend.fork, state))
        outputs.append(in_a_new_thread(partial(backend.step, np.array([i]), state)))
    for index, (actual, alone) in enumerate(zip(outputs, expected, strict=True)):
        for part in ("logits", "hidden"):
            name = f"output {index}, each call in a new thread: {part}"
            judge.bits(name, getattr(actual, part), getattr(alone, part))


@pytest.fixture
def own_calls(request, backend, stages, vectors, model, judge):
    name = request.node.callspec.params["backend"][0]
    method = request.node.callspec.params.get("method")
    if name in BUILT_IN and method and method not in share(request, METHODS):
        raise NotDeclared("other models of the run take this stage, which is shared")
    return OwnCalls(backend, name, stages, vectors, model)


def copied(values):
    return {n: np.array(v) if isinstance(v, np.ndarray) else v for n, v in values.items()}


def judge_results(judge, vectors, name, actual, expected):
    with judge.together():
        judge.equal(f"{name}: results", sorted(actual), sorted(expected))
        for quantity, value in expected.items():
            judge_value(judge, vectors, f"{name}: {quantity}", [actual[quantity]], value)


@pytest.mark.requirement("IN-05")
@pytest.mark.parametrize("method", METHODS)
def test_concurrent_calls_of_own_stages_return_what_each_returns_alone(
    backend, vectors, judge, own_calls, method
):
    call = own_calls.of(method)
    judge_concurrent(judge, vectors, [partial(call, n) for n in range(MANY)])


@pytest.mark.requirement("IN-05")
def test_an_own_stream_continues_in_another_thread(backend, vectors, judge, own_calls):
    call = own_calls.of("stream")
    chunks, stream = [], iter(backend.stream(*own_calls.utterance(0), 2))
    while (chunk := in_a_new_thread(lambda: next(stream, None))) is not None:
        chunks.append(chunk)
    judge_results(judge, vectors, "each chunk in a new thread", call.read(chunks), call(0))


@pytest.mark.requirement("IN-07")
@pytest.mark.parametrize("method", METHODS)
def test_a_refused_call_of_an_own_stage_changes_no_later_call(vectors, judge, own_calls, method):
    call = own_calls.of(method)
    expected = copied(call(0))
    for name, refused in call.refused:
        attempt(refused)
        judge_results(judge, vectors, f"{method} after {name}", call(0), expected)


@pytest.mark.requirement("IN-08")
@pytest.mark.parametrize("method", METHODS)
def test_a_result_of_an_own_stage_belongs_to_its_caller(vectors, judge, own_calls, method):
    call = own_calls.of(method)
    expected = copied(call(0))
    for number in (0, 1, 0):
        for _ in spoil(call.call(number)):
            pass
        name = f"{method} after the result of {'the same' if not number else 'another'} call"
        judge_results(judge, vectors, f"{name} was changed", call(0), expected)


@pytest.mark.requirement("IN-08")
def test_chunks_of_an_own_stream_belong_to_their_caller(vectors, judge, own_calls):
    call = own_calls.of("stream")
    expected, chunks = call(0), []
    for chunk in own_calls.backend.stream(*own_calls.utterance(0), 2):
        chunks.append(np.array(chunk))
        for _ in spoil(chunk):
            pass
    name = "stream whose chunks were changed"
    judge_results(judge, vectors, name, call.read(chunks), expected)


@pytest.mark.requirement("IN-08")
def test_outputs_of_the_networks_belong_to_their_caller(backend, vectors, judge):
    if not (backend.capabilities.language_model and backend.capabilities.decoder):
        raise NotDeclared(f"{backend.name} does not have both networks")
    ids, hidden = sequence(vectors.arrays, 2), hidden_pool(vectors.arrays)[:TOKENS]
    expected = [(name, np.array(output)) for name, output in uses(backend, ids, hidden)]
    outputs = []
    for name, output in uses(backend, ids, hidden):
        outputs.append((name, np.array(output)))
        for _ in spoil(output):
            pass
    for (name, output), (_, alone) in zip(outputs, expected, strict=True):
        judge.bits(f"{name}, where earlier outputs were changed", output, alone)
    for (name, output), (_, alone) in zip(uses(backend, ids, hidden), expected, strict=True):
        judge.bits(f"{name}, called again", output, alone)
