"""The language model: parity with the float64 oracle, and the laws of its cache."""

from __future__ import annotations

import numpy as np
import pytest

from conformance import tolerances
from conformance.compare import Limit
from conformance.ledger import Judge
from conformance.vectors import Arrays, Vectors, observe_language_model, observe_long
from soprano.backends import Backend, Output
from soprano.errors import BackendError


@pytest.fixture
def expect(backend: Backend, vectors: Vectors, judge: Judge):
    """Judges a quantity against the oracle's values for it."""

    def close(quantity: str, actual: np.ndarray, *decoys: np.ndarray) -> None:
        expected = vectors.arrays[quantity]
        limit = tolerances.against_oracle(
            quantity, vectors.floors[quantity], expected, backend.config
        )
        judge.close(quantity, actual, expected, limit, decoys=decoys)

    return close


@pytest.fixture
def agree(backend: Backend, vectors: Vectors, judge: Judge):
    """Judges two outputs of the backend that a law says are equal."""

    def close(name: str, actual: Output, expected: Output) -> None:
        for part in ("logits", "hidden"):
            judge.close(f"{name} {part}", getattr(actual, part), getattr(expected, part), law(part))

    def law(part: str) -> Limit:
        quantity = f"step {part}"
        return tolerances.between_ways(
            quantity, vectors.floors[quantity], vectors.arrays[quantity], backend.config
        )

    return close


def sequence(arrays: Arrays, row: int) -> np.ndarray:
    """A prompt and its teacher-forced continuation, (T,)."""
    prompt = arrays["prompt ids"][row, : arrays["prompt lengths"][row]]
    return np.concatenate([prompt, arrays["step ids"][row]])


def prefill(backend: Backend, ids: np.ndarray) -> Output:
    return backend.prefill(ids[None], np.array([len(ids)]))


def feed(backend: Backend, output: Output, ids: np.ndarray) -> Output:
    for number in ids:
        output = backend.step(np.array([number]), output.state)
    return output


@pytest.mark.requirement("LM-01")
def test_prefill_of_ragged_prompts_matches_the_oracle(backend, vectors, expect):
    observed = observe_language_model(backend, vectors.arrays)
    for part in ("logits", "hidden"):
        expect(f"prefill {part}", observed[f"prefill {part}"], observed[f"step {part}"][:, 0])


@pytest.mark.requirement("LM-02")
def test_teacher_forced_steps_match_the_oracle(backend, vectors, expect):
    observed = observe_language_model(backend, vectors.arrays)
    for part in ("logits", "hidden"):
        actual = observed[f"step {part}"]
        expect(f"step {part}", actual, actual[::-1], actual[:, ::-1])


@pytest.mark.requirement("LM-03")
def test_positions_behind_512_match_the_oracle(backend, vectors, expect):
    for quantity, actual in observe_long(backend, vectors.arrays).items():
        expect(quantity, actual, actual[::-1])


@pytest.mark.requirement("LM-04")
def test_outputs_are_float32_of_the_declared_shape(backend, vectors, judge):
    numbers = backend.config.language_model
    output = backend.prefill(vectors.arrays["prompt ids"], vectors.arrays["prompt lengths"])
    rows = len(vectors.arrays["prompt lengths"])
    for result in (output, backend.step(np.full(rows, 5), output.state)):
        judge.equal("shape of logits", result.logits.shape, (rows, numbers.vocab_size))
        judge.equal("shape of hidden", result.hidden.shape, (rows, numbers.hidden_size))
        judge.equal("types", (str(result.logits.dtype), str(result.hidden.dtype)), ("float32",) * 2)


@pytest.mark.requirement("LM-05")
def test_ids_outside_the_vocabulary_are_refused(backend, judge):
    size = backend.config.language_model.vocab_size
    for number in (-1, size):
        judge.refuses(
            f"id {number}",
            lambda n=number: prefill(backend, np.array([3, n])),
            ValueError,
            accepts=lambda: [prefill(backend, np.array([3, n])) for n in (0, size - 1)],
        )


@pytest.mark.requirement("LM-06")
def test_the_same_call_gives_the_same_bits_whatever_came_between(backend, vectors, judge):
    first, other = sequence(vectors.arrays, 0), sequence(vectors.arrays, 1)
    before = feed(backend, prefill(backend, first[:4]), first[4:12])
    feed(backend, prefill(backend, other[:6]), other[6:9])
    after = feed(backend, prefill(backend, first[:4]), first[4:12])
    judge.same("logits", after.logits, before.logits)
    judge.same("hidden", after.hidden, before.hidden)


@pytest.mark.requirement("LM-07")
def test_returned_arrays_are_never_written_again(backend, vectors, judge):
    ids = sequence(vectors.arrays, 2)
    output = prefill(backend, ids[:5])
    held, copies = [], []
    for number in ids[5:15]:
        held += [output.logits, output.hidden]
        copies += [output.logits.copy(), output.hidden.copy()]
        output = backend.step(np.array([number]), output.state)
    for i, (array, copy) in enumerate(zip(held, copies, strict=True)):
        judge.same(f"array {i}", array, copy)


