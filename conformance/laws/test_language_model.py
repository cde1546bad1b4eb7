"""LM: logits and hidden states against the float64 oracle, and what calls leave unchanged."""

import numpy as np
import pytest

from conformance.golden.expectations import every_position
from conformance.golden.inputs import (
    LENGTHS,
    LIMIT,
    LONG,
    LONG_START,
    STRETCHES,
    long_sequence,
    sequence,
)
from conformance.golden.observations import (
    observe_free_runs,
    observe_long,
    observe_prefixes,
    observe_steps,
    observe_vocabulary,
    prefill_and_step,
    prefill_each,
    prefill_one,
    step_through,
)
from conformance.judging.places import Axes, Axis
from conformance.judging.skips import NotDeclared
from conformance.laws.support.coverage import longest, share
from conformance.laws.support.memory_orders import memory_orders, unchanged
from soprano.backends import Output
from soprano.generate import pad

CONTROL_IDS = 4  # [UNK], [TEXT], [START] and [STOP]
TO_THE_LIMIT = range(2)  # models of the run whose decode steps go to the limit of the family


@pytest.fixture
def judge_against_oracle(vectors, judge):
    """Judges outputs by the names of their golden arrays: all of them, before a failure."""
    vectors.require_fine_class()

    def close(observed, decoys=lambda quantity, actual: (actual[::-1],)):
        with judge.together():
            for quantity, actual in observed.items():
                judge.close(
                    quantity,
                    actual,
                    vectors.arrays[quantity],
                    vectors.limit(quantity),
                    decoys=decoys(quantity, actual),
                    places=vectors.places(quantity),
                )

    return close


def named(observed, call):
    """The outputs of one kind of call."""
    return {name: actual for name, actual in observed.items() if name.startswith(call)}


@pytest.mark.requirement("LM-01")
def test_prefill_of_padded_prompts_matches_the_oracle(backend, vectors, judge_against_oracle):
    observed = observe_steps(backend, vectors.arrays)
    judge_against_oracle(
        named(observed, "prefill"),
        lambda name, _: (observed[name.replace("prefill", "step")][:, 0],),
    )


@pytest.mark.requirement("LM-01")
def test_prefill_of_the_whole_vocabulary_matches_the_oracle(backend, vectors, judge_against_oracle):
    judge_against_oracle(observe_vocabulary(backend, vectors.arrays))


@pytest.mark.requirement("LM-01")
def test_prompts_that_end_in_control_ids_match_the_oracle(backend, vectors, judge):
    vectors.require_fine_class()
    arrays, config = vectors.arrays, backend.config.language_model
    ends = [*range(CONTROL_IDS), config.eos_token_id, config.vocab_size - 1]
    found = [np.argwhere(arrays["step ids"] == i)[:1] for i in dict.fromkeys(ends)]
    places = [tuple(place) for places in found for place in places]
    prompts = [
        [*sequence(arrays, row)[: arrays["prompt lengths"][row]], *arrays["step ids"][row, : k + 1]]
        for row, k in places
    ]
    outputs = prefill_each(backend, prompts)
    with judge.together():
        for part in ("logits", "hidden"):
            expected = np.stack([arrays[f"step {part}"][place] for place in places])
            actual, limit = getattr(outputs, part), vectors.limit(f"step {part}")
            name = f"prompts that end in control ids: {part}"
            judge.close(name, actual, expected, limit, decoys=(actual[::-1],))


@pytest.mark.requirement("LM-02")
def test_teacher_forced_steps_match_the_oracle(backend, vectors, judge_against_oracle):
    steps = named(observe_steps(backend, vectors.arrays), "step")
    judge_against_oracle(steps, lambda _, actual: (actual[::-1], actual[:, ::-1]))


@pytest.mark.requirement("LM-02")
def test_hidden_states_of_golden_utterances_match_the_oracle(
    backend, vectors, judge_against_oracle
):
    judge_against_oracle(observe_free_runs(backend, vectors.arrays))


@pytest.mark.requirement("LM-03")
def test_hundreds_of_decode_steps_match_the_oracle(request, backend, vectors, judge_against_oracle):
    if share(request, TO_THE_LIMIT):
        raise NotDeclared("the model is judged at every position")
    judge_against_oracle(observe_long(backend, vectors.arrays))


