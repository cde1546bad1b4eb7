"""Faults around the networks: batches, texts, options, and what is reported."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any

import numpy as np

import soprano.synthesis
from conformance.faults.fault import BATCHING, HIDDEN, LOOP, STREAMING, SYNTHESIS, fault
from conformance.faults.network_hooks import patch
from conformance.faults.plant import (
    Wrapper,
    as_stage,
    with_advance,
    with_stages,
    with_streamed_path,
    with_voice,
)
from conformance.faults.planted.hidden_states import with_tokens_changed
from conformance.subject import Subject
from soprano.audio import Audio, AudioChunk
from soprano.drafting import Agreement, Drafter
from soprano.generate import Generation, Prompt, Token, advance, generate
from soprano.sampling import uniforms
from soprano.stages import Stages
from soprano.streaming import stream
from soprano.synthesis import SopranoTTS


@fault(LOOP, "GE-07", hard=True)
def slot_keeps_its_history(subject: Subject) -> Subject:
    """An utterance that takes a free row of the batch also gets the history of the one before."""
    left: list[list[int]] = []

    def faulty(stages: Stages, generation: Generation, logits: Any, hidden: Any) -> Token:
        if not generation.ids and left:
            prompt = generation.prompt
            generation.prompt = replace(prompt, ids=prompt.ids + left.pop())
        token = advance(stages, generation, logits, hidden)
        if token.finish:
            left[:] = [list(generation.ids)]
        return token

    return with_advance(subject, faulty)


@fault(LOOP, "GE-07", with_advance, hard=True)
def history_lacks_the_last_id(
    stages: Stages, generation: Generation, logits: Any, hidden: Any
) -> Token:
    """The penalty is applied before the last id is added to the history."""

    def sample(logits: Any, history: list[int], options: Any, uniform: Any) -> int:
        known = history[:-1] if generation.ids else history
        return stages.sample(logits, known, options, uniform)

    return advance(replace(stages, sample=sample), generation, logits, hidden)


@fault(LOOP, "GE-01", with_advance, hard=True)
def draw_taken_by_greedy_rows_too(
    stages: Stages, generation: Generation, logits: Any, hidden: Any
) -> Token:
    """Every token takes a uniform, also at temperature 0."""
    if not generation.prompt.sampling.temperature:
        next(generation.prompt.uniforms, None)
    return advance(stages, generation, logits, hidden)


@fault(LOOP, "GE-05", hard=True)
def prompts_padded_on_the_left(subject: Subject) -> Subject:
    """Prompts of different lengths are padded on the left, as another library requires."""

    class LeftPadded(Wrapper):
        def prefill(self, ids: Any, lengths: Any) -> Any:
            shifts = ids.shape[1] - lengths
            rolled = [np.roll(row, shift) for row, shift in zip(ids, shifts, strict=True)]
            return self.inner.prefill(np.stack(rolled), lengths)

    def faulty(stages: Stages, prompts: Any, **options: int) -> Iterator[Token]:
        padded: Any = LeftPadded(stages.language_model)
        return generate(replace(stages, language_model=padded), prompts, **options)

    return with_stages(subject, generate=faulty)


@fault(LOOP, "GE-10", as_stage("generate"), hard=True)
def tokens_come_with_the_next_step(stages: Stages, prompts: Any, **options: int) -> Iterator[Token]:
    """A token is yielded only after the next step has been computed."""
    held: list[Token] = []
    for token in generate(stages, prompts, **options):
        held.append(token)
        if len(held) > 1:
            yield held.pop(0)
    yield from held


@fault(HIDDEN, "GE-03", hard=True, blame=("GE", "SY"))
def limit_counts_the_prompt(subject: Subject) -> Subject:
    """The limit of new tokens also counts the prompt's ids."""

    def shorter(prompt: Prompt) -> Prompt:
        return replace(prompt, max_new_tokens=max(prompt.max_new_tokens - len(prompt.ids), 1))

    def faulty(stages: Stages, prompts: Iterable[Prompt], **options: int) -> Iterator[Token]:
        return generate(stages, map(shorter, prompts), **options)

    return with_stages(subject, generate=faulty)


