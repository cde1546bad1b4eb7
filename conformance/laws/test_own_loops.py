"""SA, GE, SY, ST and BA: the loops that a port implements itself."""

from contextlib import suppress

import pytest

from conformance.judging.skips import NotDeclared
from conformance.laws.support.alignment import tolerance
from conformance.laws.support.chosen_utterances import ignored
from conformance.laws.support.coverage import share
from conformance.laws.support.own_loops import (
    COUNTS,
    DISTINCT,
    FEW,
    LIMITS,
    LONGEST_CASES,
    REPEATED,
    SAMPLED,
    Limited,
    joined,
    own_loops,
    stated_positions,
)
from conformance.oracle.utterance_conventions import (
    LOOPS,
    Request,
    loops_giving_ids,
    loops_giving_samples,
)
from soprano.backends import SynthesisResult

CHUNKS = (8, 1, 2, 7, 31, 64, 100, 600)  # tokens; the last is more than an utterance has
CHUNK = 32  # tokens
PASSED = ("prompt", "uniforms")
BATCH, LIMIT = 33, 20  # prompts of a batch, and their new tokens


@pytest.fixture(scope="session")
def own(backend):
    return own_loops(backend)


@pytest.fixture
def longest(request, own, vectors):
    """The utterances up to the limits of the model that the model under test takes."""
    return own.longest(vectors, request)


@pytest.fixture
def repetitive(request, own, vectors):
    """The utterances that repeat themselves that the model under test takes."""
    return own.repetitive(vectors, request)


@pytest.fixture
def synthesize(own, judge):
    own.require("synthesize")
    return own.answer


@pytest.fixture
def stream(own, judge):
    own.require("stream")
    return own.backend.stream


@pytest.fixture
def synthesize_batch(own, judge):
    own.require("synthesize_batch")
    return own.backend.synthesize_batch


def with_stop(stages, ids, finish):
    return [*ids, *[stages.config.language_model.eos_token_id] * (finish == "stop")]


@pytest.mark.requirement("SA-24")
@pytest.mark.parametrize("options", [*SAMPLED, "greedy"])
def test_an_own_synthesize_follows_no_known_convention_of_sampling(
    stages, backend, vectors, judge, own, synthesize, options
):
    if options != "greedy":
        own.require_uniforms()
    course = own.course(vectors, options, DISTINCT)
    if options not in ("narrow", "greedy") and len(course.ids) > FEW:
        for name, other in ignored(course.options).items():
            judge.equal(f"ids show an ignored {name}", course.shows(other) > 0, True)
    for utterance in (*own.ends(vectors, options)[:1], *own.cuts(vectors, options)[:1]):
        answer = synthesize(utterance)
        ids, expected = (with_stop(stages, u.ids, u.finish) for u in (answer, utterance))
        followed = []
        if ids != expected and ids[: len(expected)] != expected[: len(ids)]:
            request = Request(*utterance.arguments)
            followed = own.likeliest(loops_giving_ids(backend, request, ids))
        for name in LOOPS:
            judge.not_following(name, followed)


def judge_limits(judge, synthesize, positions, utterances):
    """Judge ids and finish reasons; an exception is one of SY-14."""
    answers = []
    for utterance in utterances:
        with suppress(Exception):  # whatever a port raises
            answers.append((utterance, synthesize(utterance)))
    pairs = [
        (u, Limited(u.ids, u.finish), Limited(list(answer.ids), answer.finish))
        for u, answer in answers
    ]
    followed = [
        name
        for name, wrong in LIMITS.items()
        if any(actual != right for _, right, actual in pairs)
        and all(
            actual == wrong(right, (positions or 0) - len(utterance.prompt))
            for utterance, right, actual in pairs
        )
    ]
    with judge.together():
        for name in LIMITS if pairs else ():
            judge.not_following(name, followed)
        for utterance, right, actual in pairs:
            judge.equal(f"finish reason, {utterance}", actual.finish, right.finish)
            judge.equal(f"ids, {utterance}", actual.ids, right.ids)


