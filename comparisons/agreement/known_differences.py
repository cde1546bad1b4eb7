"""Known differences of soprano-tts 0.2.0 from the specified behaviour, each measured.

Each function reproduces one of them. A difference that is not reproduced fails the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from comparisons.agreement.checks import GREEDY, greedy_margins, probabilities
from comparisons.agreement.peer_client import TextResult, Utterance, query
from comparisons.agreement.reference import Reference
from conformance.judging.sequences import first_difference
from soprano.config import SamplingOptions

# Relative rms errors: below the first, only float noise differs; above the second, more does.
SAME, DIFFERENT = 1e-3, 0.05
EDGE = 4  # tokens at either end that the padding of a batch or the end of a stream affects

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True)
class KnownDifference:
    name: str
    theirs: str
    ours: str
    reproduced: bool


def stream_shift(
    ours: Reference, text: str, offline: Utterance, stream: Utterance
) -> KnownDifference:
    """The stream decodes the hidden state after each token, the offline path the one before it."""
    token = ours.config.decoder.samples_per_token
    errors = [_shifted_error(stream.samples, offline.samples, lag, token) for lag in (0, 1)]
    chunks = ours.voice.infer_stream(text, chunk_size=4, temperature=0.0)
    own = relative_error(
        np.concatenate([c.samples for c in chunks]), ours.voice.infer(text).samples
    )
    return KnownDifference(
        "1 stream shifted by one token",
        f"stream[n] differs from offline[n + {token}] by {errors[1]:.2g} of the rms, "
        f"from offline[n] by {errors[0]:.2g}",
        f"stream[n] differs from offline[n] by {own:.2g}",
        offline.ids == stream.ids and errors[1] < SAME and errors[0] > DIFFERENT and own < SAME,
    )


def random_at_zero(ours: Reference, utterances: list[Utterance]) -> KnownDifference:
    """At temperature 0 a near tie is decided at random; the utterances differ in their seeds."""
    first, *others = utterances
    margins = greedy_margins(first.logits, first.prompt, first.ids)
    diverged = [first_difference(first.ids, other.ids) for other in others]
    widest = max((margins[index] for index in diverged if index is not None), default=0.0)
    count = len({tuple(utterance.ids) for utterance in utterances})
    own = {tuple(ours.generate(first.prompt, GREEDY, seed)) for seed in range(len(utterances))}
    return KnownDifference(
        "2 temperature 0 is random",
        f"{count} utterances from {len(utterances)} seeds, diverging at margins up to {widest:.4f}",
        f"{len(own)} from {len(utterances)} seeds",
        count > 1 and len(own) == 1,
    )


def hidden_top_k(
    ours: Reference, offline: list[Utterance], stream: list[Utterance], options: SamplingOptions
) -> KnownDifference:
    """Offline ids are sampled from at most 50 although no top-k was asked for; stream ids not."""
    most = [
        max(int((u.probabilities > 0).sum(axis=1).max()) for u in run) for run in (offline, stream)
    ]
    own = max(
        np.count_nonzero(probabilities(utterance.logits[:1], utterance.prompt, [], options))
        for utterance in offline
    )
    return KnownDifference(
        "3 hidden top-k of 50",
        f"up to {most[0]} candidates offline, up to {most[1]} in a stream",
        f"up to {own} in both",
        most[0] <= 50 < most[1] and own > 50,
    )


def padded_batch(
    ours: Reference, texts: list[str], alone: list[Utterance], batched: list[Utterance]
) -> KnownDifference:
    """The beginning of a sentence in a batch is decoded from the zeros that pad it."""
    short = int(np.argmin([len(utterance.samples) for utterance in alone]))
    edge = EDGE * ours.config.decoder.samples_per_token
    start, rest = (
        relative_error(batched[short].samples[part], alone[short].samples[part])
        for part in (slice(0, edge), slice(edge, None))
    )
    batch = ours.voice.infer_batch(texts, temperature=0.0)[short].samples
    own = relative_error(batch, ours.voice.infer(texts[short], temperature=0.0).samples)
    same_ids = [a.ids for a in alone] == [b.ids for b in batched]
    return KnownDifference(
        "6 batches change the audio",
        f"the first {EDGE} tokens beside a longer sentence differ by {start:.2g} of the rms from "
        f"those alone, later ones by {rest:.2g}",
        f"in a batch and alone differ by {own:.2g}",
        same_ids and start > DIFFERENT and rest < SAME and own < SAME,
    )


def cut_prompt(ours: Reference, theirs: TextResult, sentences: list[str]) -> KnownDifference:
    """A prompt of more than 512 ids loses its end, [START] included."""
    ids = max(theirs.prompts, key=len, default=[0])
    own = [ours.tokenizer.prompt(sentence) for sentence in sentences]
    start = ours.tokenizer.start
    return KnownDifference(
        "prompts are cut",
        f"a prompt of {len(ids)} ids ends with {ids[-1]}, not with [START]",
        f"{len(own)} prompts of up to {max(map(len, own))} ids, each ending with [START]",
        len(ids) == 512 and ids[-1] != start and all(prompt[-1] == start for prompt in own),
    )


def older_decoder(python: str, folder: Path) -> KnownDifference:
    """A v1.0 decoder is rejected, so that its outputs cannot be compared."""
    decoder = Reference(folder).config.decoder
    try:
        query(python, folder, [], [])
    except ChildProcessError as error:
        rejected = "size mismatch for decoder.embed.weight" in str(error)
        theirs = "rejects its weights" if rejected else f"fails otherwise: {error}"
    else:
        rejected, theirs = False, "opens it: its outputs can be compared now"
    opened = f"opens it (dim {decoder.dim}, input kernel {decoder.input_kernel_size})"
    return KnownDifference("v1.0 decoders", theirs, opened, rejected)


def relative_error(actual: Samples, expected: Samples) -> float:
    """The rms of the difference over the rms of `expected`; infinite for different lengths."""
    if actual.shape != expected.shape or not expected.size:
        return np.inf
    return float(np.sqrt(np.mean((actual - expected) ** 2) / np.mean(expected**2)))


def _shifted_error(stream: Samples, offline: Samples, lag: int, token: int) -> float:
    """`stream` against `offline` from `lag` tokens on, without both edges."""
    moved, edge = offline[lag * token :], EDGE * token
    count = min(len(stream), len(moved))
    return relative_error(stream[edge : count - edge], moved[edge : count - edge])
