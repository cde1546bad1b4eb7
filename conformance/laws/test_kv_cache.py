"""CA and BA: outputs with a KV cache and in a batch equal those of one prefill of each row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.golden.inputs import sequence
from conformance.golden.observations import prefill_and_step, prefill_one
from conformance.hypothesis_profiles import examples
from conformance.report.failures import stating
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


@pytest.fixture
def judge_outputs(vectors, judge):
    """Judges two outputs of the backend that must agree."""

    def close(name, actual, expected):
        with judge.together():
            for part in ("logits", "hidden"):
                limit = vectors.own_limit(f"step {part}")
                judge.close(f"{name} {part}", getattr(actual, part), getattr(expected, part), limit)

    return close


def stacked(outputs):
    """The outputs of single rows as one batch."""
    return Output(
        np.concatenate([output.logits for output in outputs]),
        np.concatenate([output.hidden for output in outputs]),
        None,
    )


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


@pytest.mark.requirement("CA-02")
def test_padding_ids_have_no_effect(backend, vectors, judge):
    ids, lengths = vectors.arrays["prompt ids"], vectors.arrays["prompt lengths"]
    padded = np.arange(ids.shape[1]) >= lengths[:, None]
    judge.equal("there is padding", bool(padded.any()), True)
    other = np.where(padded, 7, ids)
    one, two = backend.prefill(ids, lengths), backend.prefill(other, lengths)
    judge.bits("logits", two.logits, one.logits)
    following = np.full(len(ids), 9)
    judge.bits(
        "step after padding",
        backend.step(following, two.state).logits,
        backend.step(following, one.state).logits,
    )


@pytest.mark.requirement("BA-01")
def test_batched_prefill_and_steps_equal_unbatched(backend, vectors, judge_outputs):
    arrays = vectors.arrays
    batch = backend.prefill(arrays["prompt ids"], arrays["prompt lengths"])
    unbatched = [
        prefill_one(backend, ids[:length])
        for ids, length in zip(arrays["prompt ids"], arrays["prompt lengths"], strict=True)
    ]
    for ids in arrays["step ids"].T[:8]:
        judge_outputs("batch", batch, stacked(unbatched))
        batch = backend.step(ids, batch.state)
        unbatched = [
            backend.step(ids[row : row + 1], output.state) for row, output in enumerate(unbatched)
        ]


@pytest.mark.requirement("BA-01")
def test_every_batch_size_equals_unbatched(backend, vectors, judge_outputs):
    rows = [sequence(vectors.arrays, row)[: 3 + row] for row in range(12)]
    unbatched = stacked([prefill_and_step(backend, row[:-1], row[-1:])[-1] for row in rows])
    for size in range(1, 13):
        batch = backend.prefill(*pad([row[:-1].tolist() for row in rows[:size]]))
        output = backend.step(np.array([row[-1] for row in rows[:size]]), batch.state)
        expected = Output(unbatched.logits[:size], unbatched.hidden[:size], None)
        judge_outputs(f"{size} rows", output, expected)


@pytest.mark.requirement("BA-01")
@pytest.mark.parametrize("lengths", LONG_ROWS.values(), ids=LONG_ROWS)
def test_batched_rows_of_very_different_lengths_equal_unbatched(
    backend, vectors, judge_outputs, lengths
):
    ids = vectors.arrays["long ids"]
    rows = [ids[7 * n :][:length].tolist() for n, length in enumerate(lengths)]
    output = backend.prefill(*pad(rows))
    for step in range(LONG_STEPS + 1):
        if step % 27 == 0:
            unbatched = stacked([prefill_one(backend, row) for row in rows])
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
    judge_outputs("selected", selected, stacked(unbatched))


@pytest.mark.requirement("CA-06")
def test_joined_rows_continue_as_unbatched(backend, vectors, judge_outputs):
    older, newer = sequence(vectors.arrays, 2), sequence(vectors.arrays, 0)
    first = prefill_and_step(backend, older[:9], older[9:14])[-1]
    second = prefill_one(backend, newer[:4])
    joined = backend.step(np.array([older[14], newer[4]]), backend.join(first.state, second.state))
    joined = backend.step(np.array([older[15], newer[5]]), joined.state)
    unbatched = [prefill_one(backend, older[:16]), prefill_one(backend, newer[:6])]
    judge_outputs("joined", joined, stacked(unbatched))


class Batches:
    """The batches of a random program: (ids of each row, output or None, state)."""

    def __init__(self, backend, data, known, calls):
        self.backend, self.data, self.known = backend, data, known
        self.calls = calls  # to which each call is added in words
        self.one_id = st.integers(0, backend.config.language_model.vocab_size - 1)
        self.batches = []
        self.prefill()

    def operations(self):
        able = self.backend.capabilities
        optional = {
            self.fork: able.fork,
            self.select: able.select,
            self.join: able.join and able.batch,
        }
        # `step` stands twice, so that it is drawn more often.
        return [self.step, self.step, self.prefill, *(op for op, can in optional.items() if can)]

    def take(self):
        index = self.data.draw(st.integers(0, len(self.batches) - 1), label="batch")
        return self.batches.pop(index)

    def prefill(self):
        lengths = st.sampled_from([40, 63, 64, 126, 127, 128, 200, 256])
        prompt = st.one_of(
            st.lists(self.one_id, min_size=1, max_size=9),
            # Short prompts that are often drawn twice, so that equal prompts have several states.
            st.sampled_from([self.known[:5], self.known[3:7]]),
            lengths.map(lambda n: self.known[n : 2 * n]),
        )
        most = 6 if self.backend.capabilities.batch else 1
        rows = self.data.draw(st.lists(prompt, min_size=1, max_size=most), label="prefill")
        self.calls.append(f"prefill lengths {', '.join(str(len(row)) for row in rows)}")
        output = self.backend.prefill(*pad(rows))
        self.batches.append((rows, output, output.state))

    def step(self):
        rows, output, state = self.take()
        for _ in range(self.data.draw(st.sampled_from([1, 1, 3]), label="steps")):
            following = st.lists(self.one_id, min_size=len(rows), max_size=len(rows))
            ids = self.data.draw(following, label="step")
            self.calls.append("step")
            output = self.backend.step(np.array(ids), state)
            rows = [[*row, i] for row, i in zip(rows, ids, strict=True)]
            state = output.state
        self.batches.append((rows, output, state))

    def fork(self):
        rows, output, state = self.take()
        self.calls.append("fork")
        self.batches.append((rows, None, self.backend.fork(state)))
        self.batches.append((rows, output, state))

    def select(self):
        rows, _, state = self.take()
        indices = st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=len(rows) + 1)
        kept = self.data.draw(indices, label="select")
        self.calls.append(f"select rows {', '.join(map(str, kept))} of {len(rows)}")
        self.batches.append(([rows[i] for i in kept], None, self.backend.select(state, kept)))

    def join(self):
        if len(self.batches) > 1:
            (first, _, one), (second, _, two) = self.take(), self.take()
            self.calls.append(f"join {len(first)} and {len(second)} rows")
            self.batches.append((first + second, None, self.backend.join(one, two)))


@pytest.mark.requirement("CA-07")
@examples(25)
@given(data=st.data())
def test_any_cache_operations_equal_one_prefill(backend, vectors, judge_outputs, data):
    calls = []
    with stating(lambda: "; ".join(calls)):
        program = Batches(backend, data, vectors.arrays["long ids"].tolist(), calls)
        operations = st.lists(st.sampled_from(program.operations()), max_size=10)
        for operation in data.draw(operations, label="program"):
            operation()
        for rows, output, state in program.batches:
            if output is None:  # there is no output since the rows were forked, selected or joined
                output = backend.step(np.zeros(len(rows), np.int64), state)
                rows = [[*row, 0] for row in rows]
            for group in distinguishable_groups(rows):
                actual = Output(output.logits[group], output.hidden[group], None)
                expected = stacked([prefill_one(backend, rows[index]) for index in group])
                judge_outputs("program", actual, expected)


def distinguishable_groups(rows):
    """All indices of the rows, in groups in which the outputs of no two rows are equal.

    Where two are equal, a mutant with its rows in another order is correct and proves nothing.
    A row that repeats a single id gives the same output at every length, because attention
    averages equal values.
    """
    left = list(range(len(rows)))
    while left:
        by_output = {tuple(rows[i] if len(set(rows[i])) > 1 else rows[i][:1]): i for i in left}
        group = sorted(by_output.values())
        yield group
        left = [i for i in left if i not in group]
