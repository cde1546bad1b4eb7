"""CA and BA: outputs with a KV cache and in a batch equal those of one prefill of each row."""

from functools import lru_cache, partial

import numpy as np
import pytest

from conformance.golden.inputs import LIMIT, sequence
from conformance.golden.observations import (
    batch_of,
    prefill_and_step,
    prefill_each,
    prefill_one,
    teacher_force,
)
from conformance.golden.packs import fixture_models
from conformance.judging.skips import NotDeclared
from conformance.laws.support.agreement import judge_agreement
from conformance.laws.support.coverage import longest, share
from soprano.backends import Output
from soprano.errors import BackendError
from soprano.generate import pad

# Lengths of prompts. Static caches and buffers often have 64, 128 or 256 positions: the rows cross
# these sizes at prefill or at different decode steps, and the longest row has every index.
LONG_ROWS = {
    "prompts of all lengths": (300, 129, 60, 255, 1, 128, 20),
    "the first is short": (20, 5, 100, 60),
    "the first is longest": (100, 5, 20, 60),
}
LONG_STEPS = 81
# Batch sizes around the widths of vector registers and the blocks of matmul kernels.
SIZES = (*range(1, 10), 12, 15, 16, 17, 31, 32, 33)
# Padding ids; None are random ids inside and outside the vocabulary.
PADDING = (7, -1, 2**31, 2**63 - 1, -(2**63), None)


@pytest.fixture
def judge_outputs(vectors, judge):
    """Judges two outputs of the backend that must agree."""
    return partial(judge_agreement, judge, vectors)


@pytest.mark.requirement("CA-01")
def test_prefill_and_decode_steps_equal_one_prefill_at_every_split(backend, vectors, judge_outputs):
    ids = sequence(vectors.arrays, 2)[:25]
    whole = prefill_one(backend, ids)
    for split in range(1, len(ids)):
        judge_outputs("split", prefill_and_step(backend, ids[:split], ids[split:])[-1], whole)


@pytest.mark.requirement("CA-01")
def test_decode_steps_from_the_first_id_equal_one_prefill_at_every_length(
    backend, vectors, judge_outputs
):
    ids = sequence(vectors.arrays, 6)[:26]
    # A later id never changes an earlier output, so one run covers all lengths.
    outputs = prefill_and_step(backend, ids[:1], ids[1:24])
    for length, output in enumerate(outputs, start=1):
        judge_outputs(f"{length} ids", output, prefill_one(backend, ids[:length]))


@pytest.mark.requirement("CA-01")
def test_prompts_that_end_in_the_same_id_often_equal_steps(backend, vectors, judge_outputs):
    ids = sequence(vectors.arrays, 2)[:5]
    for last in (*range(4), backend.config.language_model.eos_token_id):
        steps = prefill_and_step(backend, ids, [last] * 3)[1:]
        prompts = prefill_each(backend, [[*ids, *[last] * count] for count in (1, 2, 3)])
        judge_outputs(f"up to 3 ids {last} at the end:", prompts, batch_of(steps))


@pytest.mark.requirement("CA-02")
@pytest.mark.parametrize(("rows", "columns"), [(1, 9), (3, 24), (12, 90)])
def test_padding_ids_have_no_effect(backend, vectors, judge, rows, columns):
    ids, lengths = vectors.arrays["prompt ids"][:rows], vectors.arrays["prompt lengths"][:rows]
    ids = ids[:, :columns]
    following, random = np.full(rows, 9), np.random.default_rng(5)
    anything = random.integers(-(2**63), 2**63 - 1, ids.shape) >> random.integers(0, 62, ids.shape)
    padded = np.arange(ids.shape[1]) >= lengths[:, None]
    judge.equal("there is padding", bool(padded.any()), True)

    def run(padding):
        other = anything if padding is None else np.full_like(ids, padding)
        output = backend.prefill(np.where(padded, other, ids), lengths)
        return output, backend.step(following, output.state)

    expected = run(0)
    for padding in PADDING if rows < 12 else PADDING[-1:]:
        name = "random ids" if padding is None else f"id {padding}"
        for call, actual, wanted in zip(("prefill", "step"), run(padding), expected, strict=True):
            judge.bits(f"{call} after padding of {name}: logits", actual.logits, wanted.logits)
            judge.bits(f"{call} after padding of {name}: hidden", actual.hidden, wanted.hidden)


