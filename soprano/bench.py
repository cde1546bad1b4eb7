"""Where the time of a synthesis goes, part by part and backend by backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

from soprano.config import SamplingOptions
from soprano.sampling import sample
from soprano.stft import istft
from soprano.synthesis import SopranoTTS

TEXT = "it is half past nine, and the kettle is on."
PROMPT = 24  # ids

Clock = Callable[[], float]  # seconds
Part = Callable[[Clock], float]  # runs once and gives its seconds


def parts(voice: SopranoTTS, tokens: int) -> dict[str, Part]:
    """The parts of speaking `tokens` audio tokens, in the order of the data flow."""
    backend, numbers = voice.backend, voice.config.language_model
    generator = np.random.default_rng(0)
    ids = generator.integers(4, numbers.vocab_size, (1, max(PROMPT, tokens)))
    hidden = generator.standard_normal((1, tokens, numbers.hidden_size), dtype=np.float32)
    spectrum = backend.decode(hidden, np.array([tokens]))
    logits = generator.standard_normal(numbers.vocab_size).astype(np.float32)
    options = SamplingOptions(temperature=0.7)
    prompt = ids[:, :PROMPT], np.array([PROMPT])

    def step(clock: Clock) -> float:
        state = backend.prefill(*prompt).state
        start = clock()
        for number in range(tokens):
            state = backend.step(ids[:, number], state).state
        return clock() - start

    def choose() -> None:
        for number in range(tokens):
            sample(logits, ids[0, :number].tolist(), options, 0.5)

    def first_sound(clock: Clock) -> float:
        start = clock()
        stream = voice.infer_stream(TEXT, seed=1, temperature=0.7, max_new_tokens=tokens)
        next(stream)
        return clock() - start  # before the stream is taken apart

    return {
        "prefill": _timed(lambda: backend.prefill(*prompt)),
        "step": step,
        "sample": _timed(choose),
        "decode": _timed(lambda: backend.decode(hidden, np.array([tokens]))),
        "istft": _timed(lambda: istft(spectrum, voice.config.decoder.istft)),
        "first sound": first_sound,
    }


def _timed(work: Callable[[], object]) -> Part:
    def run(clock: Clock) -> float:
        start = clock()
        work()
        return clock() - start

    return run


# What is done once for each token; the others are done once for each sentence.
PER_TOKEN = ("step", "sample", "decode", "istft")


@dataclass(frozen=True)
class Times:
    """Seconds of each part on one backend, for `tokens` tokens that are `audio` seconds."""

    backend: str
    seconds: Mapping[str, float]
    tokens: int
    audio: float

    @property
    def real_time_factor(self) -> float:
        """Processing time over audio time, of what every token costs."""
        return sum(self.seconds[part] for part in PER_TOKEN) / self.audio


def measure(
    voices: Mapping[str, SopranoTTS],
    *,
    tokens: int = 64,
    rounds: int = 5,
    progress: Callable[[int, int], None] | None = None,
) -> list[Times]:
    """Medians over rounds in which the backends take turns, part by part.

    `progress` is called after each timing with those done and those in all.
    """
    all_parts = {name: parts(voice, tokens) for name, voice in voices.items()}
    found: dict[str, dict[str, list[float]]] = {name: {} for name in voices}
    done, total = 0, (rounds + 1) * sum(map(len, all_parts.values()))
    for _ in range(rounds + 1):  # the first warms up and does not count
        for part in next(iter(all_parts.values())):
            for name, own in all_parts.items():
                found[name].setdefault(part, []).append(own[part](perf_counter))
                done += 1
                if progress:
                    progress(done, total)
    return [
        Times(
            name,
            {part: median(seconds[1:]) for part, seconds in found[name].items()},
            tokens,
            tokens * voice.config.decoder.samples_per_token / voice.sample_rate,
        )
        for name, voice in voices.items()
    ]


def table(times: Sequence[Times]) -> str:
    """Milliseconds by part and backend, and the real-time factor."""
    lines = ["| part | " + " | ".join(t.backend for t in times) + " |"]
    lines.append("|---|" + "---:|" * len(times))
    for part in times[0].seconds:
        unit = "ms a token" if part in PER_TOKEN else "ms"
        values = (t.seconds[part] * 1e3 / (t.tokens if part in PER_TOKEN else 1) for t in times)
        lines.append(f"| {part}, {unit} | " + " | ".join(f"{v:.3f}" for v in values) + " |")
    factors = " | ".join(f"{t.real_time_factor:.3f}" for t in times)
    return "\n".join([*lines, f"| real-time factor | {factors} |"])


def plot(times: Sequence[Times], path: Path) -> None:
    """A bar a backend, its parts stacked: milliseconds for each token, as a PNG.

    Raises:
        ImportError: matplotlib is not installed (the extra `bench`).
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 1 + 0.6 * len(times)), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(times))
    for part in PER_TOKEN:
        widths = np.array([t.seconds[part] * 1e3 / t.tokens for t in times])
        axes.barh([t.backend for t in times], widths, left=left, label=part)
        left += widths
    limit = times[0].audio / times[0].tokens * 1e3
    axes.set_xlabel(f"ms a token (a token is {limit:.0f} ms of sound)")
    axes.legend()
    figure.savefig(path, format="png")
