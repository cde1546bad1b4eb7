"""What a long text costs in memory, measured in a process of its own.

The process under test would count everything that it did before.
After each sentence the allocator gives back what it keeps free, and what the process still holds
is read. What is kept of every sentence shows in every stretch of a text; a buffer that grew to
the widest batch shows in a few, and their median leaves it out.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from random import Random

import numpy as np

STATUS = Path("/proc/self/status")  # Linux alone tells what a process holds: VmRSS, in KiB
SPOKEN = "The road was long and nobody on it knew how far away the old harbour might have been"
WARM, LONG = 48, 64  # sentences before, and of the text that is measured
BATCH = 4
STRETCH = 8  # sentences: it holds the ends of batches, at which their states could be kept
LONGEST = 44  # words: just below what is cut in two
TOKENS = 40  # a sentence: many shapes in little time


def measurable() -> bool:
    """Whether the system tells what a process holds, and its allocator can give back."""
    return STATUS.exists() and hasattr(ctypes.CDLL(None), "malloc_trim")


def text(count: int, seed: int) -> str:
    """Sentences of any length, the longest first: what its shape needs is needed early."""
    words, lots = SPOKEN.lower().split(), Random(seed)
    lengths = [LONGEST, *(lots.randint(5, LONGEST) for _ in range(count - 1))]
    return " ".join(" ".join(lots.choices(words, k=length)) + "." for length in lengths)


def excess(backend: str, model: Path, precision: str) -> float:
    """KiB a sentence by which the process grows beyond the audio, in most of a long text."""
    command = [sys.executable, "-m", "conformance.judging.memory", backend, str(model), precision]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)}: {result.stderr}")
    held, audio = json.loads(result.stdout)
    beyond = np.array(held) - np.linspace(0, audio, len(held))
    return float(np.median(beyond[STRETCH:] - beyond[:-STRETCH])) / STRETCH / 1024


def _held() -> int:
    """Bytes of the process, without what the allocator (of the GNU C library) keeps free."""
    ctypes.CDLL(None).malloc_trim(0)
    line = next(line for line in STATUS.read_text("ascii").splitlines() if line[:6] == "VmRSS:")
    return int(line.split()[1]) * 1024


def _speak(backend: str, model: str, precision: str) -> None:
    from soprano import SopranoTTS

    voice = SopranoTTS(model, backend, precision, threads=1)
    speak = partial(voice.infer, batch_size=BATCH, max_new_tokens=TOKENS)
    speak(text(WARM, seed=0))
    held: list[int] = []
    audio = speak(text(LONG, seed=1), progress=lambda *_: held.append(_held()))
    print(json.dumps([held, audio.samples.nbytes]))


if __name__ == "__main__":
    _speak(*sys.argv[1:])
