"""Known wrong conventions of whole utterances.

They are about the states that are decoded, about how samples are put together from chunks, and
about how a generation loop uses its arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.oracle.combinations import combine, smallest_explanations
from conformance.oracle.istft_conventions import ISTFTS
from conformance.oracle.parametric_stages import Istft, Sampler, complex_bins
from conformance.oracle.sampler_conventions import SAMPLERS
from soprano.backends import Backend
from soprano.config import IstftConfig, SamplingOptions
from soprano.stages import Stages

Array = npt.NDArray[Any]
Vocode = Callable[[Array], Array]  # hidden states (T, H) -> samples (N,)

# What a convention decodes, of two arrays of hidden states: those of the prompt's ids without the
# last one, and those that predict each generated id and the end.
ALIGNMENTS: dict[str, Callable[[Array, Array], Array]] = {
    "the state after feeding a token, not the one that predicted it": lambda prompt, h: h[1:],
    "a tail state: the one that predicts the end is decoded too": lambda prompt, h: h,
    "the first state is dropped": lambda prompt, h: h[1:-1],
    "the last state is dropped": lambda prompt, h: h[:-2],
    "the prompt's states are decoded too": lambda prompt, h: np.concatenate([prompt, h[:-1]]),
    "the state of the id before [START] is decoded too": lambda prompt, h: np.concatenate(
        [prompt[-1:], h[:-1]]
    ),
    "the state one position before the one that predicted it": lambda prompt, h: np.concatenate(
        [prompt[-1:], h[:-2]]
    ),
    "the last state is decoded twice": lambda prompt, h: np.concatenate([h[:-1], h[-2:-1]]),
}


def in_one(vocode: Vocode, hidden: Array, chunk: int, per_token: int) -> Array:
    return vocode(hidden)


def chunks_alone(vocode: Vocode, hidden: Array, chunk: int, per_token: int) -> Array:
    starts = range(0, len(hidden), chunk)
    return np.concatenate([vocode(hidden[start : start + chunk]) for start in starts])


def full_chunks(vocode: Vocode, hidden: Array, chunk: int, per_token: int) -> Array:
    return vocode(hidden)[: (len(hidden) - 1) // chunk * chunk * per_token]


def no_left_context(vocode: Vocode, hidden: Array, chunk: int, per_token: int) -> Array:
    starts = range(0, len(hidden) - 1, chunk)
    return np.concatenate([vocode(hidden[start:])[: chunk * per_token] for start in starts])


def no_context(vocode: Vocode, hidden: Array, chunk: int, per_token: int) -> Array:
    starts = range(0, len(hidden) - 1, chunk)
    return np.concatenate([vocode(hidden[start : start + chunk + 1]) for start in starts])


# How samples are put together from chunks of a number of tokens.
ASSEMBLIES = {
    "one token is lost for each chunk of {}": chunks_alone,
    "the last chunk is lost unless it has {} tokens": full_chunks,
    "no context to the left of chunks of {}": no_left_context,
    "no context on either side of chunks of {}": no_context,
}
CHUNKS = (8, 16, 32, 64, 10, 20, 25, 50)  # of ports that use a size of their own
MOST_CHUNKS = 3  # sizes that are tried
MOST_RENDERINGS = 2000  # of one utterance


@dataclass(frozen=True)
class Rendering(Istft):
    """How hidden states become samples; the other steps are those of the inverse STFT."""

    states: Callable[[Array, Array], Array] = lambda prompt, hidden: hidden[:-1]
    assemble: Callable[[Vocode, Array, int, int], Array] = in_one
    chunk: int = 0


class Utterance:
    """The samples of an utterance, and the hidden states that they may come from.

    Args:
        stages: its decoder is used.
        prompt: hidden states of the prompt's ids without the last one.
        hidden: hidden states that predict each generated id and the end.
        samples: those of the utterance (N,).
        tolerance: the relative RMS difference of equal samples.
    """

    def __init__(
        self, stages: Stages, prompt: Array, hidden: Array, samples: Array, tolerance: float
    ) -> None:
        self.stages, self.config = stages, stages.config.decoder
        self.prompt, self.hidden, self.samples = prompt, hidden, samples
        self.tolerance = tolerance
        self._bins: dict[bytes, tuple[Array, dict[Any, Any]]] = {}
        self._rendered = 0

    def followed(self, chunk_size: int | None = None) -> list[str]:
        """The smallest combinations of conventions that give the samples."""
        if not len(self.samples):
            return []
        asked = (chunk_size,) if chunk_size else ()
        return self._found(asked) or self._found(self._likely_chunks())

    def follows(self, names: str, chunk_size: int | None = None) -> bool:
        """Whether one combination, as `followed` names it, gives the samples."""
        known = self._known([*([chunk_size] * bool(chunk_size)), *self._likely_chunks()])
        right: Rendering | None = Rendering()
        for name in names.split(" + "):
            if name in known and right is not None:
                right = combine(right, known[name])
        return right is not None and self._explains(right) is not None

    def _found(self, chunks: Sequence[int]) -> list[str]:
        return smallest_explanations(self._known(chunks), Rendering(), self._explains)

    def _known(self, chunks: Sequence[int]) -> dict[str, Rendering]:
        known = {name: Rendering(states=choose) for name, choose in ALIGNMENTS.items()}
        known |= {
            name.format(chunk): Rendering(assemble=assemble, chunk=chunk)
            for chunk in chunks
            for name, assemble in ASSEMBLIES.items()
        }
        if self.stages.decode_audio is None:
            known |= {name: Rendering(**_steps(istft)) for name, istft in ISTFTS.items()}
        return known

    def _likely_chunks(self) -> list[int]:
        """Sizes of chunks that give this number of samples, the usual ones first."""
        tokens, per_token = len(self.hidden) - 2, self.config.samples_per_token
        got = len(self.samples) // per_token
        fits = [
            size
            for size in dict.fromkeys([*CHUNKS, *range(2, 65)])
            if size <= tokens and (got == tokens or got in _tokens_given(len(self.hidden), size))
        ]
        return fits[:MOST_CHUNKS]

    def _explains(self, rendering: Rendering) -> str | None:
        try:
            states = rendering.states(self.prompt, self.hidden)
            silence = self._assembled(rendering, states, self._silence)
            if len(silence) != len(self.samples) or self._rendered == MOST_RENDERINGS:
                return None
            self._rendered += 1
            expected = self._assembled(rendering, states, self._vocode)
        except (ValueError, IndexError):  # too few states or frames for this convention
            return None
        return same_up_to_level(self.samples, expected, self.tolerance)

    def _assembled(self, rendering: Rendering, states: Array, vocode: Any) -> Array:
        per_token = self.config.samples_per_token
        return rendering.assemble(partial(vocode, rendering), states, rendering.chunk, per_token)

    def _silence(self, rendering: Rendering, hidden: Array) -> Array:
        """As many zeros as there would be samples."""
        return np.zeros(rendering.count(self.config.istft, self.config.frames(len(hidden))))

    def _vocode(self, rendering: Rendering, hidden: Array) -> Array:
        if self.stages.decode_audio is not None or not len(hidden):
            return self.stages.vocode(hidden)
        key, config = hidden.tobytes(), self.config.istft
        if key not in self._bins:
            spectrum = self.stages.decode(hidden[None], np.array([len(hidden)]))
            self._bins[key] = complex_bins(spectrum, config, "bft2"), {}
        bins, memo = self._bins[key]
        recovered, start, end = rendering.recovered(bins, config, memo)
        kept = recovered[:, start : max(recovered.shape[1] - end, 0)]
        return rendering.samples(kept, rendering.config(config))[0]


def _steps(stage: Istft) -> dict[str, Any]:
    """The replaced steps of an inverse STFT."""
    values = {step.name: getattr(stage, step.name) for step in fields(Istft)}
    return {name: step for name, step in values.items() if step is not getattr(Istft, name)}


def _tokens_given(states: int, chunk: int) -> set[int]:
    """Tokens of samples from about so many states, where chunks lose some."""
    given = set()
    for count in (states - 2, states - 1, states):
        given |= {(count - 1) // chunk * chunk, count - -(-count // chunk)}
    return given


def same_up_to_level(samples: Array, expected: Array, tolerance: float) -> str | None:
    """ "" if samples are equal, the name of another level if they are but for that, else None."""
    actual = np.asarray(samples, np.float64)
    power = float(expected @ expected)
    if not power:
        return None
    if np.sqrt(np.sum((actual - expected) ** 2) / power) < tolerance:
        return ""
    level = float(actual @ expected) / power
    if level and np.sqrt(np.sum((actual - level * expected) ** 2) / power) < tolerance * abs(level):
        return f"{level:.3g} times the level"
    return None


_RIGHT = Sampler()


@dataclass(frozen=True)
class Request:
    """What a generation loop is asked for, and what it does with each step's logits."""

    prompt: list[int]
    options: SamplingOptions
    uniforms: list[float]
    limit: int
    chunk_size: int = 0
    sample: Callable[..., int] = _RIGHT
    history: Callable[[list[int], list[int]], list[int]] = lambda prompt, ids: prompt + ids


