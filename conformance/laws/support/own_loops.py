"""A backend's own `synthesize` and `stream`: what they are asked for, and what they answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from conformance.golden.inputs import long_sequence
from conformance.judging.judge import Judge
from conformance.judging.skips import NotDeclared
from conformance.judging.vectors import Vectors
from conformance.laws.support.alignment import judge_samples
from conformance.laws.support.chosen_utterances import (
    CONTROL_IDS,
    Course,
    Utterance,
    logit_error,
    option_sets,
    safe_temperature,
)
from conformance.laws.support.coverage import share
from conformance.oracle.utterance_conventions import Utterance as Question
from soprano.backends import Backend, Float32, SynthesisResult
from soprano.checkpoint.config_json import read_json
from soprano.stages import Stages

SAMPLED = ("all ids", "penalty", "filtered", "narrow")  # sets of options
# Tokens of an utterance: more than the ring buffer of a port holds.
COUNTS = (*range(1, 66), 100, 127, 128, 129, 200)
FEW = 8  # ids, among which an ignored option may not show
DISTINCT = 40  # tokens at which every known convention gives other samples
LONGEST = 512  # new tokens
# Ids of a prompt (0: of a golden one), and how an utterance with the most new tokens ends.
LONGEST_CASES = ((512, "length"), (0, "stop"), (0, "length"), (512, "stop"))
ENDS = ((DISTINCT, 64), (0, 1), (0, 2), (1, 2), (0, 7), (1, 7), (6, 7))  # [STOP] and the limit
CUTS = (DISTINCT, 1, 2, 7)  # tokens at the limit
# Short greedy utterances that end by [STOP] are searched for among so many prompts.
# Utterances that repeat themselves: new tokens at most, and at least.
REPEATED, LEAST_REPEATED = 84, 30
REPETITIONS: dict[str, Callable[[Sequence[int], Sequence[int]], list[int]]] = {
    # ids of the prompt, and others -> ids that are repeated
    "one id": lambda prompt, others: [others[0]],
    "two ids in turn": lambda prompt, others: [others[1], others[2]],
    "a block of ids": lambda prompt, others: list(others[3:10]),
    "runs of ids": lambda prompt, others: [i for i in others[10:14] for _ in range(21)],
    "ids of the prompt and control ids": lambda prompt, others: [*prompt, *range(CONTROL_IDS)],
    "greedy without penalty": lambda prompt, others: [],
}
PROMPTS, STEPS, FOUND = 48, 8, 5
SEARCHES = 6  # for the conventions that wrong samples follow; one without result counts as three


class OwnLoops:
    """The utterances that a backend's own loops are asked for, and the answers of `synthesize`."""

    def __init__(self, backend: Backend) -> None:
        self.backend: Any = backend
        self._courses: dict[tuple[str, int, int], Course] = {}
        self._options: dict[str, Any] = {}
        self._searches, self._found = 0, list[str]()
        self._ending: list[Utterance] = []
        self._repeated: dict[str, Course] = {}
        self._answers: dict[Any, SynthesisResult | Exception] = {}

    def require(self, method: str) -> None:
        if not hasattr(self.backend, method):
            raise NotDeclared(f"{self.backend.name} has no {method} of its own")

    def require_uniforms(self) -> None:
        if not self.backend.capabilities.uniforms:
            raise NotDeclared(f"{self.backend.name} does not declare uniforms")

    @property
    def usual(self) -> str:
        """The set of options for cases that are not about options."""
        return "penalty" if self.backend.capabilities.uniforms else "greedy"

    def answer(self, utterance: Utterance) -> SynthesisResult:
        """What `synthesize` gives, or the exception that it raised; it is called once."""
        key = repr(utterance.arguments)
        if key not in self._answers:
            try:
                self._answers[key] = SynthesisResult(*self.backend.synthesize(*utterance.arguments))
            except Exception as error:  # whatever a port raises
                self._answers[key] = error
        answer = self._answers[key]
        if isinstance(answer, Exception):
            reason = f"{type(answer).__name__}: {answer}"
            raise AssertionError(f"synthesize raised {reason} ({utterance})") from answer
        return answer

    def course(
        self, vectors: Vectors, options: str, count: int, row: int = 0, prompt_length: int = 0
    ) -> Course:
        """Chosen ids after a golden prompt, or after one of a length."""
        key = options, row, prompt_length
        if key not in self._courses or self._courses[key].asked < count:
            self._courses[key] = self._begin(vectors, options, count, row, prompt_length)
        course = self._courses[key]
        if not course.ids and not course.stops:
            raise NotDeclared("every id may change within the limit of the logits' errors")
        return course

    def _begin(
        self, vectors: Vectors, options: str, count: int, row: int, prompt_length: int
    ) -> Course:
        ids, lengths = vectors.arrays["prompt ids"], vectors.arrays["prompt lengths"]
        prompt = ids[row % len(ids), : int(lengths[row % len(ids)])].tolist()
        if prompt_length:
            between = long_sequence(vectors.arrays)[: prompt_length - 3].tolist()
            prompt = [*prompt[:2], *between, prompt[-1]]
        return self._course(vectors, prompt, options, count, row)

    def _course(
        self,
        vectors: Vectors,
        prompt: Sequence[int],
        options: str,
        count: int,
        seed: int = 0,
        wanted: Sequence[int] = (),
    ) -> Course:
        if not self._options:
            stop = self.backend.config.language_model.eos_token_id
            self._options = option_sets(safe_temperature(vectors, stop))
        error = logit_error(vectors)
        return Course(self.backend, prompt, self._options[options], count, error, seed, wanted)

    def repetitive(self, vectors: Vectors, request: pytest.FixtureRequest) -> list[Utterance]:
        """Utterances that repeat themselves: a share of `REPETITIONS`."""
        cases = (self._repetitive(vectors, case) for case in share(request, list(REPETITIONS)))
        if found := [utterance for utterance in cases if utterance is not None]:
            return found
        raise NotDeclared("other models of the run take these, or no such ids can be chosen")

    def _repetitive(self, vectors: Vectors, case: str) -> Utterance | None:
        order, stop = list(REPETITIONS), self.backend.config.language_model.eos_token_id
        row, length = order.index(case), int(vectors.arrays["prompt lengths"][order.index(case)])
        prompt = vectors.arrays["prompt ids"][row, :length].tolist()
        others = [i for i in vectors.arrays["long ids"].tolist() if i not in {*prompt, stop}]
        wanted = [i for i in REPETITIONS[case](prompt, others) if i != stop]
        if bool(wanted) > self.backend.capabilities.uniforms:
            return None
        if case not in self._repeated:
            options = "all ids" if wanted else case
            self._repeated[case] = self._course(vectors, prompt, options, REPEATED, 0, wanted)
        course = self._repeated[case]
        count = len(course.ids)
        if count < LEAST_REPEATED:
            return None
        found = course.ending(count - 4, count) if row % 2 else None
        return found or course.cut(count)

    def ends(self, vectors: Vectors, options: str) -> list[Utterance]:
        """Utterances that [STOP] ends, the one that shows every convention first."""
        course = self.course(vectors, options, DISTINCT)
        found = [course.ending(count, limit) for count, limit in ENDS]
        if found[0] is None and course.stops:  # filters removed [STOP] there
            last = max(course.stops)
            found[0] = course.ending(last, last + 9)
        return [utterance for utterance in found if utterance is not None]

    def cuts(self, vectors: Vectors, options: str) -> list[Utterance]:
        """Utterances that the limit of new tokens ends, in the same order."""
        course = self.course(vectors, options, DISTINCT)
        counts = dict.fromkeys(min(count, len(course.ids)) for count in CUTS)
        return [utterance for count in counts if (utterance := course.cut(count)) is not None]

    def of_length(self, vectors: Vectors, count: int) -> Utterance | None:
        """An utterance of so many tokens, ended by [STOP] or by the limit in turn."""
        course = self.course(vectors, self.usual, max(count, 200))
        if count % 2 == 0 and (utterance := course.ending(count, count + 1)):
            return utterance
        return course.cut(count)

    def longest(self, vectors: Vectors, request: pytest.FixtureRequest) -> Iterator[Utterance]:
        """Utterances up to the limits of the family, or of the backend: a share of all."""
        for length, finish in share(request, LONGEST_CASES) or LONGEST_CASES[:1]:
            if utterance := self.one_of_the_longest(vectors, length, finish):
                yield utterance

    def one_of_the_longest(self, vectors: Vectors, length: int, finish: str) -> Utterance | None:
        """An utterance up to the limits, behind a prompt of a length."""
        room = self.backend.capabilities.max_length
        if room is not None and length >= room:
            length = room - DISTINCT
        course = self._longest_course(vectors, LONGEST, length)
        count = len(course.ids)
        utterance = course.ending(count - 1, count) if finish == "stop" else course.cut(count)
        return utterance or course.cut(count)

    def _longest_course(self, vectors: Vectors, count: int, length: int) -> Course:
        rows = range(6) if self.usual == "greedy" and not length else range(1)
        courses = (self.course(vectors, self.usual, count, row, length) for row in rows)
        best: Course | None = None
        for course in courses:
            if best is None or len(course.ids) > len(best.ids):
                best = course
            if len(best.ids) == count:
                break
        assert best is not None
        return best

    def batch(self, vectors: Vectors, size: int, limit: int) -> list[Utterance]:
        """Utterances of different prompts, most of which end before the limit, at any step."""
        found: list[Utterance] = []
        if self.usual == "greedy":
            ends, options = self.greedy_ends(vectors), self._options["greedy"]
            found = [replace(u, limit=limit) for u in ends if u.options == options]
        for row in range(2 * size):
            if len(found) == size:
                break
            course = self.course(vectors, self.usual, limit, row)
            utterance = course.ending(7 * row % limit, limit) if row % 4 else None
            if utterance := utterance or course.cut(limit):
                found.append(utterance)
        return found[:size]

    def streamed(self, vectors: Vectors, count: int) -> Utterance:
        """A long utterance."""
        course = self._longest_course(vectors, count, 0)
        utterance = course.cut(min(count, len(course.ids)))
        if utterance is None or len(utterance.ids) < count // 2:
            raise NotDeclared(f"no utterance of {count // 2} tokens can be chosen")
        return utterance

    def likeliest(self, found: list[str]) -> list[str]:
        """Of several explanations, the one that has most in common with those of other answers."""
        earlier = {name for names in self._found for name in names.split(" + ")}
        best = sorted(found, key=lambda names: -len(earlier & set(names.split(" + "))))[:1]
        self._found += best
        return best

    def judge_samples(
        self,
        judge: Judge,
        stages: Stages,
        vectors: Vectors,
        utterance: Utterance,
        samples: Float32,
        *,
        name: str,
        chunk_size: int | None = None,
        others: Callable[[], list[str]] = list,
    ) -> None:
        """As `alignment.judge_samples`; `others` gives further conventions of wrong samples.

        Conventions that explained other samples are tried first, and searches are limited.
        """
        __tracebackhide__ = True

        def explain(question: Question) -> list[str]:
            again = [names for names in self._found if question.follows(names, chunk_size)]
            if again or self._searches >= SEARCHES:
                return again[:1]
            found = self.likeliest(question.followed(chunk_size) or others())
            self._searches += 1 if found else SEARCHES // 2
            return found

        prompt, hidden = utterance.prompt, utterance.hidden
        judge_samples(judge, stages, vectors, prompt, hidden, samples, name=name, explain=explain)

    def greedy_ends(self, vectors: Vectors) -> list[Utterance]:
        """Greedy utterances that [STOP] ends, of different numbers of ids if they are found."""
        if self._ending:
            return self._ending
        length = int(vectors.arrays["prompt lengths"][0])
        start, text, *_, end = vectors.arrays["prompt ids"][0, :length].tolist()
        rng = np.random.default_rng(5)
        size = self.backend.config.language_model.vocab_size
        found: dict[int, Utterance] = {}
        for number in range(PROMPTS):
            options = "greedy" if number < PROMPTS // 2 else "greedy with bonus"
            prompt = [start, text, *rng.integers(4, size, 3).tolist(), end]
            course = self._course(vectors, prompt, options, STEPS)
            count = len(course.ids)
            if utterance := course.ending(count, count + 5):
                found.setdefault(count, utterance)
            if len(found) == FOUND:
                break
        self._ending = [found[count] for count in sorted(found, reverse=True)]
        return self._ending


