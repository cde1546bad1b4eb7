"""CA and GE: several ids in one pass, ids that are taken back, and generation with a draft."""

from dataclasses import replace

import numpy as np
import pytest

from conformance.golden.inputs import FREE_RUNS, LIMIT, TEXTS, sequence
from conformance.golden.observations import prefill_and_step, prefill_one
from conformance.judging import tolerances
from conformance.judging.divergence import decision_margin, judge_ids
from conformance.laws.support.agreement import judge_agreement
from conformance.laws.support.coverage import longest, share
from conformance.laws.support.drafts import DRAFTS, verified
from soprano.backends import Output
from soprano.errors import BackendError
from soprano.generate import Prompt, pad

COUNTS = (1, 2, 3, 5, 8, 9, 17)  # ids of one pass
# Ids read before, around the sizes of buffers.
PASTS = (1, 2, 30, 62, 63, 64, 120, 127, 128, 250)
ROUNDS = 30  # of ids that are verified and taken back
NEW = 32  # tokens of an utterance with a draft


@pytest.fixture
def ids(vectors):
    return vectors.arrays["long ids"]


def each(logits, hidden, row=0, count=None):
    """The outputs after each id of one row, as those of a batch."""
    return Output(logits[row, :count], hidden[row, :count], None)


def stacked(outputs):
    logits, hidden, _ = zip(*outputs, strict=True)
    return Output(np.concatenate(logits), np.concatenate(hidden), None)


@pytest.mark.requirement("CA-09")
@pytest.mark.parametrize("count", COUNTS)
def test_several_ids_at_once_equal_single_steps(request, backend, vectors, judge, ids, count):
    most = longest(backend, LIMIT) - count - 1
    for past in (n for n in share(request, PASTS) or PASTS[2:3] if n <= most):
        following = ids[past : past + count + 1]
        state = prefill_one(backend, ids[:past]).state
        logits, hidden, state = verified(backend, [following[:-1]], state)
        last = backend.step(following[-1:], state)
        wanted = prefill_and_step(backend, ids[:past], following)
        name = f"{count} ids after {past}:"
        judge_agreement(judge, vectors, name, each(logits, hidden), stacked(wanted[1:-1]))
        judge_agreement(judge, vectors, f"step after {name}", last, wanted[-1])


@pytest.mark.requirement("CA-09")
def test_rows_of_different_lengths_equal_single_steps(backend, vectors, judge, ids):
    rows = [(0, 3, 4), (11, 20, 1), (22, 61, 7), (33, 9, 2), (44, 1, 5)]  # start, past, count
    rows = rows if backend.capabilities.batch else rows[:1]
    state = backend.prefill(*pad([ids[s : s + past].tolist() for s, past, _ in rows])).state
    new = [ids[s + past : s + past + count] for s, past, count in rows]
    logits, hidden, state = verified(backend, new, state, padding=-5)
    last = backend.step(np.array([ids[s + past + count] for s, past, count in rows]), state)
    for row, (start, past, count) in enumerate(rows):
        wanted = prefill_and_step(backend, ids[start:][:past], ids[start + past :][: count + 1])
        actual = each(logits, hidden, row, count)
        judge_agreement(judge, vectors, f"row {row}", actual, stacked(wanted[1:-1]))
        own = Output(last.logits[row : row + 1], last.hidden[row : row + 1], None)
        judge_agreement(judge, vectors, f"row {row}, step", own, wanted[-1])


@pytest.mark.requirement("CA-10")
def test_ids_that_were_taken_back_have_no_effect(backend, vectors, judge, ids):
    """In each round other ids are read, all or some are taken back, and the right ones follow."""
    output, read, kept = prefill_one(backend, ids[:5]), 5, []
    state, wrong = output.state, ids[::-1]
    for number in range(ROUNDS):
        right, count = number % 3, 1 + number % 5
        following = np.concatenate([ids[read : read + right], wrong[7 * number :][:count]])
        logits, hidden, state = verified(backend, [following], state)
        kept += [(logits[:, n], hidden[:, n], None) for n in range(right)]
        read += right
        state = backend.truncate(state, np.array([read]))
        output = backend.step(ids[read : read + 1], state)
        kept.append((output.logits, output.hidden, None))
        state, read = output.state, read + 1
    wanted = prefill_and_step(backend, ids[:5], ids[5:read])[1:]
    judge_agreement(judge, vectors, "rounds", stacked(kept), stacked(wanted))


