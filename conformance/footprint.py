"""What a long text costs in memory, measured in a process of its own.

A peak that is asked of the process under test would be that of everything it did before.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from random import Random

PEAK = Path("/proc/self/status")  # Linux alone tells a process's own peak: VmHWM, in KiB
SPOKEN = "The road was long and nobody on it knew how far away the old harbour might have been"
SHORT, LONG = 32, 96  # sentences
LONGEST = 44  # words: just below what is cut in two
TOKENS = 40  # a sentence: many shapes in little time


def text(count: int, seed: int) -> str:
    """Sentences of any length, the longest first: what its shape needs is needed early."""
    words, lots = SPOKEN.lower().split(), Random(seed)
    lengths = [LONGEST, *(lots.randint(5, LONGEST) for _ in range(count - 1))]
    return " ".join(" ".join(lots.choices(words, k=length)) + "." for length in lengths)


def excess(backend: str, model: Path, precision: str) -> float:
    """KiB a sentence that the peak grows by from a short text to a long one, beyond the audio."""
    command = [sys.executable, "-m", "conformance.footprint", backend, str(model), precision]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)}: {result.stderr}")
    (low, short), (high, long) = json.loads(result.stdout)
    return ((high - low) - (long - short)) / (LONG - SHORT) / 1024


def _peak() -> int:
    line = next(line for line in PEAK.read_text("ascii").splitlines() if line[:6] == "VmHWM:")
    return int(line.split()[1]) * 1024


def _speak(backend: str, model: str, precision: str) -> None:
    from soprano import SopranoTTS

    voice = SopranoTTS(model, backend, precision, threads=1)
    found = []
    for sentences in (text(SHORT, 0), text(LONG, 1)):
        size = voice.infer(sentences, max_new_tokens=TOKENS).samples.nbytes
        found.append((_peak(), size))
    print(json.dumps(found))


if __name__ == "__main__":
    _speak(*sys.argv[1:])
