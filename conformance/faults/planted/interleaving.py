"""Faults between calls: threads, open backends, streams and invalid calls that affect each other.

Also arguments that are read as they lie in memory, and their padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from conformance.faults import fault as faults
from conformance.faults.fault import CACHE, DECODER, INTERLEAVING, RUNTIME, fault
from conformance.faults.plant import Float32, Wrapper, as_if_contiguous, as_stage, with_backend
from conformance.faults.planted.own_loops import Ids, OwnLoops, Uniforms, with_own_loops
from conformance.subject import Subject
from soprano.backends import Output
from soprano.backends.protocol import SynthesisResult
from soprano.config import SamplingOptions
from soprano.stages import Stages
from soprano.streaming import StreamingDecoder

OWN_LOOPS = replace(INTERLEAVING, reach=("IN-03", "IN-05"))


@fault(INTERLEAVING, "IN-04", with_backend, hard=True, public=True)
class OneRequestForAllThreads(Wrapper):
    """All threads fill the inputs of one inference request and read its outputs."""

    inputs: Any = None

    def prefill(self, ids: Any, lengths: Any) -> Output:
        self.inputs = ids, lengths
        output: Output = self.inner.prefill(*self.inputs)
        return output

    def decode(self, hidden: Any, lengths: Any) -> Any:
        self.inputs = hidden, lengths
        return self.inner.decode(*self.inputs)


@fault(INTERLEAVING, "IN-04", with_backend, hard=True)
class OneOutputBuffer(Wrapper):
    """The decoder writes into one buffer, which each call copies when it is complete."""

    buffer: Any = None

    def decode(self, hidden: Any, lengths: Any) -> Any:
        self.buffer = self.inner.decode(hidden, lengths)
        return self.buffer.copy()


@fault(INTERLEAVING, "IN-04", with_backend, hard=True)
class StepsShareTheirIds(Wrapper):
    """The ids of a step pass through one array for each number of rows."""

    arrays: ClassVar[dict[int, Any]] = {}

    def step(self, ids: Any, state: Any) -> Output:
        array = self.arrays.setdefault(len(ids), np.array(ids))
        array[:] = ids
        output: Output = self.inner.step(array, state)
        return output


@fault(OWN_LOOPS, "IN-05", with_own_loops, hard=True)
class UtteranceOfTheObject(OwnLoops):
    """`synthesize` keeps its prompt and options in the object while it generates."""

    def synthesize(
        self, ids: Ids, options: SamplingOptions, uniforms: Uniforms, max_new_tokens: int
    ) -> SynthesisResult:
        self.utterance = ids, options, uniforms, max_new_tokens
        return super().synthesize(*self.utterance)


class SampledFromABuffer(Wrapper):
    """A sampler that copies the logits into a buffer of the object first."""

    def sample(
        self, logits: Any, history: Sequence[int], options: SamplingOptions, uniform: float
    ) -> int:
        from soprano.sampling import sample

        self.logits = np.array(logits, np.float32)
        return sample(self.logits, history, options, uniform)


fault(OWN_LOOPS, "IN-05", with_backend, hard=True)(SampledFromABuffer)


class _Redirected(Wrapper):
    """A backend whose networks are those of another one."""

    def networks(self) -> Any:
        raise NotImplementedError

    def prefill(self, ids: Any, lengths: Any) -> Output:
        output: Output = self.networks().prefill(ids, lengths)
        return output

    def step(self, ids: Any, state: Any) -> Output:
        output: Output = self.networks().step(ids, state)
        return output

    def decode(self, hidden: Any, lengths: Any) -> Any:
        return self.networks().decode(hidden, lengths)


@fault(INTERLEAVING, "IN-02", with_backend, hard=True, public=True)
class LatestVoiceTakesOver(_Redirected):
    """The networks are variables of a module: a second voice takes the place of the first."""

    latest: ClassVar[Any] = None

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        LatestVoiceTakesOver.latest = inner

    def networks(self) -> Any:
        return self.latest


@fault(INTERLEAVING, "IN-02", with_backend, hard=True)
class FirstVoiceStays(_Redirected):
    """Networks are kept by their shapes: a second voice of the same shapes speaks as the first."""

    kept: ClassVar[dict[Any, Any]] = {}

    def networks(self) -> Any:
        return self.kept.setdefault(self.inner.config, self.inner)


@fault(INTERLEAVING, "IN-02", hard=True)
def voices_kept_by_the_name_of_their_folder(subject: Subject) -> Subject:
    """A voice that was loaded is used again for every folder of the same name."""
    kept: dict[Any, Any] = {}

    class Kept(Wrapper):
        def close(self) -> None:
            pass

    def open_backend(name: str, model: Any, *arguments: Any, **options: Any) -> Any:
        key = name, Path(model).name, arguments
        if key not in kept:
            kept[key] = Kept(subject.open_backend(name, model, *arguments, **options))
        return kept[key]

    return replace(subject, open_backend=open_backend)


@fault(INTERLEAVING, "IN-02", with_backend, hard=True)
class ClosingReleasesTheRuntime(Wrapper):
    """`close` releases what all open backends share: their decoders return silence."""

    released: ClassVar[bool] = False

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        ClosingReleasesTheRuntime.released = False

    def close(self) -> None:
        ClosingReleasesTheRuntime.released = True
        self.inner.close()

    def decode(self, hidden: Any, lengths: Any) -> Any:
        spectrum = self.inner.decode(hidden, lengths)
        return np.zeros_like(spectrum) if self.released else spectrum


@fault(INTERLEAVING, "IN-02", with_backend, hard=True)
class OneModelAtATime(Wrapper):
    """Other weights are refused while a model is open, as is another geometry."""

    opened: ClassVar[list[Any]] = []

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        if any(other.inner.files != inner.files for other in self.opened):
            raise RuntimeError("close the model that is loaded first")
        self.opened.append(self)

    def close(self) -> None:
        self.opened.remove(self)
        self.inner.close()


@fault(INTERLEAVING, "IN-01", with_backend, hard=True, blame=("CA", "IN"))
class StatesOfOneLengthShareABuffer(Wrapper):
    """The KV caches of states of the same lengths are one buffer: the last writer wins."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.written: dict[Any, Any] = {}

    def prefill(self, ids: Any, lengths: Any) -> Output:
        return self.write(self.inner.prefill(ids, lengths))

    def step(self, ids: Any, state: Any) -> Output:
        last = self.written.get(tuple(state.lengths), state)
        if last is not state and not last.consumed:
            state.consume()
            state = self.inner.fork(last)
        return self.write(self.inner.step(ids, state))

    def write(self, output: Output) -> Output:
        self.written[tuple(output.state.lengths)] = output.state
        return output


