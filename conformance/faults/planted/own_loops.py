"""Faults of the loops that a port writes itself: `synthesize`, `synthesize_batch` and `stream`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from conformance.faults import fault as faults
from conformance.faults.fault import Stage, fault
from conformance.faults.plant import Float32, Wrapper
from conformance.faults.planted.streaming import WindowedDecoder, streamed_by
from conformance.oracle.combinations import combine
from conformance.oracle.istft_conventions import ISTFTS
from conformance.subject import Subject
from soprano.backends import Backend
from soprano.backends.protocol import SynthesisResult
from soprano.config import SamplingOptions
from soprano.generate import Generation, Prompt, Token, advance, generate
from soprano.stages import Stages

Ids = Sequence[int]
Uniforms = Sequence[float]
_NOTHING = np.zeros(0, np.float32)


def _own(stage: Stage) -> Stage:
    """The stage, of which only the loops of a port are faulty."""
    return replace(stage, reach=("SA-24", "GE-16", "SY-14", "ST-08", "ST-10", "ST-11", "BA-06"))


BATCHING, HIDDEN, LOOP = _own(faults.BATCHING), _own(faults.HIDDEN), _own(faults.LOOP)
SAMPLER, STREAMING = _own(faults.SAMPLER), _own(faults.STREAMING)
SYNTHESIS = _own(faults.SYNTHESIS)


class OwnLoops(Wrapper):
    """A backend with loops of its own, which decode windows for a stream; all of them are right."""

    def __init__(self, inner: Any, stages: Stages) -> None:
        super().__init__(inner)
        self.stages = replace(stages, stream=streamed_by(WindowedDecoder))

    def tokens(
        self, ids: Ids, options: SamplingOptions, uniforms: Uniforms, limit: int
    ) -> Iterator[Token]:
        return self.stages.generate(
            self.stages, [Prompt(list(ids), iter(uniforms), options, limit)]
        )

    def synthesize(
        self, ids: Ids, options: SamplingOptions, uniforms: Uniforms, max_new_tokens: int
    ) -> SynthesisResult:
        tokens = list(self.tokens(ids, options, uniforms, max_new_tokens))
        states = [token.hidden for token in tokens if token.hidden is not None]
        drawn = [token.id for token in tokens if token.id is not None]
        return SynthesisResult(drawn, self.vocode(np.array(states)), tokens[-1].finish or "")

    def vocode(self, hidden: Float32) -> Float32:
        return self.stages.vocode(hidden)

    def synthesize_batch(
        self,
        ids: Sequence[Ids],
        options: SamplingOptions,
        uniforms: Sequence[Uniforms],
        max_new_tokens: int,
    ) -> list[SynthesisResult]:
        return [
            self.synthesize(row, options, draws, max_new_tokens)
            for row, draws in zip(ids, uniforms, strict=True)
        ]

    def stream(
        self,
        ids: Ids,
        options: SamplingOptions,
        uniforms: Uniforms,
        max_new_tokens: int,
        chunk_size: int,
    ) -> Iterator[Float32]:
        tokens = self.tokens(ids, options, uniforms, max_new_tokens)
        for samples, _ in self.stages.stream(self.stages, tokens, chunk_size):
            yield samples


def with_own_loops(subject: Subject, loops: Callable[[Any, Stages], OwnLoops]) -> Subject:
    """Give loops of its own to every backend that is opened."""

    def open_backend(name: str, model: Path, *args: Any, **options: Any) -> Backend:
        backend = subject.open_backend(name, model, *args, **options)
        wrapped: Any = loops(backend, subject.stages_of(backend, model))
        return wrapped  # type: ignore[no-any-return]

    return replace(subject, open_backend=open_backend)


def around(change: Callable[[Stages], Stages]) -> Callable[[Any, Stages], OwnLoops]:
    """Right loops around changed stages."""

    def loops(inner: Any, stages: Stages) -> OwnLoops:
        own = OwnLoops(inner, stages)
        own.stages = change(own.stages)
        return own

    return loops


def with_tail_state(stages: Stages, generation: Generation, logits: Any, hidden: Any) -> Token:
    token = advance(stages, generation, logits, hidden)
    return replace(token, hidden=hidden) if token.finish == "stop" else token


@fault(HIDDEN, "SY-14", with_own_loops, public=True)
def own_tail_state_and_level(inner: Any, stages: Stages) -> OwnLoops:
    """The state that predicts [STOP] is decoded, through an ISTFT whose level is wrong twice."""
    symmetric, sums = ISTFTS["a symmetric window"], ISTFTS["the sum of windows instead of squares"]
    istft: Any = combine(symmetric, sums)
    loop = partial(generate, advance=with_tail_state)
    return around(lambda own: replace(own, generate=loop, istft=istft))(inner, stages)


@fault(HIDDEN, "SY-14 ST-08", with_own_loops, public=True)
class OwnFirstStateAndLastChunkLost(OwnLoops):
    """The first state is dropped; at the limit, what does not fill a chunk of 8 is lost."""

    def vocode(self, hidden: Float32) -> Float32:
        return super().vocode(hidden[1:])

    def synthesize(self, *arguments: Any) -> SynthesisResult:
        result = super().synthesize(*arguments)
        if result.finish == "stop":
            return result
        chunk = 8 * self.stages.config.decoder.samples_per_token
        return result._replace(samples=result.samples[: len(result.samples) // chunk * chunk])

    def stream(self, *arguments: Any) -> Iterator[Float32]:
        yield self.synthesize(*arguments[:4]).samples


@fault(STREAMING, "ST-08", with_own_loops, public=True)
def own_chunks_without_left_context(inner: Any, stages: Stages) -> OwnLoops:
    """Each window of a stream begins with the first token whose samples are wanted."""
    bare = type("Bare", (WindowedDecoder,), {"left": 0})
    return around(lambda own: replace(own, stream=streamed_by(bare)))(inner, stages)


@fault(STREAMING, "ST-08", with_own_loops, public=True)
class OwnTokenLostForEachChunk(OwnLoops):
    """Eight states at a time are decoded by themselves, which gives the samples of seven tokens."""

    def stream(self, *arguments: Any) -> Iterator[Float32]:
        tokens = self.tokens(*arguments[:4])
        states = [token.hidden for token in tokens if token.hidden is not None]
        for start in range(0, len(states), 8):
            yield self.vocode(np.array(states[start : start + 8]))


@fault(SYNTHESIS, "SY-14", with_own_loops, public=True)
class OwnLoopCrashesOnOneToken(OwnLoops):
    """All axes of size 1 are squeezed, so that one state is no matrix."""

    def vocode(self, hidden: Float32) -> Float32:
        states = hidden.squeeze()
        if states.ndim != 2:
            raise IndexError("tuple index out of range")
        return super().vocode(states)


@fault(HIDDEN, "SY-14 ST-08", with_own_loops, public=True)
class OwnStartStateDecoded(OwnLoops):
    """The state of the id before [START] is decoded too, in front of the others."""

    def tokens(
        self, ids: Ids, options: SamplingOptions, uniforms: Uniforms, limit: int
    ) -> Iterator[Token]:
        row = np.array([ids[:-1]])
        before = self.inner.prefill(row, np.array([row.shape[1]])).hidden[0]
        yield Token(0, None, before, None)
        yield from super().tokens(ids, options, uniforms, limit)


@fault(SAMPLER, "SA-24", with_own_loops, public=True)
class OwnUniformsBeginAgain(OwnLoops):
    """The generator is seeded again for each chunk of eight ids."""

    def tokens(
        self, ids: Ids, options: SamplingOptions, uniforms: Uniforms, limit: int
    ) -> Iterator[Token]:
        again = [uniforms[i % 8] for i in range(len(uniforms))]
        return super().tokens(ids, options, again, limit)


def with_stream_options(
    subject: Subject, change: Callable[[SamplingOptions], SamplingOptions]
) -> Subject:
    """Loops whose stream uses other options than it is given."""

    class Loops(OwnLoops):
        def stream(self, ids: Ids, options: SamplingOptions, *rest: Any) -> Iterator[Float32]:
            return super().stream(ids, change(options), *rest)

    return with_own_loops(subject, Loops)


@fault(STREAMING, "ST-08", with_stream_options, public=True)
def own_stream_ignores_the_options(options: SamplingOptions) -> SamplingOptions:
    """A stream is sampled with the defaults, whatever the options are."""
    return SamplingOptions()


@fault(STREAMING, "ST-08", with_stream_options, public=True)
def own_stream_ignores_the_temperature(options: SamplingOptions) -> SamplingOptions:
    """A stream is sampled at temperature 1."""
    return replace(options, temperature=1.0)


@fault(STREAMING, "ST-08", with_stream_options, public=True)
def own_stream_ignores_top_p(options: SamplingOptions) -> SamplingOptions:
    """A stream is sampled from all ids that top-k leaves."""
    return replace(options, top_p=1.0)


@fault(STREAMING, "ST-08", with_stream_options, public=True)
def own_stream_ignores_the_penalty(options: SamplingOptions) -> SamplingOptions:
    """A stream is sampled without repetition penalty."""
    return replace(options, repetition_penalty=1.0)


@fault(LOOP, "GE-16", with_own_loops, public=True)
class OwnTokensCappedByPositions(OwnLoops):
    """New tokens end where they and the prompt fill the positions that config.json states."""

    def tokens(
        self, ids: Ids, options: SamplingOptions, uniforms: Uniforms, limit: int
    ) -> Iterator[Token]:
        return super().tokens(ids, options, uniforms, max(min(limit, 512 - len(ids)), 1))


@fault(LOOP, "GE-16", with_own_loops)
class OwnLastIdLost(OwnLoops):
    """At the limit the last id is dropped, as [STOP] is."""

    def tokens(
        self, ids: Ids, options: SamplingOptions, uniforms: Uniforms, limit: int
    ) -> Iterator[Token]:
        for token in super().tokens(ids, options, uniforms, limit):
            yield Token(0, None, None, "length") if token.finish == "length" else token


def without_repetition(tokens: Iterator[Token], longest: int = 11) -> Iterator[Token]:
    """Tokens, of which the 12th of a run of equal ids ends the utterance."""
    run: list[int | None] = []
    for token in tokens:
        run = [*run, token.id] if token.id in run else [token.id]
        if len(run) > longest:
            yield replace(token, finish="length")
            return
        yield token


@fault(LOOP, "GE-16", with_own_loops, hard=True)
class OwnGuardAgainstRepetition(OwnLoops):
    """An utterance ends after 12 equal ids, as if they were the last."""

    def synthesize(self, *arguments: Any) -> SynthesisResult:
        guarded = type(self)(self.inner, self.stages)
        guarded.tokens = lambda *given: without_repetition(self.tokens(*given))  # type: ignore[method-assign]
        return OwnLoops.synthesize(guarded, *arguments)


@fault(STREAMING, "ST-08", with_own_loops, hard=True)
class OwnStreamDropsPromptIds(OwnLoops):
    """A stream skips the states of control ids and of ids that are in the prompt."""

    def stream(self, ids: Ids, *arguments: Any) -> Iterator[Float32]:
        silent, tokens = {0, 1, 2, *ids}, self.tokens(ids, *arguments[:-1])
        states = [t.hidden for t in tokens if t.hidden is not None and t.id not in silent]
        yield self.vocode(np.array(states).reshape(len(states), -1))


@fault(BATCHING, "BA-06", with_own_loops, hard=True)
class OwnBatchEndsLoops(OwnLoops):
    """In a batch, a row ends when its last eight ids repeat the eight before."""

    def synthesize_batch(self, *arguments: Any) -> list[SynthesisResult]:
        results = super().synthesize_batch(*arguments)
        return [self.shortened(result) for result in results]

    def shortened(self, result: SynthesisResult) -> SynthesisResult:
        for end in range(16, len(result.ids)):
            if result.ids[end - 16 : end - 8] == result.ids[end - 8 : end]:
                count = (end - 1) * self.stages.config.decoder.samples_per_token
                return SynthesisResult(result.ids[:end], result.samples[:count], "length")
        return result


@fault(STREAMING, "ST-10", with_own_loops, public=True)
class OwnStreamWaitsForTheEnd(OwnLoops):
    """A stream is one chunk, which comes after the last token."""

    def stream(self, *arguments: Any) -> Iterator[Float32]:
        yield np.concatenate([_NOTHING, *super().stream(*arguments)])


@fault(STREAMING, "ST-10", with_own_loops, hard=True)
class OwnStreamGeneratesFirst(OwnLoops):
    """All ids are generated before the first of many chunks is decoded."""

    def tokens(
        self, ids: Ids, options: SamplingOptions, uniforms: Uniforms, limit: int
    ) -> Iterator[Token]:
        return iter(list(super().tokens(ids, options, uniforms, limit)))


@fault(STREAMING, "ST-11", with_own_loops, hard=True)
class OwnChunksOfOneSize(OwnLoops):
    """Chunks have 128 tokens, whatever was asked for."""

    def stream(self, *arguments: Any) -> Iterator[Float32]:
        ids, options, uniforms, limit, _ = arguments
        return super().stream(ids, options, uniforms, limit, 128)


@fault(BATCHING, "BA-06", with_own_loops, hard=True)
class OwnBatchShiftsUniforms(OwnLoops):
    """When a row of a batch ends, the rows behind it take the uniforms of the row before."""

    def synthesize_batch(
        self, ids: Sequence[Ids], options: SamplingOptions, uniforms: Any, max_new_tokens: int
    ) -> list[SynthesisResult]:
        results: list[SynthesisResult] = []
        for row, draws in zip(ids, uniforms, strict=True):
            ended = min((len(r.ids) for r in results if r.finish == "stop"), default=None)
            shifted = list(draws)
            if ended is not None:
                shifted[ended:] = uniforms[len(results) - 1][ended:]
            results.append(self.synthesize(row, options, shifted, max_new_tokens))
        return results


@fault(BATCHING, "BA-06", with_own_loops)
class OwnBatchEndsTogether(OwnLoops):
    """A batch ends with its first [STOP]: the other rows are cut there."""

    def synthesize_batch(self, *arguments: Any) -> list[SynthesisResult]:
        results = super().synthesize_batch(*arguments)
        shortest = min(len(result.ids) for result in results)
        ids, options, uniforms, limit = arguments
        limit = max(min(limit, shortest), 1)
        return super().synthesize_batch(ids, options, uniforms, limit)
