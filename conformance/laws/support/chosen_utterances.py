"""Utterances whose ids the suite chooses, by the uniforms that it gives to a port's own loop.

The port's own networks read the ids one by one. At each step the oracle's sampler gives the
uniforms that draw each id, whatever error the logits have within their limit. A chosen id gets the
middle of its uniforms, so that a correct port cannot draw another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from conformance.golden.observations import hidden_states, prefill_one
from conformance.judging import tolerances
from conformance.judging.vectors import Vectors
from conformance.oracle.sampler import decide, penalize, softmax_weights, widest_intervals
from soprano.backends import Backend, Float32
from soprano.config import SamplingOptions

Floats = npt.NDArray[np.float64]

CONTROL_IDS = 4  # [UNK], [TEXT], [START] and [STOP] are not chosen as tokens
CANDIDATES = 8  # ids with the widest intervals, among which a token is chosen
TEMPERATURES = (4.0, 8.0, 16.0, 32.0, 64.0, 100.0)


@dataclass(frozen=True)
class Utterance:
    """What a loop is asked for, and what it must give.

    `hidden` (T + 1, H) are the states that predict each of the T ids and the end.
    """

    prompt: list[int]
    options: SamplingOptions
    uniforms: list[float]
    limit: int  # of new tokens
    ids: list[int]  # without [STOP]
    finish: str
    hidden: Float32

    def __str__(self) -> str:
        count = len(self.ids)
        ids = f"{count} id{'s' * (count != 1)}"
        end = "then [STOP]" if self.finish == "stop" else "no [STOP]"
        return f"{ids}, {end}, at most {self.limit} new tokens"

    def with_ids(self, backend: Backend, ids: Sequence[int]) -> Utterance:
        """The utterance as if a loop that drew these ids were right."""
        if list(ids) == self.ids:
            return self
        return replace(self, ids=list(ids), hidden=hidden_states(backend, self.prompt, ids))

    def at_its_limit(self) -> Utterance:
        """The utterance if the limit of new tokens comes just before its end."""
        count = len(self.ids)
        return replace(self, limit=count, finish="length", uniforms=self.uniforms[:count])

    @property
    def arguments(self) -> tuple[list[int], SamplingOptions, list[float], int]:
        """Those of `synthesize`, which may change them."""
        return list(self.prompt), self.options, list(self.uniforms), self.limit


class Course:
    """One prompt and the ids chosen after it, with the hidden states that predict them.

    It is shorter than asked for where the backend declares a maximum length, where no id can be
    chosen safely, and where a greedy course reaches `[STOP]`.
    """

    def __init__(
        self,
        backend: Backend,
        prompt: Sequence[int],
        options: SamplingOptions,
        count: int,
        error: float,  # of a logit
        seed: int = 0,  # of the choice
        wanted: Sequence[int] = (),  # ids to choose, again and again; by default any
    ) -> None:
        self.prompt, self.options, self.asked = list(prompt), options, count
        self.ids: list[int] = []
        self.logits: list[Float32] = []
        self.uniforms: list[float] = []
        self.stops: dict[int, float] = {}  # by step, the uniform that draws [STOP] there
        self._stop, self._error = backend.config.language_model.eos_token_id, error
        self._wanted = wanted
        self._choice = np.random.default_rng([len(self.prompt), seed])
        most = backend.capabilities.max_length
        count = count if most is None else min(count, most - len(self.prompt))
        output = prefill_one(backend, self.prompt)
        hidden = [output.hidden[0]]
        while True:
            self.logits.append(output.logits[0])
            chosen = self._choose(output.logits[0])
            if chosen is None or len(self.ids) == count:
                break
            self.ids.append(chosen[0])
            self.uniforms.append(chosen[1])
            output = backend.step(np.array(self.ids[-1:]), output.state)
            hidden.append(output.hidden[0])
        self.hidden = np.stack(hidden)

    def history(self, step: int) -> list[int]:
        """The ids before a step."""
        return self.prompt + self.ids[:step]

    def _choose(self, logits: Float32) -> tuple[int, float] | None:
        """An id that can be drawn safely, and its uniform; notes the uniform of [STOP]."""
        step = len(self.ids)
        if self.options.temperature == 0:
            decision = decide(logits, self.history(step), self.options, None)
            if decision.margin <= 2 * self._error:
                return None
            if decision.id == self._stop:
                self.stops[step] = 0.5
                return None
            return decision.id, 0.5
        start, stop = safe_uniforms(logits, self.history(step), self.options, self._error)
        widths = stop - start
        if widths[self._stop] > 0:
            self.stops[step] = float(start[self._stop] + stop[self._stop]) / 2
        if self._wanted:
            best = np.array([self._wanted[step % len(self._wanted)]])
        else:
            widths[[*range(CONTROL_IDS), self._stop]] = 0
            best = np.argsort(-widths)[:CANDIDATES]
        best = best[widths[best] > 0]
        if not best.size:
            return None
        chosen = int(self._choice.choice(best))
        return chosen, float(start[chosen] + stop[chosen]) / 2

    def ending(self, count: int, limit: int) -> Utterance | None:
        """The utterance of `count` ids that [STOP] ends; None if it cannot be drawn there."""
        if count not in self.stops or count >= limit:
            return None
        return self._utterance(count, limit, "stop")

    def cut(self, count: int) -> Utterance | None:
        """The utterance that the limit of new tokens ends, where [STOP] would follow."""
        if not 0 < count <= len(self.ids):
            return None
        return self._utterance(count, count, "length")

    def _utterance(self, count: int, limit: int, finish: str) -> Utterance:
        uniforms = [*self.uniforms[:count], self.stops.get(count, 0.5)]
        uniforms += [0.5] * (limit - len(uniforms))
        hidden = self.hidden[: count + 1]
        return Utterance(
            self.prompt, self.options, uniforms, limit, self.ids[:count], finish, hidden
        )

    def shows(self, other: SamplingOptions) -> int:
        """At how many steps other options give another id."""
        return sum(
            decide(self.logits[step], self.history(step), other, uniform).id != self.ids[step]
            for step, uniform in enumerate(self.uniforms)
        )


def safe_uniforms(
    logits: Float32, history: Sequence[int], options: SamplingOptions, error: float
) -> tuple[Floats, Floats]:
    """From where to where (V,) uniforms draw an id, whatever errors the logits have.

    The second is not larger than the first where none does.
    """
    # Errors in opposite directions before and after an edge move it by at most this.
    moved = error / options.temperature / 2 + 32 * tolerances.EPS
    moved += _tied_at_top_k(logits, history, options, error)
    lowest, highest = widest_intervals(logits, history, options, moved)
    # An id is certain beyond what all lower ids may draw and before what all higher ids may.
    before = np.maximum.accumulate(np.concatenate([[0.0], highest[:-1]]))
    after = np.minimum.accumulate(np.concatenate([[1.0], lowest[:0:-1]]))[::-1]
    start, stop = np.maximum(before, lowest), np.minimum(after, highest)
    drawable = np.isfinite(lowest)
    return np.where(drawable, start, 1.0), np.where(drawable, stop, 0.0)


def _tied_at_top_k(
    logits: Float32, history: Sequence[int], options: SamplingOptions, error: float
) -> float:
    """The probability that moves if errors change which id is the last that top-k keeps."""
    if not 0 < options.top_k < len(logits):
        return 0.0
    seen = np.asarray(history, np.int64)
    scores = penalize(logits.astype(np.float64), seen, options.repetition_penalty)
    last, next_one = np.sort(scores)[::-1][options.top_k - 1 :][:2]
    if last - next_one > 4 * error:
        return 0.0
    weights = softmax_weights(np.sort(scores)[::-1][: options.top_k], options.temperature)
    return float(weights[-1] / weights.sum())


def logit_error(vectors: Vectors) -> float:
    """How far two logits of one backend that must agree may be apart, but for one in many."""
    return 4 * vectors.own_limit("step logits").rms


def safe_temperature(vectors: Vectors, stop: int) -> float:
    """The lowest temperature at which [STOP] can be drawn safely after any golden id."""
    error = logit_error(vectors)
    logits = vectors.arrays["step logits"].reshape(-1, vectors.config.language_model.vocab_size)
    for temperature in TEMPERATURES:
        options = SamplingOptions(temperature, 1.0, 0, 1.0)
        ranges = (safe_uniforms(row, [], options, error) for row in logits[::5])
        if all(high[stop] - low[stop] > 0 for low, high in ranges):
            return temperature
    return TEMPERATURES[-1]


def option_sets(temperature: float) -> dict[str, SamplingOptions]:
    """Options for courses; no option of `filtered` has its default value."""
    penalty = 1 + temperature / 8  # its effect is divided by the temperature
    return {
        "all ids": SamplingOptions(temperature, 1.0, 0, 1.0),
        "penalty": SamplingOptions(temperature, 1.0, 0, penalty),
        "filtered": SamplingOptions(temperature, 0.9, 40, penalty),
        "narrow": SamplingOptions(0.3, 0.5, 0, 1.2),  # often one id alone is left
        "greedy": SamplingOptions(0.0, 1.0, 0, 1.2),
        # [STOP] is in the prompt: a penalty below 1 makes it likely.
        "greedy with bonus": SamplingOptions(0.0, 1.0, 0, 0.5),
        "greedy without penalty": SamplingOptions(0.0, 1.0, 0, 1.0),  # it often repeats itself
    }


def ignored(options: SamplingOptions) -> dict[str, SamplingOptions]:
    """The options without each one that has an effect."""
    without = {
        "temperature": replace(options, temperature=1.0),
        "top_p": replace(options, top_p=1.0),
        "top_k": replace(options, top_k=0),
        "repetition_penalty": replace(options, repetition_penalty=1.0),
    }
    return {name: other for name, other in without.items() if other != options}
