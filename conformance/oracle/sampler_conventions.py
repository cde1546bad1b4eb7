"""Known wrong samplers, and which of them explain a sampler's answers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from conformance.oracle.combinations import smallest_explanations
from conformance.oracle.parametric_stages import Sampler, draw, first_above, rank
from conformance.oracle.sampler import Float64, Ints, penalize, softmax_weights, top_k, top_p
from soprano.config import SamplingOptions

STOP = 3  # the id of [STOP]
_NEAR = 1e-5  # the largest error of cumulative probabilities in float32
Options = SamplingOptions


def _with(**changes: Callable[[Options], Any]) -> Callable[[Options], Options]:
    """Options of which some are replaced by functions of the options."""
    return lambda o: replace(o, **{name: change(o) for name, change in changes.items()})


def penalize_each(scores: Float64, history: Ints, options: Options) -> Float64:
    for i in history:
        scores = penalize(scores, np.array([i]), options.repetition_penalty)
    return scores


def penalize_twice(scores: Float64, history: Ints, options: Options) -> Float64:
    return penalize(scores, history, options.repetition_penalty**2)


def penalize_inversely(scores: Float64, history: Ints, options: Options) -> Float64:
    return penalize(scores, history, 1 / options.repetition_penalty)


def divide_only(scores: Float64, history: Ints, options: Options) -> Float64:
    scores = scores.copy()
    scores[np.unique(history)] /= options.repetition_penalty
    return scores


def subtract(scores: Float64, history: Ints, options: Options) -> Float64:
    scores = scores.copy()
    scores[np.unique(history)] -= options.repetition_penalty
    return scores


def penalize_probabilities(scores: Float64, history: Ints, options: Options) -> Float64:
    """A probability that is divided is a logit that the logarithm is subtracted from."""
    scores = scores.copy()
    logarithm = np.log(options.repetition_penalty) * (options.temperature or 1.0)
    scores[np.unique(history)] -= logarithm
    return scores


def penalize_log_probabilities(scores: Float64, history: Ints, options: Options) -> Float64:
    logarithm = np.log(softmax_weights(scores, 1.0).sum()) + scores.max()
    return penalize(scores - logarithm, history, options.repetition_penalty)


def penalize_some(choose: Callable[[Ints], Ints]) -> Callable[[Float64, Ints, Options], Float64]:
    """The penalty for a part of the history."""
    return lambda scores, history, o: penalize(scores, choose(history), o.repetition_penalty)


def keep_ties(ranked: Ints, scores: Float64, options: Options) -> Ints:
    if 0 < options.top_k < len(ranked):
        least = scores[ranked[options.top_k - 1]]
        options = replace(options, top_k=int((scores[ranked] >= least).sum()))
    return top_k(ranked, scores, options)


def keep_more(more: int) -> Callable[[Ints, Float64, Options], Ints]:
    """A top-k that keeps more ids than asked for, or fewer."""

    def keep(ranked: Ints, scores: Float64, options: Options) -> Ints:
        return ranked[: max(options.top_k + more, 1)] if options.top_k else ranked

    return keep


def nucleus(
    count: Callable[[Float64, float], int],
) -> Callable[[Ints, Float64, Options], Ints]:
    """A top-p that keeps `count(cumulative mass of ranked ids, p)` ids, but at least one."""

    def keep(ranked: Ints, scores: Float64, options: Options) -> Ints:
        if options.top_p == 1:
            return ranked
        mass = np.cumsum(softmax_weights(scores, options.temperature)[ranked])
        return ranked[: max(count(mass, options.top_p), 1)]

    return keep


def at_temperature_1(ranked: Ints, scores: Float64, options: Options) -> Ints:
    return top_p(ranked, scores, replace(options, temperature=1.0))


def rank_256(scores: Float64, options: Options) -> Ints:
    ranked = rank(scores, options)
    return ranked[:256] if options.top_k or options.top_p < 1 else ranked


def keep_last_first(ranked: Ints, scores: Float64, options: Options) -> Ints:
    last_first = len(scores) - 1 - np.argsort(-scores[::-1], kind="stable")
    return top_k(last_first, scores, options) if options.top_k else ranked


def divide_by_zero(scores: Float64, logits: Float64) -> NoReturn:
    raise ZeroDivisionError("division by zero")


def draw_unnormalised(ranked: Ints, weights: Float64, uniforms: Float64) -> Ints:
    return first_above(np.sort(ranked), weights, uniforms, total=float(weights.sum()))


def draw_descending(ranked: Ints, weights: Float64, uniforms: Float64) -> Ints:
    return first_above(np.sort(ranked)[::-1], weights, uniforms)


SAMPLERS: dict[str, Sampler] = {
    "top-k 50 where none was asked for": Sampler(_with(top_k=lambda o: o.top_k or 50)),
    "no top-k": Sampler(_with(top_k=lambda o: 0)),
    "no top-p": Sampler(_with(top_p=lambda o: 1.0)),
    "top-p only together with top-k": Sampler(_with(top_p=lambda o: o.top_p if o.top_k else 1.0)),
    "no temperature": Sampler(_with(temperature=lambda o: float(o.temperature > 0))),
    "temperature applied twice": Sampler(_with(temperature=lambda o: o.temperature**2)),
    "temperature multiplies": Sampler(
        _with(temperature=lambda o: 1 / o.temperature if o.temperature else 0.0)
    ),
    "temperature 0 is 0.001": Sampler(_with(temperature=lambda o: o.temperature or 0.001)),
    "temperature 0 samples at temperature 1": Sampler(
        _with(temperature=lambda o: o.temperature or 1.0)
    ),
    "temperature 0 ignores the penalty": Sampler(
        greedy=lambda scores, logits: int(np.argmax(logits))
    ),
    "temperature 0 takes the last of equal logits": Sampler(
        greedy=lambda scores, logits: int(np.flatnonzero(scores == scores.max())[-1])
    ),
    "temperature 0 divides by zero, which raises an exception": Sampler(greedy=divide_by_zero),
    "temperature 0 divides by zero, which gives the first id": Sampler(greedy=lambda *scores: 0),
    "temperature 0 divides by zero, which gives the last id": Sampler(
        greedy=lambda scores, logits: len(scores) - 1
    ),
    "no penalty": Sampler(penalize=lambda scores, history, options: scores),
    "a penalty for every occurrence": Sampler(penalize=penalize_each),
    "a penalty applied twice": Sampler(penalize=penalize_twice),
    "the penalty always divides": Sampler(penalize=divide_only),
    "the penalty is inverted": Sampler(penalize=penalize_inversely),
    "the penalty is subtracted": Sampler(penalize=subtract),
    "a penalty on probabilities": Sampler(penalize=penalize_probabilities),
    "a penalty on log-probabilities": Sampler(penalize=penalize_log_probabilities),
    "a penalty for the last 64 ids only": Sampler(penalize=penalize_some(lambda ids: ids[-64:])),
    "no penalty for the last id": Sampler(penalize=penalize_some(lambda ids: ids[:-1])),
    "no penalty for the first id": Sampler(penalize=penalize_some(lambda ids: ids[1:])),
    "no penalty for [STOP]": Sampler(penalize=penalize_some(lambda ids: ids[ids != STOP])),
    "top-k keeps all ids that tie with the last": Sampler(top_k=keep_ties),
    "top-k keeps one id too many": Sampler(top_k=keep_more(1)),
    "top-k keeps one id too few": Sampler(top_k=keep_more(-1)),
    "the id that crosses p is dropped": Sampler(
        top_p=nucleus(lambda mass, p: int((mass <= p * mass[-1]).sum()))
    ),
    "the id after the one that crosses p is kept": Sampler(
        top_p=nucleus(lambda mass, p: int(np.searchsorted(mass, p * mass[-1])) + 2)
    ),
    "top-p over weights that do not sum to 1": Sampler(
        top_p=nucleus(lambda mass, p: int(np.searchsorted(mass, p)) + 1)
    ),
    "top-p before temperature": Sampler(top_p=at_temperature_1),
    "top-p before top-k": Sampler(top_p_first=True),
    "only the 256 best ids are ranked": Sampler(rank=rank_256),
    "of equal logits top-k keeps the highest ids": Sampler(top_k=keep_last_first),
    "drawn in the order of rank": Sampler(draw=first_above),
    "drawn over descending ids": Sampler(draw=draw_descending),
    "not renormalised after top-k and top-p": Sampler(draw=draw_unnormalised),
}

# In float32 it is correct for a port, not for this package.
SINGLE_PRECISION = Sampler(draw=partial(draw, dtype=np.float32))

# A bias on [STOP]'s logit is bracketed by these sizes, in either direction.
_BIASES = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, np.inf)


def _biased(bias: float) -> Sampler:
    def biased(logits: Float64) -> Float64:
        return np.where(np.arange(len(logits)) == STOP, logits + bias, logits)

    return Sampler(logits=biased)


def _stop_biases() -> dict[str, Sampler]:
    """A convention for each bracket of a bias on [STOP]'s logit."""
    found = {}
    for low, high in pairwise(_BIASES):
        size = f"by {low:g} to {high:g}" if high < np.inf else f"by more than {low:g}"
        middle = min((low * high) ** 0.5, 2 * low)
        found[f"[STOP]'s logit is raised {size}"] = _biased(middle)
        found[f"[STOP]'s logit is lowered {size}"] = _biased(-middle)
    return found


