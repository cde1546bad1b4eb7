"""Measures the resident memory of a process while it synthesises a long text.

The process does nothing else: earlier work of the test process would be counted too. After each
sentence the allocator returns its free memory, and the resident memory is read. Memory that is
kept for every sentence grows in every part of the text. A buffer that grows to the largest batch
grows in a few parts only, and the median over all parts ignores it.
"""

from __future__ import annotations

import ctypes
import sys
from functools import partial
from pathlib import Path
from random import Random

import numpy as np

from conformance.judging.alone import hand_over, open_channel, result_of

STATUS = Path("/proc/self/status")  # Linux: VmRSS is the resident memory in KiB
WORDS = "The road was long and nobody on it knew how far away the old harbour might have been"
WARM, LONG = 48, 64  # sentences before, and of the text that is measured
BATCH = 4
PART = 8  # sentences: two batches, at whose ends their states may be kept
LONGEST = 44  # words: a longer sentence is split in two
TOKENS = 40  # per sentence: many shapes in a short time


def measurable() -> bool:
    """Whether the system reports resident memory, and the allocator can return free memory."""
    return STATUS.exists() and hasattr(ctypes.CDLL(None), "malloc_trim")


def text(count: int, seed: int) -> str:
    """Sentences of random lengths; the longest comes first, so that buffers grow early."""
    words, random = WORDS.lower().split(), Random(seed)
    lengths = [LONGEST, *(random.randint(5, LONGEST) for _ in range(count - 1))]
    return " ".join(" ".join(random.choices(words, k=length)) + "." for length in lengths)


def excess(backend: str, model: Path, precision: str) -> float:
    """KiB per sentence by which the process grows beyond its audio: the median over all parts."""
    module = "conformance.judging.memory"
    resident, audio = result_of(module, backend, str(model), precision)
    beyond = np.array(resident) - np.linspace(0, audio, len(resident))
    return float(np.median(beyond[PART:] - beyond[:-PART])) / PART / 1024


def _resident() -> int:
    """Bytes of the process, without the free memory of the allocator (GNU C library)."""
    ctypes.CDLL(None).malloc_trim(0)
    line = next(line for line in STATUS.read_text("ascii").splitlines() if line[:6] == "VmRSS:")
    return int(line.split()[1]) * 1024


def _measure(backend: str, model: str, precision: str) -> None:
    from soprano import SopranoTTS

    channel = open_channel()
    voice = SopranoTTS(model, backend, precision, threads=1)
    infer = partial(voice.infer, batch_size=BATCH, max_new_tokens=TOKENS)
    infer(text(WARM, seed=0))
    resident: list[int] = []
    audio = infer(text(LONG, seed=1), progress=lambda *_: resident.append(_resident()))
    hand_over(channel, [resident, audio.samples.nbytes])


if __name__ == "__main__":
    _measure(*sys.argv[1:])
