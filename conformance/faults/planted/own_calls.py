"""Faults between the calls of a port's own stages, and of when a stream delivers and ends."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from conformance.faults.fault import INTERLEAVING, ISTFT, RUNTIME, fault
from conformance.faults.plant import Float32, Wrapper, with_backend, with_stages
from conformance.faults.planted.own_loops import LOOP, STREAMING, OwnLoops, with_own_loops
from conformance.oracle.istft import envelope
from conformance.subject import Subject
from soprano.backends import Attested, Backend, Output
from soprano.backends.protocol import SynthesisResult
from soprano.sampling import sample
from soprano.stft import istft

OWN_CALLS = replace(INTERLEAVING, reach=("IN-04", "IN-07", "IN-08"))
STREAMS = replace(STREAMING, reach=("ST-10", "ST-12", "ST-13"))


@fault(OWN_CALLS, "IN-07", hard=True)
def refused_history_stays(subject: Subject) -> Subject:
    """The set of penalised ids is emptied at the end of a call, not when the call is refused."""
    seen: set[int] = set()

    def kept(logits: Any, history: Sequence[int], options: Any, uniform: Any) -> int:
        if all(isinstance(i, int) and 0 <= i < np.size(logits) for i in history):
            seen.update(history)
        chosen = sample(logits, sorted({*seen, *history}), options, uniform)
        seen.clear()
        return chosen

    return with_stages(subject, sample=kept)


@fault(OWN_CALLS, "IN-07", with_own_loops, hard=True)
class OwnDrawsStayInTheQueue(OwnLoops):
    """Uniforms wait in a queue of the object; those that a failed call has not used come first."""

    waiting: tuple[float, ...] = ()

    def synthesize(self, ids: Any, options: Any, uniforms: Any, limit: int) -> SynthesisResult:
        self.waiting = (*self.waiting, *uniforms)
        result = super().synthesize(ids, options, self.waiting, limit)
        self.waiting = ()
        return result


@fault(OWN_CALLS, "IN-08", hard=True)
def samples_are_kept_and_returned(subject: Subject) -> Subject:
    """The samples of the last spectra are kept, and the caller gets the array that is kept."""
    kept: dict[Any, Any] = {}

    def remembered(spectrum: Any, *arguments: Any, **options: Any) -> Any:
        key = np.asarray(spectrum).tobytes(), str(arguments), str(options)
        if key not in kept:
            kept[key] = istft(spectrum, *arguments, **options)
        return kept[key]

    return with_stages(subject, istft=remembered)


@fault(OWN_CALLS, "IN-08", with_backend, hard=True)
class PromptsAreRemembered(Wrapper):
    """The outputs of a prompt are kept, and a second call returns the same arrays."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.kept: dict[Any, Output] = {}

    def prefill(self, ids: Any, lengths: Any) -> Output:
        output: Output = self.inner.prefill(ids, lengths)
        kept = self.kept.setdefault((ids.tobytes(), lengths.tobytes()), output)
        return kept._replace(state=output.state)


@fault(OWN_CALLS, "IN-08", with_own_loops, hard=True)
class OwnChunksAreViews(OwnLoops):
    """A chunk is a view of the buffer in which the first sample of the next one is computed."""

    def stream(self, *arguments: Any) -> Iterator[Float32]:
        whole = np.concatenate([np.zeros(0, np.float32), *super().stream(*arguments)])
        size = arguments[-1] * self.stages.config.decoder.samples_per_token
        written = np.float32(0)
        for start in range(0, len(whole), size):
            if start:
                whole[start] += whole[start - 1] - written
            chunk = whole[start : start + size]
            written = chunk[-1]
            yield chunk


@fault(OWN_CALLS, "IN-07", with_own_loops, hard=True)
class OwnPenaltyStaysAfterARefusal(OwnLoops):
    """The penalised ids of `synthesize` are forgotten at its end, not when it is refused."""

    left: Sequence[int] = ()

    def synthesize(self, ids: Sequence[int], *arguments: Any) -> SynthesisResult:
        left, size = list(self.left), self.inner.config.language_model.vocab_size
        self.left = [i for i in ids if 0 <= i < size]

        def penalised(logits: Any, history: Sequence[int], *rest: Any) -> int:
            return self.stages.sample(logits, [*left, *history], *rest)

        own = OwnLoops(self.inner, replace(self.stages, sample=penalised))
        result = own.synthesize(ids, *arguments)
        self.left = ()
        return result


