"""Normalised text -> sentences."""

from __future__ import annotations

import re
from collections.abc import Iterable

MAX_LENGTH = 300  # characters of a sentence
MIN_LENGTH = 30  # a shorter sentence is merged with a neighbour

_BOUNDARY = re.compile(r"[!?][.!?]*+|\.(?=\s|$)")
_LETTER_OR_DIGIT = re.compile(r"[^\W_]")


def split(text: str, max_length: int = MAX_LENGTH) -> list[str]:
    """Split text at sentence ends, and a longer sentence after its last word that fits.

    A word longer than `max_length` characters is cut. Parts without a letter or digit are removed.
    """
    if max_length < 1:
        raise ValueError(f"max_length must be at least 1, got {max_length}")
    text = " ".join(text.split())
    ends = [match.end() for match in _BOUNDARY.finditer(text)]
    parts = []
    start = 0
    for end in [*ends, len(text)]:
        while end - start > max_length:
            # The space before a sentence counts, as in soprano-tts.
            space = text.rfind(" ", start + 1, start + max_length)
            cut = space + 1 if space >= 0 else start + max_length
            parts.append(text[start:cut])
            start = cut
        parts.append(text[start:end])
        start = end
    return [part.strip() for part in parts if _LETTER_OR_DIGIT.search(part)]


def merge_short(
    parts: Iterable[str],
    min_length: int = MIN_LENGTH,
    max_length: int = MAX_LENGTH + 2 * MIN_LENGTH,
) -> list[str]:
    """Merge each sentence under `min_length` characters with the one before.

    If it is the first, or if the one before would exceed `max_length`, it is merged with the next.
    The last sentence is always merged with the one before.
    """
    merged: list[str] = []
    short = ""
    for part in parts:
        short = f"{short} {part}" if short else part
        if len(short) >= min_length or not short:
            merged.append(short)
        elif merged and len(merged[-1]) + 1 + len(short) <= max_length:
            merged[-1] += f" {short}"
        else:
            continue
        short = ""
    if short and merged:
        merged[-1] += f" {short}"
    elif short:
        merged.append(short)
    return merged
