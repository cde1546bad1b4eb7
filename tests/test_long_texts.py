"""Texts of any length: progress, retries, cancellation, and memory that does not grow."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from typing import Any

import numpy as np
import pytest

from conformance.golden.packs import fixture_models, is_trained_voice
from conformance.judging import memory as footprint
from conformance.judging import tolerances
from conformance.judging.skips import NotDeclared
from soprano.backends import Attestation, Capabilities, Float32, Int64, Output
from soprano.checkpoint.folder import ModelFolder
from soprano.sampling import uniforms
from soprano.synthesis import SopranoTTS

MODEL = next(path for path in fixture_models() if path.name == "v11")
SENTENCE = "A sentence of some forty characters here. "
OPTIONS: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0, "repetition_penalty": 1.0}


class Babbler:
    """A backend without networks: states that are counted while they live, and noise for sound.

    A row's state is its prompt's length and the number of its steps; `near` of its first
    attempts give states that hardly move, the mark of an utterance that got stuck.
    """

    name = "babbler"
    capabilities = Capabilities()

    def __init__(self, near: int = 0, interrupt: int | None = None) -> None:
        self.config = ModelFolder.open(MODEL).config
        self.alive, self.most, self.steps, self.prompts = 0, 0, 0, 0
        self._near, self._interrupt = near, interrupt

    def attest(self) -> Attestation:
        return {}

    def prefill(self, ids: Int64, lengths: Int64) -> Output:
        first, self.prompts = self.prompts, self.prompts + len(ids)
        return self._output([(first + row, 0) for row in range(len(ids))])

    def step(self, ids: Int64, state: list[tuple[int, int]]) -> Output:
        self.steps += 1
        if self.steps == self._interrupt:
            raise KeyboardInterrupt
        return self._output([(row, count + 1) for row, count in state])

    def fork(self, state: Any) -> Any:
        return list(state)

    def select(self, state: Any, rows: Any) -> Any:
        return [state[row] for row in rows]

    def join(self, first: Any, second: Any) -> Any:
        return first + second

    def decode(self, hidden: Float32, lengths: Int64) -> Float32:
        decoder = self.config.decoder
        shape = (len(hidden), decoder.bins, decoder.frames(int(lengths.max())), 2)
        return np.random.default_rng(int(lengths.sum())).standard_normal(shape, np.float32)

    def close(self) -> None:
        pass

    def _output(self, rows: list[tuple[int, int]]) -> Output:
        size = self.config.language_model.hidden_size
        scale = [1.0 if row < self._near else 1000.0 for row, _ in rows]
        hidden = np.array(
            [[s * (count % 2)] * size for s, (_, count) in zip(scale, rows, strict=True)]
        )
        logits = np.zeros((len(rows), self.config.language_model.vocab_size), np.float32)
        logits[:, self.config.language_model.eos_token_id] = -np.inf  # each runs to its limit
        return Output(logits, self._counted(hidden.astype(np.float32)), rows)

    def _counted(self, hidden: Float32) -> Float32:
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(hidden, self._gone)
        return hidden

    def _gone(self) -> None:
        self.alive -= 1


def speak(count: int, near: int = 0, **options: Any) -> tuple[Babbler, int]:
    """The backend after a text of `count` sentences, and its samples' bytes."""
    backend = Babbler(near)
    voice = SopranoTTS.over(backend, MODEL)
    settings = {**OPTIONS, "max_new_tokens": 24, "batch_size": 4, **options}
    audio = voice.infer_batch([SENTENCE * count], **settings)[0]
    assert len(audio.sentences) == count
    return backend, audio.samples.nbytes


def measured(count: int) -> tuple[int, int]:
    """The samples' bytes of a text of `count` sentences, and the peak of memory."""
    tracemalloc.start()
    try:
        return speak(count)[1], tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.requirement("SY-15")
@pytest.mark.parametrize("retries", [0, 2])
def test_hidden_states_do_not_outlive_their_sentence(judge, retries):
    most = {n: speak(n, retries=retries, near=n)[0].most for n in (8, 32)}
    judge.equal("states alive at once", most[32] <= most[8] + 1, True)
    judge.equal("states leave nothing", speak(8)[0].alive, 0)


@pytest.mark.requirement("SY-15")
def test_memory_grows_by_the_audio_alone(judge):
    """Twice the samples would be a copy kept; the text, ids and timings are far smaller."""
    speak(8)  # whatever is loaded or cached once
    short, before = measured(8)
    long, after = measured(64)
    growth = (after - before) / (long - short)
    judge.below("growth by the audio's", growth, 1.5, wrong=2.0)


@pytest.mark.requirement("SY-15")
def test_the_memory_of_a_process_grows_by_the_audio_alone(backend, judge, request):
    name, model = request.node.callspec.params["backend"]
    if not footprint.measurable() or not is_trained_voice(ModelFolder.open(model)):
        raise NotDeclared("it is measured on Linux, where the trained voice speaks")
    beyond = footprint.excess(name, model, backend.capabilities.precision)
    limit, kept = tolerances.FOOTPRINT, tolerances.KERNELS_KEPT
    judge.below("KiB a sentence beyond the audio", beyond, limit, footprint.LONG, wrong=kept)