@pytest.mark.requirement("GE-16")
@pytest.mark.parametrize("options", [*SAMPLED, "greedy"])
def test_an_own_synthesize_ends_at_the_chosen_step(vectors, judge, own, synthesize, model, options):
    if options != "greedy":
        own.require_uniforms()
    utterances = [*own.ends(vectors, options), *own.cuts(vectors, options)]
    if options == "greedy":
        ends = own.greedy_ends(vectors)
        # The limit comes just before [STOP], which is not drawn.
        utterances += [*ends, *(u.at_its_limit() for u in ends if u.ids)]
    judge_limits(judge, synthesize, stated_positions(model), utterances)


@pytest.mark.requirement("GE-16")
def test_an_own_synthesize_reaches_the_limits_of_the_model(judge, synthesize, longest, model):
    judge_limits(judge, synthesize, stated_positions(model), longest)


@pytest.mark.requirement("GE-16")
def test_an_own_synthesize_gives_ids_that_repeat_themselves(judge, synthesize, repetitive, model):
    judge_limits(judge, synthesize, stated_positions(model), repetitive)


def judge_answer(judge, own, stages, vectors, utterance, answer, name):
    """Judge an answer of `synthesize`; its samples by the ids that it has."""
    with judge.together():
        own.judge_samples(
            judge,
            stages,
            vectors,
            utterance.with_ids(stages.language_model, answer.ids),
            answer.samples,
            name=f"samples, {name}",
        )
        judge.equal(f"finish reason, {name}", answer.finish, utterance.finish)
        judge.equal(f"ids, {name}", list(answer.ids), utterance.ids)


@pytest.fixture
def judge_synthesize(stages, vectors, judge, own, synthesize):
    """Judges what `synthesize` makes of an utterance."""

    def judge_one(utterance):
        answer = synthesize(utterance)
        judge_answer(judge, own, stages, vectors, utterance, answer, str(utterance))

    return judge_one


@pytest.mark.requirement("SY-14")
@pytest.mark.parametrize("options", [*SAMPLED, "greedy"])
@pytest.mark.parametrize("finish", ["stop", "length"])
def test_an_own_synthesize_decodes_the_states_that_predict_its_ids(
    vectors, own, judge_synthesize, options, finish
):
    if options != "greedy":
        own.require_uniforms()
    utterances = own.ends(vectors, options) if finish == "stop" else own.cuts(vectors, options)
    if (options, finish) == ("greedy", "stop"):
        utterances += own.greedy_ends(vectors)
    if not utterances:
        raise NotDeclared("with these options no utterance of this model ends by [STOP]")
    for utterance in utterances:
        judge_synthesize(utterance)


@pytest.mark.requirement("SY-14")
def test_an_own_synthesize_gives_the_samples_of_any_number_of_tokens(
    request, vectors, own, judge_synthesize
):
    counts = share(request, COUNTS) or [DISTINCT]
    for count in counts:
        if utterance := own.of_length(vectors, count):
            judge_synthesize(utterance)


@pytest.mark.requirement("SY-14")
def test_an_own_synthesize_gives_the_samples_of_the_longest_utterances(judge_synthesize, longest):
    for utterance in longest:
        judge_synthesize(utterance)


@pytest.mark.requirement("SY-14")
def test_an_own_synthesize_gives_the_samples_of_ids_that_repeat_themselves(
    judge_synthesize, repetitive
):
    for utterance in repetitive:
        judge_synthesize(utterance)


@pytest.fixture
def judge_stream(stages, vectors, judge, own, stream):
    """Judges the joined chunks of an utterance."""

    def judge_one(utterance, chunk_size):
        samples = joined(list(stream(*utterance.arguments, chunk_size)))
        request = Request(*utterance.arguments, chunk_size)
        limit = vectors.own_limit("samples")
        own.judge_samples(
            judge,
            stages,
            vectors,
            utterance,
            samples,
            name=f"samples, {utterance}, chunks of {chunk_size}",
            chunk_size=chunk_size,
            others=lambda: loops_giving_samples(
                stages, request, samples, tolerance(limit, samples)
            ),
        )

    return judge_one


