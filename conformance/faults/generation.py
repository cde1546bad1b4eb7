"""Faults of the book-keeping around the networks: rows, texts, options and what is reported."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from conformance.faults.fault import BATCHING, HIDDEN, SAMPLER, STREAMING, SYNTHESIS, fault
from conformance.faults.plant import Plant
from soprano import audio, generate, synthesis
from soprano.generate import Prompt, Token
from soprano.streaming import StreamingDecoder
from soprano.synthesis import SopranoTTS

LOOP = replace(SAMPLER, name="generation loop", blame=("GE",), reach=SAMPLER.reach[1:])


@fault("GE-50", LOOP, hard=True)
def slot_keeps_its_history(plant: Plant) -> None:
    """A row that takes a finished one's place goes on with that one's history of ids."""
    left: list[list[int]] = []
    advance = generate._advance

    def faulty(row: Any, logits: Any, hidden: Any, stop: int) -> Token:
        if not row.generated and left:
            row.prompt = replace(row.prompt, ids=row.prompt.ids + left.pop())
        token = advance(row, logits, hidden, stop)
        if token.finish:
            left[:] = [list(row.generated)]
        return token

    plant.set(generate, "_advance", faulty)


@fault("GE-51", LOOP, hard=True)
def history_lacks_the_last_id(plant: Plant) -> None:
    """The penalty is computed before the last id is entered into the history."""

    def choose(row: Any, logits: Any) -> int:
        draw = next(row.prompt.uniforms) if row.prompt.sampling.temperature else None
        history = row.prompt.ids + row.generated[:-1]
        return int(generate.sample(logits, history, row.prompt.sampling, draw))

    plant.set(generate._Row, "choose", choose)


@fault("GE-52", LOOP, hard=True)
def draw_taken_by_greedy_rows_too(plant: Plant) -> None:
    """Every token takes a draw, whether it is sampled or not."""
    choose = generate._Row.choose

    def faulty(row: Any, logits: Any) -> int:
        if not row.prompt.sampling.temperature:
            next(row.prompt.uniforms, None)
        return int(choose(row, logits))

    plant.set(generate._Row, "choose", faulty)


@fault("GE-53", LOOP, hard=True)
def prompts_padded_on_the_left(plant: Plant) -> None:
    """Prompts of different lengths are padded on the left, as another library wants them."""
    pad = generate.pad

    def faulty(rows: list[list[int]]) -> Any:
        ids, lengths = pad(rows)
        shifts = ids.shape[1] - lengths
        turned = [np.roll(row, shift) for row, shift in zip(ids, shifts, strict=True)]
        return (np.stack(turned) if turned else ids), lengths

    plant.replace(pad, faulty)


@fault("GE-54", LOOP, hard=True)
def tokens_come_with_the_next_step(plant: Plant) -> None:
    """A token is given only when the step after it has been computed."""
    inner = generate.generate

    def faulty(*args: Any, **options: Any) -> Iterator[Token]:
        held: list[Token] = []
        for token in inner(*args, **options):
            held.append(token)
            if len(held) > 1:
                yield held.pop(0)
        yield from held

    plant.replace(inner, faulty)


@fault("GE-55", HIDDEN, hard=True, blame=("GE", "SY"))
def limit_counts_the_prompt(plant: Plant) -> None:
    """The limit of new tokens counts the prompt's ids too."""
    inner = generate.generate

    def faulty(backend: Any, prompts: Any, **options: Any) -> Iterator[Token]:
        def shorter(prompt: Prompt) -> Prompt:
            left = max(prompt.max_new_tokens - len(prompt.ids), 1)
            return replace(prompt, max_new_tokens=left)

        yield from inner(backend, [shorter(prompt) for prompt in prompts], **options)

    plant.replace(inner, faulty)


