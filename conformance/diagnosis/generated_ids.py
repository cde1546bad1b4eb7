"""Many generated utterances of a backend, judged id by id against the oracle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.diagnosis.probes import Probed
from conformance.judging.reanchored import Reanchored, reanchored
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

Array = npt.NDArray[Any]


def sentences(count: int) -> Iterator[str]:
    """Sentences of three to twelve words."""
    rng = np.random.default_rng(11)
    for _ in range(count):
        chosen = rng.integers(0, len(WORDS), int(rng.integers(3, 13)))
        yield " ".join(WORDS[i] for i in chosen) + "."


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
    texts = list(sentences(count))
    found = Reanchored()
    stages = with_own_stages(probed.stages, probed.backend, probed.model)
    generated = _generate(stages, texts, options)
    for text, (prompt, ids, drawn, actual) in zip(texts, generated, strict=True):
        reference = oracle([*prompt, *ids[:-1]])[0][len(prompt) - 1 :]
        found.add(
            reanchored(prompt, ids, options, drawn, reference, limit, actual=actual, text=text)
        )
    return Utterances(name, count, found)


def _generate(
    stages: Stages, texts: list[str], options: SamplingOptions
) -> Iterator[tuple[list[int], list[int], list[float], Array]]:
    """Prompt, ids with [STOP], uniforms and logits of each utterance."""
    stop, seen = stages.config.language_model.eos_token_id, dict[tuple[int, ...], Array]()
    own = replace(stages, sample=_recorded(stages.sample, seen))
    for start in range(0, len(texts), BATCH):
        prompts = [stages.tokenize(text) for text in texts[start : start + BATCH]]
        draws = [list(islice(uniforms(3, start + row), TOKENS)) for row in range(len(prompts))]
        asked = [
            Prompt(list(prompt), iter(own_draws), options, TOKENS)
            for prompt, own_draws in zip(prompts, draws, strict=True)
        ]
        ids: list[list[int]] = [[] for _ in prompts]
        for token in stages.generate(own, asked, batch_size=BATCH):
            ids[token.prompt].append(stop if token.id is None else token.id)
        for prompt, row, row_draws in zip(prompts, ids, draws, strict=True):
            logits = [seen[(*prompt, *row[:index])] for index in range(len(row))]
            yield list(prompt), row, row_draws, np.stack(logits)
        seen.clear()


def _recorded(sample: Callable[..., int], seen: dict[tuple[int, ...], Array]) -> Callable[..., int]:
    """A sampler that keeps the logits of each history."""

    def sampled(logits: Any, history: Any, options: Any, uniform: Any) -> int:
        seen[tuple(history)] = np.array(logits)
        return sample(logits, history, options, uniform)

    return sampled