@pytest.mark.requirement("BA-01")
def test_batched_prefill_and_steps_equal_unbatched(backend, vectors, judge_outputs):
    arrays = vectors.arrays
    batch = backend.prefill(arrays["prompt ids"], arrays["prompt lengths"])
    unbatched = [
        prefill_one(backend, ids[:length])
        for ids, length in zip(arrays["prompt ids"], arrays["prompt lengths"], strict=True)
    ]
    for ids in arrays["step ids"].T[:8]:
        judge_outputs("batch", batch, batch_of(unbatched))
        batch = backend.step(ids, batch.state)
        unbatched = [
            backend.step(ids[row : row + 1], output.state) for row, output in enumerate(unbatched)
        ]


def many_rows(vectors):
    """As many rows as the largest batch has, each of another length; (prompt, two more ids)."""
    ids = vectors.arrays["long ids"]
    rows = [tuple(ids[13 * row :][: 4 + row].tolist()) for row in range(max(SIZES))]
    return tuple((row[:-2], row[-2:]) for row in rows)


@lru_cache(maxsize=1)
def outputs_unbatched(backend, rows):
    """The outputs of each row by itself: after its prompt, and after each of its two more ids."""
    outputs = [prefill_and_step(backend, *row) for row in rows]
    return [batch_of(column) for column in zip(*outputs, strict=True)]


def rows_of(output, rows):
    return Output(output.logits[rows], output.hidden[rows], None)


def next_ids(rows, place):
    return np.array([following[place] for _, following in rows])


def sizes_of(request):
    if sizes := share(request, SIZES):
        return sizes
    raise NotDeclared("other models of the run take these batch sizes")


@pytest.mark.requirement("BA-01")
def test_every_batch_size_equals_unbatched(request, backend, vectors, judge_outputs):
    for size in sizes_of(request):
        rows = many_rows(vectors)
        unbatched = [rows_of(output, range(size)) for output in outputs_unbatched(backend, rows)]
        output = backend.prefill(*pad([prompt for prompt, _ in rows[:size]]))
        judge_outputs(f"prefill of {size} rows:", output, unbatched[0])
        for place in (0, 1):
            output = backend.step(next_ids(rows[:size], place), output.state)
            judge_outputs(f"step of {size} rows:", output, unbatched[place + 1])


@pytest.mark.requirement("CA-05")
def test_rows_selected_from_every_batch_size_continue_as_unbatched(
    request, backend, vectors, judge_outputs
):
    for size in sizes_of(request):
        rows = many_rows(vectors)
        kept = [*range(1, size, 2)][::-1] + [*range(0, size, 2)][:: 1 if size == 1 else -2]
        output = backend.prefill(*pad([prompt for prompt, _ in rows[:size]]))
        state = backend.select(output.state, kept)
        output = backend.step(next_ids([rows[row] for row in kept], 0), state)
        unbatched = rows_of(outputs_unbatched(backend, rows)[1], kept)
        judge_outputs(f"{len(kept)} of {size} rows:", output, unbatched)