def judge_after(judge, vectors, name, output, ids, lengths, limit=""):
    """Judge the outputs after the first `lengths` ids of a sequence, one a row.

    Their noise floor was not measured; the limit is twice that of the golden array `limit`, or
    `name`.
    """
    vectors.require_fine_class()
    expected = every_position(vectors.pack.networks(), tuple(ids.tolist()))
    rows = Axis("row", [f"the output after {length} ids" for length in lengths])
    with judge.together():
        for kind, values in zip(("logits", "hidden"), expected, strict=True):
            judge.close(
                f"{name} {kind}",
                getattr(output, kind),
                values[np.array(lengths) - 1],
                vectors.own_limit(f"{limit or name} {kind}"),
                places=Axes((rows, Axis("id" if kind == "logits" else "channel"))),
            )


@pytest.mark.requirement("LM-03")
def test_decode_steps_match_the_oracle_at_every_position(request, backend, vectors, judge):
    if not share(request, TO_THE_LIMIT):
        raise NotDeclared("other models of the run are judged at every position")
    ids = long_sequence(vectors.arrays)[: longest(backend, LIMIT)]
    observed = step_through(backend, ids)
    for start, stop in (*STRETCHES, (LONG, LIMIT)):
        rows = slice(start - LONG_START, stop - LONG_START)
        output = Output(observed.logits[rows], observed.hidden[rows], None)
        lengths = range(start + 1, start + 1 + len(output.logits))
        golden = "long {}-{}".format(*(STRETCHES[-1] if start == LONG else (start, stop)))
        if lengths:
            judge_after(judge, vectors, f"long {start}-{stop}", output, ids, lengths, golden)


@pytest.mark.requirement("LM-03")
def test_prefill_of_golden_lengths_matches_the_oracle(backend, vectors, judge_against_oracle):
    judge_against_oracle(observe_prefixes(backend, vectors.arrays))


@pytest.mark.requirement("LM-03")
def test_prefill_of_every_length_matches_the_oracle(request, backend, vectors, judge):
    ids = long_sequence(vectors.arrays)[: longest(backend, LIMIT)]
    lengths = share(request, [length for length in LENGTHS if length <= len(ids)])
    if not lengths:
        raise NotDeclared("other models of the run take these lengths")
    observed = prefill_each(backend, [ids[:length] for length in lengths])
    judge_after(judge, vectors, "prefix", observed, ids, lengths)


@pytest.mark.requirement("LM-04")
def test_outputs_are_float32_of_the_declared_shape(backend, vectors, judge):
    config = backend.config.language_model
    output = backend.prefill(vectors.arrays["prompt ids"], vectors.arrays["prompt lengths"])
    count = len(vectors.arrays["prompt lengths"])
    for result in (output, backend.step(np.full(count, 5), output.state)):
        judge.shape("logits", result.logits, (count, config.vocab_size))
        judge.shape("hidden", result.hidden, (count, config.hidden_size))
        judge.equal("types", (str(result.logits.dtype), str(result.hidden.dtype)), ("float32",) * 2)


# Words of which the message about an id outside the vocabulary contains one.
OF_AN_ID = ("id", "index", "indices", "vocab", "range", "bound", "token")


@pytest.mark.requirement("LM-05")
def test_ids_outside_the_vocabulary_are_rejected(backend, judge):
    size = backend.config.language_model.vocab_size
    for wrong in (-1, size):
        judge.refuses(
            f"id {wrong} in a prompt",
            lambda n=wrong: prefill_one(backend, [3, n]),
            ValueError,
            names=(wrong, *OF_AN_ID),
            accepts=lambda: [prefill_one(backend, [3, n]) for n in (0, size - 1)],
        )
        judge.refuses(
            f"id {wrong} in a step",
            lambda n=wrong: prefill_and_step(backend, [3], [n]),
            ValueError,
            names=(wrong, *OF_AN_ID),
            accepts=lambda: prefill_and_step(backend, [3], [size - 1]),
        )


