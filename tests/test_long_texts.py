"""SY: texts of any length: retries, progress, cancellation, and memory that does not grow."""

import gc
import tracemalloc
import weakref

import numpy as np
import pytest

from conformance.golden.packs import fixture_models
from soprano.backends import Capabilities, Output
from soprano.checkpoint.folder import ModelFolder
from soprano.sampling import uniforms  # the definition: the expected draws

MODEL = next(path for path in fixture_models() if path.name == "v11")
SENTENCE = "A sentence of some forty characters here. "
OPTIONS = {"temperature": 1.0, "top_p": 1.0, "repetition_penalty": 1.0}


class NoiseBackend:
    """A backend without networks: equal logits, counted hidden states, and noise as spectra.

    The state of a row is the index of its prompt and the number of its steps. The hidden states of
    the first `stuck` prompts hardly change from step to step. The step number `interrupt` raises
    `KeyboardInterrupt`.
    """

    name = "noise"
    capabilities = Capabilities()

    def __init__(self, stuck=0, interrupt=None):
        self.config = ModelFolder.open(MODEL).config
        self.alive, self.most, self.steps, self.prompts = 0, 0, 0, 0
        self._stuck, self._interrupt = stuck, interrupt

    def attest(self):
        return {}

    def prefill(self, ids, lengths):
        first, self.prompts = self.prompts, self.prompts + len(ids)
        return self._output([(first + row, 0) for row in range(len(ids))])

    def step(self, ids, state):
        self.steps += 1
        if self.steps == self._interrupt:
            raise KeyboardInterrupt
        return self._output([(prompt, count + 1) for prompt, count in state])

    def fork(self, state):
        return list(state)

    def select(self, state, rows):
        return [state[row] for row in rows]

    def join(self, first, second):
        return first + second

    def decode(self, hidden, lengths):
        decoder = self.config.decoder
        shape = (len(hidden), decoder.bins, decoder.frames(int(lengths.max())), 2)
        return np.random.default_rng(int(lengths.sum())).standard_normal(shape, np.float32)

    def close(self):
        pass

    def _output(self, state):
        config = self.config.language_model
        change = [[1.0 if prompt < self._stuck else 1000.0] for prompt, _ in state]
        parity = [[count % 2] for _, count in state]
        hidden = np.multiply(change, parity) * np.ones(config.hidden_size)
        logits = np.zeros((len(state), config.vocab_size), np.float32)
        logits[:, config.eos_token_id] = -np.inf  # every utterance reaches its limit
        return Output(logits, self._counted(hidden.astype(np.float32)), state)

    def _counted(self, hidden):
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(hidden, self._released)
        return hidden

    def _released(self):
        self.alive -= 1


@pytest.fixture(scope="session")
def voice_over(subject, stages_over):
    """The voice of the run over a backend."""
    return lambda backend: subject.voice(MODEL, stages_over(backend))


def infer_text(voice, count, **options):
    """The audio of a text of `count` sentences, 24 tokens each."""
    settings = {**OPTIONS, "max_new_tokens": 24, "batch_size": 4, **options}
    audio = voice.infer_batch([SENTENCE * count], **settings)[0]
    assert len(audio.sentences) == count
    return audio


def expected_ids(index, attempt, count, seed=0):
    """The ids of a sentence when every id except `[STOP]` has the same probability."""
    config = ModelFolder.open(MODEL).config.language_model
    allowed = [i for i in range(config.vocab_size) if i != config.eos_token_id]
    draws = uniforms(seed, index, attempt)
    return [allowed[int(next(draws) * len(allowed))] for _ in range(count)]


@pytest.mark.requirement("SY-20")
@pytest.mark.parametrize("retries", [0, 2])
def test_hidden_states_are_released_with_their_sentence(voice_over, judge, retries):
    backends = {count: NoiseBackend(stuck=count) for count in (8, 32)}
    for count, backend in backends.items():
        infer_text(voice_over(backend), count, retries=retries)
    judge.equal("states alive at once", backends[32].most <= backends[8].most + 1, True)
    backend = NoiseBackend()
    infer_text(voice_over(backend), 8)
    judge.equal("states alive after the text", backend.alive, 0)


@pytest.mark.requirement("SY-20")
def test_memory_of_the_pipeline_grows_only_by_the_audio(voice_over, judge):
    def measure(count):
        """The size of the audio in bytes, and the peak memory of the text."""
        voice = voice_over(NoiseBackend())
        tracemalloc.start()
        try:
            return infer_text(voice, count).samples.nbytes, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    infer_text(voice_over(NoiseBackend()), 8)  # loads what is loaded or cached once
    short, before = measure(8)
    long, after = measure(64)
    growth = (after - before) / (long - short)
    # A second copy of the samples makes it 2; text, ids and timings are far smaller.
    judge.below("growth relative to the audio", growth, 1.5, wrong=2.0)


