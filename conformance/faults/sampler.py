"""Faults of the sampler: logits, history and a draw in, an id out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from conformance.faults.fault import SAMPLER, SYNTHESIS, fault
from conformance.faults.plant import Plant
from soprano import generate, sampling
from soprano.config import GenerationOptions, SamplingOptions
from soprano.sampling import Float64

Weigh = Callable[[Float64, SamplingOptions], Float64]


def filtered(plant: Plant, keep: Callable[[Float64, Float64, SamplingOptions], Any]) -> None:
    """Another top-p: `keep(mass, weights, options)` says which of the ranked ids stay."""

    def distribution(scores: Float64, options: SamplingOptions) -> Float64:
        weights = np.exp((scores - scores.max()) / options.temperature)
        ranked = np.argsort(-scores, kind="stable")
        if options.top_k:
            ranked = ranked[: options.top_k]
        if options.top_p < 1:
            ranked = ranked[keep(np.cumsum(weights[ranked]), weights[ranked], options)]
        probabilities = np.zeros_like(weights)
        with np.errstate(invalid="ignore"):
            probabilities[ranked] = weights[ranked] / weights[ranked].sum()
        return probabilities

    plant.set(sampling, "distribution", distribution)


def with_options(plant: Plant, change: Callable[[SamplingOptions], SamplingOptions]) -> None:
    inner = sampling.distribution
    plant.set(sampling, "distribution", lambda scores, options: inner(scores, change(options)))


def penalised(plant: Plant, penalize: Callable[[Float64, Any, float], Float64]) -> None:
    def faulty(logits: Any, history: Any, penalty: float) -> Float64:
        sampling_checks(logits, history, penalty)
        return penalize(np.array(logits, np.float64), np.asarray(history, np.int64), penalty)

    sampling_checks = sampling.penalize  # refuses what it refused before
    plant.set(sampling, "penalize", faulty)


@fault("SA-01", SAMPLER, hard=True)
def greedy_as_a_small_temperature(plant: Plant) -> None:
    """Temperature 0 becomes 0.001 and is sampled, so that near ties are random."""
    inner = sampling.sample

    def sample(logits: Any, history: Any, options: SamplingOptions, uniform: Any) -> int:
        if options.temperature == 0:
            options = replace(options, temperature=0.001)
            uniform = 0.5 if uniform is None else uniform
        return inner(logits, history, options, uniform)

    plant.replace(inner, sample)


@fault("SA-02", SAMPLER, hard=True)
def hidden_top_k(plant: Plant) -> None:
    """A library's own top-k of 50 stays on where none was asked for."""
    with_options(plant, lambda options: replace(options, top_k=options.top_k or 50))


@fault("SA-03", SAMPLER)
def top_p_needs_top_k(plant: Plant) -> None:
    """With top-k off, a fast path skips top-p too."""
    with_options(plant, lambda o: o if o.top_k else replace(o, top_p=1.0))


@fault("SA-04", SAMPLER, hard=True)
def crossing_id_dropped(plant: Plant) -> None:
    """The id at which the mass reaches p is cut off with the rest."""
    filtered(plant, lambda mass, _, o: slice(max(int((mass <= o.top_p * mass[-1]).sum()), 1)))


@fault("SA-06", SAMPLER)
def nucleus_of_unnormalised_weights(plant: Plant) -> None:
    """The mass is summed over exponentials that were never divided by their total."""
    filtered(plant, lambda mass, _, o: slice(int(np.searchsorted(mass, o.top_p)) + 1))


@fault("SA-08", SAMPLER)
def tiny_top_p_masks_everything(plant: Plant) -> None:
    """1 - p is rounded to 1 in single precision, and every id is removed."""

    def keep(mass: Float64, weights: Float64, options: SamplingOptions) -> Any:
        from_below = np.cumsum(weights[::-1])[::-1] / mass[-1]
        return from_below.astype(np.float32) > np.float32(1 - options.top_p)

    filtered(plant, keep)


@fault("SA-09", SAMPLER, hard=True)
def penalty_per_occurrence(plant: Plant) -> None:
    """An id that came twice is penalised twice."""

    def penalize(scores: Float64, history: Any, penalty: float) -> Float64:
        for i in history:
            scores[i] = scores[i] / penalty if scores[i] > 0 else scores[i] * penalty
        return scores

    penalised(plant, penalize)


@fault("SA-10", SAMPLER, hard=True, blame=("SA", "GE"))
def penalty_leaves_the_prompt_out(plant: Plant) -> None:
    """The history begins empty: ids of the prompt are not penalised."""

    def choose(row: Any, logits: Any) -> int:
        draw = next(row.prompt.uniforms) if row.prompt.sampling.temperature else None
        return sampling.sample(logits, row.generated, row.prompt.sampling, draw)

    plant.set(generate._Row, "choose", choose)


@fault("SA-12", SAMPLER)
def penalty_absent(plant: Plant) -> None:
    """The penalty is read and never applied."""
    penalised(plant, lambda scores, history, penalty: scores)


@fault("SA-13", SAMPLER)
def penalty_always_divides(plant: Plant) -> None:
    """Negative logits are divided too, which favours what should be punished."""

    def penalize(scores: Float64, history: Any, penalty: float) -> Float64:
        scores[np.unique(history)] /= penalty
        return scores

    penalised(plant, penalize)


@fault("SA-20", SAMPLER)
def drifted_defaults(plant: Plant) -> None:
    """Defaults of another time: temperature 0.3 and a penalty of 1.5."""
    plant.set(SamplingOptions.__init__, "__defaults__", (0.3, 0.95, 0, 1.5))


