"""IN: calls in turns and after invalid calls return what each returns alone."""

import gc
from contextlib import closing

import numpy as np
import pytest

from conformance.golden.inputs import hidden_pool, sequence
from conformance.golden.observations import prefill_and_step, prefill_one
from conformance.golden.packs import fixture_models
from conformance.judging.skips import NotDeclared
from conformance.laws.support.agreement import judge_same
from conformance.laws.support.coverage import share
from conformance.laws.support.interleaving import TOKENS, other_weights, uses
from conformance.laws.support.invalid_calls import (
    attempt,
    invalid_decodes,
    invalid_prefills,
    invalid_states,
    invalid_steps,
)
from conformance.opening import open_subject, refusal
from conformance.selection import SELECTION
from soprano.checkpoint.folder import ModelFolder
from soprano.config import SamplingOptions
from soprano.generate import Prompt, pad

STEPS = 5


@pytest.fixture
def inputs(vectors):
    """The ids (T,) and hidden states (T, H) of a use of a backend, by number."""
    pool = hidden_pool(vectors.arrays)
    return lambda number: (sequence(vectors.arrays, number), pool[11 * number :][:TOKENS])


def judge_uses(judge, name, actual, expected):
    """Judge the outputs of a use of a backend: each is that of the use alone, bit for bit."""
    for (quantity, output), (_, alone) in zip(actual, expected, strict=True):
        judge.bits(f"{name}: {quantity}", output, alone)


def in_turns(*running):
    """The outputs of several uses that advance in turns, in an order that changes."""
    outputs = [[next(use)] for use in running]
    random = np.random.default_rng(9)
    waiting = list(zip(outputs, running, strict=True))
    while waiting:
        index = int(random.integers(len(waiting)))
        own, use = waiting[index]
        if (output := next(use, None)) is None:
            waiting.pop(index)
        else:
            own.append(output)
    return outputs


@pytest.mark.requirement("IN-01")
def test_uses_in_turns_are_independent(backend, judge, inputs):
    alone = [list(uses(backend, *inputs(row))) for row in range(3)]
    outputs = in_turns(*(uses(backend, *inputs(row)) for row in range(3)))
    for row, (actual, expected) in enumerate(zip(outputs, alone, strict=True)):
        judge_uses(judge, f"utterance {row} of 3 in turns", actual, expected)


@pytest.mark.requirement("IN-01")
def test_states_of_other_lengths_and_batches_are_independent(backend, vectors, judge):
    ids = vectors.arrays["long ids"]
    states = {"a short prompt": [(0, 3)], "a long one": [(5, 70)], "one as long": [(77, 70)]}
    if backend.capabilities.batch:
        states["three rows"] = [(100, 3), (110, 9), (50, 70)]

    def outputs_of(rows):
        output = backend.prefill(*pad([ids[first:][:count].tolist() for first, count in rows]))
        for place in range(STEPS):
            yield "prefill or step: logits", output.logits
            yield "prefill or step: hidden", output.hidden
            following = np.array([ids[first + place] for first, _ in rows])
            output = backend.step(following, output.state)

    alone = [list(outputs_of(rows)) for rows in states.values()]
    outputs = in_turns(*map(outputs_of, states.values()))
    for name, actual, expected in zip(states, outputs, alone, strict=True):
        judge_uses(judge, f"{name} in turns with others", actual, expected)


KINDS = ("the same folder", "other weights", "another geometry")


class Others:
    """Backends that are opened besides the one under test."""

    def __init__(self, request, subject, backend, model, folder):
        self.request, self.subject, self.backend = request, subject, backend
        self.model, self.folder = model, folder
        self.name = request.node.callspec.params["backend"][0]
        self.judged = request.config.stash[SELECTION].models(self.name)
        self.opened = []

    def open(self, kind):
        path = self.path(kind)
        try:
            opened = open_subject(self.request.config, self.subject, self.name, path)
        except Exception as error:  # whatever a port raises
            if path == self.model or path in self.judged:
                raise
            # A port that can open it alone must be able to do so beside another backend.
            if why := refusal(self.request.config, self.name, path):
                raise NotDeclared(f"{self.name} cannot open another model: {why}") from None
            raise AssertionError(f"{kind} can only be opened alone: {error}") from error
        self.opened.append(opened)
        return opened

    def path(self, kind):
        if kind == KINDS[0]:
            return self.model
        if kind == KINDS[1]:
            if other_weights(self.model, self.backend.config, self.folder):
                return self.folder
            raise NotDeclared("the weights are not in files that the suite can change")
        for path in [*self.judged, *fixture_models()]:
            config = ModelFolder.open(path).config.language_model
            if config.hidden_size != self.backend.config.language_model.hidden_size:
                return path
        raise NotDeclared("no model of another geometry is known")

    def close(self, opened):
        self.opened.remove(opened)
        opened.close()