class BatchVoice(SopranoTTS):
    """A voice whose texts and audios are changed on their way into and out of `infer_batch`."""

    def given(self, texts: Sequence[str], options: dict[str, Any]) -> Sequence[str]:
        return texts

    def made(self, audio: Audio) -> Audio:
        return audio

    def infer_batch(self, texts: Sequence[str], *arguments: Any, **options: Any) -> list[Audio]:
        if not isinstance(texts, str):
            texts = self.given(texts, options)
        return [self.made(audio) for audio in super().infer_batch(texts, *arguments, **options)]


def with_batch_voice(subject: Subject, kind: Callable[..., SopranoTTS]) -> Subject:
    return replace(subject, voice=lambda model, stages: kind(model, stages=stages))


@fault(SYNTHESIS, "SY-06", with_batch_voice, blame=("SY", "ST"))
class PauseBetweenSentences(BatchVoice):
    """A tenth of a second of silence is added between sentences."""

    def made(self, audio: Audio) -> Audio:
        pause = np.zeros(audio.sample_rate // 10, np.float32)
        parts: list[Any] = []
        sentences, start = [], 0
        for sentence in audio.sentences:
            parts += [audio.samples[slice(*sentence.range)], pause]
            stop = start + len(parts[-2]) + len(pause)
            sentences.append(replace(sentence, start=start, stop=stop))
            start = stop
        sentences[-1] = replace(sentences[-1], stop=start - len(pause))
        return replace(audio, samples=np.concatenate(parts[:-1]), sentences=sentences)


@fault(BATCHING, "BA-05", with_batch_voice, hard=True, blame=("SY", "BA"))
class TextsComeSortedByLength(BatchVoice):
    """Texts are sorted by length to fill batches better, and not put back in order."""

    def given(self, texts: Sequence[str], options: dict[str, Any]) -> Sequence[str]:
        return sorted(texts, key=len)


@fault(SYNTHESIS, "SY-13", with_batch_voice, hard=True, blame=("SY",))
class OneRetryTooMany(BatchVoice):
    """A stuck utterance is generated once more than `retries` allows."""

    def given(self, texts: Sequence[str], options: dict[str, Any]) -> Sequence[str]:
        if options.get("retries"):
            options["retries"] += 1
        return texts


@fault(SYNTHESIS, "ST-01", with_batch_voice, hard=True, blame=("SY", "ST"))
class StreamIgnoresTheOptions(SopranoTTS):
    """The streamed path uses the seed and the temperature and ignores the other options."""

    def infer_stream(self, text: str, **options: Any) -> Iterator[AudioChunk]:
        ignored = ("top_p", "top_k", "repetition_penalty")
        kept = {name: value for name, value in options.items() if name not in ignored}
        return super().infer_stream(text, **kept)


@fault(SYNTHESIS, "SY-17", hard=True, blame=("SY",))
def states_kept_for_later(subject: Subject) -> Subject:
    """The voice keeps the hidden states of every sentence in memory."""
    kept = []

    def remembered(stages: Stages, prompts: Any, tokens: Iterator[Token]) -> Iterator[Token]:
        for token in tokens:
            kept.append(token.hidden)
            yield token

    return with_voice(subject, with_tokens_changed(remembered))


@fault(SYNTHESIS, "SY-06", with_batch_voice, hard=True, blame=("SY",))
class RangesInWholeFrames(BatchVoice):
    """A sentence's range of samples is computed from its tokens, one more than it has samples."""

    def made(self, audio: Audio) -> Audio:
        size, start, sentences = self.config.decoder.samples_per_token, 0, []
        for sentence in audio.sentences:
            stop = start + len(sentence.token_ids) * size
            sentences.append(replace(sentence, start=start, stop=stop))
            start = stop
        return replace(audio, sentences=sentences)


@fault(BATCHING, "BA-04", with_batch_voice, hard=True, blame=("SY", "BA"))
class SentencesNumberedThroughTheBatch(SopranoTTS):
    """A sentence's uniforms depend on its index in the batch instead of in its text."""

    def infer_batch(self, *arguments: Any, **options: Any) -> list[Audio]:
        indices: dict[int, Iterator[int]] = {}  # by attempt

        def numbered(seed: int, sentence: int, attempt: int) -> Iterator[float]:
            return uniforms(seed, next(indices.setdefault(attempt, count())), attempt)

        stages = replace(self.stages, uniforms=numbered)
        return SopranoTTS(self.model, stages=stages).infer_batch(*arguments, **options)


@fault(STREAMING, "ST-05", hard=True)
def chunk_as_soon_as_anything_is_ready(subject: Subject) -> Subject:
    """The chunk size is ignored: a chunk is returned as soon as any samples are ready."""
    return with_stages(subject, stream=lambda stages, tokens, size: stream(stages, tokens, 1))


@fault(STREAMING, "ST-01", with_streamed_path, hard=True, blame=("SY", "ST"))
def stream_numbers_every_sentence_zero(stages: Stages) -> Stages:
    """The streamed path gives every sentence the uniforms of the first one."""
    return replace(
        stages, uniforms=lambda seed, sentence, attempt: stages.uniforms(seed, 0, attempt)
    )


def with_drafter(subject: Subject, drafter: Callable[..., Drafter]) -> Subject:
    return with_stages(subject, generate=partial(generate, drafter=drafter))


def place_in_draft(generation: Generation) -> tuple[list[int], int]:
    """The drafted ids, and the index among them of the last id of the utterance."""
    drafter = generation.drafter
    if drafter is None:
        return [], 0
    return drafter.drafted, len(generation.known) - 1 - drafter.before


@fault(LOOP, "GE-19 GE-20", with_advance, hard=True)
def rejected_id_is_drawn_again(
    stages: Stages, generation: Generation, logits: Any, hidden: Any
) -> Token:
    """The first id that differs from the draft is drawn again, with the next draw."""
    token = advance(stages, generation, logits, hidden)
    drafted, place = place_in_draft(generation)
    if token.id is None or place >= len(drafted) or drafted[place] == token.id:
        return token
    generation.ids.pop()
    return advance(stages, generation, logits, hidden)


@fault(LOOP, "GE-19", with_advance, hard=True)
def hidden_states_of_the_draft(
    stages: Stages, generation: Generation, logits: Any, hidden: Any
) -> Token:
    """Accepted ids are passed on with the hidden states of the draft."""
    token = advance(stages, generation, logits, hidden)
    drafted, place = place_in_draft(generation)
    if token.id is None or stages.draft is None or place >= len(drafted):
        return token
    known = np.array([generation.known[:-1]])
    output = stages.draft.prefill(known, np.array([known.shape[1]]))
    return replace(token, hidden=output.hidden[0])


@fault(LOOP, "GE-19 GE-20", hard=True)
def bonus_token_without_its_state(subject: Subject) -> Subject:
    """The id after a draft that was accepted has the hidden state of the last drafted id."""
    last: dict[int, Any] = {}

    def faulty(stages: Stages, generation: Generation, logits: Any, hidden: Any) -> Token:
        token = advance(stages, generation, logits, hidden)
        drafted, place = place_in_draft(generation)
        if token.id is not None and drafted and place == len(drafted):
            token = replace(token, hidden=last[generation.index])
        last[generation.index] = hidden
        return token

    return with_advance(subject, faulty)


@fault(LOOP, "GE-21", with_drafter)
class AgreementForgotten(Drafter):
    """The number of drafted ids does not follow from how many were accepted."""

    def propose(self, *arguments: Any) -> list[int]:
        self.agreement = Agreement()
        return super().propose(*arguments)


@fault(SYNTHESIS, "SY-24")
def draft_of_the_folder_ignored(subject: Subject) -> Subject:
    """A draft is used only if it is named."""
    inner = soprano.synthesis.open_draft

    def faulty(draft: Any, *arguments: Any) -> Any:
        return None if draft is None else inner(draft, *arguments)

    patch("open_draft", faulty, soprano.synthesis)
    return subject