@fault("SY-52", SYNTHESIS, blame=("SY", "ST"))
def pause_between_sentences(plant: Plant) -> None:
    """A tenth of a second of silence is put between sentences, which nobody asked for."""
    inner = SopranoTTS._audio

    def faulty(voice: Any, pieces: Any) -> Any:
        pause = np.zeros(voice.sample_rate // 10, np.float32)
        for piece in pieces[:-1]:
            piece.samples = np.concatenate([piece.samples, pause])
        return inner(voice, pieces)

    plant.set(SopranoTTS, "_audio", faulty)


@fault("SY-53", BATCHING, hard=True, blame=("SY", "BA"))
def texts_come_sorted_by_length(plant: Plant) -> None:
    """Texts are sorted by length to fill batches better, and never put back in order."""
    inner = SopranoTTS.infer_batch

    def faulty(voice: Any, texts: Any, *args: Any, **options: Any) -> Any:
        if isinstance(texts, str):
            return inner(voice, texts, *args, **options)
        return inner(voice, sorted(texts, key=len), *args, **options)

    plant.set(SopranoTTS, "infer_batch", faulty)


@fault("SY-55", SYNTHESIS, hard=True, blame=("SY",))
def one_retry_too_many(plant: Plant) -> None:
    """Retries are counted from one: a stuck utterance is tried once more than was allowed."""
    speak = SopranoTTS._speak

    def faulty(voice: Any, pieces: Any, settings: Any, batch_size: int) -> Any:
        more = settings.retries + 1 if settings.retries else 0
        return speak(voice, pieces, replace(settings, retries=more), batch_size)

    plant.set(SopranoTTS, "_speak", faulty)


@fault("SY-56", SYNTHESIS, hard=True, blame=("SY", "ST"))
def stream_ignores_the_options(plant: Plant) -> None:
    """The streaming path takes seed and temperature and forgets top-p, top-k and the penalty."""
    stream = SopranoTTS._stream

    def faulty(voice: Any, pieces: Any, settings: Any, *rest: Any) -> Any:
        known = replace(voice.defaults, temperature=settings.sampling.temperature)
        return stream(voice, pieces, replace(settings, sampling=known), *rest)

    plant.set(SopranoTTS, "_stream", faulty)


@fault("SY-57", SYNTHESIS, hard=True, blame=("SY",))
def states_kept_for_later(plant: Plant) -> None:
    """The voice keeps the hidden states of every sentence, for a report that nobody reads."""
    sound, kept = SopranoTTS._sound, []

    def faulty(voice: Any, piece: Any) -> None:
        kept.append(list(piece.hidden))
        sound(voice, piece)

    plant.set(SopranoTTS, "_sound", faulty)


@fault("SY-58", SYNTHESIS, hard=True, blame=("SY",))
def ranges_in_whole_frames(plant: Plant) -> None:
    """Where a sentence begins and ends is counted in its tokens, one more than it has samples."""
    inner = SopranoTTS._audio

    def faulty(voice: Any, pieces: Any) -> Any:
        made = inner(voice, pieces)
        size, at, told = voice.config.decoder.samples_per_token, 0, []
        for sentence in made.sentences:
            stop = at + len(sentence.token_ids) * size
            told.append(replace(sentence, start=at, stop=stop))
            at = stop
        return audio.Audio(made.samples, made.sample_rate, told)

    plant.set(SopranoTTS, "_audio", faulty)


@fault("SY-59", BATCHING, hard=True, blame=("SY", "BA"))
def sentences_numbered_through_the_batch(plant: Plant) -> None:
    """A sentence's draws are keyed by its place in the batch, not in its own text."""
    inner = SopranoTTS._generate

    def faulty(voice: Any, pieces: Any, *rest: Any) -> Any:
        own = [piece.number for piece in pieces]
        for place, piece in enumerate(pieces):
            piece.number = place
        yield from inner(voice, pieces, *rest)
        for piece, number in zip(pieces, own, strict=True):
            piece.number = number

    plant.set(SopranoTTS, "_generate", faulty)


@fault("ST-56", STREAMING, hard=True)
def chunk_as_soon_as_anything_is_ready(plant: Plant) -> None:
    """A chunk is given as soon as any samples are ready, whatever size was asked for."""
    stream = SopranoTTS._stream

    def faulty(voice: Any, pieces: Any, settings: Any, size: int, progress: Any) -> Any:
        return stream(voice, pieces, settings, 1, progress)

    plant.set(SopranoTTS, "_stream", faulty)


@fault("ST-57", STREAMING, hard=True, blame=("SY", "ST"))
def stream_numbers_every_sentence_zero(plant: Plant) -> None:
    """Sentences of a stream are each taken for a text of its own: all meet the first draws."""
    inner, stream = synthesis.uniforms, SopranoTTS._stream

    def faulty(*args: Any) -> Any:
        plant.set(synthesis, "uniforms", lambda seed, sentence, attempt: inner(seed, 0, attempt))
        try:
            yield from stream(*args)
        finally:
            plant.set(synthesis, "uniforms", inner)

    plant.set(SopranoTTS, "_stream", faulty)


@fault("ST-58", STREAMING, hard=True)
def stream_through_16_bits(plant: Plant) -> None:
    """Chunks pass through 16-bit samples on their way to the caller."""
    flush = StreamingDecoder.flush

    def faulty(decoder: Any, *, last: bool = False) -> Any:
        samples = flush(decoder, last=last)
        return (np.rint(samples * 32767) / 32767).astype(np.float32)

    plant.set(StreamingDecoder, "flush", faulty)