STOP_BIASES = _stop_biases()


class Question(NamedTuple):
    logits: npt.NDArray[np.float32]  # (V,)
    history: list[int]
    options: SamplingOptions
    uniform: float


_GREEDY, _PLAIN = Options(0.0, 1.0, 0, 1.5), Options(1.0, 1.0, 0, 1.0)
_OPTIONS = (
    _GREEDY,
    Options(1.5, 1.0, 0, 1.0),
    Options(0.6, 0.9, 0, 1.3),
    Options(1.4, 0.9, 20, 1.3),
    Options(1.4, 0.9, 0, 1.0),
    Options(3.0, 0.7, 280, 2.0),
)


def sampler_questions(size: int, *, sampled: bool = True) -> list[Question]:
    """Questions of which every convention answers some differently; `size` is V, at least 91.

    (Temperature before the penalty is not a convention of its own: the two commute.)
    [STOP] is improbable, except in the questions about it.
    """
    questions = [*_random_questions(size), *_tie_questions(size), *_stop_questions(size)]
    return [q for q in questions if sampled or q.options.temperature == 0]


def _random_questions(size: int) -> list[Question]:
    rng = np.random.default_rng(13)
    questions = []
    for turn in range(144):
        logits = rng.normal(0, 1, size).astype(np.float32)
        if turn % 12 == 0:  # the second of two ids is higher by a hair
            logits[[5, 90]] = 9.0, 9.0005
        logits[STOP] = -1000
        history = rng.integers(0, size, 100).tolist()
        if turn % 4 == 1:  # one id whose place in the history matters
            place = turn // 4 % 3
            likely = int(logits.argmax())
            others = [i for i in history if i != likely]
            history = [others, [*others, likely], [likely, *others]][place]
        options = _OPTIONS[turn % len(_OPTIONS)]
        questions.append(Question(logits, history, options, float(rng.random())))
    return questions