@pytest.mark.requirement("LM-06")
def test_the_same_call_gives_the_same_bits_whatever_came_between(backend, vectors, judge):
    sequences = {"one": sequence(vectors.arrays, 0), "other": sequence(vectors.arrays, 5)}

    def run(name):
        # Every step counts: a call may disturb only the one that follows it.
        outputs = prefill_and_step(backend, sequences[name][:4], sequences[name][4:20])
        return [np.stack([getattr(o, part) for o in outputs]) for part in ("logits", "hidden")]

    first = {name: run(name) for name in sequences}
    # One after the other, the other after the one, one twice; and while another state exists.
    waiting = prefill_one(backend, sequences["other"][:9])
    for name in ("one", "one", "other", "one", "other", "other"):
        for part, actual, expected in zip(
            ("logits", "hidden"), run(name), first[name], strict=True
        ):
            judge.bits(f"{name}: {part}", actual, expected)
    for i in sequences["other"][9:12]:
        waiting = backend.step(np.array([i]), waiting.state)
    fresh = prefill_and_step(backend, sequences["other"][:9], sequences["other"][9:12])[-1]
    judge.bits("a state that waited", waiting.logits, fresh.logits)


@pytest.mark.requirement("LM-07")
def test_returned_arrays_are_never_written_again(backend, vectors, judge):
    ids = sequence(vectors.arrays, 2)
    output = prefill_one(backend, ids[:5])
    held, copies = [], []
    for i in ids[5:15]:
        held += [output.logits, output.hidden]
        copies += [output.logits.copy(), output.hidden.copy()]
        output = backend.step(np.array([i]), output.state)
    for index, (array, copy) in enumerate(zip(held, copies, strict=True)):
        judge.bits(f"array {index}", array, copy)


@pytest.mark.requirement("LM-08")
def test_arguments_are_not_modified_and_later_changes_have_no_effect(backend, vectors, judge):
    prompt_lengths = vectors.arrays["prompt lengths"]
    prompt_ids = vectors.arrays["prompt ids"].copy()
    prompt_ids[np.arange(prompt_ids.shape[1]) >= prompt_lengths[:, None]] = 7  # unusual padding

    def run(change):
        """Logits of decode steps; `change` gets the arrays of each call after the call."""
        ids, lengths = prompt_ids.copy(), prompt_lengths.copy()
        logits = []
        output = backend.prefill(ids, lengths)
        judge.equal("lengths after prefill", lengths.tolist(), prompt_lengths.tolist())
        judge.equal("ids after prefill", ids.tolist(), prompt_ids.tolist())
        change(ids, lengths)
        for column in vectors.arrays["step ids"].T[:4]:
            ids = column.copy()
            output = backend.step(ids, output.state)
            judge.equal("ids after a step", ids.tolist(), column.tolist())
            change(ids)
            logits.append(output.logits.copy())
        return logits

    def overwrite(*arrays):
        for array in arrays:
            array[:] = 1

    unchanged, overwritten = run(lambda *_: None), run(overwrite)
    for step, (actual, expected) in enumerate(zip(overwritten, unchanged, strict=True)):
        judge.bits(f"step {step}", actual, expected)


@pytest.mark.requirement("LM-09")
@pytest.mark.parametrize("rows", [1, 3])
def test_the_memory_order_of_ids_has_no_effect(backend, vectors, judge, rows):
    if rows > 1 and not backend.capabilities.batch:
        raise NotDeclared("the backend does not declare batches")
    prompts = [sequence(vectors.arrays, row)[: 7 - 2 * row].tolist() for row in range(rows)]
    arguments = dict(zip(("ids", "lengths"), pad(prompts), strict=True))
    arguments["new ids"] = vectors.arrays["step ids"][:rows, 3].copy()

    def run(ids, lengths, new_ids):
        first = backend.prefill(ids, lengths)
        outputs = first, backend.step(new_ids, first.state)
        return {
            f"{call}: {part}": getattr(output, part)
            for call, output in zip(("prefill", "step"), outputs, strict=True)
            for part in ("logits", "hidden")
        }

    expected = run(*arguments.values())
    for name, array in arguments.items():
        for order, given in memory_orders(array):
            with unchanged(judge, given, f"{name} in {order}"):
                actual = run(*(arguments | {name: given}).values())
            for quantity, values in actual.items():
                judge.bits(f"{name} in {order}: {quantity}", values, expected[quantity])
