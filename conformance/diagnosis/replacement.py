"""Stage replacement: what each stage contributes to the error of the final audio.

The reference is the float64 oracle with the shared stages of this package. Each stage of a
pipeline in turn takes the place of the reference's, which gives the audio error that it causes
alone; and the reference's takes the place of the pipeline's, which gives the error that is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.golden.expectations import Networks
from conformance.golden.observations import hidden_states
from conformance.judging import tolerances
from conformance.judging.vectors import Vectors
from conformance.oracle.istft import inverse_stft
from conformance.oracle.parametric_stages import Sampler
from soprano.backends import Capabilities, Output
from soprano.config import IstftConfig, ModelConfig, SamplingOptions
from soprano.generate import Prompt
from soprano.sampling import uniforms
from soprano.stages import OWN_STAGES, Stages
from soprano.synthesis import shared_stages

Array = npt.NDArray[Any]
TEXTS = ("Hello there, it is half past 9.", "Why not 3 of them? Dr. Lee said so.")
TOKENS = 24  # of an utterance
OPTIONS = SamplingOptions(temperature=0.8, top_p=0.95, top_k=0, repetition_penalty=1.2)
SEED = 5


class OracleBackend:
    """The float64 networks behind the backend protocol, one row at a time."""

    name = "oracle"
    capabilities = Capabilities(batch=False, fork=False, select=False, join=False)

    def __init__(self, config: ModelConfig, networks: Networks) -> None:
        self.config, self._networks = config, networks

    def prefill(self, ids: Array, lengths: Array) -> Output:
        return self._after([int(i) for i in ids[0, : int(lengths[0])]])

    def step(self, ids: Array, state: Any) -> Output:
        return self._after([*state, int(ids[0])])

    def _after(self, ids: list[int]) -> Output:
        logits, hidden = self._networks.language_model(ids)
        return Output(logits[-1:].astype(np.float32), hidden[-1:].astype(np.float32), ids)

    def decode(self, hidden: Array, lengths: Array) -> Array:
        spectrum = self._networks.decoder(hidden[0, : int(lengths[0])])
        return spectrum[None].astype(np.float32)

    def attest(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        pass


def reference_istft(
    spectrum: Array, config: IstftConfig, layout: str = "bft2", *, length: int | None = None
) -> Array:
    return np.array([inverse_stft(row, config) for row in spectrum], np.float32)


def reference_stages(stages: Stages, networks: Networks, model: Path) -> Stages:
    """The pipeline of the reference: oracle networks, sampler and inverse STFT."""
    oracle: Any = OracleBackend(stages.config, networks)
    own = shared_stages(oracle, model)
    return replace(own, sample=Sampler(), istft=reference_istft)


@dataclass(frozen=True)
class Contribution:
    """What one stage does to the audio; errors are relative to the audio's RMS."""

    stage: str
    output: float  # relative error of the stage's output on the reference's input
    alone: float  # audio error that it causes in the reference's pipeline
    left: float  # audio error of the pipeline with this stage replaced by the reference's
    limit: float  # of the output error: a multiple of the noise floor
    share: float  # of the sum of squares of `alone`

    @property
    def amplification(self) -> float:
        """The audio error divided by the output error; 0 where the output is right."""
        return self.alone / self.output if self.output else 0.0

    @property
    def wrong(self) -> bool:
        """Whether the output is wrong by more than its limit."""
        return self.output > self.limit


@dataclass(frozen=True)
class Replacements:
    """The contributions of all stages, and the audio error of the pipeline."""

    error: float
    contributions: list[Contribution]
    seconds: float  # of audio

    @property
    def named(self) -> list[str]:
        """The stages whose outputs are wrong."""
        return [c.stage for c in self.contributions if c.wrong]

    def document(self) -> dict[str, Any]:
        return {**asdict(self), "named": self.named}

    def lines(self) -> list[str]:
        head = (
            f"{'stage':16} {'share':>7} {'output error':>13} {'audio error':>12} "
            f"{'amplification':>14} {'left if replaced':>17}"
        )
        rows = [
            f"{c.stage:16} {c.share:7.1%} {c.output:13.2e} {c.alone:12.2e} "
            f"{c.amplification:14.3g} {c.left:17.2e}"
            for c in self.contributions
            if c.output or c.alone
        ]
        named = ", ".join(self.named) or "none"
        return [
            f"stages that cause the error of the audio: {named}",
            f"audio error {self.error:.2e} of the audio's RMS",
            head,
            *rows,
        ]