@fault("SA-50", SAMPLER)
def top_p_before_temperature(plant: Plant) -> None:
    """The nucleus is chosen at temperature 1 and drawn from at the one asked for."""
    inner = sampling.distribution

    def distribution(scores: Float64, options: SamplingOptions) -> Float64:
        cold = replace(options, temperature=1.0)
        kept = inner(scores, cold) > 0
        return inner(np.where(kept, scores, -np.inf), replace(options, top_p=1.0, top_k=0))

    plant.set(sampling, "distribution", distribution)


@fault("SA-51", SAMPLER, hard=True)
def ties_to_the_highest_id(plant: Plant) -> None:
    """Of equal logits, greedy choice takes the last one."""
    inner = sampling.sample

    def sample(logits: Any, history: Sequence[int], options: Any, uniform: Any) -> int:
        chosen = inner(logits, history, options, uniform)
        if options.temperature:
            return chosen
        scores = sampling.penalize(logits, history, options.repetition_penalty)
        return int(np.flatnonzero(scores == scores[chosen])[-1])

    plant.replace(inner, sample)


@fault("SA-52", SAMPLER, hard=True)
def ties_at_top_k_kept(plant: Plant) -> None:
    """Top-k keeps every id as good as the k-th, which can be more than k."""

    def distribution(scores: Float64, options: SamplingOptions) -> Float64:
        if options.top_k and options.top_k < scores.size:
            least = np.sort(scores)[-options.top_k]
            scores = np.where(scores >= least, scores, -np.inf)
        return inner(scores, replace(options, top_k=0))

    inner = sampling.distribution
    plant.set(sampling, "distribution", distribution)


@fault("SA-55", SYNTHESIS, blame=("SY",))
def models_own_defaults_unread(plant: Plant) -> None:
    """The model folder's generation_config.json is not read; the family's defaults rule."""
    from soprano.checkpoint.folder import ModelFolder

    plant.set(ModelFolder, "generation_defaults", GenerationOptions())


@fault("SA-57", SAMPLER, hard=True)
def greedy_without_the_penalty(plant: Plant) -> None:
    """Temperature 0 takes a fast path, the argmax of the raw logits."""
    inner = sampling.sample

    def sample(logits: Any, history: Any, options: SamplingOptions, uniform: Any) -> int:
        chosen = inner(logits, history, options, uniform)
        return chosen if options.temperature else int(np.argmax(logits))

    plant.replace(inner, sample)


@fault("SA-58", SAMPLER, hard=True, blame=("SA", "GE"))
def penalty_forgets_after_64_ids(plant: Plant) -> None:
    """Only the last 64 ids are penalised, as other engines do by default."""
    inner = sampling.penalize
    plant.set(sampling, "penalize", lambda logits, ids, by: inner(logits, list(ids)[-64:], by))


@fault("SA-59", SAMPLER, hard=True)
def exponentials_overflow(plant: Plant) -> None:
    """The softmax takes exponentials without subtracting the largest logit first."""
    inner = sampling.distribution

    def distribution(scores: Float64, options: SamplingOptions) -> Float64:
        if np.max(np.abs(scores[np.isfinite(scores)])) / options.temperature < 700:
            return inner(scores, options)
        with np.errstate(over="ignore", invalid="ignore"):
            weights = np.exp(scores / options.temperature)
            return np.nan_to_num(weights / weights.sum(), nan=1.0)

    plant.set(sampling, "distribution", distribution)


@fault("SA-61", SAMPLER, hard=True)
def stop_is_never_penalised(plant: Plant) -> None:
    """The end of the utterance is exempt from the penalty, though the prompt begins with it."""

    def penalize(scores: Float64, history: Any, penalty: float) -> Float64:
        kept = inner(scores, history, penalty)
        if len(scores) > 3:
            kept[3] = scores[3]
        return kept

    inner = sampling.penalize
    penalised(plant, penalize)


@fault("SA-62", SAMPLER, hard=True)
def top_p_before_top_k(plant: Plant) -> None:
    """The nucleus is taken of all ids, and top-k cuts what it left."""
    inner = sampling.distribution

    def distribution(scores: Float64, options: SamplingOptions) -> Float64:
        nucleus = inner(scores, replace(options, top_k=0))
        left = np.where(nucleus > 0, scores, -np.inf)
        return inner(left, replace(options, top_p=1.0))

    plant.set(sampling, "distribution", distribution)


@fault("SA-63", SAMPLER, hard=True)
def logits_changed_in_place(plant: Plant) -> None:
    """The penalty is applied to the caller's own logits."""
    inner = sampling.penalize

    def penalize(logits: Any, history: Any, penalty: float) -> Float64:
        scores = inner(logits, history, penalty)
        if isinstance(logits, np.ndarray) and logits.dtype == np.float64 and logits.flags.writeable:
            logits[...] = scores
        return scores

    plant.set(sampling, "penalize", penalize)
    checked = sampling._checked
    plant.set(sampling, "_checked", lambda logits: (checked(logits), logits)[0])


@fault("SA-64", SAMPLER, hard=True)
def only_the_best_few_are_ranked(plant: Plant) -> None:
    """A sort of 8192 scores a token is saved by ranking the 256 likeliest ids alone."""
    inner = sampling.distribution

    def distribution(scores: Float64, options: SamplingOptions) -> Float64:
        filtering = options.top_k or options.top_p < 1
        if filtering and len(scores) > 256:
            worst = np.argsort(-scores, kind="stable")[256:]
            scores = scores.copy()
            scores[worst] = -np.inf
        return inner(scores, options)

    plant.set(sampling, "distribution", distribution)
