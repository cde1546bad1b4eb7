"""GE: the generation loop over a backend whose every id and hidden state is known."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.golden.scripted_backend import (
    STOP,
    VOCABULARY,
    ScriptedBackend,
    greedy_script,
    hidden_after,
)
from conformance.hypothesis_profiles import examples
from soprano.backends import Capabilities
from soprano.config import GenerationOptions, SamplingOptions
from soprano.generate import Prompt

EXPLORED = examples(100)
GREEDY = SamplingOptions(0.0, 1.0, 0, 1.0)
PENALISED = SamplingOptions(0.0, 1.0, 0, 1.2)
EVEN = SamplingOptions(1.0, 1.0, 0, 1.0)  # without a filter, after `equal_logits`
PROMPT = (STOP, 1, 12, 2)
ANSWER = st.lists(st.integers(4, VOCABULARY - 1), max_size=6)


@pytest.fixture(scope="session")
def run(stages_over):
    """(backend, prompts, batch_size) -> the tokens of the generation loop, as they come."""

    def tokens(backend, prompts, **options):
        stages = stages_over(backend)
        return stages.generate(stages, prompts, **options)

    return tokens


@pytest.fixture(scope="session")
def answer_tokens(run):
    """The tokens of one prompt to which a backend answers with given ids."""

    def tokens(answer, limit=512):
        backend = ScriptedBackend(greedy_script({PROMPT: answer}))
        return list(run(backend, [make_prompt(limit=limit)]))

    return tokens


def no_draws():
    raise AssertionError("a greedy utterance used a draw")
    yield


def make_prompt(ids=PROMPT, limit=512, sampling=GREEDY, draws=None):
    return Prompt(list(ids), iter(draws) if draws is not None else no_draws(), sampling, limit)


def numbered_prompt(index):
    """Prompt ids that differ for each index; so do their lengths."""
    return (STOP, 1, index, *[12] * (index % 3), 2)


def ids_of(tokens, index=0):
    return [token.id for token in tokens if token.prompt == index and token.id is not None]


def states_of(tokens, index=0):
    """The hidden states of one prompt, which are whole numbers here."""
    states = [token.hidden for token in tokens if token.prompt == index]
    return [state.astype(int).tolist() for state in states if state is not None]


def finishes_of(tokens, index=0):
    return [token.finish for token in tokens if token.prompt == index]


def expected_states(answer, ids=PROMPT):
    """The hidden states that predict each id of an answer."""
    states = [hidden_after((*ids, *answer[:index])) for index in range(len(answer))]
    return [state.astype(int).tolist() for state in states]


@pytest.mark.requirement("GE-01")
@pytest.mark.parametrize("answer", [[5], [5, 6], [9, 9, 9], [4, 8, 15, 4, 8, 15, 7]], ids=str)
def test_the_hidden_state_of_a_token_is_the_one_that_predicted_it(judge, answer_tokens, answer):
    tokens = answer_tokens(answer)
    judge.equal("ids", ids_of(tokens), answer)
    judge.equal("states", states_of(tokens), expected_states(answer))


@pytest.mark.requirement("GE-02")
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_the_hidden_state_that_predicts_stop_is_dropped(judge, answer_tokens, count):
    tokens = answer_tokens([5 + index for index in range(count)])
    last = tokens[-1]
    judge.equal("last token", (last.id, last.hidden is None, last.finish), (None, True, "stop"))
    judge.equal("finishes", finishes_of(tokens), [None] * count + ["stop"])
    judge.equal("states", len(states_of(tokens)), count)


@pytest.mark.requirement("GE-03")
@pytest.mark.parametrize("limit", [1, 2, 5])
def test_the_last_token_before_the_limit_keeps_its_hidden_state(judge, answer_tokens, limit):
    answer = [5, 6, 7, 8, 9, 10, 11]
    tokens = answer_tokens(answer, limit)
    judge.equal("ids", ids_of(tokens), answer[:limit])
    judge.equal("states", states_of(tokens), expected_states(answer[:limit]))
    judge.equal("finishes", finishes_of(tokens), [None] * (limit - 1) + ["length"])


@pytest.mark.requirement("GE-03")
def test_the_backend_is_not_called_after_the_limit(judge, run, answer_tokens):
    # The answer is as long as the limit: `[STOP]` comes next, but must not be computed.
    backend = ScriptedBackend(greedy_script({PROMPT: [5, 6, 7]}))
    tokens = list(run(backend, [make_prompt(limit=3)]))
    judge.equal("finishes", finishes_of(tokens), [None, None, "length"])
    judge.equal("calls of the backend", len(backend.batch_sizes), 3)
    longer = answer_tokens([5, 6, 7], 4)
    judge.equal("one more", finishes_of(longer), [None, None, None, "stop"])


@pytest.mark.requirement("GE-04")
def test_an_immediate_stop_gives_no_token(judge, answer_tokens):
    for limit in (1, 512):
        tokens = answer_tokens([], limit)
        judge.equal("ids", ids_of(tokens), [])
        judge.equal("states", len(states_of(tokens)), 0)
        judge.equal("finishes", finishes_of(tokens), ["stop"])


@pytest.mark.requirement("GE-04")
def test_an_empty_list_of_prompts_gives_nothing(judge, run):
    backend = ScriptedBackend(greedy_script({}))
    judge.equal("tokens", list(run(backend, [], batch_size=4)), [])
    judge.equal("calls", backend.batch_sizes, [])


@pytest.mark.requirement("GE-05")
@EXPLORED
@given(
    answers=st.lists(ANSWER, max_size=7),
    limits=st.lists(st.integers(1, 7), min_size=7, max_size=7),
    batch_size=st.integers(1, 8),
)
def test_any_batch_size_gives_the_unbatched_tokens(judge, run, answers, limits, batch_size):
    prompts = [numbered_prompt(index) for index in range(len(answers))]
    backend = ScriptedBackend(greedy_script(dict(zip(prompts, answers, strict=True))))
    limited = [make_prompt(ids, limit) for ids, limit in zip(prompts, limits, strict=False)]
    tokens = list(run(backend, limited, batch_size=batch_size))
    for index, (ids, answer) in enumerate(zip(prompts, answers, strict=True)):
        kept = answer[: limits[index]]
        last = "length" if len(kept) == limits[index] else "stop"
        finishes = finishes_of(tokens, index)
        judge.equal(f"ids of {index}", ids_of(tokens, index), kept)
        judge.equal(f"finish of {index}", [finish for finish in finishes if finish], [last])
        judge.equal(f"last finish of {index}", finishes[-1], last)
        judge.equal(f"states of {index}", states_of(tokens, index), expected_states(kept, ids))
    known = {token.prompt for token in tokens} == set(range(len(prompts)))
    judge.equal("no other prompt", known, True)


@pytest.mark.requirement("GE-06")
@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_a_batch_is_filled_and_never_exceeds_its_size(judge, run, batch_size):
    # Answers of 1 to 5 ids: when a row is finished, the next prompt takes its place.
    answers = {numbered_prompt(index): [7] * (index + 1) for index in range(5)}
    backend = ScriptedBackend(greedy_script(answers))
    tokens = list(run(backend, [make_prompt(ids) for ids in answers], batch_size=batch_size))
    judge.equal("largest batch", max(backend.batch_sizes), batch_size)
    judge.equal("finished", [t.prompt for t in tokens if t.finish], list(range(5)))
    computed = sum(len(answer) + 1 for answer in answers.values())
    judge.equal("rows computed", sum(backend.batch_sizes), computed)


@pytest.mark.requirement("GE-06")
@pytest.mark.parametrize("lacking", ["batch", "join", "select"])
def test_capabilities_that_are_not_declared_are_not_used(judge, run, lacking):
    answers = {numbered_prompt(index): [7, 8, 9][: index % 3 + 1] for index in range(4)}
    backend = ScriptedBackend(greedy_script(answers), Capabilities(**{lacking: False}))
    tokens = list(run(backend, [make_prompt(ids) for ids in answers], batch_size=2))
    for index, answer in enumerate(answers.values()):
        judge.equal(f"ids of {index}", ids_of(tokens, index), list(answer))


@pytest.mark.requirement("GE-06")
@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_size_below_one_is_rejected(judge, run, batch_size):
    backend = ScriptedBackend(greedy_script({PROMPT: [5]}))
    judge.refuses(
        "batch_size",
        lambda: list(run(backend, [make_prompt()], batch_size=batch_size)),
        ValueError,
        accepts=lambda: list(run(backend, [make_prompt()], batch_size=1)),
    )


def close_logits(ids):
    """12 is a little likelier than 13, and 13 than 14; all other ids are far less likely.

    Divided by the penalty of 1.2, 12 falls behind 13, and 13 behind 14.
    """
    logits = [-9.0] * VOCABULARY
    logits[12:15] = [1.2, 1.1, 1.05]
    return logits


@pytest.mark.requirement("GE-07")
def test_the_history_contains_the_ids_of_the_prompt(judge, run):
    for ids, first in (((3, 1, 5, 2), 12), ((3, 1, 12, 2), 13), ((3, 12, 13, 2), 14)):
        tokens = list(run(ScriptedBackend(close_logits), [make_prompt(ids, 1, PENALISED)]))
        judge.equal(f"after {ids}", ids_of(tokens), [first])


@pytest.mark.requirement("GE-07")
def test_the_history_contains_the_generated_ids(judge, run):
    prompt = make_prompt((3, 1, 5, 2), 5, PENALISED)
    tokens = list(run(ScriptedBackend(close_logits), [prompt]))
    judge.equal("ids", ids_of(tokens), [12, 13, 14, 12, 12])


@pytest.mark.requirement("GE-07")
def test_the_history_is_that_of_the_own_utterance(judge, run):
    prompts = [(3, 5, 2), (3, 12, 2), (3, 12, 13, 2)]
    for order in itertools.permutations(range(3)):
        ordered = [make_prompt(prompts[index], 1, PENALISED) for index in order]
        tokens = list(run(ScriptedBackend(close_logits), ordered, batch_size=3))
        actual = [ids_of(tokens, index) for index in range(3)]
        judge.equal(f"{order}", actual, [[12 + index] for index in order])


def equal_logits(ids):
    """Every id has the same probability: a uniform u draws the id 16 u, rounded down."""
    return [0.0] * VOCABULARY


def draws_of(ids):
    """The uniforms that draw these ids after `equal_logits`."""
    return [(i + 0.5) / VOCABULARY for i in ids]


@pytest.mark.requirement("GE-08")
def test_each_sampled_id_uses_one_draw_in_order(judge, run):
    for answer in ([], [5], [9, 4, 4, 15, 0, 8]):
        draws = iter(draws_of([*answer, STOP, 6, 6]))
        tokens = list(run(ScriptedBackend(equal_logits), [make_prompt(sampling=EVEN, draws=draws)]))
        judge.equal("ids", ids_of(tokens), answer)
        judge.equal("draws left", len(list(draws)), 2)


@pytest.mark.requirement("GE-08")
def test_no_draw_is_used_after_the_limit(judge, run):
    draws = iter(draws_of([5, 6, 7, 8]))
    prompt = make_prompt(limit=3, sampling=EVEN, draws=draws)
    tokens = list(run(ScriptedBackend(equal_logits), [prompt]))
    judge.equal("ids", ids_of(tokens), [5, 6, 7])
    judge.equal("draws left", len(list(draws)), 1)


@pytest.mark.requirement("GE-08")
@EXPLORED
@given(answers=st.lists(ANSWER, min_size=1, max_size=6), batch_size=st.integers(1, 7))
def test_each_utterance_uses_the_draws_of_its_own_stream(judge, run, answers, batch_size):
    streams = [iter(draws_of([*answer, STOP, 6])) for answer in answers]
    prompts = [
        make_prompt(numbered_prompt(index), 512, EVEN, stream)
        for index, stream in enumerate(streams)
    ]
    tokens = list(run(ScriptedBackend(equal_logits), prompts, batch_size=batch_size))
    for index, (answer, stream) in enumerate(zip(answers, streams, strict=True)):
        judge.equal(f"ids of {index}", ids_of(tokens, index), answer)
        judge.equal(f"draws left of {index}", len(list(stream)), 1)


@pytest.mark.requirement("GE-09")
def test_a_greedy_utterance_uses_no_draw(judge, run):
    # The stream of a greedy prompt raises an error when it is used.
    first, second = numbered_prompt(0), numbered_prompt(1)
    greedy = greedy_script({first: [8, 9]})

    def script(ids):
        return greedy(ids) if ids[: len(first)] == first else equal_logits(ids)

    for batch_size in (1, 2):
        prompts = [make_prompt(first), make_prompt(second, 3, EVEN, draws_of([5, 6, 7]))]
        tokens = list(run(ScriptedBackend(script), prompts, batch_size=batch_size))
        judge.equal("greedy", ids_of(tokens, 0), [8, 9])
        judge.equal("sampled", ids_of(tokens, 1), [5, 6, 7])


@pytest.mark.requirement("GE-10")
def test_a_token_is_yielded_as_soon_as_it_is_known(judge, run):
    backend = ScriptedBackend(greedy_script({PROMPT: [5, 6, 7]}))
    tokens = run(backend, [make_prompt()])
    judge.equal("calls before the first token", len(backend.batch_sizes), 0)
    for calls in (1, 2, 3, 4):
        next(tokens)
        judge.equal(f"calls for {calls} tokens", len(backend.batch_sizes), calls)


@pytest.mark.requirement("GE-11")
def test_tokens_that_were_yielded_never_change(judge, run):
    # The answers differ in length, so that the batch changes while hidden states are held.
    lengths = ([5, 6, 7, 8, 9, 10], [11, 12], [4, 4, 4])
    answers = {numbered_prompt(index): answer for index, answer in enumerate(lengths)}
    held, copies = [], []
    backend = ScriptedBackend(greedy_script(answers))
    for token in run(backend, [make_prompt(ids) for ids in answers], batch_size=2):
        if token.hidden is not None:
            held.append(token.hidden)
            copies.append(token.hidden.copy())
    for index, (hidden, copied) in enumerate(zip(held, copies, strict=True)):
        judge.bits(f"state {index}", np.array(hidden), copied)
    judge.equal("states", len(held), 11)


@pytest.mark.requirement("GE-11")
def test_prompts_are_not_modified(judge, run):
    prompt = make_prompt(limit=4)
    first, second = (
        list(run(ScriptedBackend(greedy_script({PROMPT: [5, 6]})), [prompt])) for _ in range(2)
    )
    judge.equal("ids of the prompt", prompt.ids, list(PROMPT))
    judge.equal("ids of a second run", ids_of(second), ids_of(first))


@pytest.mark.requirement("GE-12")
def test_prompts_are_right_padded_int64_arrays(judge, run):
    prompts = [[1, 2, 3], [4], [5, 6]]
    backend = ScriptedBackend(greedy_script({tuple(ids): [7] for ids in prompts}))
    list(run(backend, [make_prompt(ids) for ids in prompts], batch_size=3))
    ids, lengths = backend.prefills[0]
    for row, length, expected in zip(ids, lengths, prompts, strict=True):
        judge.equal(f"{expected}", row[:length].tolist(), list(expected))
    judge.equal("shapes", (ids.shape, lengths.shape), ((3, 3), (3,)))
    judge.equal("types", (ids.dtype.name, lengths.dtype.name), ("int64", "int64"))


@pytest.mark.requirement("GE-14")
def test_max_new_tokens_is_512_by_default_and_at_most(judge):
    judge.equal("by default", GenerationOptions().max_new_tokens, 512)
    for limit in (1, 512):
        judge.equal(f"{limit}", GenerationOptions(max_new_tokens=limit).max_new_tokens, limit)
    for limit in (0, 513, 1200):
        judge.refuses(
            f"{limit}",
            lambda n=limit: GenerationOptions(max_new_tokens=n),
            ValueError,
            accepts=lambda: GenerationOptions(max_new_tokens=512),
        )


@pytest.mark.requirement("GE-15")
@pytest.mark.parametrize("room", [1, 2, 3])
def test_the_maximum_length_of_a_backend_limits_the_new_tokens(judge, run, room):
    # The second answer ends before the maximum; the third prompt has a lower limit of its own.
    answers = {(3, 1, 2): [5, 6, 7, 8, 9], (3, 2): [10], (3,): [11] * 9}
    backend = ScriptedBackend(greedy_script(answers), Capabilities(max_length=3 + room))
    prompts = [make_prompt(ids, 1 if len(ids) == 1 else 512) for ids in answers]
    tokens = list(run(backend, prompts, batch_size=2))
    judge.equal("limited by the maximum", ids_of(tokens, 0), [5, 6, 7][:room])
    judge.equal("its finish", finishes_of(tokens, 0)[-1], "length")
    judge.equal("shorter than the maximum", ids_of(tokens, 1), [10])
    judge.equal("its finish", finishes_of(tokens, 1)[-1], "stop")
    judge.equal("limited by max_new_tokens", ids_of(tokens, 2), [11])
    judge.equal("its finish", finishes_of(tokens, 2)[-1], "length")


@pytest.mark.requirement("GE-15")
def test_a_prompt_that_leaves_no_room_for_a_new_token_is_rejected(judge, run):
    backend = ScriptedBackend(greedy_script({PROMPT: [5]}), Capabilities(max_length=len(PROMPT)))
    roomier = ScriptedBackend(
        greedy_script({PROMPT: [5]}), Capabilities(max_length=len(PROMPT) + 1)
    )
    message = judge.refuses(
        "prompt as long as the maximum",
        lambda: list(run(backend, [make_prompt()])),
        ValueError,
        accepts=lambda: list(run(roomier, [make_prompt()])),
    )
    judge.equal("the message states the maximum", str(len(PROMPT)) in message, True)
    judge.equal("calls of the backend", backend.batch_sizes, [])
