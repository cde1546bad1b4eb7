"""GE: the generation loop, on a backend whose every id and hidden state is scripted."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.golden.scripted_backend import (
    STOP,
    VOCABULARY,
    Ids,
    ScriptedBackend,
    reciting,
    trace,
)
from conformance.hypothesis_profiles import examples
from conformance.judging.judge import Judge
from soprano.backends import Capabilities
from soprano.config import GenerationOptions, SamplingOptions
from soprano.generate import Prompt, Token, generate, pad

EXPLORED = examples(100)
GREEDY = SamplingOptions(0.0, 1.0, 0, 1.0)
EVEN = SamplingOptions(1.0, 1.0, 0, 1.0)  # every id that the logits allow, unfiltered
ASK = (STOP, 1, 12, 2)  # a prompt


def no_draws() -> Iterator[float]:
    raise AssertionError("a draw was taken where none was due")
    yield


def prompt(
    ids: Sequence[int] = ASK,
    limit: int = 512,
    sampling: SamplingOptions = GREEDY,
    draws: Any = None,
) -> Prompt:
    return Prompt(list(ids), iter(draws) if draws is not None else no_draws(), sampling, limit)


def spoken(tokens: list[Token], index: int = 0) -> list[int]:
    return [token.id for token in tokens if token.prompt == index and token.id is not None]


def states(tokens: list[Token], index: int = 0) -> list[list[float]]:
    own = [token.hidden for token in tokens if token.prompt == index]
    return [hidden.tolist() for hidden in own if hidden is not None]


def finishes(tokens: list[Token], index: int = 0) -> list[str | None]:
    return [token.finish for token in tokens if token.prompt == index]


def recite(answer: Sequence[int], limit: int = 512, ids: Ids = ASK) -> list[Token]:
    return list(generate(ScriptedBackend(reciting({ids: answer})), [prompt(ids, limit)]))


def before_each(answer: Sequence[int], ids: Ids = ASK) -> list[list[float]]:
    """The states that the model was in when it chose each id of its answer."""
    return [trace((*ids, *answer[:place])).tolist() for place in range(len(answer))]


def judge_states(judge: Judge, tokens: list[Token], expected: list[list[float]]) -> None:
    """States are whole numbers, so they are compared exactly."""
    actual = [[int(value) for value in state] for state in states(tokens)]
    judge.equal("states", actual, [[int(value) for value in state] for state in expected])


@pytest.mark.requirement("GE-01")
@pytest.mark.parametrize("answer", [[5], [5, 6], [9, 9, 9], [4, 8, 15, 4, 8, 15, 7]], ids=str)
def test_a_tokens_state_is_the_one_that_predicted_it(judge: Judge, answer: list[int]) -> None:
    tokens = recite(answer)
    judge.equal("ids", spoken(tokens), answer)
    judge_states(judge, tokens, before_each(answer))


@pytest.mark.requirement("GE-02")
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_the_state_that_predicts_stop_is_dropped(judge: Judge, count: int) -> None:
    answer = [5 + place for place in range(count)]
    tokens = recite(answer)
    last = tokens[-1]
    judge.equal("last token", (last.id, last.hidden is None, last.finish), (None, True, "stop"))
    judge.equal("finishes", finishes(tokens), [None] * count + ["stop"])
    judge.equal("states", len(states(tokens)), count)


@pytest.mark.requirement("GE-03")
@pytest.mark.parametrize("limit", [1, 2, 5])
def test_the_last_token_before_the_limit_is_kept(judge: Judge, limit: int) -> None:
    answer = [5, 6, 7, 8, 9, 10, 11]
    tokens = recite(answer, limit)
    judge.equal("ids", spoken(tokens), answer[:limit])
    judge_states(judge, tokens, before_each(answer[:limit]))
    judge.equal("finishes", finishes(tokens), [None] * (limit - 1) + ["length"])


@pytest.mark.requirement("GE-03")
def test_the_limit_is_not_waited_beyond(judge: Judge) -> None:
    # The answer is as long as the limit: `[STOP]` would come next, but is never asked for.
    backend = ScriptedBackend(reciting({ASK: [5, 6, 7]}))
    tokens = list(generate(backend, [prompt(limit=3)]))
    judge.equal("finishes", finishes(tokens), [None, None, "length"])
    judge.equal("calls of the backend", len(backend.rows), 3)
    longer = list(generate(ScriptedBackend(reciting({ASK: [5, 6, 7]})), [prompt(limit=4)]))
    judge.equal("one more", finishes(longer), [None, None, None, "stop"])


@pytest.mark.requirement("GE-04")
def test_an_immediate_stop_gives_no_token_and_no_state(judge: Judge) -> None:
    for limit in (1, 512):
        tokens = recite([], limit)
        judge.equal("ids", spoken(tokens), [])
        judge.equal("states", len(states(tokens)), 0)
        judge.equal("finishes", finishes(tokens), ["stop"])


@pytest.mark.requirement("GE-04")
def test_no_prompts_give_no_tokens(judge: Judge) -> None:
    backend = ScriptedBackend(reciting({}))
    judge.equal("tokens", list(generate(backend, [], batch_size=4)), [])
    judge.equal("calls", backend.rows, [])


def ask(index: int) -> Ids:
    """A prompt of its own; lengths differ."""
    return (STOP, 1, index, *[12] * (index % 3), 2)


ANSWER = st.lists(st.integers(4, VOCABULARY - 1), max_size=6)


@pytest.mark.requirement("GE-05")
@EXPLORED
@given(
    answers=st.lists(ANSWER, max_size=7),
    limits=st.lists(st.integers(1, 7), min_size=7, max_size=7),
    batch_size=st.integers(1, 8),
)
def test_each_row_says_its_own_whatever_the_batch(
    judge: Judge, answers: list[list[int]], limits: list[int], batch_size: int
) -> None:
    asks = [ask(index) for index in range(len(answers))]
    backend = ScriptedBackend(reciting(dict(zip(asks, answers, strict=True))))
    prompts = [prompt(ids, limit) for ids, limit in zip(asks, limits, strict=False)]
    tokens = list(generate(backend, prompts, batch_size=batch_size))
    for index, (ids, answer) in enumerate(zip(asks, answers, strict=True)):
        kept = answer[: limits[index]]
        last = "length" if len(kept) == limits[index] else "stop"
        judge.equal(f"ids of {index}", spoken(tokens, index), kept)
        judge.equal(f"finish of {index}", [f for f in finishes(tokens, index) if f], [last])
        judge.equal(f"the end of {index}", finishes(tokens, index)[-1], last)
        wanted = [[int(v) for v in state] for state in before_each(kept, ids)]
        actual = [[int(v) for v in state] for state in states(tokens, index)]
        judge.equal(f"states of {index}", actual, wanted)
    judge.equal("nothing else", {token.prompt for token in tokens} == set(range(len(asks))), True)


@pytest.mark.requirement("GE-06")
@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_a_batch_is_filled_and_never_overfilled(judge: Judge, batch_size: int) -> None:
    # Five answers of 1 to 5 ids: a row that leaves makes room for the next prompt.
    asks = [ask(index) for index in range(5)]
    answers = {ids: [7] * (index + 1) for index, ids in enumerate(asks)}
    backend = ScriptedBackend(reciting(answers))
    tokens = list(generate(backend, [prompt(ids) for ids in asks], batch_size=batch_size))
    judge.equal("widest call", max(backend.rows), batch_size)
    judge.equal("finished", [t.prompt for t in tokens if t.finish], list(range(5)))
    judge.equal("rows read", sum(backend.rows), sum(len(a) + 1 for a in answers.values()))


@pytest.mark.requirement("GE-06")
@pytest.mark.parametrize("lacking", ["batch", "join", "select"])
def test_what_a_backend_does_not_declare_is_not_asked_of_it(judge: Judge, lacking: str) -> None:
    asks = [ask(index) for index in range(4)]
    answers = {ids: [7, 8, 9][: index % 3 + 1] for index, ids in enumerate(asks)}
    backend = ScriptedBackend(reciting(answers), Capabilities(**{lacking: False}))
    tokens = list(generate(backend, [prompt(ids) for ids in asks], batch_size=2))
    for index, ids in enumerate(asks):
        judge.equal(f"ids of {index}", spoken(tokens, index), list(answers[ids]))


@pytest.mark.requirement("GE-06")
@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_of_no_rows_is_refused(judge: Judge, batch_size: int) -> None:
    backend = ScriptedBackend(reciting({ASK: [5]}))
    judge.refuses(
        "batch_size",
        lambda: list(generate(backend, [prompt()], batch_size=batch_size)),
        ValueError,
        accepts=lambda: list(generate(backend, [prompt()], batch_size=1)),
    )


def wavering(ids: Ids) -> list[float]:
    """12 is a little likelier than 13, and 13 than 14; all else is out of the question."""
    logits = [-9.0] * VOCABULARY
    logits[12:15] = [1.2, 1.1, 1.05]
    return logits


@pytest.mark.requirement("GE-07")
def test_the_history_holds_the_prompts_ids(judge: Judge) -> None:
    # By 1.2 divided, 12 falls behind 13, and 13 behind 14, once they stand in the history.
    penalised = SamplingOptions(0.0, 1.0, 0, 1.2)
    for ids, first in (((3, 1, 5, 2), 12), ((3, 1, 12, 2), 13), ((3, 12, 13, 2), 14)):
        tokens = list(generate(ScriptedBackend(wavering), [prompt(ids, 1, penalised)]))
        judge.equal(f"after {ids}", spoken(tokens), [first])


@pytest.mark.requirement("GE-07")
def test_the_history_holds_the_generated_ids(judge: Judge) -> None:
    penalised = SamplingOptions(0.0, 1.0, 0, 1.2)
    tokens = list(generate(ScriptedBackend(wavering), [prompt((3, 1, 5, 2), 5, penalised)]))
    judge.equal("ids", spoken(tokens), [12, 13, 14, 12, 12])


@pytest.mark.requirement("GE-07")
def test_a_history_is_that_of_its_own_row(judge: Judge) -> None:
    penalised, asks = SamplingOptions(0.0, 1.0, 0, 1.2), [(3, 5, 2), (3, 12, 2), (3, 12, 13, 2)]
    for order in itertools.permutations(range(3)):
        prompts = [prompt(asks[place], 1, penalised) for place in order]
        tokens = list(generate(ScriptedBackend(wavering), prompts, batch_size=3))
        actual = [spoken(tokens, index) for index in range(3)]
        judge.equal(f"{order}", actual, [[12 + place] for place in order])


def anything(ids: Ids) -> list[float]:
    """Every id is equally likely: a uniform u draws the id 16 u, rounded down."""
    return [0.0] * VOCABULARY


def drawing(ids: Sequence[int]) -> list[float]:
    return [(number + 0.5) / VOCABULARY for number in ids]


@pytest.mark.requirement("GE-08")
def test_each_sampled_token_takes_one_draw_in_order(judge: Judge) -> None:
    for answer in ([], [5], [9, 4, 4, 15, 0, 8]):
        draws = iter(drawing([*answer, STOP, 6, 6]))
        backend = ScriptedBackend(anything)
        tokens = list(generate(backend, [prompt(sampling=EVEN, draws=draws)]))
        judge.equal("ids", spoken(tokens), answer)
        judge.equal("draws left", len(list(draws)), 2)


@pytest.mark.requirement("GE-08")
def test_a_length_stop_takes_no_further_draw(judge: Judge) -> None:
    draws = iter(drawing([5, 6, 7, 8]))
    tokens = list(
        generate(ScriptedBackend(anything), [prompt(limit=3, sampling=EVEN, draws=draws)])
    )
    judge.equal("ids", spoken(tokens), [5, 6, 7])
    judge.equal("draws left", len(list(draws)), 1)


@pytest.mark.requirement("GE-08")
@EXPLORED
@given(answers=st.lists(ANSWER, min_size=1, max_size=6), batch_size=st.integers(1, 7))
def test_each_row_draws_from_its_own_stream(
    judge: Judge, answers: list[list[int]], batch_size: int
) -> None:
    streams = [iter(drawing([*answer, STOP, 6])) for answer in answers]
    prompts = [prompt(ask(i), 512, EVEN, stream) for i, stream in enumerate(streams)]
    tokens = list(generate(ScriptedBackend(anything), prompts, batch_size=batch_size))
    for index, (answer, stream) in enumerate(zip(answers, streams, strict=True)):
        judge.equal(f"ids of {index}", spoken(tokens, index), answer)
        judge.equal(f"draws left of {index}", len(list(stream)), 1)


@pytest.mark.requirement("GE-09")
def test_a_greedy_row_takes_no_draw(judge: Judge) -> None:
    # A greedy row beside a sampled one: its stream raises when it is touched.
    recited = reciting({ask(0): [8, 9]})

    def speak(ids: Ids) -> Sequence[float]:
        return recited(ids) if ids[: len(ask(0))] == ask(0) else anything(ids)

    for batch_size in (1, 2):
        prompts = [prompt(ask(0)), prompt(ask(1), 3, EVEN, drawing([5, 6, 7]))]
        tokens = list(generate(ScriptedBackend(speak), prompts, batch_size=batch_size))
        judge.equal("greedy", spoken(tokens, 0), [8, 9])
        judge.equal("sampled", spoken(tokens, 1), [5, 6, 7])


@pytest.mark.requirement("GE-10")
def test_tokens_come_as_soon_as_they_are_known(judge: Judge) -> None:
    backend = ScriptedBackend(reciting({ASK: [5, 6, 7]}))
    running = generate(backend, [prompt()])
    judge.equal("calls before the first is wanted", len(backend.rows), 0)
    for calls in (1, 2, 3, 4):
        next(running)
        judge.equal(f"calls for {calls} tokens", len(backend.rows), calls)


@pytest.mark.requirement("GE-11")
def test_tokens_already_given_stay_as_they_are(judge: Judge) -> None:
    # Two rows, one of them short: the batch changes its shape while states are held.
    answers = {ask(0): [5, 6, 7, 8, 9, 10], ask(1): [11, 12], ask(2): [4, 4, 4]}
    held, copies = [], []
    backend = ScriptedBackend(reciting(answers))
    for token in generate(backend, [prompt(ids) for ids in answers], batch_size=2):
        if token.hidden is not None:
            held.append(token.hidden)
            copies.append(token.hidden.copy())
    for place, (hidden, copied) in enumerate(zip(held, copies, strict=True)):
        judge.bits(f"state {place}", np.array(hidden), copied)
    judge.equal("states", len(held), 11)


@pytest.mark.requirement("GE-11")
def test_prompts_are_not_modified(judge: Judge) -> None:
    given_ = prompt(limit=4)
    tokens = [list(generate(ScriptedBackend(reciting({ASK: [5, 6]})), [given_])) for _ in range(2)]
    judge.equal("ids of the prompt", given_.ids, list(ASK))
    judge.equal("said twice", spoken(tokens[0]), spoken(tokens[1]))


@pytest.mark.requirement("GE-12")
def test_prompts_are_padded_on_the_right(judge: Judge) -> None:
    ids, lengths = pad([[1, 2, 3], [4], [5, 6]])
    for row, length, wanted in zip(ids, lengths, ([1, 2, 3], [4], [5, 6]), strict=True):
        judge.equal(f"{wanted}", row[:length].tolist(), wanted)
    judge.equal("shapes", (ids.shape, lengths.shape), ((3, 3), (3,)))
    judge.equal("types", (ids.dtype.name, lengths.dtype.name), ("int64", "int64"))


@pytest.mark.requirement("GE-14")
def test_the_limit_of_new_tokens_is_512(judge: Judge) -> None:
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
