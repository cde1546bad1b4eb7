"""Faults of the sampler: logits, history and a uniform in, an id out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np

from conformance.faults.fault import SAMPLER, SYNTHESIS, fault
from conformance.faults.plant import as_stage, set_defaults, with_advance, with_stages
from conformance.oracle.combinations import combine
from conformance.oracle.parametric_stages import Sampler
from conformance.oracle.sampler import Float64, Ints, softmax_weights
from conformance.oracle.sampler_conventions import SAMPLERS, STOP_BIASES
from conformance.subject import Subject
from soprano.config import GenerationOptions, SamplingOptions
from soprano.generate import Generation, Token, advance
from soprano.sampling import penalize, sample
from soprano.stages import Stages
from soprano.synthesis import SopranoTTS


def with_convention(subject: Subject, name: str) -> Subject:
    return with_stages(subject, sample=SAMPLERS[name])


@fault(SAMPLER, "SA-08 SA-22", hard=True, public=True)
def greedy_as_a_small_temperature(subject: Subject) -> Subject:
    """Temperature 0 becomes 0.001 and is sampled, so that near ties are random."""
    return with_convention(subject, "temperature 0 is 0.001")


@fault(SAMPLER, "SA-03 SA-22", hard=True, public=True)
def hidden_top_k(subject: Subject) -> Subject:
    """A library's default top-k of 50 is active although top-k was switched off."""
    return with_convention(subject, "top-k 50 where none was asked for")


@fault(SAMPLER, "SA-04 SA-22", public=True)
def top_p_needs_top_k(subject: Subject) -> Subject:
    """Without top-k, a fast path skips top-p too."""
    return with_convention(subject, "top-p only together with top-k")


@fault(SAMPLER, "SA-04 SA-22", hard=True, public=True)
def crossing_id_dropped(subject: Subject) -> Subject:
    """The id at which the cumulative probability reaches p is removed."""
    return with_convention(subject, "the id that crosses p is dropped")


@fault(SAMPLER, "SA-04 SA-22", public=True)
def nucleus_of_unnormalised_weights(subject: Subject) -> Subject:
    """Top-p accumulates exponentials that were not divided by their sum."""
    return with_convention(subject, "top-p over weights that do not sum to 1")


@fault(SAMPLER, "SA-27", public=True)
def tiny_top_p_masks_everything(subject: Subject) -> Subject:
    """1 - p is rounded to 1 in single precision, and every id is removed."""

    def masked(ranked: Ints, scores: Float64, options: SamplingOptions) -> Ints:
        mass = np.cumsum(softmax_weights(scores, options.temperature)[ranked])
        above = np.append(mass[-1], mass[-1] - mass[:-1]) / mass[-1]
        return ranked[above.astype(np.float32) > np.float32(1 - options.top_p)]

    return with_stages(subject, sample=Sampler(top_p=masked))


@fault(SAMPLER, "SA-06 SA-22", hard=True, public=True)
def penalty_per_occurrence(subject: Subject) -> Subject:
    """An id that occurs twice in the history is penalised twice."""
    return with_convention(subject, "a penalty for every occurrence")


@fault(SAMPLER, "GE-07", with_advance, hard=True, blame=("SA", "GE"), public=True)
def penalty_leaves_the_prompt_out(
    stages: Stages, generation: Generation, logits: Any, hidden: Any
) -> Token:
    """The history starts empty: ids of the prompt are not penalised."""

    def without_prompt(logits: Any, history: Any, options: Any, uniform: Any) -> int:
        return stages.sample(logits, list(generation.ids), options, uniform)

    return advance(replace(stages, sample=without_prompt), generation, logits, hidden)


@fault(SAMPLER, "SA-06 SA-22", public=True)
def penalty_absent(subject: Subject) -> Subject:
    """The repetition penalty is accepted and not applied."""
    return with_convention(subject, "no penalty")


@fault(SAMPLER, "SA-06 SA-22", public=True)
def penalty_always_divides(subject: Subject) -> Subject:
    """Negative logits are divided too, which makes a repetition likelier."""
    return with_convention(subject, "the penalty always divides")


@fault(SAMPLER, "SA-20", public=True)
def drifted_defaults(subject: Subject) -> Subject:
    """The defaults are those of an older version: temperature 0.3 and a penalty of 1.5."""
    set_defaults(SamplingOptions, temperature=0.3, repetition_penalty=1.5)
    return subject


@fault(SAMPLER, "SA-02 SA-22")
def top_p_before_temperature(subject: Subject) -> Subject:
    """Top-p is computed at temperature 1, before the temperature is applied."""
    return with_convention(subject, "top-p before temperature")


@fault(SAMPLER, "SA-08 SA-22", hard=True)
def ties_to_the_highest_id(subject: Subject) -> Subject:
    """Of equal logits, greedy sampling takes the last one."""
    return with_convention(subject, "temperature 0 takes the last of equal logits")


@fault(SAMPLER, "SA-23 SA-22", hard=True)
def ties_at_top_k_kept(subject: Subject) -> Subject:
    """Top-k keeps every id with the score of the k-th, which can be more than k ids."""
    return with_convention(subject, "top-k keeps all ids that tie with the last")


@fault(SYNTHESIS, "SY-11", blame=("SY",))
def models_own_defaults_unread(subject: Subject) -> Subject:
    """The model folder's generation_config.json is not read: the family's defaults apply."""

    def voice(*arguments: Any) -> SopranoTTS:
        opened = subject.voice(*arguments)
        opened.defaults = GenerationOptions()
        return opened

    return replace(subject, voice=voice)