@pytest.mark.requirement("CA-06")
def test_rows_joined_to_every_batch_size_continue_as_unbatched(
    request, backend, vectors, judge_outputs
):
    for size in sizes_of(request):
        rows, cut = many_rows(vectors), max(size - 5, size // 2)
        if not cut:  # one row
            continue
        first = backend.prefill(*pad([prompt for prompt, _ in rows[:cut]]))
        second = backend.prefill(*pad([prompt for prompt, _ in rows[cut:size]]))
        joined = backend.join(first.state, second.state)
        output = backend.step(next_ids(rows[:size], 0), joined)
        unbatched = rows_of(outputs_unbatched(backend, rows)[1], range(size))
        judge_outputs(f"{cut} and {size - cut} rows:", output, unbatched)


@pytest.mark.requirement("BA-01")
@pytest.mark.parametrize("lengths", LONG_ROWS.values(), ids=LONG_ROWS)
def test_batched_rows_of_very_different_lengths_equal_unbatched(
    backend, vectors, judge_outputs, lengths
):
    ids, most = vectors.arrays["long ids"], longest(backend, LIMIT) - LONG_STEPS - 1
    rows = [ids[7 * n :][: min(length, most)].tolist() for n, length in enumerate(lengths)]
    output = backend.prefill(*pad(rows))
    for step in range(LONG_STEPS + 1):
        if step % 27 == 0:
            unbatched = prefill_each(backend, rows)
            judge_outputs(f"step {step}", output, unbatched)
        following = [int(ids[(11 * n + step) % len(ids)]) for n in range(len(rows))]
        output = backend.step(np.array(following), output.state)
        rows = [[*row, i] for row, i in zip(rows, following, strict=True)]


@pytest.mark.requirement("BA-02")
def test_the_order_of_rows_in_a_batch_has_no_effect(backend, vectors, judge_outputs):
    arrays = vectors.arrays
    order = np.array([7, 0, 11, 3, 1, 10, 2, 9, 4, 8, 6, 5])
    back = np.argsort(order)
    plain = backend.prefill(arrays["prompt ids"], arrays["prompt lengths"])
    permuted = backend.prefill(arrays["prompt ids"][order], arrays["prompt lengths"][order])
    for ids in arrays["step ids"].T[:6]:
        judge_outputs("order", Output(permuted.logits[back], permuted.hidden[back], None), plain)
        plain = backend.step(ids, plain.state)
        permuted = backend.step(ids[order], permuted.state)


@pytest.mark.requirement("CA-03")
def test_a_consumed_state_is_rejected(backend, vectors, judge):
    def fresh():
        return prefill_one(backend, sequence(vectors.arrays, 0)[:3])

    used = fresh()
    backend.step(np.array([5]), used.state)
    operations = [("step", lambda state: backend.step(np.array([5]), state))]
    if backend.capabilities.fork:
        operations.append(("fork", backend.fork))
    if backend.capabilities.select:
        operations.append(("select", lambda state: backend.select(state, [0])))
    for name, operation in operations:
        judge.refuses(
            name,
            lambda call=operation: call(used.state),
            BackendError,
            accepts=lambda call=operation: call(fresh().state),
        )


def judge_interleaved(judge, backend, prompt, following, start):
    """Step the states of one prompt in turns; each must give the bits that it gives alone."""
    alone = {name: prefill_and_step(backend, prompt, ids)[1:] for name, ids in following.items()}
    states = start()
    for step in range(8):
        for name, ids in following.items():
            output = backend.step(ids[step : step + 1], states[name])
            states[name] = output.state
            judge.bits(f"{name}, step {step}", output.logits, alone[name][step].logits)


@pytest.mark.requirement("CA-08")
def test_states_of_the_same_prompt_are_independent(backend, vectors, judge):
    ids, other = sequence(vectors.arrays, 1), sequence(vectors.arrays, 5)
    following = {"first": other[4:12], "second": ids[6:14], "third": ids[8:16]}

    def start():
        return {name: prefill_one(backend, ids[:6]).state for name in following}

    judge_interleaved(judge, backend, ids[:6], following, start)


@pytest.mark.requirement("CA-04")
def test_a_fork_is_independent_of_its_original(backend, vectors, judge):
    ids, other = sequence(vectors.arrays, 1), sequence(vectors.arrays, 5)
    following = {"original": other[4:12], "first": ids[6:14], "second": ids[8:16]}

    def start():
        state = prefill_one(backend, ids[:6]).state
        return {"original": state, "first": backend.fork(state), "second": backend.fork(state)}

    judge_interleaved(judge, backend, ids[:6], following, start)


OPENED, HELD = 300, 80  # states besides the one that waits, and how many of them exist at once
# Lengths around the border of a page of any size up to 50, and of the usual larger ones.
PAGES = (*range(1, 52), *(size + i for size in (64, 96, 100, 128, 256) for i in (-1, 0, 1)))


def state_after(backend, ids):
    """The state after the ids, of which a step has read the last one."""
    output = prefill_one(backend, ids[:-1] if len(ids) > 1 else ids)
    return backend.step(ids[-1:], output.state).state if len(ids) > 1 else output.state


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("a fork", marks=pytest.mark.requirement("CA-04")),
        pytest.param("equal ids", marks=pytest.mark.requirement("CA-08")),
    ],
)
def test_states_of_every_length_are_independent(request, backend, vectors, judge, kind):
    ids = vectors.arrays["long ids"]
    lengths = [n for n in share(request, PAGES) if n + 3 <= longest(backend, LIMIT)]
    if not lengths:
        raise NotDeclared("other models of the run take these lengths")
    following = {"first": ids[-3:], "second": ids[-9:-6]}
    for length in lengths:
        first = state_after(backend, ids[:length])
        second = backend.fork(first) if kind == "a fork" else state_after(backend, ids[:length])
        states, logits = {"first": first, "second": second}, {name: [] for name in following}
        for step in range(3):
            for name in list(states)[:: 1 if (step + length) % 2 else -1]:
                output = backend.step(following[name][step : step + 1], states[name])
                states[name] = output.state
                logits[name].append(output.logits[0])
        for name, own in following.items():
            start = Output(None, None, state_after(backend, ids[:length]))
            alone = [output.logits[0] for output in teacher_force(backend, start, own[None])]
            quantity = f"{kind} after {length} ids, {name} state: logits"
            judge.bits(quantity, np.stack(logits[name]), np.stack(alone))