@fault(INTERLEAVING, "IN-01", with_backend, hard=True, blame=("SY", "IN"))
class DecoderWritesWhereStepsRead(Wrapper):
    """The decoder's scratch memory overlaps that of the next step."""

    scratch: Any = None

    def decode(self, hidden: Any, lengths: Any) -> Any:
        self.scratch = np.array(hidden)[0, -1] if np.size(hidden) else None
        return self.inner.decode(hidden, lengths)

    def step(self, ids: Any, state: Any) -> Output:
        output: Output = self.inner.step(ids, state)
        left, self.scratch = self.scratch, None
        return output if left is None else output._replace(hidden=output.hidden + 1e-4 * left)


def one_decoder_for_all_streams(stages: Stages, tokens: Any, chunk_size: int) -> Any:
    """A stream begins with a new decoder in the place of the one before."""
    return _SharedStream(stages).run(tokens, chunk_size)


class _SharedStream:
    """The decoder of a stream is a variable of the class; `stream` looks it up for each token."""

    decoder: ClassVar[Any] = None

    def __init__(self, stages: Stages) -> None:
        self.stages = stages
        _SharedStream.decoder = StreamingDecoder(stages)

    def run(self, tokens: Any, chunk_size: int) -> Iterator[tuple[Float32, str | None]]:
        wanted, finish = chunk_size * self.stages.config.decoder.samples_per_token, None
        for token in tokens:
            finish = token.finish
            if token.hidden is not None:
                self.decoder.add(token.hidden)
            if finish is None and self.decoder.ready >= wanted:
                yield self.decoder.flush(), None
        yield self.decoder.flush(last=True), finish


fault(faults.STREAMING, "IN-03", as_stage("stream"), hard=True, blame=("SY", "ST", "IN"))(
    one_decoder_for_all_streams
)


@fault(OWN_LOOPS, "IN-03", with_own_loops, hard=True)
class AbandonedStreamBlocksItsPlace(OwnLoops):
    """A stream that was not read to its end leaves its first chunk to the next stream."""

    left: Any = None

    def stream(
        self,
        ids: Ids,
        options: SamplingOptions,
        uniforms: Uniforms,
        max_new_tokens: int,
        chunk_size: int,
    ) -> Iterator[Float32]:
        left, self.left = self.left, None
        for chunk in super().stream(ids, options, uniforms, max_new_tokens, chunk_size):
            own, left = chunk if left is None else left, None
            self.left = chunk
            yield own
        self.left = None


