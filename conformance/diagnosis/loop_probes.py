"""The probes of generation loops: a port's own `synthesize`, `stream` and batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from conformance.diagnosis.probes import Probed, probe
from conformance.golden.inputs import (
    FREE_RUNS,
)
from conformance.judging.judge import Judge
from conformance.judging.skips import NotDeclared
from conformance.laws import test_own_loops, test_own_stages, test_synthesis
from conformance.laws.support.alignment import defined_samples, tolerance
from conformance.laws.support.own_loops import (
    LIMITS,
    LONGEST_CASES,
    Limited,
    joined,
    stated_positions,
)
from conformance.oracle.utterance_conventions import (
    LOOPS,
    Request,
    loops_giving_ids,
    loops_giving_samples,
)
from soprano.backends import SynthesisResult


@probe("generation loop", "GE-17")
def stuck_utterances_are_found(probed: Probed, judge: Judge) -> None:
    law = test_own_stages.test_states_that_hardly_change_for_too_long_are_stuck
    law(judge, probed.own, probed.stages)


@probe("generation loop", "GE-16")
def loops_end_at_the_chosen_step(probed: Probed, judge: Judge) -> None:
    utterances = list(_utterances(probed))
    answers = [probed.loops.answer(utterance) for utterance in utterances]
    pairs = [
        (Limited(list(answer.ids), answer.finish), Limited(utterance.ids, utterance.finish))
        for answer, utterance in zip(answers, utterances, strict=True)
    ]
    rooms = [(stated_positions(probed.model) or 0) - len(u.prompt) for u in utterances]
    followed = [
        name
        for name, wrong in LIMITS.items()
        if any(actual != right for actual, right in pairs)
        and all(
            actual == wrong(right, room) for (actual, right), room in zip(pairs, rooms, strict=True)
        )
    ][-1:]  # the last one changes least
    with judge.together():
        for name in LIMITS:
            judge.not_following(name, followed)
        for (actual, right), utterance in zip(pairs, utterances, strict=True):
            judge.equal(f"finish reason, {utterance}", actual.finish, right.finish)
            judge.equal(f"ids, {utterance}", actual.ids, right.ids)


@probe("generation loop", "GE-16")
def loops_reach_the_limits_of_the_model(probed: Probed, judge: Judge) -> None:
    probed.loops.require("synthesize")
    longest = probed.loops.one_of_the_longest(probed.vectors, *LONGEST_CASES[0])
    judged = [longest] if longest else []
    positions = stated_positions(probed.model)
    test_own_loops.judge_limits(judge, probed.loops.answer, positions, judged)


@probe("generation loop", "SY-03")
def free_running_ids_are_those_of_the_oracle(probed: Probed, judge: Judge) -> None:
    for name in FREE_RUNS:
        if hasattr(probed.backend, "sample") or not hasattr(probed.backend, "prefill"):
            raise NotDeclared("its own sampler is judged by itself")
        law = test_synthesis.test_free_running_ids_equal_the_oracles_up_to_a_tie
        law(probed.stages, probed.vectors, judge, name)


def _utterances(probed: Probed, method: str = "synthesize") -> Iterator[Any]:
    """What a port's own loop is asked for, the shortest utterances first."""
    loops = probed.loops
    loops.require(method)
    found = []
    for options in ("all ids", "filtered") if probed.capabilities.uniforms else ("greedy",):
        found += [*loops.ends(probed.vectors, options), *loops.cuts(probed.vectors, options)]
    return iter(sorted(found, key=lambda utterance: len(utterance.ids)))


@probe("sampler", "SA-24")
def own_loops_follow_no_convention_of_sampling(probed: Probed, judge: Judge) -> None:
    loops = probed.loops
    loops.require("synthesize")
    loops.require_uniforms()
    stop = probed.backend.config.language_model.eos_token_id
    # The options that tell most conventions from each other come first.
    utterances = [
        utterance
        for options in ("filtered", "penalty", "narrow", "all ids")
        for found in (loops.ends, loops.cuts)
        for utterance in found(probed.vectors, options)[:1]
    ]
    for utterance in utterances:
        answer = probed.loops.answer(utterance)
        ids, expected = ([*u.ids, *[stop] * (u.finish == "stop")] for u in (answer, utterance))
        followed = []
        if ids != expected and ids[: len(expected)] != expected[: len(ids)]:
            request = Request(*utterance.arguments)
            followed = probed.loops.likeliest(loops_giving_ids(probed.backend, request, ids))
        for name in LOOPS:
            judge.not_following(name, followed)