@lru_cache(maxsize=1)
def own_loops(backend: Backend) -> OwnLoops:
    """Of one backend at a time: several test modules use the same utterances and answers."""
    return OwnLoops(backend)


def stated_positions(model: Path) -> int | None:
    """`max_position_embeddings` of a model folder."""
    stated = read_json(model / "config.json").get("max_position_embeddings")
    return stated if isinstance(stated, int) else None


class Limited(NamedTuple):
    """Ids without [STOP], and a finish reason."""

    ids: list[int]
    finish: str


# What a wrong limit makes of an utterance; the last argument is the room that its prompt leaves in
# the positions that config.json states.
LIMITS: dict[str, Callable[[Limited, int], Limited]] = {
    "new tokens end where prompt and tokens fill max_position_embeddings": lambda right, room: (
        right if len(right.ids) < room else Limited(right.ids[: max(room, 0)], "length")
    ),
    "the last id before the limit is lost": lambda right, room: right._replace(
        ids=right.ids[: len(right.ids) - (right.finish == "length")]
    ),
    "the finish reason is always 'stop'": lambda right, room: right._replace(finish="stop"),
    "the finish reason is always 'length'": lambda right, room: right._replace(finish="length"),
}


def joined(chunks: Sequence[Float32]) -> Float32:
    """The samples of a stream."""
    return np.concatenate([np.zeros(0, np.float32), *chunks])
