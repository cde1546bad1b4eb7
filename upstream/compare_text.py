"""Compare the text front end with the one of soprano-tts 0.2.0, sentence by sentence.

    python upstream/compare_text.py --python PATH

PATH is the interpreter of an environment where soprano-tts==0.2.0 is installed.
Only its text modules are loaded there, so neither PyTorch nor a model is needed.
Two answers agree when the normalised text and the pieces that become prompts are both equal.

Exit status: 0 at 97 % agreement or more with every difference listed below and every listed one
still a difference; 1 otherwise; 2 when the other program cannot be asked.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import types
from collections import Counter
from pathlib import Path
from typing import NamedTuple

VERSION = "0.2.0"
REQUIRED = 0.97
SENTENCES = Path(__file__).with_name("sentences.txt")

LONG_RUN = (
    f"Here is a sentence that is long enough. {'Yes. No. ' * 40}And here is the last one, at last."
)

# Why ours is right, and the sentences of sentences.txt, as written there, that differ for it.
DIFFERENCES: dict[str, tuple[str, ...]] = {
    "an integer beyond the named magnitudes is read digit by digit; theirs raises": (
        "The vault was opened with the key 1234567890123456789012345678901234567890.",
    ),
    "commas that do not group thousands separate numbers; theirs makes one number of them": (
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
    "the magnitude of a sum stands before its unit": ("The deal is worth $2.5 million.",),
    "currencies keep their unit; theirs folds the signs to ASCII before it looks for them": (
        "The fee is £20.",
        "The museum asks for €12.",
    ),
    "half a dollar is fifty cents": ("The coffee was $2.5 today.",),
    "a lone dollar sign is a word; theirs leaves it in the prompt": (
        "The list price is in $ only.",
    ),
    "a unit is not torn apart at its capitals": ("The processor runs at 3.2 GHz.",),
    "the degree sign and its scale are words": ("It was 20°C in the shade.",),
    "after a figure ft. is feet, not a fort": ("The snake was 6 ft. long.",),
    "after a name St. is a street, not a saint": ("The bakery on Main St. is closed.",),
    "the last abbreviation of a text leaves the sentence its full stop": (
        "He is a senior partner at Baker & Co.",
    ),
    "a hyphen between a name and its number is no minus": ("COVID-19 changed everything.",),
    "initials are spelt; theirs says dot between some and ends the sentence after others": (
        "The U.S. economy grew.",
        "We met at 5 p.m. in the lobby.",
    ),
    "http has no s": ("Open http://example.net in a browser.",),
    "www is three letters; theirs takes one for a stretched sound": (
        "See www.example.com for details.",
    ),
    "a Roman numeral keeps its third stroke": ("Henry III was king.",),
    "a ratio is read with a word; theirs has a full stop inside it": ("The screen is 16:9.",),
    "an en dash between figures is a range, not a minus": ("Ages 5–12 are welcome.",),
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
    "short pieces are merged up to 360 characters; theirs grow without end": (LONG_RUN,),
    "a word that fits no piece is cut where the piece is full; theirs is cut letter by letter": (
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


class Answer(NamedTuple):
    """What one program makes of a text."""

    normalized: str
    pieces: list[str]


def read_cases(path: Path) -> list[Case]:
    """Read the sentences under their `== kind` headings; a sentence may stand only once."""
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


def our_answers(texts: list[str]) -> list[Answer]:
    """Ask the package under test."""
    from soprano.text import normalize, sentences

    return [Answer(normalize(text), sentences(text)) for text in texts]


def their_answers(texts: list[str], python: str, source: Path | None) -> list[Answer]:
    """Run this file in the other environment and read what it answers."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if source is not None:
        environment["PYTHONPATH"] = str(source.resolve())
    command = [python, __file__, "--answer"]
    try:
        done = subprocess.run(
            command, input=json.dumps(texts), capture_output=True, env=environment, text=True
        )
        done.check_returncode()
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"{error}\n{getattr(error, 'stderr', '')}", file=sys.stderr)
        raise SystemExit(2) from error
    return [Answer(*answer) for answer in json.loads(done.stdout)]