@pytest.mark.requirement("ST-08")
@pytest.mark.parametrize("options", [*SAMPLED, "greedy"])
def test_an_own_stream_uses_the_given_options(vectors, judge, own, judge_stream, options):
    if options != "greedy":
        own.require_uniforms()
    course = own.course(vectors, options, DISTINCT)
    if options in ("penalty", "filtered") and len(course.ids) > FEW:
        for name, other in ignored(course.options).items():
            judge.equal(f"ids show an ignored {name}", course.shows(other) > 0, True)
    for utterance in (*own.ends(vectors, options)[:1], *own.cuts(vectors, options)[:1]):
        judge_stream(utterance, 8)


@pytest.mark.requirement("ST-08")
@pytest.mark.parametrize("finish", ["stop", "length"])
@pytest.mark.parametrize("chunk_size", CHUNKS)
def test_an_own_stream_equals_the_decoded_utterance_for_any_chunk_size(
    request, vectors, own, judge_stream, chunk_size, finish
):
    options = own.usual
    utterances = own.ends(vectors, options) if finish == "stop" else own.cuts(vectors, options)
    if options == "greedy" and finish == "stop":
        utterances += own.greedy_ends(vectors)
    if share(request, CHUNKS):
        counts = (n * chunk_size + i for n in (1, 2, 5) for i in (-1, 0, 1))
        found = (own.of_length(vectors, n) for n in counts if DISTINCT < n < COUNTS[-1])
        utterances += [u for u in found if u and u.finish == finish]
    if not utterances:
        raise NotDeclared("with these options no utterance of this model ends by [STOP]")
    for utterance in utterances:
        judge_stream(utterance, chunk_size)


@pytest.mark.requirement("ST-08")
def test_an_own_stream_equals_the_decoded_utterance_for_any_number_of_tokens(
    request, vectors, own, judge_stream
):
    counts = share(request, COUNTS) or [DISTINCT]
    for index, count in enumerate(counts):
        if utterance := own.of_length(vectors, count):
            judge_stream(utterance, CHUNKS[index % len(CHUNKS)])


@pytest.mark.requirement("ST-08")
def test_an_own_stream_equals_the_longest_decoded_utterances(judge_stream, longest):
    for utterance in longest:
        judge_stream(utterance, CHUNK)


@pytest.mark.requirement("ST-08")
def test_an_own_stream_equals_decoded_utterances_that_repeat_themselves(judge_stream, repetitive):
    for utterance, chunk_size in zip(repetitive, CHUNKS, strict=False):
        judge_stream(utterance, chunk_size)


@pytest.mark.requirement("BA-06")
@pytest.mark.parametrize("size", [1, 2, 3, 8, BATCH])
def test_an_own_batch_gives_each_prompt_what_it_has_unbatched(
    request, stages, vectors, judge, own, synthesize_batch, size
):
    if size == BATCH and not share(request, LONGEST_CASES):
        raise NotDeclared("other models of the run take the largest batch")
    utterances = own.batch(vectors, size, LIMIT)
    prompts, uniforms = ([list(getattr(u, part)) for u in utterances] for part in PASSED)
    answers = synthesize_batch(prompts, utterances[0].options, uniforms, LIMIT)
    judge.equal("answers", len(answers), len(utterances))
    for row, (answer, utterance) in enumerate(zip(answers, utterances, strict=True)):
        name = f"row {row} of {size}, {utterance}"
        judge_answer(judge, own, stages, vectors, utterance, SynthesisResult(*answer), name)


@pytest.mark.requirement("BA-06")
def test_an_own_batch_gives_ids_that_repeat_themselves(
    stages, vectors, judge, own, synthesize_batch, repetitive
):
    whole = [u for u in repetitive if u.limit == REPEATED and u.options == repetitive[0].options]
    prompts, uniforms = ([list(getattr(u, part)) for u in whole] for part in PASSED)
    options = repetitive[0].options
    answers = synthesize_batch(prompts, options, uniforms, REPEATED)
    judge.equal("answers", len(answers), len(whole))
    for row, (answer, utterance) in enumerate(zip(answers, whole, strict=True)):
        name = f"row {row} of {len(whole)}, {utterance}"
        judge_answer(judge, own, stages, vectors, utterance, SynthesisResult(*answer), name)