@pytest.mark.requirement("SY-13")
@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_stuck_sentence_is_generated_again_from_another_stream(voice_over, judge, batch_size):
    backend = NoiseBackend(stuck=2)
    options = {**OPTIONS, "batch_size": batch_size, "max_new_tokens": 40, "retries": 3}
    audio = voice_over(backend).infer_batch([SENTENCE * 3], **options)[0]
    for index, attempt in enumerate((1, 1, 0)):
        ids = audio.sentences[index].token_ids
        judge.equal(f"ids of sentence {index}", ids, expected_ids(index, attempt, 40))
    judge.equal("prompts", backend.prompts, 3 + 2)


@pytest.mark.requirement("SY-13")
def test_the_last_retry_is_kept_although_it_is_stuck(voice_over, judge):
    backend = NoiseBackend(stuck=100)
    audio = voice_over(backend).infer(SENTENCE, max_new_tokens=40, retries=2, **OPTIONS)
    judge.equal("ids", audio.sentences[0].token_ids, expected_ids(0, 2, 40))
    judge.equal("prompts", backend.prompts, 3)


@pytest.mark.requirement("SY-13")
def test_a_greedy_sentence_is_generated_again_only_at_a_retry_temperature(voice_over, judge):
    greedy = {**OPTIONS, "temperature": 0.0, "max_new_tokens": 40, "retries": 1}
    for temperature, prompts in ((None, 1), (0.0, 1), (1.0, 2)):
        backend = NoiseBackend(stuck=1)
        audio = voice_over(backend).infer(SENTENCE, retry_temperature=temperature, **greedy)
        judge.equal(f"prompts at {temperature}", backend.prompts, prompts)
        expected = expected_ids(0, 1, 40) if prompts == 2 else [0] * 40
        judge.equal(f"ids at {temperature}", audio.sentences[0].token_ids, expected)


@pytest.mark.requirement("SY-16")
def test_progress_counts_every_sentence_once(voice_over, judge):
    voice = voice_over(NoiseBackend(stuck=3))
    short = {**OPTIONS, "max_new_tokens": 20}
    calls = {"infer": [], "batch": [], "stream": []}

    def record(call):
        return lambda done, total: calls[call].append((done, total))

    voice.infer(SENTENCE * 5, progress=record("infer"), retries=2, **short)
    texts = [SENTENCE * 2, SENTENCE * 3]
    voice.infer_batch(texts, progress=record("batch"), batch_size=2, **short)
    list(voice.infer_stream(SENTENCE * 5, progress=record("stream"), **short))
    for call, progress in calls.items():
        judge.equal(call, progress, [(done, 5) for done in range(1, 6)])


class StopError(Exception):
    """An exception of a caller's own code."""


def raise_at_two(done, total):
    if done == 2:
        raise StopError


def close_stream(voice):
    stream = voice.infer_stream(SENTENCE * 4, max_new_tokens=30, **OPTIONS)
    next(stream)
    stream.close()


def drop_stream(voice):
    next(voice.infer_stream(SENTENCE * 4, max_new_tokens=30, **OPTIONS))


def raise_in_progress(voice):
    with pytest.raises(StopError):
        voice.infer(SENTENCE * 4, max_new_tokens=30, progress=raise_at_two, **OPTIONS)


def interrupt(voice):
    with pytest.raises(KeyboardInterrupt):
        voice.infer(SENTENCE * 4, max_new_tokens=30, **OPTIONS)


@pytest.mark.requirement("SY-17")
@pytest.mark.parametrize("cancel", [close_stream, drop_stream, raise_in_progress, interrupt])
def test_cancelled_work_leaves_nothing_behind(voice_over, judge, cancel):
    backend = NoiseBackend(interrupt=20 if cancel is interrupt else None)
    voice = voice_over(backend)
    first = voice.infer(SENTENCE, max_new_tokens=9, **OPTIONS)
    cancel(voice)
    gc.collect()
    judge.equal("states alive", backend.alive, 0)
    again = voice.infer(SENTENCE, max_new_tokens=9, **OPTIONS)
    judge.bits("samples", again.samples, first.samples)
    judge.equal("ids", again.sentences[0].token_ids, expected_ids(0, 0, 9))


@pytest.mark.requirement("SY-18")
def test_a_cancelled_batch_keeps_the_complete_files(voice_over, judge, tmp_path):
    voice = voice_over(NoiseBackend())
    options = {**OPTIONS, "batch_size": 1, "max_new_tokens": 20}
    with pytest.raises(StopError):
        voice.infer_batch([SENTENCE] * 4, tmp_path, progress=raise_at_two, **options)
    judge.equal("files", sorted(path.name for path in tmp_path.iterdir()), ["0.wav", "1.wav"])
    size = 44 + 2 * 19 * voice.config.decoder.samples_per_token
    judge.equal("bytes", [path.stat().st_size for path in tmp_path.iterdir()], [size] * 2)