def drawn(number: int, attempt: int, count: int, seed: int = 0) -> list[int]:
    """The ids of a sentence when every id but `[STOP]` is as likely as another."""
    config = ModelFolder.open(MODEL).config.language_model
    allowed = [i for i in range(config.vocab_size) if i != config.eos_token_id]
    draws = uniforms(seed, number, attempt)
    return [allowed[int(next(draws) * len(allowed))] for _ in range(count)]


@pytest.mark.requirement("SY-13")
@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_stuck_sentence_is_spoken_again_from_another_stream(judge, batch_size):
    backend = Babbler(near=2)
    voice = SopranoTTS.over(backend, MODEL)
    audio = voice.infer_batch(
        [SENTENCE * 3], batch_size=batch_size, max_new_tokens=40, retries=3, **OPTIONS
    )[0]
    for number, attempt in enumerate((1, 1, 0)):
        ids = audio.sentences[number].token_ids
        judge.equal(f"ids of sentence {number}", ids, drawn(number, attempt, 40))
    judge.equal("prompts", backend.prompts, 3 + 2)


@pytest.mark.requirement("SY-13")
def test_retries_end_and_the_last_try_is_kept(judge):
    backend = Babbler(near=100)
    voice = SopranoTTS.over(backend, MODEL)
    audio = voice.infer(SENTENCE, max_new_tokens=40, retries=2, **OPTIONS)
    judge.equal("ids", audio.sentences[0].token_ids, drawn(0, 2, 40))
    judge.equal("prompts", backend.prompts, 3)


@pytest.mark.requirement("SY-13")
def test_a_greedy_sentence_is_spoken_again_at_a_retry_temperature_alone(judge):
    greedy = {**OPTIONS, "temperature": 0.0, "max_new_tokens": 40, "retries": 1}
    for temperature, prompts in ((None, 1), (0.0, 1), (1.0, 2)):
        backend = Babbler(near=1)
        voice = SopranoTTS.over(backend, MODEL)
        audio = voice.infer(SENTENCE, retry_temperature=temperature, **greedy)
        judge.equal(f"prompts at {temperature}", backend.prompts, prompts)
        wanted = drawn(0, 1, 40) if prompts == 2 else [0] * 40
        judge.equal(f"ids at {temperature}", audio.sentences[0].token_ids, wanted)


@pytest.mark.requirement("SY-16")
def test_progress_counts_every_sentence_once(judge):
    voice = SopranoTTS.over(Babbler(near=3), MODEL)
    short = {**OPTIONS, "max_new_tokens": 20}
    calls: dict[str, list[tuple[int, int]]] = {"infer": [], "batch": [], "stream": []}

    def note(way: str) -> Any:
        return lambda done, total: calls[way].append((done, total))

    voice.infer(SENTENCE * 5, progress=note("infer"), retries=2, **short)
    voice.infer_batch([SENTENCE * 2, SENTENCE * 3], progress=note("batch"), batch_size=2, **short)
    list(voice.infer_stream(SENTENCE * 5, progress=note("stream"), **short))
    for way, found in calls.items():
        judge.equal(way, found, [(done, 5) for done in range(1, 6)])


class StopError(Exception):
    """What a caller's own code may raise."""


def refuse(done: int, total: int) -> None:
    if done == 2:
        raise StopError


def close_early(voice: SopranoTTS) -> None:
    stream = voice.infer_stream(SENTENCE * 4, max_new_tokens=30, **OPTIONS)
    next(stream)
    stream.close()


def drop_early(voice: SopranoTTS) -> None:
    next(voice.infer_stream(SENTENCE * 4, max_new_tokens=30, **OPTIONS))


def stop_in_progress(voice: SopranoTTS) -> None:
    with pytest.raises(StopError):
        voice.infer(SENTENCE * 4, max_new_tokens=30, progress=refuse, **OPTIONS)


def interrupt(voice: SopranoTTS) -> None:
    with pytest.raises(KeyboardInterrupt):
        voice.infer(SENTENCE * 4, max_new_tokens=30, **OPTIONS)


@pytest.mark.requirement("SY-17")
@pytest.mark.parametrize("way", [close_early, drop_early, stop_in_progress, interrupt])
def test_work_that_is_given_up_leaves_nothing_behind(judge, tmp_path, way):
    backend = Babbler(interrupt=20 if way is interrupt else None)
    voice = SopranoTTS.over(backend, MODEL)
    first = voice.infer(SENTENCE, max_new_tokens=9, **OPTIONS)
    way(voice)
    gc.collect()
    judge.equal("states alive", backend.alive, 0)
    again = voice.infer(SENTENCE, max_new_tokens=9, **OPTIONS)
    judge.same("samples", again.samples, first.samples)
    judge.equal("ids", again.sentences[0].token_ids, drawn(0, 0, 9))


@pytest.mark.requirement("SY-18")
def test_a_batch_that_is_given_up_leaves_whole_files(judge, tmp_path):
    voice = SopranoTTS.over(Babbler(), MODEL)
    with pytest.raises(StopError):
        voice.infer_batch(
            [SENTENCE] * 4, tmp_path, progress=refuse, batch_size=1, max_new_tokens=20, **OPTIONS
        )
    judge.equal("files", sorted(path.name for path in tmp_path.iterdir()), ["0.wav", "1.wav"])
    size = 44 + 2 * 19 * voice.config.decoder.samples_per_token
    judge.equal("bytes", [path.stat().st_size for path in tmp_path.iterdir()], [size] * 2)