# The fields of `Stages` that are replaced, in the order of the pipeline.
REPLACED = (
    "normalize", "split", "tokenize", "language_model", "sample", "generate", "decode", "istft",
)  # fmt: skip
_PARTS = ("ids", "hidden", "spectrum", "samples")
FREE = ("sample", "generate")  # whose outputs are ids
_NAMES = {
    "normalize": "normalise", "tokenize": "tokenise", "language_model": "language model",
    "sample": "sampler", "generate": "generation loop", "decode": "decoder", "istft": "ISTFT",
}  # fmt: skip


class Pipeline:
    """The utterances of a pipeline: ids of each sentence, hidden states, spectra, samples."""

    def __init__(self, stages: Stages, forced: Sequence[list[int]] | None = None) -> None:
        self.stages, self.forced = stages, forced

    def prompts(self, texts: Sequence[str]) -> list[list[int]]:
        split = [s for text in texts for s in self.stages.split(self.stages.normalize(text))]
        return [list(self.stages.tokenize(sentence)) for sentence in split]

    def run(self, texts: Sequence[str]) -> dict[str, list[Array]]:
        found: dict[str, list[Array]] = {
            name: [] for name in ("ids", "hidden", "spectrum", "samples")
        }
        for index, prompt in enumerate(self.prompts(texts)):
            ids, hidden = self.utterance(index, prompt)
            found["ids"].append(np.array(ids))
            found["hidden"].append(hidden)
            if self.stages.decode_audio is None:
                found["spectrum"].append(
                    self.stages.decode(hidden[None], np.array([len(hidden)]))[0]
                )
            found["samples"].append(self.stages.vocode(hidden))
        return found

    def utterance(self, index: int, prompt: list[int]) -> tuple[list[int], Array]:
        """Ids and hidden states (T, H); with forced ids, those that predict them."""
        if self.forced is not None and index < len(self.forced):
            ids = self.forced[index]
            return ids, hidden_states(self.stages.language_model, prompt, ids[:-1])[: len(ids)]
        draws = islice(uniforms(SEED, index), TOKENS)
        tokens = list(self.stages.generate(self.stages, [Prompt(prompt, draws, OPTIONS, TOKENS)]))
        states = [token.hidden for token in tokens if token.hidden is not None]
        width = self.stages.config.language_model.hidden_size
        hidden = np.stack(states) if states else np.zeros((0, width), np.float32)
        return [token.id for token in tokens if token.id is not None], hidden


def replacements(
    stages: Stages, reference: Stages, vectors: Vectors, texts: Sequence[str] = TEXTS
) -> Replacements:
    """Replace each stage in turn, in both directions.

    The networks are compared on the ids of the reference, so that a tie changes nothing.
    """
    base = Pipeline(reference).run(texts)
    ids = [row.tolist() for row in base["ids"]]
    power = _rms(np.concatenate(base["samples"])) or 1.0
    limits = _limits(vectors)
    fields = [name for name in REPLACED if not (stages.decode_audio and name == "istft")]

    def output(name: str) -> float:
        try:
            return _output_error(name, _mixed(reference, name, stages), reference, base, texts)
        except Exception:  # whatever a wrong stage raises: it has no output
            return 1.0

    def error(own: Stages, *, freely: bool) -> float:
        try:
            samples = Pipeline(own, None if freely else ids).run(texts)["samples"]
        except Exception:
            samples = []
        return _difference(samples, base["samples"]) / power

    outputs = {name: output(name) for name in fields}

    wrong = [name for name in FREE if outputs[name]]  # they choose other ids
    alone = {name: error(_mixed(reference, name, stages), freely=name in wrong) for name in fields}
    left = {
        name: error(_mixed(stages, name, reference), freely=bool({*wrong} - {name}))
        for name in fields
    }
    total = sum(value**2 for value in alone.values()) or 1.0
    found = [
        Contribution(
            _NAMES.get(name, name), outputs[name], alone[name], left[name],
            limits.get(name, 0.0), alone[name] ** 2 / total,
        )
        for name in fields
    ]  # fmt: skip
    rate = reference.config.sample_rate
    seconds = sum(map(len, base["samples"])) / rate
    return Replacements(error(stages, freely=bool(wrong)), found, seconds)