@pytest.fixture
def others(request, subject, backend, model, tmp_path):
    # In a folder of the same name, by which a port may keep what it has loaded.
    found = Others(request, subject, backend, model, tmp_path / "other" / model.name)
    yield found
    for opened in list(found.opened):
        found.close(opened)


@pytest.mark.requirement("IN-02")
@pytest.mark.parametrize("kind", KINDS)
def test_open_backends_are_independent(request, backend, vectors, judge, inputs, others, kind):
    if kind not in share(request, KINDS):
        raise NotDeclared("other models of the run take this kind of a second backend")
    before = list(uses(backend, *inputs(0)))
    one = others.open(KINDS[0])
    ids, hidden = inputs(1)
    expected = list(uses(one, ids, hidden))
    two = others.open(kind)
    own_ids, own_hidden = ids, hidden
    if kind == KINDS[2]:
        config = two.config.language_model
        random = np.random.default_rng(4)
        own_ids, own_hidden = (
            ids % config.vocab_size,
            random.normal(size=(TOKENS, config.hidden_size)),
        )
        own_hidden = own_hidden.astype(np.float32)
    other = list(uses(two, own_ids, own_hidden))
    judge_model(judge, vectors, kind, one, two, own_ids, own_hidden, other)
    turns = in_turns(uses(one, ids, hidden), uses(two, own_ids, own_hidden))
    judge_uses(judge, f"in turns with {kind}", turns[0], expected)
    judge_uses(judge, f"{kind}, in turns", turns[1], other)
    others.close(one)
    judge_uses(judge, f"{kind}, after the first was closed", uses(two, own_ids, own_hidden), other)
    others.close(two)
    judge_uses(judge, f"after {kind} was closed", uses(backend, *inputs(0)), before)


def judge_model(judge, vectors, kind, one, two, ids, hidden, outputs):
    """Judge that the second backend runs its own model."""
    if kind == KINDS[2]:
        shape = (1, two.config.language_model.vocab_size)
        judge.shape(f"{kind}: logits", outputs[0][1], shape)
        return
    moved = ids if kind == KINDS[0] else (ids - 1) % one.config.language_model.vocab_size
    for (quantity, actual), (_, expected) in zip(outputs, uses(one, moved, hidden), strict=True):
        what = quantity.split()[-1]
        if kind == KINDS[1] and what == "logits":
            expected = np.roll(expected, 1, axis=-1)
        if kind == KINDS[1] and what == "spectrum":
            expected = expected[:, ::-1]
        limit = vectors.own_limit(what if what in ("spectrum", "samples") else f"step {what}")
        if what != "samples" or kind == KINDS[0]:
            judge_same(judge, f"{kind}: {quantity}", actual, np.ascontiguousarray(expected), limit)


OPTIONS = SamplingOptions(0.9, 0.95, 0, 1.2)
GREEDY = SamplingOptions(0.0, 1.0, 0, 1.2)
CHUNKS = (2, 3, 5)


@pytest.fixture(params=["shared", "own"])
def start_stream(request, backend, stages, vectors):
    """Starts a stream of chunks (N,) of an utterance, by its number."""
    own = request.param == "own"
    if own and not hasattr(backend, "stream"):
        raise NotDeclared(f"{backend.name} has no stream of its own")
    if not own and not backend.capabilities.spectrum:
        raise NotDeclared(f"{backend.name} has no spectrum, which the shared stream needs")

    def start(number):
        length = int(vectors.arrays["prompt lengths"][number])
        prompt = vectors.arrays["prompt ids"][number, :length].tolist()
        options = OPTIONS if backend.capabilities.uniforms else GREEDY
        draws = stages.uniforms(17, number, 0)
        limit, chunk = 20 + number, CHUNKS[number]
        if own:
            yield from backend.stream(
                prompt, options, [next(draws) for _ in range(limit)], limit, chunk
            )
            return
        tokens = stages.generate(stages, [Prompt(prompt, draws, options, limit)])
        for samples, _ in stages.stream(stages, tokens, chunk):
            yield samples

    return start


