"""Compare this project with soprano-tts 0.2.0 and with the Qwen3 of `transformers`.

    python -m comparisons.agreement --peer PYTHON [--only small|published|qwen3 ...]

PYTHON is the interpreter of an environment where soprano-tts==0.2.0 is installed.
Exit status: 0 if everything agrees and every known difference is reproduced, 1 otherwise, 2 if
soprano-tts cannot be run.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

from comparisons.agreement import checkpoints, checks, known_differences, qwen3, text_profile
from comparisons.agreement.compare_text import (
    SENTENCES,
    Case,
    judge_text,
    read_cases,
    text_lines,
    text_result,
)
from comparisons.agreement.peer_client import TextResult, Utterance, query
from comparisons.agreement.reference import Reference
from comparisons.agreement.table import Table
from conformance.golden.packs import fixture_models
from soprano.config import SamplingOptions
from soprano.text import normalize, sentences

# One sentence each, which neither text front end splits.
TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "Is there any coffee left in the kitchen?",
    "Every summer we used to rent the same small house by the lake.",
    "After the storm, the harbour was quiet again.",
    "Would you rather walk or take the bus?",
]
PAIR = TEXTS[:2]  # of different lengths
# At this temperature ids are sampled from more than fifty candidates.
WARM = SamplingOptions(temperature=1.0, top_p=0.95, repetition_penalty=1.2)
OFFLINE = replace(WARM, top_k=50)  # the options that their offline path really uses
TIED = TEXTS[2]  # its utterance has near ties
SEEDS = 8
LEAST_COMPARED = 100  # free-running ids before the first narrow margin, of all texts together
LONG = "Yes. No. " * 120  # short sentences, which soprano-tts joins without limit


def compare_small(table: Table, python: str, scratch: Path) -> None:
    """Everything that can be compared, on a small model."""
    subject = "soprano-tts, small"
    folder = _write(checkpoints.SMALL, scratch)
    warm = {"temperature": 1.0, "keep_probabilities": True, "texts": PAIR[1:]}
    runs = [
        {"name": "greedy", "path": "offline", "texts": TEXTS},
        {"name": "stream", "path": "stream", "texts": PAIR[1:]},
        {"name": "tied", "path": "offline", "texts": [TIED], "seeds": list(range(SEEDS))},
        {"name": "batch", "path": "batch", "texts": PAIR},
        {"name": "warm", "path": "offline", **warm},
        {"name": "warm stream", "path": "stream", **warm},
    ]
    cases = _cases()
    recorded = text_profile.texts()
    theirs = query(python, folder, runs, [*(case.text for case in cases), *recorded, LONG])
    greedy, texts = theirs.runs["greedy"], theirs.texts[: len(cases)]
    ours = Reference(folder)
    own = [text_result(ours.tokenizer, case.text) for case in cases]
    print(*text_lines(cases, own, texts), "", sep="\n")
    with table.judging("soprano-tts, text", "all kinds of sentences") as judge:
        judge_text(judge, cases, own, texts)
    with table.judging("soprano-tts, text", "the text profile of the suite") as judge:
        profile = text_profile.document(theirs.texts[len(cases) : -1])
        stored = json.loads(text_profile.PROFILE.read_text(encoding="utf-8"))
        judge.equal("recorded readings", stored, profile)
    _compare_prompts(table, subject, cases, own, texts)
    _compare_utterances(table, subject, ours, greedy)
    for name, options in (("warm", OFFLINE), ("warm stream", WARM)):
        for number, utterance in enumerate(theirs.runs[name]):
            with table.judging(subject, f"{name} {number}") as judge:
                checks.same_distribution(judge, utterance, options)
    alone = greedy[: len(PAIR)]
    older = _write(
        replace(checkpoints.SMALL, name="older", decoder=checkpoints.V10_DECODER), scratch
    )
    table.differences += [
        known_differences.stream_shift(ours, PAIR[1], alone[1], theirs.runs["stream"][0]),
        known_differences.random_at_zero(ours, theirs.runs["tied"]),
        known_differences.hidden_top_k(ours, theirs.runs["warm"], theirs.runs["warm stream"], WARM),
        known_differences.padded_batch(ours, PAIR, alone, theirs.runs["batch"]),
        known_differences.cut_prompt(ours, theirs.texts[-1], sentences(LONG)),
        known_differences.older_decoder(python, older),
    ]


def compare_published(table: Table, python: str, scratch: Path) -> None:
    """A few utterances of a model of the published size and precision."""
    subject = "soprano-tts, published size"
    folder = _write(checkpoints.PUBLISHED, scratch)
    runs = [{"name": "greedy", "path": "offline", "texts": TEXTS}]
    cases = _cases()
    theirs = query(python, folder, runs, [case.text for case in cases])
    ours = Reference(folder)
    own = [text_result(ours.tokenizer, case.text) for case in cases]
    _compare_prompts(table, subject, cases, own, theirs.texts)
    _compare_utterances(table, subject, ours, theirs.runs["greedy"])


def compare_qwen3(table: Table, _: str, scratch: Path) -> None:
    """The Qwen3 of `transformers` in this environment, on 512 ids of any kind."""
    micro = {path.name: path for path in fixture_models()}
    models = {
        "micro v11": micro["v11"],
        "micro heads": micro["heads"],
        "published size": _write(checkpoints.PUBLISHED, scratch),
    }
    for name, folder in models.items():
        theirs = qwen3.teacher_forced(folder)
        _compare_steps(table, f"Qwen3, {name}", Reference(folder), theirs, name)


COMPARISONS: dict[str, Callable[[Table, str, Path], None]] = {
    "small": compare_small,
    "published": compare_published,
    "qwen3": compare_qwen3,
}


def _compare_prompts(
    table: Table, subject: str, cases: list[Case], ours: list[TextResult], theirs: list[TextResult]
) -> None:
    for case, our, their in zip(cases, ours, theirs, strict=True):
        if not case.difference:
            with table.judging(subject, case.written) as judge:
                checks.same_text(judge, our, their)


def _compare_utterances(
    table: Table, subject: str, ours: Reference, theirs: list[Utterance]
) -> None:
    compared = 0
    for text, utterance in zip(TEXTS, theirs, strict=True):
        with table.judging(subject, text) as judge:
            prompts = text_result(ours.tokenizer, text).prompts
            judge.equal("prompt ids", [utterance.prompt], prompts)
        margins = _compare_steps(table, subject, ours, utterance, text)
        hidden, samples = utterance.audio_hidden(ours.stop), utterance.samples
        with table.judging(subject, text) as judge:
            length = ours.config.decoder.samples(len(hidden))
            judge.equal("length of samples", len(samples), length)
        with table.judging(subject, text) as judge:
            checks.same_floats(judge, "samples", samples, ours.samples(hidden), ours.config)
        with table.judging(subject, text) as judge:
            ids = ours.generate(utterance.prompt, checks.GREEDY)
            compared += checks.same_ids(judge, utterance, ids, margins)
    with table.judging(subject, "all texts together") as judge:
        judge.equal("enough ids compared", compared >= LEAST_COMPARED, True)


def _compare_steps(
    table: Table, subject: str, ours: Reference, theirs: Utterance, case: str
) -> list[float]:
    """Compare teacher-forced outputs; returns the margin of each greedy decision."""
    measured = ours.teacher_forced(theirs.prompt, theirs.ids)
    for name, values in (("logits", theirs.logits), ("hidden", theirs.hidden)):
        quantity = f"teacher-forced {name}"
        with table.judging(subject, case) as judge:
            checks.same_floats(judge, quantity, values, measured[name], ours.config)
    return checks.greedy_margins(measured["logits"].expected, theirs.prompt, theirs.ids)


@cache
def _cases() -> list[Case]:
    return read_cases(SENTENCES)


def _write(checkpoint: checkpoints.Checkpoint, scratch: Path) -> Path:
    folder = scratch / checkpoint.name
    if not folder.exists():
        checkpoints.write(checkpoint, folder, [normalize(case.text) for case in _cases()])
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m comparisons.agreement",
        description="Compare this project with soprano-tts and with the Qwen3 of transformers.",
    )
    parser.add_argument("--peer", required=True, help="interpreter that has soprano-tts 0.2.0")
    parser.add_argument("--only", choices=COMPARISONS, action="append", help="repeatable")
    options = parser.parse_args()
    table = Table()
    with tempfile.TemporaryDirectory() as scratch:
        try:
            for name in options.only or COMPARISONS:
                COMPARISONS[name](table, options.peer, Path(scratch))
        except ChildProcessError as error:
            print(f"soprano-tts cannot be run: {error}", file=sys.stderr)
            return 2
    print(*table.lines(), sep="\n")
    return 0 if table.passed else 1


if __name__ == "__main__":
    sys.exit(main())