@fault(INTERLEAVING, "IN-06", with_backend, hard=True, public=True)
class RefusedPromptLeavesAnId(Wrapper):
    """A prompt that is refused leaves its first id in the input buffer."""

    left: Any = None

    def prefill(self, ids: Any, lengths: Any) -> Output:
        left, self.left = self.left, None
        try:
            if left is not None:
                ids = np.array(ids)
                ids[0, 0] = left
            output: Output = self.inner.prefill(ids, lengths)
        except Exception:
            self.left = 9
            raise
        return output


@fault(INTERLEAVING, "IN-06", with_backend, hard=True)
class RefusedStepHasMovedOn(Wrapper):
    """A step counts the position of its state before it checks the id."""

    def step(self, ids: Any, state: Any) -> Output:
        try:
            output: Output = self.inner.step(ids, state)
        except ValueError:
            state.lengths = state.lengths + 1
            raise
        return output


@fault(INTERLEAVING, "IN-06", with_backend, hard=True)
class RefusedHiddenStatesStayInTheBuffer(Wrapper):
    """Hidden states that are refused are added to those of the next call."""

    left = False

    def decode(self, hidden: Any, lengths: Any) -> Any:
        left, self.left = self.left, False
        try:
            spectrum = self.inner.decode(hidden, lengths)
        except Exception:
            self.left = True
            raise
        return spectrum * np.float32(1.001) if left else spectrum


@fault(RUNTIME, "LM-09 DE-17", with_backend, hard=True, blame=("LM", "DE"), public=True)
class ViewsReadFromTheirBuffer(Wrapper):
    """Only the pointer and the shape of an array are passed on, not its strides."""

    def prefill(self, ids: Any, lengths: Any) -> Output:
        output: Output = self.inner.prefill(as_if_contiguous(ids), as_if_contiguous(lengths))
        return output

    def decode(self, hidden: Any, lengths: Any) -> Any:
        return self.inner.decode(as_if_contiguous(hidden), lengths)


@fault(RUNTIME, "DE-17", with_backend, hard=True, blame=("DE",))
class FortranOrderIgnored(Wrapper):
    """Arrays in Fortran order are read in the order of their memory."""

    def decode(self, hidden: Any, lengths: Any) -> Any:
        if hidden.flags.f_contiguous and not hidden.flags.c_contiguous:
            hidden = hidden.ravel(order="K").reshape(hidden.shape)
        return self.inner.decode(hidden, lengths)


@fault(RUNTIME, "LM-09", with_backend, hard=True, blame=("LM",))
class IdsAreOverwrittenInPlace(Wrapper):
    """Ids are prepared in the caller's array, which may be read-only."""

    def step(self, ids: Any, state: Any) -> Output:
        ids += 0
        output: Output = self.inner.step(ids, state)
        return output


@fault(DECODER, "DE-16", with_backend, hard=True)
class PaddingTimesZero(Wrapper):
    """Hidden states beyond a row's length are multiplied by 0, which leaves NaN and Inf."""

    def decode(self, hidden: Any, lengths: Any) -> Any:
        spectrum = self.inner.decode(hidden, lengths)
        beyond = np.arange(hidden.shape[1]) >= np.asarray(lengths)[:, None]
        leak = (hidden[beyond] * np.float32(0)).sum() if beyond.any() else np.float32(0)
        return spectrum + leak


@fault(DECODER, "DE-16", with_backend, hard=True)
class PaddingSetsTheScale(Wrapper):
    """Hidden states are scaled by their largest value, also beyond a row's length."""

    def decode(self, hidden: Any, lengths: Any) -> Any:
        scale = np.float32(max(np.abs(hidden).max(initial=0), 1) / 3)
        return self.inner.decode(hidden / scale * scale, lengths)


@fault(CACHE, "CA-02", with_backend, hard=True)
class PaddingIsLookedUp(Wrapper):
    """Padding ids are looked up in the embedding too, and must be in the vocabulary."""

    def prefill(self, ids: Any, lengths: Any) -> Output:
        np.zeros(self.inner.config.language_model.vocab_size)[ids]
        output: Output = self.inner.prefill(ids, lengths)
        return output


@fault(CACHE, "CA-02", with_backend, hard=True)
class EndFoundByThePadding(Wrapper):
    """A prompt of one row ends before its last zeros, whatever its length is."""

    def prefill(self, ids: Any, lengths: Any) -> Output:
        if len(ids) == 1 and lengths[0] < np.shape(ids)[1]:
            lengths = np.array([np.flatnonzero(ids[0])[-1] + 1])
        output: Output = self.inner.prefill(ids, lengths)
        return output
