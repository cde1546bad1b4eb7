"""Faults of the sampler at inputs that occur almost never: edges, extreme and invalid input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from conformance.faults.fault import SAMPLER, fault
from conformance.faults.network_hooks import patch
from conformance.faults.plant import as_if_contiguous, as_stage, with_stages
from conformance.oracle.parametric_stages import Sampler
from conformance.oracle.sampler import Float64, Ints
from conformance.oracle.sampler_conventions import SINGLE_PRECISION, nucleus
from conformance.subject import Subject
from soprano.config import SamplingOptions
from soprano.sampling import sample


def with_logits(change: Callable[[Any], Any]) -> Callable[..., int]:
    """The sampler with other logits."""
    return lambda logits, *arguments: sample(change(np.asarray(logits)), *arguments)


@fault(SAMPLER, "SA-07", as_stage("sample"), hard=True)
def history_wraps_around(logits: Any, history: Any, options: Any, uniform: Any) -> int:
    """An id outside the vocabulary is an index from its end, as in NumPy."""
    return sample(logits, [i % len(logits) for i in history], options, uniform)


@fault(SAMPLER, "SA-29", hard=True)
def logits_read_from_their_address(subject: Subject) -> Subject:
    """Logits are read one after another from the address of the first, whatever the stride."""
    return with_stages(subject, sample=with_logits(as_if_contiguous))


@fault(SAMPLER, "SA-11", hard=True)
def banned_ids_are_improbable(subject: Subject) -> Subject:
    """A logit of -inf is replaced by a number, because the runtime has no infinity."""
    return with_stages(subject, sample=with_logits(lambda x: np.maximum(x, np.float32(-30))))


@fault(SAMPLER, "SA-12", hard=True)
def invalid_logits_are_numbers(subject: Subject) -> Subject:
    """NaN and infinities are replaced by numbers."""
    return with_stages(subject, sample=with_logits(np.nan_to_num))


@fault(SAMPLER, "SA-13", hard=True)
def edge_belongs_to_the_id_below(subject: Subject) -> Subject:
    """A uniform that equals a cumulative probability draws the id below the edge."""

    def below(ranked: Ints, weights: Float64, uniforms: Float64) -> Ints:
        ids = np.sort(ranked)
        edges = np.cumsum(weights[ids]) / weights[ids].sum()
        return ids[np.searchsorted(edges, uniforms, side="left")]

    return with_stages(subject, sample=Sampler(draw=below))


@fault(SAMPLER, "SA-14", as_stage("sample"), hard=True)
def uniform_is_clipped(logits: Any, history: Any, options: Any, uniform: Any) -> int:
    """A uniform outside its range becomes the nearest one inside."""
    return sample(logits, history, options, min(max(uniform or 0.0, 0.0), 1 - 2**-53))


@fault(SAMPLER, "SA-25", hard=True)
def top_p_has_to_be_exceeded(subject: Subject) -> Subject:
    """Where a sum of probabilities equals p, one more id is kept."""
    count = nucleus(lambda mass, p: int((mass <= p * mass[-1]).sum()) + 1)
    return with_stages(subject, sample=Sampler(top_p=count))


@fault(SAMPLER, "SA-26", hard=True)
def drawn_in_single_precision(subject: Subject) -> Subject:
    """The cumulative sum is float32: at an edge, the neighbouring id is drawn."""
    return with_stages(subject, sample=SINGLE_PRECISION)


@fault(SAMPLER, "SA-28", as_stage("sample"))
def history_must_be_a_list(logits: Any, history: Any, options: Any, uniform: Any) -> int:
    """An array is tested for being empty by its truth value, which is ambiguous."""
    return sample(logits, history if history else [], options, uniform)


@fault(SAMPLER, "SA-21")
def options_are_not_validated(subject: Subject) -> Subject:
    """Options outside their ranges are accepted."""
    patch("__post_init__", lambda options: None, SamplingOptions)
    return subject