def _samples_are_those_of_the_states(
    probed: Probed, judge: Judge, name: str, utterance: Any, samples: Any
) -> None:
    """Judge samples without a search for the convention that they follow."""
    expected = defined_samples(probed.stages, utterance.hidden[:-1])
    if len(expected):
        judge.waveform(name, samples, expected, probed.vectors.own_limit("samples"))
    else:
        judge.shape(name, samples, expected.shape)


@probe("synthesis", "SY-14")
def short_utterances_have_the_samples_of_their_states(probed: Probed, judge: Judge) -> None:
    for utterance in _utterances(probed):
        answer = probed.loops.answer(utterance)
        if list(answer.ids) == utterance.ids:
            name = f"samples, {utterance}"
            _samples_are_those_of_the_states(probed, judge, name, utterance, answer.samples)


@probe("synthesis", "SY-14")
def own_loops_decode_the_states_that_predict_their_ids(probed: Probed, judge: Judge) -> None:
    own = probed.loops
    for utterance in _longest(probed, "synthesize"):
        answer = own.answer(utterance)
        test_own_loops.judge_answer(
            judge, own, probed.stages, probed.vectors, utterance, answer, str(utterance)
        )


def _longest(probed: Probed, method: str) -> list[Any]:
    """The utterances that show every convention."""
    return list(_utterances(probed, method))[-2:]


@probe("synthesis", "SY-21")
def default_options_are_those_of_the_folder(probed: Probed, judge: Judge) -> None:
    options = probed.own("default_options")()
    from soprano.checkpoint.folder import ModelFolder

    stated = ModelFolder.open(probed.model).generation_defaults.sampling
    for field, value in vars(stated).items():
        judge.equal(field, str(getattr(options, field)), str(value))


@probe("stream", "ST-08")
def short_streams_equal_the_decoded_utterance(probed: Probed, judge: Judge) -> None:
    for utterance in _utterances(probed, "stream"):
        for chunk in (1, 8):
            samples = joined(list(probed.backend.stream(*utterance.arguments, chunk)))
            name = f"samples, {utterance}, chunks of {chunk}"
            _samples_are_those_of_the_states(probed, judge, name, utterance, samples)


@probe("stream", "ST-08")
def own_streams_equal_the_decoded_utterance(probed: Probed, judge: Judge) -> None:
    own, vectors = probed.loops, probed.vectors
    limit = vectors.own_limit("samples")
    for utterance in _longest(probed, "stream"):
        for chunk in (8, 31):
            samples = joined(list(own.backend.stream(*utterance.arguments, chunk)))
            request = Request(*utterance.arguments, chunk_size=chunk)
            own.judge_samples(
                judge, probed.stages, vectors, utterance, samples,
                name=f"samples, {utterance}, chunks of {chunk}", chunk_size=chunk,
                others=lambda r=request, s=samples: loops_giving_samples(  # type: ignore[misc]
                    probed.stages, r, s, tolerance(limit, s)
                ),
            )  # fmt: skip


@probe("stream", "ST-01")
def the_shared_stream_equals_offline(probed: Probed, judge: Judge) -> None:
    probed.own("stream", probed.stages.stream)
    if hasattr(probed.backend, "stream"):
        raise NotDeclared("its own stream is judged")
    from conformance.laws.test_streaming import test_stream_equals_offline

    voice = probed.subject.voice(probed.model, probed.stages)
    for chunk in (1, 8):
        test_stream_equals_offline(voice, probed.vectors, judge, chunk)


@probe("batches", "BA-06")
def own_batches_give_what_each_prompt_has_unbatched(probed: Probed, judge: Judge) -> None:
    own, limit = probed.loops, test_own_loops.LIMIT
    own.require("synthesize_batch")
    utterances = own.batch(probed.vectors, 3, limit)
    prompts, uniforms = (
        [list(getattr(u, part)) for u in utterances] for part in test_own_loops.PASSED
    )
    answers = own.backend.synthesize_batch(prompts, utterances[0].options, uniforms, limit)
    judge.equal("answers", len(answers), len(utterances))
    for row, (answer, utterance) in enumerate(zip(answers, utterances, strict=True)):
        test_own_loops.judge_answer(
            judge, own, probed.stages, probed.vectors, utterance,
            SynthesisResult(*answer), f"row {row} of 3, {utterance}",
        )  # fmt: skip
