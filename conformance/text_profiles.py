"""Recorded readings of other text front ends, by which a port that has one of them is judged.

A profile holds what a package makes of the texts of the laws where it differs from the contract,
and the sentences into which it splits some texts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from conformance.judging.judge import Judge
from conformance.judging.skips import NotDeclared

_FOLDER = Path(__file__).parent / "golden" / "text_profiles"
_ENOUGH = 0.9  # of the recorded readings, for a front end to be that of the profile
_SHOWN = 40  # characters of a text in a message

Normalize = Callable[[str], str]


@dataclass(frozen=True)
class TextProfile:
    """What a package makes of texts."""

    name: str
    readings: Mapping[str, str | None]  # by text, where they differ; None: it raises an error
    sentences: Mapping[str, list[str]]  # by text
    exempt: Mapping[str, str]  # requirements that it cannot meet, and why

    def is_followed_by(self, normalize: Normalize) -> bool:
        """Whether a normaliser reads the recorded texts as this package does."""
        texts = [text for text, reading in self.readings.items() if reading is not None]
        few = texts[:: max(len(texts) // 20, 1)]
        return all(
            sum(_reading(normalize, text) == self.readings[text] for text in some)
            >= _ENOUGH * len(some)
            for some in (few, texts)
        )


def profile_names() -> list[str]:
    return sorted(path.stem for path in _FOLDER.glob("*.json"))


@cache
def load_profile(name: str) -> TextProfile:
    """A profile by its name; `KeyError` if there is none."""
    if name not in profile_names():
        raise KeyError(name)
    document = json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return TextProfile(name, **document)


def _reading(normalize: Normalize, text: str) -> str | None:
    try:
        return normalize(text)
    except Exception:  # whatever a port raises
        return None


class TextUnderTest:
    """A normaliser, and the profile by which it is judged: the one named, or the one it follows."""

    def __init__(self, normalize: Normalize, named: str | None) -> None:
        self.normalize = normalize
        self.named = named is not None
        followed = (load_profile(name) for name in ([named] if named else profile_names()))
        self.profile = next(
            (p for p in followed if self.named or p.is_followed_by(normalize)), None
        )

    def require_judged(self, requirements: tuple[str, ...]) -> None:
        """Skip a test of requirements that the profile is exempt from."""
        exempt = self.profile.exempt if self.profile else {}
        if requirements and all(name in exempt for name in requirements):
            raise NotDeclared(f"{self.profile and self.profile.name}: {exempt[requirements[0]]}")

    def judge_reading(self, judge: Judge, text: str, normalised: str) -> None:
        """The reading is that of the contract, or that recorded for the profile."""
        known = self.profile.readings if self.profile else {}
        expected = known.get(text, normalised)
        actual = self.normalize(text) if expected is not None else _reading(self.normalize, text)
        judge.equal(f"reading of {_short(text)}", actual, expected)
        if expected != normalised and actual == expected:
            reading = "an error" if actual is None else repr(actual)
            judge.differs(f"{_short(text)} is {reading}, in the contract {_short(normalised)}")


def _short(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")