@pytest.mark.requirement("CA-08")
def test_a_state_continues_after_hundreds_of_other_states(request, backend, vectors, judge):
    if not share(request, range(len(fixture_models()))):
        raise NotDeclared("cheaper models of the run keep as many states")
    ids = sequence(vectors.arrays, 1)
    expected = prefill_and_step(backend, ids[:6], ids[6:9])[-1]
    waiting, held = prefill_one(backend, ids[:6]), []
    for number in range(OPENED):
        other = prefill_one(backend, ids[7 + number % 5 :][:2])
        if number < HELD:
            held.append(other.state)
    for output in teacher_force(backend, waiting, ids[None, 6:9]):
        waiting = output
    judge.bits(f"after {OPENED} other states: logits", waiting.logits, expected.logits)


@pytest.mark.requirement("CA-05")
def test_selected_rows_continue_as_unbatched(backend, vectors, judge_outputs):
    arrays = vectors.arrays
    rows = [7, 2, 0, 11, 5]
    output = backend.prefill(arrays["prompt ids"], arrays["prompt lengths"])
    state = backend.select(output.state, rows)
    for step in range(4):
        selected = backend.step(arrays["step ids"][rows, step], state)
        state = selected.state
    unbatched = [
        prefill_and_step(backend, sequence(arrays, row)[:length], arrays["step ids"][row, :4])[-1]
        for row, length in zip(rows, arrays["prompt lengths"][rows], strict=True)
    ]
    judge_outputs("selected", selected, batch_of(unbatched))


@pytest.mark.requirement("CA-06")
def test_joined_rows_continue_as_unbatched(backend, vectors, judge_outputs):
    older, newer = sequence(vectors.arrays, 2), sequence(vectors.arrays, 0)
    first = prefill_and_step(backend, older[:9], older[9:14])[-1]
    second = prefill_one(backend, newer[:4])
    joined = backend.step(np.array([older[14], newer[4]]), backend.join(first.state, second.state))
    joined = backend.step(np.array([older[15], newer[5]]), joined.state)
    unbatched = [prefill_one(backend, older[:16]), prefill_one(backend, newer[:6])]
    judge_outputs("joined", joined, batch_of(unbatched))