@pytest.fixture
def judge_stream(judge, vectors, start_stream):
    """Judges the samples of an utterance's stream against those of the stream alone."""
    alone = [np.concatenate(list(start_stream(number))) for number in range(len(CHUNKS))]
    judge.equal("the streams have samples", all(map(len, alone)), True)

    def close(name, number, chunks):
        limit = vectors.own_limit("samples")
        judge_same(judge, f"{name}: samples", np.concatenate(list(chunks)), alone[number], limit)

    return close


@pytest.mark.requirement("IN-03")
def test_streams_in_turns_are_independent(start_stream, judge_stream):
    for number, chunks in enumerate(in_turns(*map(start_stream, range(len(CHUNKS))))):
        judge_stream(f"stream {number} of {len(CHUNKS)} in turns", number, chunks)


@pytest.mark.requirement("IN-03")
def test_an_abandoned_stream_changes_no_other(start_stream, judge_stream):
    abandoned = start_stream(0)
    next(abandoned)
    judge_stream("beside an abandoned stream", 1, start_stream(1))
    judge_stream("the abandoned one, started again", 0, start_stream(0))
    with closing(start_stream(2)) as closed:
        next(closed)
    judge_stream("after a stream was closed", 1, start_stream(1))
    del abandoned, closed
    gc.collect()
    judge_stream("after a stream was dropped", 2, start_stream(2))


@pytest.mark.requirement("IN-03")
def test_a_slow_consumer_gets_the_same_samples(backend, judge, inputs, start_stream, judge_stream):
    chunks, copies = [], []
    for chunk in start_stream(0):
        chunks.append(chunk)
        copies.append(np.array(chunk))
        for _ in uses(backend, *inputs(3)):  # what other callers do between two chunks
            pass
    judge_stream("read slowly", 0, copies)
    judge.bits("chunks that were kept: samples", np.concatenate(chunks), np.concatenate(copies))


@pytest.mark.requirement("IN-06")
def test_an_invalid_call_changes_nothing_that_follows(request, backend, judge, inputs):
    calls = [*invalid_prefills(backend), *invalid_states(backend), *invalid_decodes(backend)]
    calls = share(request, calls)
    if not calls:
        raise NotDeclared("other models of the run take these calls")
    given = inputs(0)
    expected = list(uses(backend, *given))
    for name, call in calls:
        attempt(call)
        judge_uses(judge, f"after {name}", uses(backend, *given), expected)


@pytest.mark.requirement("IN-06")
def test_a_state_in_flight_survives_invalid_calls(backend, vectors, judge):
    ids = vectors.arrays["long ids"]
    calls = [
        *invalid_prefills(backend),
        *invalid_steps(backend, lambda: prefill_one(backend, ids[:3]).state),
        *invalid_states(backend),
        *invalid_decodes(backend),
    ]
    alone = prefill_and_step(backend, ids[:6], ids[6:][: len(calls)])
    output = prefill_one(backend, ids[:6])
    for place, (name, call) in enumerate(calls):
        attempt(call)
        output = backend.step(ids[6 + place : 7 + place], output.state)
        for part in ("logits", "hidden"):
            expected = getattr(alone[place + 1], part)
            judge.bits(f"after {name}: {part}", getattr(output, part), expected)


@pytest.mark.requirement("IN-06")
def test_a_state_of_a_refused_step_continues_or_is_rejected(backend, vectors, judge):
    ids = vectors.arrays["long ids"]
    expected = prefill_and_step(backend, ids[:6], ids[6:7])[-1]
    given = []

    def state():
        given.append(prefill_one(backend, ids[:6]).state)
        return given[-1]

    for name, call in invalid_steps(backend, state):
        if attempt(call) is not None:
            continue  # it was not refused
        output = attempt(lambda: backend.step(ids[6:7], given[-1]))
        if output is not None:
            judge.bits(f"after {name}: logits", output.logits, expected.logits)
        fresh = prefill_and_step(backend, ids[:6], ids[6:7])[-1]
        judge.bits(f"a new state after {name}: logits", fresh.logits, expected.logits)
