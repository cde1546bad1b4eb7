"""CA: random programs of cache operations equal one prefill of each row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.golden.inputs import LIMIT
from conformance.golden.observations import prefill_each
from conformance.golden.packs import fixture_models
from conformance.hypothesis_profiles import examples
from conformance.laws.support.agreement import judge_agreement
from conformance.laws.support.coverage import longest, share
from conformance.report.failures import stating
from soprano.backends import Output
from soprano.generate import pad

LENGTHS_OF_PROMPTS = (40, 63, 64, 126, 127, 128, 200, 256)
MOST_OPERATIONS, MOST_STEPS = 10, 3


class Batches:
    """The batches of a random program: (ids of each row, output or None, state)."""

    def __init__(self, backend, data, known, longest_prompt, calls):
        self.backend, self.data, self.known = backend, data, known
        self.lengths = [n for n in LENGTHS_OF_PROMPTS if n <= longest_prompt]
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
        lengths = st.sampled_from(self.lengths)
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
        for _ in range(self.data.draw(st.sampled_from([1, 1, MOST_STEPS]), label="steps")):
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
def test_any_cache_operations_equal_one_prefill(request, backend, vectors, judge, data):
    # An expensive model runs programs with short prompts only.
    most = max(LENGTHS_OF_PROMPTS) if share(request, range(len(fixture_models()))) else 64
    most = min(most, longest(backend, LIMIT) - MOST_OPERATIONS * MOST_STEPS - 1)
    calls = []
    with stating(lambda: "; ".join(calls)):
        program = Batches(backend, data, vectors.arrays["long ids"].tolist(), most, calls)
        operations = st.lists(st.sampled_from(program.operations()), max_size=MOST_OPERATIONS)
        for operation in data.draw(operations, label="program"):
            operation()
        for rows, output, state in program.batches:
            if output is None:  # there is no output since the rows were forked, selected or joined
                output = backend.step(np.zeros(len(rows), np.int64), state)
                rows = [[*row, 0] for row in rows]
            for group in distinguishable_groups(rows):
                actual = Output(output.logits[group], output.hidden[group], None)
                expected = prefill_each(backend, [rows[index] for index in group])
                judge_agreement(judge, vectors, "program", actual, expected)


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