@pytest.mark.requirement("CA-01")
def test_cached_steps_equal_one_prefill_at_every_split(backend, vectors, agree):
    ids = sequence(vectors.arrays, 2)[:18]
    whole = prefill(backend, ids)
    for split in range(1, len(ids)):
        agree("split", feed(backend, prefill(backend, ids[:split]), ids[split:]), whole)


@pytest.mark.requirement("CA-02")
def test_padding_ids_do_not_matter(backend, vectors, judge):
    ids, lengths = vectors.arrays["prompt ids"], vectors.arrays["prompt lengths"]
    padded = np.arange(ids.shape[1]) >= lengths[:, None]
    judge.equal("there is padding", bool(padded.any()), True)
    other = np.where(padded, 7, ids)
    one, two = backend.prefill(ids, lengths), backend.prefill(other, lengths)
    judge.same("logits", two.logits, one.logits)
    follow = np.full(len(ids), 9)
    judge.same(
        "step after padding",
        backend.step(follow, two.state).logits,
        backend.step(follow, one.state).logits,
    )


@pytest.mark.requirement("BA-01")
def test_a_row_in_a_ragged_batch_is_what_it_is_alone(backend, vectors, agree):
    arrays = vectors.arrays
    batch = backend.prefill(arrays["prompt ids"], arrays["prompt lengths"])
    alone = [
        prefill(backend, ids[:length])
        for ids, length in zip(arrays["prompt ids"], arrays["prompt lengths"], strict=True)
    ]
    for step in range(8):
        stacked = Output(
            np.concatenate([output.logits for output in alone]),
            np.concatenate([output.hidden for output in alone]),
            batch.state,
        )
        agree("batch", batch, stacked)
        ids = arrays["step ids"][:, step]
        batch = backend.step(ids, batch.state)
        alone = [backend.step(ids[row : row + 1], output.state) for row, output in enumerate(alone)]


@pytest.mark.requirement("BA-02")
def test_the_order_of_rows_does_not_matter(backend, vectors, agree):
    arrays = vectors.arrays
    order = np.array([2, 0, 1])
    straight = backend.prefill(arrays["prompt ids"], arrays["prompt lengths"])
    turned = backend.prefill(arrays["prompt ids"][order], arrays["prompt lengths"][order])
    for step in range(6):
        back = np.argsort(order)
        agree("order", Output(turned.logits[back], turned.hidden[back], turned.state), straight)
        ids = arrays["step ids"][:, step]
        straight = backend.step(ids, straight.state)
        turned = backend.step(ids[order], turned.state)


@pytest.mark.requirement("CA-03")
def test_a_consumed_state_is_refused(backend, vectors, judge):
    def fresh() -> Output:
        return prefill(backend, sequence(vectors.arrays, 0)[:3])

    used = fresh()
    backend.step(np.array([5]), used.state)
    attempts = [("step", lambda state: backend.step(np.array([5]), state))]
    if backend.capabilities.fork:
        attempts.append(("fork", backend.fork))
    if backend.capabilities.select:
        attempts.append(("select", lambda state: backend.select(state, [0])))
    for name, attempt in attempts:
        judge.refuses(
            name,
            lambda a=attempt: a(used.state),
            BackendError,
            accepts=lambda a=attempt: a(fresh().state),
        )


@pytest.mark.requirement("CA-04")
def test_a_fork_lives_on_by_itself(backend, vectors, judge):
    ids = sequence(vectors.arrays, 1)
    output = prefill(backend, ids[:6])
    copy = backend.fork(output.state)
    feed(backend, output, ids[10:14])
    forked = backend.step(ids[6:7], copy)
    plain = feed(backend, prefill(backend, ids[:6]), ids[6:7])
    judge.same("logits", forked.logits, plain.logits)


@pytest.mark.requirement("CA-05")
def test_selected_rows_go_on_as_they_would_have(backend, vectors, agree):
    arrays = vectors.arrays
    output = backend.prefill(arrays["prompt ids"], arrays["prompt lengths"])
    state = backend.select(output.state, [2, 0])
    for step in range(4):
        rows = backend.step(arrays["step ids"][[2, 0], step], state)
        state = rows.state
    alone = [
        feed(backend, prefill(backend, row), arrays["step ids"][i, :4])
        for i, row in ((i, arrays["prompt ids"][i, : arrays["prompt lengths"][i]]) for i in (2, 0))
    ]
    expected = Output(
        np.concatenate([output.logits for output in alone]),
        np.concatenate([output.hidden for output in alone]),
        rows.state,
    )
    agree("selected", rows, expected)


@pytest.mark.requirement("CA-06")
def test_joined_rows_go_on_as_they_would_have(backend, vectors, agree):
    older, newer = sequence(vectors.arrays, 2), sequence(vectors.arrays, 0)
    first = feed(backend, prefill(backend, older[:9]), older[9:14])
    second = prefill(backend, newer[:4])
    joined = backend.step(np.array([older[14], newer[4]]), backend.join(first.state, second.state))
    joined = backend.step(np.array([older[15], newer[5]]), joined.state)
    alone = [prefill(backend, older[:16]), prefill(backend, newer[:6])]
    expected = Output(
        np.concatenate([output.logits for output in alone]),
        np.concatenate([output.hidden for output in alone]),
        joined.state,
    )
    agree("joined", joined, expected)
