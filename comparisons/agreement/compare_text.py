"""Compare the text front end with that of soprano-tts 0.2.0, sentence by sentence.

Two results agree if the normalised text and the sentences that become prompts are equal.
Sentences whose results differ stand under a heading in sentences.txt that classifies the
difference and states the reason why ours is kept:

    == kind                         the results agree
    == kind | theirs wrong: reason  theirs changes or loses the meaning
    == kind | either: reason        both readings are acceptable
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from comparisons.agreement.peer_client import TextResult
from conformance.judging.judge import Judge
from soprano.text import normalize, sentences
from soprano.tokenizer import Tokenizer

MOST_OF_TASTE = 0.03  # of all sentences, those where either reading is acceptable
SENTENCES = Path(__file__).with_name("sentences.txt")
CLASSES = ("theirs wrong", "either")
_HEADING = re.compile(r"== ([^|]+?)(?: \| (theirs wrong|either): (.+))?")


class Case(NamedTuple):
    """One line of sentences.txt under its heading."""

    kind: str
    written: str
    difference: str = ""  # its class; empty if the results agree
    reason: str = ""

    @property
    def text(self) -> str:
        """The line with its escapes (line feed, carriage return, tab, backslash) resolved."""
        parts = self.written.split("\\\\")
        for letter, character in (("n", "\n"), ("r", "\r"), ("t", "\t")):
            parts = [part.replace(f"\\{letter}", character) for part in parts]
        return "\\".join(parts)


def read_cases(path: Path) -> list[Case]:
    """The sentences under their headings; no sentence may occur twice."""
    cases = []
    heading: tuple[str, ...] = ("",)
    for line in path.read_text(encoding="utf-8").split("\n"):
        if line.startswith("== "):
            if not (found := _HEADING.fullmatch(line)):
                raise SystemExit(f"{path.name} has an unknown class of difference: {line}")
            heading = tuple(part or "" for part in found.groups())
        elif line:
            kind, *difference = heading
            cases.append(Case(kind, line, *difference))
    for written, times in Counter(case.written for case in cases).items():
        if times > 1:
            raise SystemExit(f"{path.name} has this sentence {times} times: {written}")
    return cases


def text_result(tokenizer: Tokenizer, text: str) -> TextResult:
    own = sentences(text)
    return TextResult(normalize(text), own, [tokenizer.prompt(sentence) for sentence in own])


def judge_text(
    judge: Judge, cases: list[Case], ours: list[TextResult], theirs: list[TextResult]
) -> None:
    """Each difference is listed, each listed one is a difference, and few are a matter of taste."""
    pairs = zip(cases, ours, theirs, strict=True)
    differ = {case.written for case, our, their in pairs if our[:2] != their[:2]}
    listed = {case.written for case in cases if case.difference}
    judge.equal("unlisted differences", sorted(differ - listed), [])
    judge.equal("listed but equal", sorted(listed - differ), [])
    fraction = sum(case.difference == "either" for case in cases) / len(cases)
    judge.below("fraction of either reading", fraction, MOST_OF_TASTE, len(cases), wrong=1.0)


def text_lines(cases: list[Case], ours: list[TextResult], theirs: list[TextResult]) -> list[str]:
    """The agreement by kind of sentence, and for each reason its number and an example."""
    classes = ("agree", *CLASSES, "unlisted")
    counts: dict[str, Counter[str]] = {}
    examples: dict[str, list[tuple[Case, TextResult, TextResult]]] = {}
    for case, our, their in zip(cases, ours, theirs, strict=True):
        same = our[:2] == their[:2]
        name = "agree" if same else case.difference or "unlisted"
        counts.setdefault(case.kind, Counter())[name] += 1
        if not same:
            examples.setdefault(f"{name}: {case.reason}", []).append((case, our, their))
    counts["all"] = sum(counts.values(), Counter())
    lines = [f"{'kind of sentence':<34}{'sentences':>10}" + "".join(f"{c:>14}" for c in classes)]
    for kind, own in counts.items():
        cells = "".join(f"{own[name] or '':>14}" for name in classes)
        lines.append(f"{kind:<34}{own.total():>10}{cells}")
    lines.append("")
    for reason, found in sorted(examples.items()):
        case, our, their = found[0]
        split = our.normalized == their.normalized
        lines += [
            f"{len(found):>4}  {reason}",
            f"        {case.written}",
            f"        theirs: {their.sentences if split else their.normalized}",
            f"        ours:   {our.sentences if split else our.normalized}",
        ]
    return lines
