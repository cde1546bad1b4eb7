"""The readings of soprano-tts 0.2.0 by which the suite judges ports of it.

    python -m comparisons.agreement.text_profile --peer PYTHON

writes them again, after a change of the laws of text. The agreement run compares them with what
soprano-tts gives.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import conformance
from comparisons.agreement import checkpoints
from comparisons.agreement.compare_text import SENTENCES, read_cases
from comparisons.agreement.peer_client import TextResult, query
from conformance.laws.support.text_cases import READINGS
from soprano.text import normalize

PROFILE = Path(conformance.__file__).parent / "golden/text_profiles/soprano-tts-0.2.0.json"
_LAWS = ("test_text", "test_text_numbers", "test_text_signs")
_SPLIT = ("paragraphs", "long sentences", "dialogue", "lines")  # kinds whose sentences are kept
_OWN = "its sentences are judged by recorded ones"
EXEMPT = {
    "TX-01": "signs such as $ and digits of other scripts remain",
    "TX-32": "normalised text is normalised further",
    "TX-33": "long numbers raise an error",
    "TX-34": _OWN,
    "TX-35": _OWN,
    "TX-36": _OWN,
    "TX-37": _OWN,
    "TX-61": "characters of many scripts are lost, and long numbers raise an error",
    "TX-62": "letters of many scripts are folded one by one",
}


def contract() -> dict[str, str]:
    """What the laws expect of each of their texts."""
    for name in _LAWS:
        import_module(f"conformance.laws.{name}")
    return {text: reading for pairs in READINGS.values() for text, reading in pairs.items()}


def texts() -> list[str]:
    """The texts whose results are recorded."""
    return [*contract(), *_split_texts()]


def _split_texts() -> list[str]:
    return [case.text for case in read_cases(SENTENCES) if case.kind in _SPLIT]


def document(results: Iterable[TextResult]) -> dict[str, Any]:
    """The profile, from the results of `texts()`."""
    found = dict(zip(texts(), results, strict=True))
    readings = {
        text: None if found[text].normalized.startswith("raises ") else found[text].normalized
        for text, expected in contract().items()
        if found[text].normalized != expected
    }
    sentences = {text: found[text].sentences for text in _split_texts()}
    return {"readings": readings, "sentences": sentences, "exempt": EXEMPT}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m comparisons.agreement.text_profile")
    parser.add_argument("--peer", required=True, help="interpreter that has soprano-tts 0.2.0")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        words = [normalize(case.text) for case in read_cases(SENTENCES)]
        checkpoints.write(checkpoints.SMALL, folder, words)
        results = query(options.peer, folder, [], texts()).texts
    text = json.dumps(document(results), indent=1) + "\n"
    PROFILE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
