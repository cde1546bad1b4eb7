"""Normalised text to the pieces that are spoken one at a time."""

from __future__ import annotations

import re
from collections.abc import Iterable

MAX_LENGTH = 300  # characters of a piece
MIN_LENGTH = 30  # a shorter piece is spoken with a neighbour

_BOUNDARY = re.compile(r"[!?][.!?]*+|\.(?=\s|$)")
_SPOKEN = re.compile(r"[^\W_]")


def split(text: str, max_length: int = MAX_LENGTH) -> list[str]:
    """Split text after each sentence, and a longer one after its last word that fits.

    A word longer than `max_length` characters is cut. Pieces with nothing to say are left out.
    """
    if max_length < 1:
        raise ValueError(f"max_length must be at least 1, got {max_length}")
    text = " ".join(text.split())
    ends = [match.end() for match in _BOUNDARY.finditer(text)]
    pieces = []
    start = 0
    for end in [*ends, len(text)]:
        while end - start > max_length:
            # The space before a sentence counts, as it does in the reference.
            space = text.rfind(" ", start + 1, start + max_length)
            cut = space + 1 if space >= 0 else start + max_length
            pieces.append(text[start:cut])
            start = cut
        pieces.append(text[start:end])
        start = end
    return [piece.strip() for piece in pieces if _SPOKEN.search(piece)]


def merge_short(
    pieces: Iterable[str],
    min_length: int = MIN_LENGTH,
    max_length: int = MAX_LENGTH + 2 * MIN_LENGTH,
) -> list[str]:
    """Join each piece under `min_length` characters to the one before, or else to the next.

    It goes to the next where it is the first, or where the one before would grow beyond
    `max_length`; the last piece always joins the one before.
    """
    merged: list[str] = []
    short = ""
    for piece in pieces:
        short = f"{short} {piece}" if short else piece
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
