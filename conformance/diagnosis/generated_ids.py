"""Many generated utterances of a backend, judged id by id against the oracle.

At an id that differs, the reference's id is fed and the backend continues, so that both go on from
the same ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.diagnosis.probes import Probed
from conformance.judging.reanchored import Reanchored, reanchored
from conformance.judging.sequences import first_difference
from soprano.config import SamplingOptions
from soprano.generate import Prompt
from soprano.sampling import uniforms
from soprano.stages import Stages, with_own_stages

WORDS = (
    "the", "river", "ran", "cold", "and", "nobody", "knew", "why", "seven", "boats", "came", "home",
    "early", "while", "light", "fell", "on", "a", "quiet", "town", "so", "we", "waited", "there",
)  # fmt: skip
OPTIONS = {
    "greedy": SamplingOptions(0.0, 1.0, 0, 1.2),
    "temperature 1": SamplingOptions(1.0, 1.0, 0, 1.2),
}
TOKENS, BATCH = 64, 20
ANCHORS = 8  # of an utterance; behind the last one, the backend continues with its own ids

Array = npt.NDArray[Any]


def sentences(count: int) -> Iterator[str]:
    """Different sentences of three to twelve words."""
    rng, known = np.random.default_rng(11), set[str]()
    while len(known) < count:
        chosen = rng.integers(0, len(WORDS), int(rng.integers(3, 13)))
        sentence = " ".join(WORDS[i] for i in chosen) + "."
        if sentence not in known:
            known.add(sentence)
            yield sentence


@dataclass(frozen=True)
class Utterances:
    """The comparison of many utterances with one set of options."""

    options: str
    utterances: int
    found: Reanchored

    def document(self) -> dict[str, Any]:
        return {
            "options": self.options,
            "utterances": self.utterances,
            "ids": self.found.compared,
            "defects": [asdict(d) for d in self.found.defects],
            "ties": [asdict(d) for d in self.found.ties],
            "expected_ties": self.found.expected_ties,
            "passed": self.found.passed,
        }

    def lines(self) -> list[str]:
        first, *rest = self.found.lines()
        return [f"{self.utterances} utterances, {self.options}: {first}", *rest]


def compare_utterances(probed: Probed, name: str, count: int) -> Utterances:
    """Generate utterances with a set of options, and judge each id.

    Raises:
        LookupError: the weights of the model are not at hand, or the backend takes no uniforms.
    """
    options, vectors = OPTIONS[name], probed.vectors
    if options.temperature and not probed.capabilities.uniforms:
        raise LookupError(f"{probed.name} does not declare uniforms")
    oracle, limit = vectors.pack.networks().language_model, vectors.limit("step logits")
    stages = with_own_stages(probed.stages, probed.backend, probed.model)
    stop, found = stages.config.language_model.eos_token_id, Reanchored()
    waiting = [
        _Utterance(text, list(stages.tokenize(text)), list(islice(uniforms(3, row), TOKENS)))
        for row, text in enumerate(sentences(count))
    ]
    while waiting:
        batch, waiting = waiting[:BATCH], waiting[BATCH:]
        for one, (ids, actual) in zip(batch, _generate(stages, batch, options), strict=True):
            reference = oracle([*one.prompt, *ids[:-1]])[0][len(one.prompt) - 1 :]
            judged = reanchored(
                one.prompt, ids, options, one.draws, reference, limit, actual=actual,
                text=one.text, start=one.judged(ids), once=one.anchors < ANCHORS,
            )  # fmt: skip
            found.add(judged)
            last = judged.differences[-1] if judged.differences else None
            if last and one.anchors < ANCHORS and last.expected != stop:
                fed = [*ids[: last.index], last.expected]
                waiting.append(replace(one, fed=fed, anchors=one.anchors + 1))
    return Utterances(name, count, found)


@dataclass(frozen=True)
class _Utterance:
    """An utterance that begins with ids that are fed in place of those of the backend."""

    text: str
    prompt: list[int]
    draws: list[float]
    fed: list[int] = field(default_factory=list)
    anchors: int = 0  # differences after which the reference's id was fed

    def judged(self, ids: list[int]) -> int:
        """The number of ids that were judged before, of a loop that continues with what is fed."""
        index = first_difference(ids, self.fed)
        return len(self.fed) if index is None else index


def _generate(
    stages: Stages, batch: list[_Utterance], options: SamplingOptions
) -> Iterator[tuple[list[int], Array]]:
    """Ids with [STOP], and logits, of each utterance."""
    stop, seen = stages.config.language_model.eos_token_id, dict[tuple[int, ...], Array]()
    fed = {
        (*one.prompt, *one.fed[:index]): chosen
        for one in batch
        for index, chosen in enumerate(one.fed)
    }
    own = replace(stages, sample=_anchored(stages.sample, seen, fed))
    asked = [Prompt(list(one.prompt), iter(one.draws), options, TOKENS) for one in batch]
    ids: list[list[int]] = [[] for _ in batch]
    for token in stages.generate(own, asked, batch_size=BATCH):
        ids[token.prompt].append(stop if token.id is None else token.id)
    for one, row in zip(batch, ids, strict=True):
        yield row, np.stack([seen[(*one.prompt, *row[:index])] for index in range(len(row))])


def _anchored(
    sample: Callable[..., int],
    seen: dict[tuple[int, ...], Array],
    fed: Mapping[tuple[int, ...], int],
) -> Callable[..., int]:
    """A sampler that keeps the logits of each history, and returns what is fed after it."""

    def sampled(logits: Any, history: Any, options: Any, uniform: Any) -> int:
        known = tuple(history)
        seen[known] = np.array(logits)
        chosen = sample(logits, history, options, uniform)
        return fed.get(known, chosen)

    return sampled
