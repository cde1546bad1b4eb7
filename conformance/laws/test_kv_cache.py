"""The cache and batches: whatever the way, a row says what it says when all is read at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.golden.observations import read
from conformance.golden.packs import Vectors
from conformance.judging import tolerances
from conformance.judging.compare import Limit
from conformance.judging.judge import Judge
from conformance.laws.hypothesis_profiles import examples
from conformance.laws.test_language_model import feed, sequence
from soprano.backends import Backend, Output
from soprano.errors import BackendError
from soprano.generate import pad

# Lengths of prompts. Caches grow, and prompts are cut, at 64, 128 or 256 places: the rows cross
# these at prefill or at different steps, and the longest stands in every place.
LONG_ROWS = {
    "prompts of all lengths": (300, 129, 60, 255, 1, 128, 20),
    "the first is short": (20, 5, 100, 60),
    "the first is longest": (100, 5, 20, 60),
}
LONG_STEPS = 81


@pytest.fixture
def agree(backend: Backend, vectors: Vectors, judge: Judge):
    """Judges two outputs of the backend that a law says are equal."""

    def close(name: str, actual: Output, expected: Output) -> None:
        for part in ("logits", "hidden"):
            judge.close(f"{name} {part}", getattr(actual, part), getattr(expected, part), law(part))

    def law(part: str) -> Limit:
        quantity = f"step {part}"
        return tolerances.between_own_outputs(
            quantity, vectors.floors[quantity], vectors.arrays[quantity], backend.config
        )

    return close


def stacked(outputs: list[Output]) -> Output:
    """The outputs of single rows, one below the other."""
    return Output(
        np.concatenate([output.logits for output in outputs]),
        np.concatenate([output.hidden for output in outputs]),
        None,
    )


@pytest.mark.requirement("CA-01")
def test_cached_steps_equal_one_prefill_at_every_split(backend, vectors, agree):
    ids = sequence(vectors.arrays, 2)[:25]
    whole = read(backend, ids)
    for split in range(1, len(ids)):
        agree("split", feed(backend, read(backend, ids[:split]), ids[split:]), whole)


@pytest.mark.requirement("CA-01")
def test_every_length_steps_as_it_is_read(backend, vectors, agree):
    # A later id never changes an earlier output: one walk is judged at each of its lengths.
    ids = sequence(vectors.arrays, 6)[:26]
    output = read(backend, ids[:1])
    for length in range(1, 25):
        agree(f"{length} ids", output, read(backend, ids[:length]))
        output = feed(backend, output, ids[length : length + 1])


@pytest.mark.requirement("CA-02")
def test_padding_ids_do_not_matter(backend, vectors, judge):
    ids, lengths = vectors.arrays["prompt ids"], vectors.arrays["prompt lengths"]
    padded = np.arange(ids.shape[1]) >= lengths[:, None]
    judge.equal("there is padding", bool(padded.any()), True)
    other = np.where(padded, 7, ids)
    one, two = backend.prefill(ids, lengths), backend.prefill(other, lengths)
    judge.bits("logits", two.logits, one.logits)
    follow = np.full(len(ids), 9)
    judge.bits(
        "step after padding",
        backend.step(follow, two.state).logits,
        backend.step(follow, one.state).logits,
    )


@pytest.mark.requirement("BA-01")
def test_a_row_in_a_ragged_batch_is_what_it_is_alone(backend, vectors, agree):
    arrays = vectors.arrays
    batch = backend.prefill(arrays["prompt ids"], arrays["prompt lengths"])
    alone = [
        read(backend, ids[:length])
        for ids, length in zip(arrays["prompt ids"], arrays["prompt lengths"], strict=True)
    ]
    for step in range(8):
        agree("batch", batch, stacked(alone))
        ids = arrays["step ids"][:, step]
        batch = backend.step(ids, batch.state)
        alone = [backend.step(ids[row : row + 1], output.state) for row, output in enumerate(alone)]


@pytest.mark.requirement("BA-01")
def test_every_size_of_batch_gives_a_row_what_it_is_alone(backend, vectors, agree):
    arrays = vectors.arrays
    rows = [sequence(arrays, row)[: 3 + row] for row in range(12)]
    alone = stacked([feed(backend, read(backend, row[:-1]), row[-1:]) for row in rows])
    for size in range(1, 13):
        batch = backend.prefill(*pad([row[:-1].tolist() for row in rows[:size]]))
        output = backend.step(np.array([row[-1] for row in rows[:size]]), batch.state)
        agree(f"{size} rows", output, Output(alone.logits[:size], alone.hidden[:size], None))


@pytest.mark.requirement("BA-01")
@pytest.mark.parametrize("lengths", LONG_ROWS.values(), ids=LONG_ROWS)
def test_rows_of_very_different_lengths_are_what_they_are_alone(backend, vectors, agree, lengths):
    ids = vectors.arrays["long ids"]
    rows = [ids[7 * n :][:length].tolist() for n, length in enumerate(lengths)]
    output = backend.prefill(*pad(rows))
    for step in range(LONG_STEPS + 1):
        if step % 27 == 0:
            agree(f"step {step}", output, stacked([read(backend, row) for row in rows]))
        following = [int(ids[(11 * n + step) % len(ids)]) for n in range(len(rows))]
        output = backend.step(np.array(following), output.state)
        rows = [[*row, number] for row, number in zip(rows, following, strict=True)]


@pytest.mark.requirement("BA-02")
def test_the_order_of_rows_does_not_matter(backend, vectors, agree):
    arrays = vectors.arrays
    order = np.array([7, 0, 11, 3, 1, 10, 2, 9, 4, 8, 6, 5])
    straight = backend.prefill(arrays["prompt ids"], arrays["prompt lengths"])
    turned = backend.prefill(arrays["prompt ids"][order], arrays["prompt lengths"][order])
    for step in range(6):
        back = np.argsort(order)
        agree("order", Output(turned.logits[back], turned.hidden[back], None), straight)
        ids = arrays["step ids"][:, step]
        straight = backend.step(ids, straight.state)
        turned = backend.step(ids[order], turned.state)


@pytest.mark.requirement("CA-03")
def test_a_consumed_state_is_refused(backend, vectors, judge):
    def fresh() -> Output:
        return read(backend, sequence(vectors.arrays, 0)[:3])

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


@pytest.mark.requirement("CA-08")
def test_states_of_one_prompt_live_side_by_side(backend, vectors, judge):
    ids, other = sequence(vectors.arrays, 1), sequence(vectors.arrays, 5)
    follow = {"first": other[4:12], "second": ids[6:14], "third": ids[8:16]}
    wanted = {
        name: list(walk(backend, read(backend, ids[:6]), after)) for name, after in follow.items()
    }
    states = {name: read(backend, ids[:6]).state for name in follow}
    for step in range(8):
        for name, after in follow.items():
            output = backend.step(after[step : step + 1], states[name])
            states[name] = output.state
            judge.bits(f"{name}, step {step}", output.logits, wanted[name][step].logits)


@pytest.mark.requirement("CA-04")
def test_a_fork_lives_on_by_itself(backend, vectors, judge):
    ids, other = sequence(vectors.arrays, 1), sequence(vectors.arrays, 5)

    def plain(follow: np.ndarray) -> list[Output]:
        return list(walk(backend, read(backend, ids[:6]), follow))

    wanted = {"original": plain(other[4:12]), "first": plain(ids[6:14]), "second": plain(ids[8:16])}
    state = read(backend, ids[:6]).state
    forks = {"original": state, "first": backend.fork(state), "second": backend.fork(state)}
    follow = {"original": other[4:12], "first": ids[6:14], "second": ids[8:16]}
    for step in range(8):  # in turns, so that one could write into another
        for name, state in forks.items():
            output = backend.step(follow[name][step : step + 1], state)
            forks[name] = output.state
            judge.bits(f"{name}, step {step}", output.logits, wanted[name][step].logits)


def walk(backend: Backend, output: Output, ids: np.ndarray) -> Iterator[Output]:
    for number in ids:
        output = backend.step(np.array([number]), output.state)
        yield output


@pytest.mark.requirement("CA-05")
def test_selected_rows_go_on_as_they_would_have(backend, vectors, agree):
    arrays = vectors.arrays
    rows = [7, 2, 0, 11, 5]
    output = backend.prefill(arrays["prompt ids"], arrays["prompt lengths"])
    state = backend.select(output.state, rows)
    for step in range(4):
        selected = backend.step(arrays["step ids"][rows, step], state)
        state = selected.state
    alone = [
        feed(backend, read(backend, sequence(arrays, row)[:length]), arrays["step ids"][row, :4])
        for row, length in ((row, arrays["prompt lengths"][row]) for row in rows)
    ]
    agree("selected", selected, stacked(alone))


@pytest.mark.requirement("CA-06")
def test_joined_rows_go_on_as_they_would_have(backend, vectors, agree):
    older, newer = sequence(vectors.arrays, 2), sequence(vectors.arrays, 0)
    first = feed(backend, read(backend, older[:9]), older[9:14])
    second = read(backend, newer[:4])
    joined = backend.step(np.array([older[14], newer[4]]), backend.join(first.state, second.state))
    joined = backend.step(np.array([older[15], newer[5]]), joined.state)
    agree("joined", joined, stacked([read(backend, older[:16]), read(backend, newer[:6])]))


@pytest.mark.requirement("CA-07")
@examples(25)
@given(data=st.data())
def test_a_row_says_what_its_ids_say_whatever_was_done_to_it(backend, vectors, agree, data):
    """A program of prefills, steps, forks, selections and joins, against one prefill a row."""
    able, size = backend.capabilities, backend.config.language_model.vocab_size
    known = vectors.arrays["long ids"].tolist()
    batches: list[tuple[list[list[int]], Output | None, object]] = []
    one_id = st.integers(0, size - 1)

    def enter() -> None:
        most = 6 if able.batch else 1
        # Short ones are often the same, so that states of one prompt live side by side.
        prompt = st.one_of(
            st.lists(one_id, min_size=1, max_size=9),
            st.sampled_from([known[:5], known[3:7]]),
            st.sampled_from([40, 63, 64, 126, 127, 128, 200, 256]).map(lambda n: known[n : 2 * n]),
        )
        rows = data.draw(st.lists(prompt, min_size=1, max_size=most), label="prefill")
        output = backend.prefill(*pad(rows))
        batches.append((rows, output, output.state))

    def take() -> tuple[list[list[int]], Output | None, object]:
        return batches.pop(data.draw(st.integers(0, len(batches) - 1), label="batch"))

    def step() -> None:
        rows, output, state = take()
        for _ in range(data.draw(st.sampled_from([1, 1, 3]), label="steps")):
            ids = data.draw(st.lists(one_id, min_size=len(rows), max_size=len(rows)), label="step")
            output = backend.step(np.array(ids), state)
            rows = [[*row, number] for row, number in zip(rows, ids, strict=True)]
            state = output.state
        batches.append((rows, output, state))

    def fork() -> None:
        rows, output, state = take()
        batches.append((rows, None, backend.fork(state)))
        batches.append((rows, output, state))

    def select() -> None:
        rows, _, state = take()
        places = st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=len(rows) + 1)
        kept = data.draw(places, label="select")
        batches.append(([rows[place] for place in kept], None, backend.select(state, kept)))

    def join() -> None:
        if len(batches) > 1:
            (first, _, one), (second, _, two) = take(), take()
            batches.append((first + second, None, backend.join(one, two)))

    possible = [step, step, enter, *(verb for verb in (fork,) if able.fork)]
    possible += [*(verb for verb in (select,) if able.select)]
    possible += [*(verb for verb in (join,) if able.join and able.batch)]
    enter()
    for act in data.draw(st.lists(st.sampled_from(possible), max_size=10), label="program"):
        act()
    for rows, output, state in batches:
        if output is None:  # nothing was said since the rows were moved
            ids = [0] * len(rows)
            output, rows = backend.step(np.array(ids), state), [[*row, 0] for row in rows]
        for places in told_apart(rows):
            said = Output(output.logits[places], output.hidden[places], None)
            agree("program", said, stacked([read(backend, rows[place]) for place in places]))


def told_apart(rows: list[list[int]]) -> Iterator[list[int]]:
    """All places of the rows, in groups in which no two rows must say the same.

    Where two rows must, an output with its rows in another order is right and proves nothing.
    A run of one id says the same at every length: attention mixes equal values.
    """
    left = list(range(len(rows)))
    while left:
        meanings = {
            tuple(row if len(set(row)) > 1 else row[:1]): p
            for p, row in enumerate(rows)
            if p in left
        }
        group = sorted(meanings.values())
        yield group
        left = [place for place in left if place not in group]
