"""Faults of the sampler: logits, history and a draw in, an id out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np

from conformance.meta.faults.fault import SAMPLER, SYNTHESIS, fault
from conformance.meta.faults.plant import Plant
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


def streams(plant: Plant, change: Callable[[int, int, int], Iterator[float]]) -> None:
    plant.replace(sampling.uniforms, lambda seed, sentence, attempt=0: change(
        seed, sentence, attempt
    ))  # fmt: skip


@fault("SA-15", SAMPLER)
def retry_repeats_itself(plant: Plant) -> None:
    """A second attempt is seeded like the first, and says the same again."""
    inner = sampling.uniforms
    streams(plant, lambda seed, sentence, attempt: inner(seed, sentence, 0))


@fault("SA-16", SAMPLER, hard=True)
def reseeded_before_every_draw(plant: Plant) -> None:
    """Each draw starts the stream anew, so that every token meets the same uniform."""
    inner = sampling.uniforms

    def change(seed: int, sentence: int, attempt: int) -> Iterator[float]:
        while True:
            yield next(inner(seed, sentence, attempt))

    streams(plant, change)


@fault("SA-17", SAMPLER)
def seed_ignored(plant: Plant) -> None:
    """Draws come from the library's global generator, whatever the seed."""

    def change(seed: int, sentence: int, attempt: int) -> Iterator[float]:
        while True:
            yield float(np.random.random())

    streams(plant, change)


@fault("SA-19", SAMPLER, hard=True, blame=("SA", "GE"))
def draws_depend_on_the_batch(plant: Plant) -> None:
    """A batch of B rows draws B numbers a token for each row and uses the last."""
    inner = generate.generate

    def faulty(backend: Any, prompts: Any, *, batch_size: int = 1) -> Any:
        strided = [
            replace(p, uniforms=islice(p.uniforms, batch_size - 1, None, batch_size))
            for p in prompts
        ]
        return inner(backend, strided, batch_size=batch_size)

    plant.replace(inner, faulty)


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


@fault("SA-53", SAMPLER, hard=True)
def drawn_in_single_precision(plant: Plant) -> None:
    """The cumulative sum and the uniform are float32: an id at an edge goes to its neighbour."""

    def draw(probabilities: Float64, uniform: float) -> int:
        cumulative = np.cumsum(probabilities.astype(np.float32), dtype=np.float32)
        chosen = int(np.searchsorted(cumulative, np.float32(uniform), side="right"))
        return min(chosen, int(np.flatnonzero(probabilities)[-1]))

    plant.set(sampling, "draw", draw)


@fault("SA-54", SAMPLER)
def drawn_in_the_order_of_rank(plant: Plant) -> None:
    """The draw walks from the likeliest id down instead of over ascending ids."""

    def draw(probabilities: Float64, uniform: float) -> int:
        ranked = np.argsort(-probabilities, kind="stable")
        place = int(np.searchsorted(np.cumsum(probabilities[ranked]), uniform, side="right"))
        return int(ranked[min(place, np.count_nonzero(probabilities) - 1)])

    plant.set(sampling, "draw", draw)


@fault("SA-55", SYNTHESIS, blame=("SY",))
def models_own_defaults_unread(plant: Plant) -> None:
    """The model folder's generation_config.json is not read; the family's defaults rule."""
    from soprano.model import ModelFolder

    plant.set(ModelFolder, "generation_defaults", GenerationOptions())


@fault("SA-56", SYNTHESIS, hard=True, blame=("SY",))
def every_sentence_draws_alike(plant: Plant) -> None:
    """The stream is keyed by the seed alone: each sentence of a text meets the same draws."""
    from soprano import synthesis

    inner = synthesis.uniforms
    plant.set(synthesis, "uniforms", lambda seed, sentence, attempt=0: inner(seed, 0, attempt))
