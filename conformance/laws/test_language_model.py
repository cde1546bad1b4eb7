"""The language model: parity with the float64 oracle wherever a fault could sit."""

from __future__ import annotations

import numpy as np
import pytest

from conformance.golden.inputs import FREE_RUNS
from conformance.golden.observations import (
    observe_long,
    observe_prefixes,
    observe_spoken,
    observe_steps,
    observe_vocabulary,
    read,
)
from conformance.judging import tolerances


@pytest.fixture
def expect(backend, vectors, judge):
    """Judges a quantity against the oracle's values for it."""

    def close(quantity: str, actual: np.ndarray, *decoys: np.ndarray) -> None:
        expected = vectors.arrays[quantity]
        limit = tolerances.against_oracle(
            quantity, vectors.floors[quantity], expected, backend.config
        )
        judge.close(quantity, actual, expected, limit, decoys=decoys)

    return close


def sequence(arrays, row: int) -> np.ndarray:
    """A prompt and its teacher-forced continuation, (T,)."""
    prompt = arrays["prompt ids"][row, : arrays["prompt lengths"][row]]
    return np.concatenate([prompt, arrays["step ids"][row]])


def feed(backend, output, ids: np.ndarray):
    for number in ids:
        output = backend.step(np.array([number]), output.state)
    return output


@pytest.mark.requirement("LM-01")
def test_prefill_of_ragged_prompts_matches_the_oracle(backend, vectors, expect):
    observed = observe_steps(backend, vectors.arrays)
    for part in ("logits", "hidden"):
        expect(f"prefill {part}", observed[f"prefill {part}"], observed[f"step {part}"][:, 0])


@pytest.mark.requirement("LM-01")
def test_prefill_of_every_id_matches_the_oracle(backend, vectors, expect):
    for quantity, actual in observe_vocabulary(backend, vectors.arrays).items():
        expect(quantity, actual, actual[::-1])


@pytest.mark.requirement("LM-02")
def test_teacher_forced_steps_match_the_oracle(backend, vectors, expect):
    observed = observe_steps(backend, vectors.arrays)
    for part in ("logits", "hidden"):
        actual = observed[f"step {part}"]
        expect(f"step {part}", actual, actual[::-1], actual[:, ::-1])


@pytest.mark.requirement("LM-02")
def test_states_of_golden_utterances_match_the_oracle(backend, vectors, expect):
    observed = observe_spoken(backend, vectors.arrays)
    for name in FREE_RUNS:
        actual = observed[f"{name} hidden"]
        expect(f"{name} hidden", actual, actual[::-1])


@pytest.mark.requirement("LM-03")
def test_prefill_of_every_length_matches_the_oracle(backend, vectors, expect):
    for quantity, actual in observe_prefixes(backend, vectors.arrays).items():
        expect(quantity, actual, actual[::-1])


@pytest.mark.requirement("LM-03")
def test_hundreds_of_steps_match_the_oracle(backend, vectors, expect):
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
            f"id {number} in a prompt",
            lambda n=number: read(backend, [3, n]),
            ValueError,
            accepts=lambda: [read(backend, [3, n]) for n in (0, size - 1)],
        )
        judge.refuses(
            f"id {number} in a step",
            lambda n=number: backend.step(np.array([n]), read(backend, [3]).state),
            ValueError,
            accepts=lambda: backend.step(np.array([size - 1]), read(backend, [3]).state),
        )


@pytest.mark.requirement("LM-06")
def test_the_same_call_gives_the_same_bits_whatever_came_between(backend, vectors, judge):
    one, other = sequence(vectors.arrays, 0), sequence(vectors.arrays, 5)

    def speak(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # Every answer counts: what a call leaves behind may touch the next one alone.
        outputs = [read(backend, ids[:4])]
        for number in ids[4:20]:
            outputs.append(backend.step(np.array([number]), outputs[-1].state))
        logits, hidden = ([getattr(o, part) for o in outputs] for part in ("logits", "hidden"))
        return np.stack(logits), np.stack(hidden)

    first = {"one": speak(one), "other": speak(other)}
    # A after B, B after A, A twice; and while another state lives on.
    open_state = read(backend, other[:9])
    for name in ("one", "one", "other", "one", "other", "other"):
        again = speak(one if name == "one" else other)
        for part, actual, expected in zip(("logits", "hidden"), again, first[name], strict=True):
            judge.bits(f"{name}: {part}", actual, expected)
    kept = feed(backend, open_state, other[9:12])
    fresh = feed(backend, read(backend, other[:9]), other[9:12])
    judge.bits("a state that waited", kept.logits, fresh.logits)


@pytest.mark.requirement("LM-07")
def test_returned_arrays_are_never_written_again(backend, vectors, judge):
    ids = sequence(vectors.arrays, 2)
    output = read(backend, ids[:5])
    held, copies = [], []
    for number in ids[5:15]:
        held += [output.logits, output.hidden]
        copies += [output.logits.copy(), output.hidden.copy()]
        output = backend.step(np.array([number]), output.state)
    for i, (array, copy) in enumerate(zip(held, copies, strict=True)):
        judge.bits(f"array {i}", array, copy)


@pytest.mark.requirement("LM-08")
def test_arrays_given_to_a_call_stay_the_callers(backend, vectors, judge):
    def given() -> tuple[np.ndarray, np.ndarray]:
        ids, lengths = vectors.arrays["prompt ids"].copy(), vectors.arrays["prompt lengths"].copy()
        ids[np.arange(ids.shape[1]) >= lengths[:, None]] = 7  # a padding that is nobody's habit
        return ids, lengths

    def walk(touch) -> list[np.ndarray]:
        """Logits of a prefill and of steps, each array given to them touched after its call."""
        ids, lengths = given()
        logits = []
        output = backend.prefill(ids, lengths)
        judge.equal("given lengths", lengths.tolist(), given()[1].tolist())
        judge.equal("given ids", ids.tolist(), given()[0].tolist())
        touch(ids, lengths)
        for step in vectors.arrays["step ids"].T[:4]:
            following, state = step.copy(), output.state
            output = backend.step(following, state)
            judge.equal("given to a step", following.tolist(), step.tolist())
            touch(following)
            logits.append(output.logits.copy())
        return logits

    def overwrite(*arrays: np.ndarray) -> None:
        for array in arrays:
            array[:] = 1

    left, written = walk(lambda *_: None), walk(overwrite)
    for number, (actual, expected) in enumerate(zip(written, left, strict=True)):
        judge.bits(f"step {number}", actual, expected)