@fault(SAMPLER, "SA-08 SA-22", hard=True)
def greedy_without_the_penalty(subject: Subject) -> Subject:
    """Temperature 0 takes a fast path: the argmax of the logits before the penalty."""
    return with_convention(subject, "temperature 0 ignores the penalty")


@fault(SAMPLER, "SA-06 SA-22", hard=True, blame=("SA", "GE"))
def penalty_forgets_after_64_ids(subject: Subject) -> Subject:
    """Only the last 64 ids are penalised, the default of other engines."""
    return with_convention(subject, "a penalty for the last 64 ids only")


@fault(SAMPLER, "SA-09 SA-10", as_stage("sample"), hard=True)
def exponentials_overflow(logits: Any, history: Any, options: SamplingOptions, uniform: Any) -> int:
    """The softmax does not subtract the largest logit, and large logits overflow."""
    chosen = sample(logits, history, options, uniform)
    largest = np.max(logits)
    if not options.temperature or largest / options.temperature < 88:
        return chosen
    return int(uniform * len(logits))  # every probability is NaN, replaced by one number


@fault(SAMPLER, "SA-22", hard=True)
def stop_is_never_penalised(subject: Subject) -> Subject:
    """[STOP] is exempt from the penalty, although the prompt begins with it."""
    return with_convention(subject, "no penalty for [STOP]")


@fault(SAMPLER, "SA-02 SA-22", hard=True)
def top_p_before_top_k(subject: Subject) -> Subject:
    """Top-p is applied before top-k."""
    return with_convention(subject, "top-p before top-k")


@fault(SAMPLER, "SA-15", as_stage("sample"), hard=True)
def logits_changed_in_place(logits: Any, history: Sequence[int], options: Any, uniform: Any) -> int:
    """The penalty is applied in place, to the caller's logits."""
    chosen = sample(logits, history, options, uniform)
    if isinstance(logits, np.ndarray) and logits.flags.writeable:
        logits[...] = penalize(logits, history, options.repetition_penalty)
    return chosen


@fault(SAMPLER, "SA-04 SA-22", hard=True)
def only_the_best_few_are_ranked(subject: Subject) -> Subject:
    """Only the 256 likeliest ids are ranked, to avoid sorting 8192 scores for each token."""
    return with_convention(subject, "only the 256 best ids are ranked")


@fault(SAMPLER, "SA-06 SA-22", hard=True, public=True)
def penalty_applied_twice(subject: Subject) -> Subject:
    """A library penalises repetitions, and the port penalises them again."""
    return with_convention(subject, "a penalty applied twice")


@fault(SAMPLER, "SA-02 SA-22")
def penalty_on_probabilities(subject: Subject) -> Subject:
    """The probabilities of the history's ids are divided, not their logits."""
    return with_convention(subject, "a penalty on probabilities")


@fault(SAMPLER, "SA-08 SA-22", public=True)
def greedy_samples(subject: Subject) -> Subject:
    """Temperature 0 means that no temperature is applied: ids are sampled at temperature 1."""
    return with_convention(subject, "temperature 0 samples at temperature 1")


@fault(SAMPLER, "SA-08 SA-04 SA-01 SA-22", public=True)
def greedy_samples_without_top_p_by_rank(subject: Subject) -> Subject:
    """Three faults of one port: greedy ids are sampled, top-p needs top-k, draws are by rank."""
    names = (
        "temperature 0 samples at temperature 1",
        "top-p only together with top-k",
        "drawn in the order of rank",
    )
    return with_stages(subject, sample=reduce(combine, map(SAMPLERS.__getitem__, names)))


@fault(SAMPLER, "SA-08 SA-22", public=True)
def greedy_divides_by_zero(subject: Subject) -> Subject:
    """Temperature 0 divides the logits by zero: all probabilities are NaN."""
    return with_convention(subject, "temperature 0 divides by zero, which gives the first id")


@fault(SAMPLER, "SA-01 SA-22", public=True)
def stop_is_preferred(subject: Subject) -> Subject:
    """A bias is added to the logit of [STOP]."""
    return with_stages(subject, sample=STOP_BIASES["[STOP]'s logit is raised by 1 to 2"])


@fault(SAMPLER, "SA-09 SA-22")
def temperature_ignored(subject: Subject) -> Subject:
    """The temperature is accepted and not applied."""
    return with_convention(subject, "no temperature")


@fault(SAMPLER, "SA-03", as_stage("sample"))
def top_k_above_the_vocabulary(
    logits: Any, history: Any, options: SamplingOptions, uniform: Any
) -> int:
    """A library's top-k rejects a k that is larger than the vocabulary."""
    if options.top_k > len(logits):
        raise RuntimeError("selected index k out of range")
    return sample(logits, history, options, uniform)


@fault(SAMPLER, "SA-05", as_stage("sample"), hard=True)
def top_p_never_off(logits: Any, history: Any, options: SamplingOptions, uniform: Any) -> int:
    """Top-p is limited to 0.99, so that rare ids are removed although it was switched off."""
    return sample(logits, history, replace(options, top_p=min(options.top_p, 0.99)), uniform)


@fault(SAMPLER, "SA-18 SA-19", as_stage("sample"), hard=True)
def small_uniforms_preferred(logits: Any, history: Any, options: Any, uniform: Any) -> int:
    """The uniform is squared on its way to the sampler."""
    return sample(logits, history, options, None if uniform is None else uniform**2)