def _tie_questions(size: int) -> list[Question]:
    tied = np.full(size, -1000, np.float32)
    tied[10:80:2] = 1.0  # 35 ids
    tied[11:31:4] = 2.0  # 5 ids
    some = replace(_PLAIN, top_k=20)
    return [
        Question(tied, [], _GREEDY, 0.5),
        *(Question(tied, [], some, u) for u in (0.03, 0.5, 0.97)),
    ]


def _stop_questions(size: int) -> list[Question]:
    """Greedy questions that a bias of [STOP] decides, and one about its penalty."""
    questions = []
    for gap in (-0.05, -0.5, *(-b for b in _BIASES[1:-1] if b != 0.5), *_BIASES[:-1]):
        logits = np.full(size, -1000, np.float32)
        logits[[STOP, 20]] = 30.0 - gap, 30.0
        questions.append(Question(logits, [], _GREEDY, 0.5))
    penalised = np.full(size, -1000, np.float32)
    penalised[[STOP, 20]] = 9.0, 8.0  # 6 after the penalty, or 8 after one of 3 * 1.5 more
    return [*questions, Question(penalised, [STOP, 7], _GREEDY, 0.5)]


def samplers_followed(
    sample: Callable[..., int], size: int = 378, *, sampled: bool = True
) -> list[str]:
    """The smallest combinations of conventions that give every answer of a sampler.

    Args:
        sample: the sampler.
        size: V, the number of logits.
        sampled: whether it is asked at temperatures above 0.
    """
    questions = [_Asked(q, sample) for q in sampler_questions(size, sampled=sampled)]
    right = Sampler()
    # Those that a convention must explain come first, and greedy ones before sampled ones, whose
    # answers depend on more steps: most combinations fail at once.
    questions.sort(key=lambda q: (q.given_by(right), q.question.options.temperature > 0))

    def explains(stage: Sampler) -> str | None:
        return "" if all(q.given_by(stage) for q in questions) else None

    about_stop = [q for q in questions if q.question.logits[STOP] > 0 and not q.question.history]
    biased = {
        name: stage
        for name, stage in STOP_BIASES.items()
        if all(q.given_by(stage) for q in about_stop)
    }
    return smallest_explanations(SAMPLERS | biased, right, explains)


class _Asked:
    """A question with a sampler's answer: an id, or None for an exception."""

    def __init__(self, question: Question, sample: Callable[..., int]) -> None:
        self.question = question
        self.answer: int | None = None
        self.memo: dict[Any, Any] = {}
        self.logits = question.logits.astype(np.float64)
        self.history = np.array(question.history, np.int64)
        # Near an edge, probabilities in float32 give the neighbouring id.
        near = question.uniform + np.array([0.0, -_NEAR, _NEAR])
        self.uniforms = np.clip(near, 0, np.nextafter(1, 0))
        # A sampler may raise anything.
        with suppress(Exception):
            logits, history = question.logits.copy(), list(question.history)
            self.answer = int(sample(logits, history, question.options, question.uniform))

    def given_by(self, stage: Sampler) -> bool:
        """Whether a convention gives the answer."""
        arguments = self.logits, self.history, self.question.options, self.uniforms
        try:
            return self.answer in stage.ids(*arguments, self.memo)
        except ZeroDivisionError:
            return self.answer is None