def answer_as_yardstick() -> None:
    """Answer the texts on standard input with the soprano-tts of this environment."""
    for installed in importlib.metadata.distributions(name="soprano-tts"):
        if installed.version != VERSION:
            raise SystemExit(f"soprano-tts {VERSION} is the yardstick, got {installed.version}")
    spec = importlib.util.find_spec("soprano")
    folder = next(iter(spec.submodule_search_locations or ()), "") if spec else ""
    tts = Path(folder, "tts.py")
    if not tts.is_file() or not Path(folder, "utils", "text_normalizer.py").is_file():
        raise SystemExit(f"soprano-tts {VERSION} is not installed in this environment")
    package = types.ModuleType("soprano")  # in place of the real one, which imports PyTorch
    package.__path__ = [folder]
    sys.modules["soprano"] = package
    clean_text = importlib.import_module("soprano.utils.text_normalizer").clean_text
    splitter = importlib.import_module("soprano.utils.text_splitter")
    scope = {"clean_text": clean_text, **vars(splitter)}
    for node in ast.walk(ast.parse(tts.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name == "_preprocess_text":
            exec(compile(ast.Module([node], []), str(tts), "exec"), scope)
    prompts_of = scope["_preprocess_text"]

    answers: list[tuple[str, list[str]]] = []
    for text in json.load(sys.stdin):
        try:
            prompts = [prompt for prompt, _, _ in prompts_of(None, [text])]
            pieces = [p.removeprefix("[STOP][TEXT]").removesuffix("[START]") for p in prompts]
            answers.append((clean_text(text.strip()), pieces))
        except Exception as error:  # whatever the other program raises is its answer
            answers.append((f"raises {type(error).__name__}", []))
    json.dump(answers, sys.stdout)


def show(case: Case, ours: Answer, theirs: Answer) -> None:
    """Print where two answers differ."""
    print(f"\n  {case.kind}: {case.written}")
    for name, answer in (("theirs", theirs), ("ours", ours)):
        same_text = ours.normalized == theirs.normalized
        print(f"  {name:>6}: {answer.pieces if same_text else answer.normalized}")


def main() -> int:
    """Print the agreement by kind and the differences that are not listed."""
    parser = argparse.ArgumentParser(description="Compare the text front end with soprano-tts.")
    parser.add_argument("--python", metavar="PATH", help="interpreter that has soprano-tts 0.2.0")
    parser.add_argument("--source", type=Path, help="unpacked soprano-tts, if not installed there")
    parser.add_argument("--show", action="store_true", help="print the listed differences, too")
    parser.add_argument("--answer", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.answer:
        answer_as_yardstick()
        return 0
    if options.python is None:
        parser.error("--python is required")

    cases = read_cases(SENTENCES)
    texts = [case.text for case in cases]
    ours, theirs = our_answers(texts), their_answers(texts, options.python, options.source)
    reasons = {text: reason for reason, listed in DIFFERENCES.items() for text in listed}
    total, agreed, listed = Counter[str](), Counter[str](), Counter[str]()
    unlisted, stale = [], set(reasons) - {case.written for case in cases}
    for case, our, their in zip(cases, ours, theirs, strict=True):
        total[case.kind] += 1
        differs = our != their
        agreed[case.kind] += not differs
        listed[case.kind] += differs and case.written in reasons
        if differs and case.written not in reasons:
            unlisted.append((case, our, their))
        if not differs and case.written in reasons:
            stale.add(case.written)
        if differs and case.written in reasons and options.show:
            show(case, our, their)
            print(f"  reason: {reasons[case.written]}")

    print(f"\n{'kind':<24}{'sentences':>10}{'agree':>8}{'listed':>8}{'unlisted':>10}")
    for kind, count in [*total.items(), ("total", total.total())]:
        counts = (agreed, listed) if kind == "total" else ()
        equal, known = (c.total() for c in counts) if counts else (agreed[kind], listed[kind])
        print(f"{kind:<24}{count:>10}{equal:>8}{known:>8}{count - equal - known:>10}")
    agreement = agreed.total() / total.total()
    print(f"agreement {agreement:.2%} of {total.total()}, required {REQUIRED:.0%}")
    for case, our, their in unlisted:
        show(case, our, their)
    for written in sorted(stale):
        print(f"\n  listed, but no difference: {written}")
    return int(agreement < REQUIRED or bool(unlisted) or bool(stale))


if __name__ == "__main__":
    sys.exit(main())
