"""Compare the text front end with that of soprano-tts 0.2.0, sentence by sentence.

Two results agree if the normalised text and the sentences that become prompts are equal.
Every difference is listed below with the reason why ours is right.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from comparisons.agreement.peer_client import TextResult
from conformance.judging.judge import Judge
from soprano.text import normalize, sentences
from soprano.tokenizer import Tokenizer

REQUIRED = 0.97
SENTENCES = Path(__file__).with_name("sentences.txt")

LONG_RUN = (
    f"Here is a sentence that is long enough. {'Yes. No. ' * 40}And here is the last one, at last."
)

# By reason: the sentences that differ, as written in sentences.txt.
DIFFERENCES: dict[str, tuple[str, ...]] = {
    "an integer beyond the named magnitudes is read digit by digit; theirs raises": (
        "The vault was opened with the key 1234567890123456789012345678901234567890.",
    ),
    "commas that do not group thousands separate numbers; theirs makes them one number": (
        "Pick 1,2,3 or 4.",
    ),
    "an ordinal may stand in capitals": ("THE 21ST CENTURY BEGINS",),
    "a decimal may lack its zero; theirs glues it to the word before": ("Add .5 litres of milk.",),
    "the stop of a short form ends no sentence before a figure": (
        "The rent is due on Jan. 5 and Feb. 5.",
    ),
    "the minutes of a three-part time are a number; theirs prints a Python set": (
        "The video is 1:15:30 long.",
    ),
    "the hyphen after a telephone number's country is no minus": (
        "Call 1-800-555-0199 toll free.",
    ),
    "the magnitude of a sum stands before its unit": (
        "The deal is worth $2.5 million.",
        "The company made a loss of $4M.",
        "The strike will cost the city $5M.",
    ),
    "currencies keep their unit; theirs folds the signs to ASCII before it looks for them": (
        "The fee is £20.",
        "The museum asks for €12.",
    ),
    "half a dollar is fifty cents": ("The coffee was $2.5 today.",),
    "a lone dollar sign is a word; theirs leaves it in the prompt": (
        "The list price is in $ only.",
    ),
    "a unit is not torn apart at its capitals": ("The processor runs at 3.2 GHz.",),
    "the degree sign and its scale are words, also where it is the sign of ordinals": (
        "It was 20°C in the shade.",
        "It was 20 ºC in the shade.",
    ),
    "areas are square; theirs puts the unit before a two": ("The area is 30m².",),
    "a raised figure is a power; theirs reads thirty-two": ("3² is nine.", "x² + y² = z²"),
    "a telephone number abroad is read by its digits; theirs counts thousands": (
        "Ring +44 20 7946 0958 after lunch.",
    ),
    "after a figure ft. is feet, not a fort": ("The snake was 6 ft. long.",),
    "after a name St. is a street, not a saint": ("The bakery on Main St. is closed.",),
    "the last abbreviation of a text leaves the sentence its full stop": (
        "He is a senior partner at Baker & Co.",
    ),
    "a hyphen between a name and its number is no minus": ("COVID-19 changed everything.",),
    "initials are spelt; theirs reads dot between some and ends the sentence after others": (
        "The U.S. economy grew.",
        "We met at 5 p.m. in the lobby.",
    ),
    "http has no s": ("Open http://example.net in a browser.",),
    "www is three letters; theirs takes one for a stretched sound": (
        "See www.example.com for details.",
    ),
    "a Roman numeral keeps its third stroke": ("Henry III was king.",),
    "a ratio is read with a word; theirs has a full stop inside it": ("The screen is 16:9.",),
    "between a figure and a greater one a hyphen or an en dash is a range, not a minus": (
        "Ages 5–12 are welcome.",
        "Pages 10-12 are missing.",
        "The 1914-1918 war.",
        "$5-10",
        "50-60%",
        "10-20 km",
        "Please allow 5-7 days for delivery.",
    ),
    "guillemets are quotation marks, not comparisons": ("«Bonjour», dit-il.",),
    "two hyphens are a dash, and a dash is a pause": ("He left -- and never came back.",),
    "a dash after a word is no minus, whatever comes next": (
        "The result - 5 points - was good.",
        "He left—2 days later he was back.",
    ),
    "a bullet is not spoken": ("- first item",),
    "brackets within a word are not set off; theirs loses the letter after them": (
        "The person (s)he loves.",
    ),
    "a tab separates words; theirs removes it": ("A tab\\there",),
    "a full stop is followed by a space, so that it can end a sentence": ("key:value",),
    "short sentences are merged up to 360 characters; theirs grow without limit": (LONG_RUN,),
    "a word that fits no sentence is cut at the maximum length; theirs is cut letter by letter": (
        f"x{'yz' * 180}",
    ),
}


class Case(NamedTuple):
    """One line of sentences.txt under its heading."""

    kind: str
    written: str

    @property
    def text(self) -> str:
        """The line with its escapes (line feed, carriage return, tab, backslash) resolved."""
        parts = self.written.split("\\\\")
        for letter, character in (("n", "\n"), ("r", "\r"), ("t", "\t")):
            parts = [part.replace(f"\\{letter}", character) for part in parts]
        return "\\".join(parts)


def read_cases(path: Path) -> list[Case]:
    """The sentences under their `== kind` headings; no sentence may occur twice."""
    cases = []
    kind = ""
    for line in path.read_text(encoding="utf-8").split("\n"):
        if line.startswith("== "):
            kind = line.removeprefix("== ")
        elif line:
            cases.append(Case(kind, line))
    for written, times in Counter(case.written for case in cases).items():
        if times > 1:
            raise SystemExit(f"{path.name} has this sentence {times} times: {written}")
    return cases


def reasons() -> dict[str, str]:
    """Why ours is right, by sentence as written in sentences.txt."""
    return {written: reason for reason, listed in DIFFERENCES.items() for written in listed}


def text_result(tokenizer: Tokenizer, text: str) -> TextResult:
    own = sentences(text)
    return TextResult(normalize(text), own, [tokenizer.prompt(sentence) for sentence in own])


def judge_text(
    judge: Judge, cases: list[Case], ours: list[TextResult], theirs: list[TextResult]
) -> None:
    """At least 97 % agree, each difference is listed, and each listed one is a difference."""
    pairs = zip(cases, ours, theirs, strict=True)
    differ = {case.written for case, our, their in pairs if our[:2] != their[:2]}
    listed = set(reasons())
    judge.equal("unlisted differences", sorted(differ - listed), [])
    judge.equal("listed but equal", sorted(listed - differ), [])
    fraction = len(differ) / len(cases)
    judge.below("fraction that differs", fraction, 1 - REQUIRED, len(cases), wrong=1.0)


def text_lines(cases: list[Case], ours: list[TextResult], theirs: list[TextResult]) -> list[str]:
    """A table of the agreement by kind of sentence, and each difference with its reason."""
    total, agreed = Counter[str](), Counter[str]()
    differences = []
    for case, our, their in zip(cases, ours, theirs, strict=True):
        total[case.kind] += 1
        if our[:2] == their[:2]:
            agreed[case.kind] += 1
            continue
        split = our.normalized == their.normalized
        differences += [
            f"  {case.written}",
            f"      theirs: {their.sentences if split else their.normalized}",
            f"      ours:   {our.sentences if split else our.normalized}",
            f"      {reasons().get(case.written, 'NOT LISTED')}",
        ]
    lines = [f"{'kind of sentence':<28}{'sentences':>10}{'agree':>8}"]
    lines += [f"{kind:<28}{count:>10}{agreed[kind]:>8}" for kind, count in total.items()]
    lines += [f"{'all':<28}{total.total():>10}{agreed.total():>8}", "", *differences]
    return lines