Change = Callable[[Request], Request]


def _other_options(change: Callable[[SamplingOptions], SamplingOptions]) -> Change:
    return lambda request: replace(request, options=change(request.options))


def _other_uniforms(change: Callable[[list[float], int], list[float]]) -> Change:
    return lambda r: replace(r, uniforms=change(r.uniforms, r.chunk_size or 8))


LOOPS: dict[str, Change] = {
    "the temperature is ignored": _other_options(lambda o: replace(o, temperature=1.0)),
    "top-p is ignored": _other_options(lambda o: replace(o, top_p=1.0)),
    "top-k is ignored": _other_options(lambda o: replace(o, top_k=0)),
    "the penalty is ignored": _other_options(lambda o: replace(o, repetition_penalty=1.0)),
    "all options are ignored: the defaults apply": _other_options(lambda o: SamplingOptions()),
    "all options are ignored: temperature 1 and no filters": _other_options(
        lambda o: SamplingOptions(1.0, 1.0, 0, 1.0)
    ),
    "all options are ignored: greedy without penalty": _other_options(
        lambda o: SamplingOptions(0.0, 1.0, 0, 1.0)
    ),
    "one uniform for all ids": _other_uniforms(lambda u, chunk: u[:1] * len(u)),
    "the uniforms begin again with each chunk": _other_uniforms(
        lambda u, chunk: [u[i % chunk] for i in range(len(u))]
    ),
    "the first uniform is not used": _other_uniforms(lambda u, chunk: u[1:] + u[:1]),
    "the penalty leaves out the prompt": lambda r: replace(r, history=lambda prompt, ids: ids),
    "the penalty leaves out the generated ids": lambda r: replace(
        r, history=lambda prompt, ids: prompt
    ),
    "the penalty leaves out the last id": lambda r: replace(
        r, history=lambda prompt, ids: (prompt + ids)[:-1]
    ),
    **{
        name: lambda r, sampler=sampler: replace(r, sample=sampler)  # type: ignore[misc]
        for name, sampler in SAMPLERS.items()
    },
}