@pytest.mark.requirement("CA-10")
def test_rows_that_were_cut_to_any_length_continue_as_if_not_longer(backend, vectors, judge, ids):
    if backend.capabilities.batch:
        lengths, kept = [9, 30, 4], [[9, 30, 4], [3, 29, 1], [1, 12, 2]]
    else:
        lengths, kept = [30], [[30], [29], [12], [1]]
    rows = [ids[17 * n :][:length].tolist() for n, length in enumerate(lengths)]
    for cuts in kept:
        state = backend.truncate(backend.prefill(*pad(rows)).state, np.array(cuts))
        output = backend.step(np.array([7 + n for n in range(len(rows))]), state)
        wanted = [
            prefill_and_step(backend, row[:cut], [7 + n])[-1]
            for n, (row, cut) in enumerate(zip(rows, cuts, strict=True))
        ]
        judge_agreement(judge, vectors, f"cut to {cuts}", output, stacked(wanted))


@pytest.mark.requirement("CA-10")
def test_truncate_rejects_a_consumed_state_and_lengths_that_were_not_read(backend, judge, ids):
    def fresh():
        return prefill_one(backend, ids[:4]).state

    used = fresh()
    backend.truncate(used, np.array([2]))
    calls = {"truncate": backend.truncate, "verify": lambda s, n: backend.verify(n[None], n, s)}
    for name, call in calls.items():
        judge.refuses(
            f"{name} of a consumed state",
            lambda call=call: call(used, np.array([1])),
            BackendError,
            accepts=lambda call=call: call(fresh(), np.array([1])),
        )
    for length in (0, -1, 5):
        judge.refuses(
            f"{length} ids",
            lambda length=length: backend.truncate(fresh(), np.array([length])),
            ValueError,
            accepts=lambda: backend.truncate(fresh(), np.array([4])),
        )


@pytest.mark.requirement("GE-19")
@pytest.mark.parametrize("sampling", FREE_RUNS.values(), ids=FREE_RUNS)
@pytest.mark.parametrize("draft", DRAFTS)
def test_a_draft_changes_neither_ids_nor_hidden_states(
    backend, stages, vectors, judge, draft, sampling
):
    vectors.require_same_weights()
    drafted = replace(stages, draft=DRAFTS[draft](backend))
    prompts = [sequence(vectors.arrays, row)[:9].tolist() for row in (1, 4)]
    excused = tolerances.tie_margin(vectors.limit("step logits"), sampling.temperature)
    ties = compared = 0
    for batch_size, rows in ((1, 1), (2, 2)):
        options = {"batch_size": batch_size}
        plain = run(stages, prompts, sampling, options)
        actual = run(drafted, prompts, sampling, options | {"drafted_rows": rows})
        for number, (one, other) in enumerate(zip(actual, plain, strict=True)):

            def margin(position, number=number, other=other):
                known = prompts[number] + [token.id for token in other[:position]]
                logits = prefill_one(backend, known).logits[0]
                return decision_margin(logits, known, sampling, draw(number, position))

            ids = ([with_stop(stages, token) for token in tokens] for tokens in (one, other))
            tied = judge_ids(judge, *ids, margin, excused)
            pairs = list(zip(one, other, strict=False))
            same = next((n for n, (a, b) in enumerate(pairs) if a.id != b.id), len(pairs))
            ties, compared = ties + tied, compared + same
            if not tied:
                judge.equal("finish", one[-1].finish, other[-1].finish)
            judge_hidden(judge, vectors, one[:same], other[:same])
    judge.count_ids(compared, tied=ties > 0)
    judge.below("ties", ties, tolerances.ties_allowed(compared), 4, wrong=4)


@pytest.mark.requirement("GE-19")
def test_a_stream_with_a_draft_equals_the_stream_without(backend, voice, vectors, judge, subject):
    drafted = subject.voice(voice.model, replace(voice.stages, draft=DRAFTS["disturbed"](backend)))
    options = {"max_new_tokens": 24, "temperature": 0.0}
    offline = voice.infer(TEXTS[0], **options)
    chunks = list(drafted.infer_stream(TEXTS[0], chunk_size=3, **options))
    limit = vectors.own_limit("greedy samples")
    samples = np.concatenate([chunk.samples for chunk in chunks])
    judge.waveform("samples", samples, offline.samples, limit)


def draw(number, position):
    return float(np.random.default_rng(31 + number).random(position + 1)[-1])


def run(stages, prompts, sampling, options):
    """The tokens of each prompt."""
    given = [
        Prompt(ids, iter([draw(number, n) for n in range(NEW)]), sampling, NEW)
        for number, ids in enumerate(prompts)
    ]
    tokens = [[] for _ in prompts]
    for token in stages.generate(stages, given, **options):
        tokens[token.prompt].append(token)
    return tokens


def with_stop(stages, token):
    return stages.config.language_model.eos_token_id if token.id is None else token.id


def judge_hidden(judge, vectors, one, other):
    states = [[t.hidden for t in tokens if t.hidden is not None] for tokens in (one, other)]
    if len(states[0]) and len(states[0]) == len(states[1]):
        actual, expected = map(np.stack, states)
        judge.close("hidden states", actual, expected, vectors.own_limit("step hidden"))
