"""Faults of the random numbers: which uniform a token takes, and which id it gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np

from conformance.faults.fault import SAMPLER, SYNTHESIS, fault
from conformance.faults.plant import as_stage, with_stages, with_voice
from conformance.faults.planted.sampler import with_convention
from conformance.subject import Subject
from soprano.generate import Prompt, Token, generate
from soprano.sampling import uniforms
from soprano.stages import Stages


@fault(SAMPLER, "SA-16", public=True)
def retry_repeats_itself(subject: Subject) -> Subject:
    """A second attempt has the seed of the first and generates the same ids."""
    return with_stages(subject, uniforms=lambda seed, sentence, attempt=0: uniforms(seed, sentence))


@fault(SAMPLER, "SA-16", as_stage("uniforms"), hard=True, public=True)
def reseeded_before_every_draw(seed: int, sentence: int, attempt: int = 0) -> Iterator[float]:
    """The generator is seeded again before each draw, so that all tokens get the same uniform."""
    while True:
        yield next(uniforms(seed, sentence, attempt))


@fault(SAMPLER, "SA-16 SA-17", as_stage("uniforms"), public=True)
def seed_ignored(seed: int, sentence: int, attempt: int = 0) -> Iterator[float]:
    """Draws come from the library's global generator, and the seed has no effect."""
    while True:
        yield float(np.random.random())


@fault(SAMPLER, "GE-08", as_stage("generate"), hard=True, blame=("SA", "GE"), public=True)
def draws_depend_on_the_batch(
    stages: Stages, prompts: Any, *, batch_size: int = 1
) -> Iterator[Token]:
    """In a batch of B, each utterance takes B uniforms a token and uses the last."""

    def strided(prompt: Prompt) -> Prompt:
        kept = islice(prompt.uniforms, batch_size - 1, None, batch_size)
        return replace(prompt, uniforms=kept)

    return generate(stages, map(strided, prompts), batch_size=batch_size)


@fault(SAMPLER, "SA-01 SA-22", public=True)
def drawn_in_the_order_of_rank(subject: Subject) -> Subject:
    """The cumulative sum runs over ids by falling probability instead of ascending id."""
    return with_convention(subject, "drawn in the order of rank")


@fault(SYNTHESIS, "SY-10", hard=True, blame=("SY",))
def every_sentence_draws_alike(subject: Subject) -> Subject:
    """The stream depends on the seed alone: all sentences of a text get the same uniforms."""

    def first(seed: int, sentence: int, attempt: int = 0) -> Iterator[float]:
        return uniforms(seed, 0, attempt)

    return with_voice(subject, lambda stages: replace(stages, uniforms=first))


@fault(SAMPLER, "SA-16", as_stage("uniforms"), hard=True)
def draws_of_single_precision(seed: int, sentence: int, attempt: int = 0) -> Iterator[float]:
    """The generator gives 24 random bits instead of 53."""
    return (np.floor(u * 2**24) / 2**24 for u in uniforms(seed, sentence, attempt))