@fault(OWN_CALLS, "IN-04", with_backend, hard=True)
class CachesOfTheThread(Wrapper):
    """KV caches are in memory of the thread that made them: another thread begins without one."""

    def prefill(self, ids: Any, lengths: Any) -> Output:
        return self.owned(self.inner.prefill(ids, lengths))

    def step(self, ids: Any, state: Any) -> Output:
        if getattr(state, "thread", None) != threading.get_ident():
            rows = np.asarray(ids)[:, None]
            return self.owned(self.inner.prefill(rows, np.ones(len(rows), np.int64)))
        return self.owned(self.inner.step(ids, state))

    def owned(self, output: Output) -> Output:
        output.state.thread = threading.get_ident()
        return output


@fault(OWN_CALLS, "IN-04", with_backend, hard=True)
class LongInputsShareABuffer(Wrapper):
    """From 40 hidden states on, the decoder's input passes through a buffer of the object."""

    buffer: Any = None

    def decode(self, hidden: Any, lengths: Any) -> Any:
        if np.ndim(hidden) != 3 or np.shape(hidden)[1] < 40:
            return self.inner.decode(hidden, lengths)
        self.buffer = hidden
        self.inner.decode(hidden[:, :1], np.minimum(lengths, 1))
        shared = self.buffer
        return self.inner.decode(shared if shared.shape == hidden.shape else hidden, lengths)


@fault(LOOP, "GE-16", with_own_loops, hard=True)
class OwnLimitLooksAhead(OwnLoops):
    """At the limit of a greedy utterance, [STOP] as the next id decides the finish reason."""

    def synthesize(self, *arguments: Any) -> SynthesisResult:
        result = super().synthesize(*arguments)
        ids, options, uniforms, limit = arguments
        if options.temperature or result.finish == "stop":
            return result
        longer = super().synthesize(ids, options, [*uniforms, 0.5], limit + 1)
        return result._replace(finish=longer.finish)


@fault(STREAMS, "ST-12", with_own_loops, hard=True)
class OwnStreamPausesAfterItsFirstChunk(OwnLoops):
    """The first chunk comes early; the others wait for the last token."""

    def stream(self, *arguments: Any) -> Iterator[Float32]:
        chunks = super().stream(*arguments)
        yield next(chunks)
        yield from list(chunks)


@fault(STREAMS, "ST-13", with_own_loops, hard=True)
class OwnStreamGeneratesOn(OwnLoops):
    """A thread generates to the end of the utterance, whether the stream is read or closed."""

    def stream(self, *arguments: Any) -> Iterator[Float32]:
        chunks: queue.Queue[Float32 | None] = queue.Queue()

        def work() -> None:
            for chunk in OwnLoops.stream(self, *arguments):
                chunks.put(chunk)
            chunks.put(None)

        threading.Thread(target=work, daemon=True).start()
        while (chunk := chunks.get()) is not None:
            yield chunk


def with_kept(key: Any) -> Any:
    """An ISTFT whose geometry is that of the first call with a key."""
    first: dict[Any, Any] = {}

    def kept(spectrum: Any, config: Any, layout: str = "bft2", **options: Any) -> Any:
        known = first.setdefault(key(config), config)
        changed = replace(config, window=known.window, win_length=known.win_length)
        return istft(spectrum, changed, layout, **options)

    return kept


@fault(ISTFT, "IS-34", hard=True)
def window_kept_by_its_size(subject: Subject) -> Subject:
    """Windows are kept by n_fft: the first window of a size is used for all of this size."""
    return with_stages(subject, istft=with_kept(lambda config: config.n_fft))


@fault(ISTFT, "IS-34", hard=True)
def envelope_kept_by_its_length(subject: Subject) -> Subject:
    """The envelope is kept by n_fft and the number of samples, without the hop."""
    kept: dict[Any, Any] = {}

    def divided(spectrum: Any, config: Any, layout: str = "bft2", **options: Any) -> Any:
        samples = istft(spectrum, config, layout, **options)
        if not config.center or options.get("length") is not None or not samples.size:
            return samples
        frames = samples.shape[1] // config.hop_length + 1
        own = envelope(frames, config)
        used = kept.setdefault((config.n_fft, len(own)), own)
        half = config.n_fft // 2
        level = (own / used)[half : half + samples.shape[1]]
        return samples * level.astype(np.float32)

    return with_stages(subject, istft=divided)


@fault(RUNTIME, "AT-06", hard=True)
def requested_threads_attested(subject: Subject) -> Subject:
    """The threads that are requested are attested, and the runtime takes its default."""

    def open_backend(
        name: str, model: Path, precision: str = "fp32", threads: int | None = None
    ) -> Backend:
        opened: Any = subject.open_backend(name, model, precision, None)
        attest = opened.attest
        if threads:
            stated = Attested(str(threads), "read back")
            opened.attest = lambda: {**attest(), "threads": stated}
        return opened  # type: ignore[no-any-return]

    return replace(subject, open_backend=open_backend)