def _mixed(whole: Stages, name: str, other: Stages) -> Stages:
    """A pipeline with one stage of another."""
    values = {name: getattr(other, name)}
    if name == "decode":
        values["decode_audio"] = other.decode_audio
    return replace(whole, **values)


def _limits(vectors: Vectors) -> dict[str, float]:
    """The largest relative error of each numeric stage's output."""
    found = {}
    for name, quantity in (("language_model", "step hidden"), ("decode", "spectrum")):
        expected = vectors.arrays[quantity]
        found[name] = vectors.limit(quantity).rms / (_rms(expected) or 1.0)
    samples = vectors.arrays["greedy samples"]
    limit = tolerances.istft(samples, vectors.config.decoder.istft)
    return {**found, "istft": limit.rms / (_rms(samples) or 1.0)}


def _output_error(
    name: str, own: Stages, reference: Stages, base: dict[str, list[Array]], texts: Sequence[str]
) -> float:
    """The relative error of a stage's output, given the input that the reference has there."""
    if name in ("normalize", "split", "tokenize"):
        return _different(Pipeline(own).prompts(texts), Pipeline(reference).prompts(texts))
    if name in ("sample", "generate"):
        found = Pipeline(own).run(texts)["ids"]
        return _different([row.tolist() for row in found], [row.tolist() for row in base["ids"]])
    ids = [row.tolist() for row in base["ids"]]
    if name == "language_model":
        return _relative(Pipeline(own, ids).run(texts)["hidden"], base["hidden"])
    actual, expected = [], []
    for hidden, spectrum, samples in zip(
        *(base[k] for k in ("hidden", "spectrum", "samples")), strict=True
    ):
        if name == "istft":
            actual.append(own.istft(spectrum[None], own.config.decoder.istft)[0])
            expected.append(samples)
        elif own.decode_audio is not None:
            actual.append(own.vocode(hidden))
            expected.append(samples)
        else:
            actual.append(own.decode(hidden[None], np.array([len(hidden)]))[0])
            expected.append(spectrum)
    return _relative(actual, expected)


def _different(actual: Sequence[list[int]], expected: Sequence[list[int]]) -> float:
    """The share of utterances with other ids; one that is missing or too many is wrong too."""
    wrong = [one != other for one, other in zip_longest(actual, expected)]
    return sum(wrong) / max(len(wrong), 1)


def _relative(actual: Sequence[Array], expected: Sequence[Array]) -> float:
    size = _rms(np.concatenate([row.ravel() for row in expected])) or 1.0
    return _difference(actual, expected) / size


def _difference(actual: Sequence[Array], expected: Sequence[Array]) -> float:
    """The RMS difference of several arrays; what one has and the other lacks is an error."""
    errors = []
    for index in range(max(len(actual), len(expected))):
        one, other = (
            np.asarray(rows[index], np.float64).ravel() if index < len(rows) else np.zeros(0)
            for rows in (actual, expected)
        )
        size = max(len(one), len(other))
        errors.append(np.pad(one, (0, size - len(one))) - np.pad(other, (0, size - len(other))))
    return _rms(np.concatenate(errors))


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))) if values.size else 0.0


assert set(OWN_STAGES) - {"is_stuck"} <= set(REPLACED)
