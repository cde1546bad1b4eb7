"""One side of a gate: times the parts of a synthesis that it is asked for.

Run by path with the tree to measure first on the import path, so it uses public interfaces only.
A line in is a part's name; a line out its seconds: the quickest of a few calls.
Seconds are of processor time on one thread, which other people's work on the machine disturbs
least: a wait (sleep, input and output) is not seen here.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

CALLS = 5
PROMPT, TOKENS = 24, 12
TEXT = "it is half past nine, and the kettle is on."


def main() -> None:
    tree, backend, model = sys.argv[1:]
    sys.path.insert(0, tree)
    parts = measured_parts(backend, model)
    print(json.dumps(sorted(parts)), flush=True)
    for line in sys.stdin:
        part = parts[line.strip()]
        print(json.dumps(min(part() for _ in range(CALLS))), flush=True)


def measured_parts(backend: str, model: str) -> dict[str, Callable[[], float]]:
    """Every part by name: a call of it gives its seconds."""
    import soprano

    if not Path(soprano.__file__).is_relative_to(sys.path[0]):
        raise SystemExit(f"measured {soprano.__file__}, wanted the package in {sys.path[0]}")
    from soprano.istft import istft

    voice = soprano.SopranoTTS(model, backend, threads=1)
    opened = voice.backend
    numbers = opened.config.language_model
    generator = np.random.default_rng(0)
    ids = generator.integers(4, numbers.vocab_size, (1, PROMPT))
    hidden = generator.standard_normal((1, TOKENS, numbers.hidden_size), dtype=np.float32)
    spectrum = opened.decode(hidden, np.array([TOKENS]))
    logits = generator.standard_normal(numbers.vocab_size).astype(np.float32)
    options = soprano.SamplingOptions(temperature=0.7)

    def prefill() -> None:
        opened.prefill(ids, np.array([PROMPT]))

    def steps() -> float:
        state = opened.prefill(ids, np.array([PROMPT])).state
        start = time.process_time()
        for number in range(TOKENS):
            state = opened.step(ids[:, number], state).state
        return time.process_time() - start

    def decode() -> None:
        opened.decode(hidden, np.array([TOKENS]))

    def invert() -> None:
        istft(spectrum, opened.config.decoder.istft)

    def choose() -> None:
        for _ in range(TOKENS):
            soprano.sample(logits, ids[0].tolist(), options, 0.5)

    def first_sound() -> float:
        start = time.process_time()
        stream = voice.infer_stream(TEXT, seed=1, temperature=0.7, max_new_tokens=TOKENS)
        next(stream)
        seconds = time.process_time() - start
        stream.close()
        return seconds

    return {
        "prefill": _timed(prefill),
        "step": steps,
        "decode": _timed(decode),
        "istft": _timed(invert),
        "sample": _timed(choose),
        "first sound": first_sound,
    }


def _timed(work: Callable[[], None]) -> Callable[[], float]:
    def run() -> float:
        start = time.process_time()
        work()
        return time.process_time() - start

    return run


if __name__ == "__main__":
    main()
