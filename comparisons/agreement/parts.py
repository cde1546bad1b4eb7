"""The three parts of the run: a small checkpoint, one of published size, and Qwen3 alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

from comparisons.agreement import agreement, checkpoints, divergences, qwen3
from comparisons.agreement.compare_text import (
    SENTENCES,
    Case,
    judge_text,
    read_cases,
    reasons,
    text_lines,
)
from comparisons.agreement.observe import ReadText, Utterance, ask
from comparisons.agreement.ours import Ours
from comparisons.agreement.table import Table
from conformance.golden.packs import fixture_models
from soprano.config import DecoderConfig, SamplingOptions
from soprano.text import normalize, sentences
from soprano.tokenizer import Tokenizer

# One sentence each, that both front ends leave whole.
SPOKEN = [
    "The quick brown fox jumps over the lazy dog.",
    "Is there any coffee left in the kitchen?",
    "Every summer we used to rent the same small house by the lake.",
    "After the storm, the harbour was quiet again.",
    "Would you rather walk or take the bus?",
]
PAIR = SPOKEN[:2]  # of different lengths
# Draws at this temperature come from well over fifty ids.
WARM = SamplingOptions(temperature=1.0, top_p=0.95, repetition_penalty=1.2)
OFFLINE = replace(WARM, top_k=50)  # what the offline path makes of it
LOTS = SPOKEN[2]  # its utterance has near ties
SEEDS = 8
LEAST_FOLLOWED = 100  # free-running ids before the first narrow gaps, all texts together
ENDLESS = "Yes. No. " * 120  # short sentences, which the other program joins without end


def small(table: Table, python: str, scratch: Path) -> None:
    """Everything that can be compared, on a model that is quick."""
    subject = "soprano-tts, small"
    folder = _write(checkpoints.SMALL, scratch)
    warm = {"temperature": 1.0, "keep_probabilities": True, "texts": PAIR[1:]}
    runs = [
        {"name": "greedy", "path": "offline", "texts": SPOKEN},
        {"name": "stream", "path": "stream", "texts": PAIR[1:]},
        {"name": "lots", "path": "offline", "texts": [LOTS], "seeds": list(range(SEEDS))},
        {"name": "batch", "path": "batch", "texts": PAIR},
        {"name": "warm", "path": "offline", **warm},
        {"name": "warm stream", "path": "stream", **warm},
    ]
    cases = _cases()
    found = ask(python, folder, runs, [*(case.text for case in cases), ENDLESS])
    ours = Ours(folder)
    read = [_read(ours.voice.tokenizer, case.text) for case in cases]
    print(*text_lines(cases, read, found.texts[:-1]), "", sep="\n")
    with table.judging("soprano-tts, text", "all kinds of sentences") as judge:
        judge_text(judge, cases, read, found.texts[:-1])
    _compare_prompts(table, subject, cases, read, found.texts[:-1])
    _compare_spoken(table, subject, ours, found.runs["greedy"])
    for name, options in (("warm", OFFLINE), ("warm stream", WARM)):
        for place, utterance in enumerate(found.runs[name]):
            with table.judging(subject, f"{name} {place}") as judge:
                agreement.same_distribution(judge, utterance, options)
    alone = found.runs["greedy"][: len(PAIR)]
    table.divergences += [
        divergences.stream_shift(ours, PAIR[1], alone[1], found.runs["stream"][0]),
        divergences.random_at_zero(ours, found.runs["lots"]),
        divergences.hidden_top_k(ours, found.runs["warm"], found.runs["warm stream"], WARM),
        divergences.padded_batch(ours, PAIR, alone, found.runs["batch"]),
        divergences.cut_prompt(ours, found.texts[-1], sentences(ENDLESS)),
    ]
    older = _write(checkpoints.SMALL, scratch, decoder=checkpoints.OLDER_DECODER, name="older")
    table.divergences.append(divergences.older_decoder(python, older))


def published(table: Table, python: str, scratch: Path) -> None:
    """The published numbers and precision; a few utterances."""
    subject = "soprano-tts, published size"
    folder = _write(checkpoints.PUBLISHED, scratch)
    runs = [{"name": "greedy", "path": "offline", "texts": SPOKEN}]
    cases = _cases()
    found = ask(python, folder, runs, [case.text for case in cases])
    ours = Ours(folder)
    read = [_read(ours.voice.tokenizer, case.text) for case in cases]
    _compare_prompts(table, subject, cases, read, found.texts)
    _compare_spoken(table, subject, ours, found.runs["greedy"])


def language_models(table: Table, _: str, scratch: Path) -> None:
    """The Qwen3 of `transformers` in this environment, on 512 ids of any kind."""
    micro = {path.name: path for path in fixture_models()}
    models = {
        "micro v11": micro["v11"],
        "micro heads": micro["heads"],
        "published size": _write(checkpoints.PUBLISHED, scratch),
    }
    for name, folder in models.items():
        _compare_steps(table, f"Qwen3, {name}", Ours(folder), qwen3.step_through(folder), name)


PARTS: dict[str, Callable[[Table, str, Path], None]] = {
    "small": small,
    "published": published,
    "qwen3": language_models,
}


def _compare_prompts(
    table: Table, subject: str, cases: list[Case], ours: list[ReadText], theirs: list[ReadText]
) -> None:
    listed = reasons()
    for case, our, their in zip(cases, ours, theirs, strict=True):
        if case.written not in listed:
            with table.judging(subject, case.written) as judge:
                agreement.same_text(judge, our, their)


def _compare_spoken(table: Table, subject: str, ours: Ours, spoken: list[Utterance]) -> None:
    followed = 0
    for text, utterance in zip(SPOKEN, spoken, strict=False):
        with table.judging(subject, text) as judge:
            read = _read(ours.voice.tokenizer, text)
            judge.equal("prompt ids", [utterance.prompt], read.ids)
        margins = _compare_steps(table, subject, ours, utterance, text)
        hidden, samples = utterance.spoken(ours.stop), utterance.samples
        with table.judging(subject, text) as judge:
            wanted = ours.config.decoder.samples(len(hidden))
            judge.equal("length of samples", len(samples), wanted)
        with table.judging(subject, text) as judge:
            agreement.same_numbers(judge, "samples", samples, ours.sound(hidden), ours.config)
        with table.judging(subject, text) as judge:
            ids = ours.speak(utterance.prompt, agreement.GREEDY)
            followed += agreement.same_ids(judge, utterance, ids, margins)
    with table.judging(subject, "all texts together") as judge:
        judge.equal("enough ids compared", followed >= LEAST_FOLLOWED, True)


def _compare_steps(
    table: Table, subject: str, ours: Ours, theirs: Utterance, case: str
) -> list[float]:
    """Teacher-forced floats; gives the gap of each greedy decision."""
    measured = ours.read(theirs.prompt, theirs.drawn)
    for name, values in (("logits", theirs.logits), ("hidden", theirs.hidden)):
        with table.judging(subject, case) as judge:
            agreement.same_numbers(
                judge, f"teacher-forced {name}", values, measured[name], ours.config
            )
    return agreement.gaps(measured["logits"].expected, theirs.prompt, theirs.drawn)


@cache
def _cases() -> list[Case]:
    return read_cases(SENTENCES)


@cache
def _corpus() -> list[str]:
    return [normalize(case.text) for case in _cases()]


def _write(
    checkpoint: checkpoints.Checkpoint,
    scratch: Path,
    decoder: DecoderConfig = checkpoints.DECODER,
    name: str = "",
) -> Path:
    folder = scratch / (name or checkpoint.name)
    if not folder.exists():
        checkpoints.write(checkpoint, folder, _corpus(), decoder)
    return folder


def _read(tokenizer: Tokenizer, text: str) -> ReadText:
    pieces = sentences(text)
    return ReadText(normalize(text), pieces, [tokenizer.prompt(piece) for piece in pieces])
