"""Faults of the random numbers: which draw an id meets, and what it picks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np

from conformance.faults.fault import SAMPLER, SYNTHESIS, fault
from conformance.faults.plant import Plant
from soprano import generate, sampling
from soprano.sampling import Float64


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


@fault("SA-56", SYNTHESIS, hard=True, blame=("SY",))
def every_sentence_draws_alike(plant: Plant) -> None:
    """The stream is keyed by the seed alone: each sentence of a text meets the same draws."""
    from soprano import synthesis

    inner = synthesis.uniforms
    plant.set(synthesis, "uniforms", lambda seed, sentence, attempt=0: inner(seed, 0, attempt))


@fault("SA-60", SAMPLER, hard=True)
def draws_of_single_precision(plant: Plant) -> None:
    """The generator gives 24 random bits where the stream's doubles have 53."""
    inner = sampling.uniforms
    streams(
        plant,
        lambda seed, sentence, attempt: (
            float(np.float32(np.floor(u * 2**24) / 2**24)) for u in inner(seed, sentence, attempt)
        ),
    )