def run(backend: Backend, request: Request) -> Iterator[tuple[int, Array]]:
    """Each id of a generation loop, [STOP] too, and the hidden state (H,) that predicts it."""
    row = np.array([request.prompt])
    output = backend.prefill(row, np.array([row.shape[1]]))
    ids: list[int] = []
    while len(ids) < request.limit:
        history = request.history(request.prompt, ids)
        uniform = request.uniforms[len(ids)]
        chosen = request.sample(output.logits[0], history, request.options, uniform)
        yield chosen, output.hidden[0]
        if chosen == backend.config.language_model.eos_token_id:
            return
        ids.append(chosen)
        if len(ids) < request.limit:
            output = backend.step(np.array([chosen]), output.state)


def loops_giving_ids(backend: Backend, request: Request, ids: Sequence[int]) -> list[str]:
    """The conventions by which a loop gives these ids, [STOP] among them if it was drawn."""

    def gives(change: Change) -> bool:
        wanted = iter(ids)
        try:
            for chosen, _ in run(backend, change(request)):
                if chosen != next(wanted, None):
                    return False
        except ArithmeticError:  # a convention that divides by a temperature of 0
            return False
        return next(wanted, None) is None

    return [name for name, change in LOOPS.items() if gives(change)]


def loops_giving_samples(
    stages: Stages, request: Request, samples: Array, tolerance: float
) -> list[str]:
    """The conventions by which a loop gives these samples (N,)."""
    backend, found = stages.language_model, []
    stop = stages.config.language_model.eos_token_id
    tokens = len(samples) // stages.config.decoder.samples_per_token + 1
    for name, change in LOOPS.items():
        hidden = [state for chosen, state in run(backend, change(request)) if chosen != stop]
        if len(hidden) == tokens:
            expected = stages.vocode(np.stack(hidden)).astype(np.float64)
            rest = same_up_to_level(samples, expected, tolerance)
            if rest is not None:
                found.append(" + ".join([name, *[rest] * bool(rest)]))
    return found


def istfts_giving(
    spectra: Sequence[Array], samples: Sequence[Array], config: IstftConfig
) -> list[str]:
    """The conventions of an inverse STFT that give the samples (N,) of spectra (F, T, 2)."""
    bins = [complex_bins(spectrum[None].astype(float), config, "bft2") for spectrum in spectra]
    memos: list[dict[Any, Any]] = [{} for _ in bins]

    def explains(stage: Istft) -> str | None:
        rests = set()
        for own, memo, actual in zip(bins, memos, samples, strict=True):
            recovered, start, end = stage.recovered(own, config, memo)
            kept = recovered[:, start : max(recovered.shape[1] - end, 0)]
            expected = stage.samples(kept, stage.config(config))[0]
            if len(expected) != len(actual):
                return None
            if np.any(expected):
                rests.add(same_up_to_level(actual, expected, 1e-4))
        return rests.pop() if len(rests) == 1 else None

    return smallest_explanations(ISTFTS, Istft(), explains)
