"""Where soprano-tts 0.2.0 is known to differ from the settled semantics, measured.

Each function shows one difference by its name; one that is no longer there fails the run.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from comparisons.agreement.agreement import GREEDY, gaps
from comparisons.agreement.observe import PeerError, ReadText, Utterance, ask
from comparisons.agreement.ours import Ours
from comparisons.agreement.table import Divergence
from soprano.config import SamplingOptions
from soprano.sampling import distribution, penalize

# As shares of the signal's rms: what float noise makes of equal sounds, and what no noise makes.
EQUAL, UNLIKE = 1e-3, 0.05
EDGE = 4  # tokens at either end that another neighbourhood changes

Samples = npt.NDArray[np.float32]


def stream_shift(ours: Ours, text: str, offline: Utterance, stream: Utterance) -> Divergence:
    """The stream decodes the state after each token, the offline path the one before it."""
    token = ours.config.decoder.samples_per_token
    at = {lag: _apart_shifted(stream.samples, offline.samples, lag, token) for lag in (0, 1)}
    chunks = ours.voice.infer_stream(text, chunk_size=4, temperature=0.0)
    own = _apart(np.concatenate([c.samples for c in chunks]), ours.voice.infer(text).samples)
    return Divergence(
        "1 stream shifted by one token",
        f"stream[n] differs from offline[n + {token}] by {at[1]:.2g} of the rms, "
        f"from offline[n] by {at[0]:.2g}",
        f"stream[n] differs from offline[n] by {own:.2g}",
        offline.drawn == stream.drawn and at[1] < EQUAL and at[0] > UNLIKE and own < EQUAL,
    )


def random_at_zero(ours: Ours, spoken: list[Utterance]) -> Divergence:
    """At temperature 0 a near tie is drawn by lot; `spoken` is one text with many seeds."""
    first, *others = spoken
    margins = gaps(first.logits, first.prompt, first.drawn)
    parted = [
        margins[_first_difference(first.drawn, other.drawn)]
        for other in others
        if other.drawn != first.drawn
    ]
    count = len({tuple(utterance.drawn) for utterance in spoken})
    own = {tuple(ours.speak(first.prompt, GREEDY, seed)) for seed in range(len(spoken))}
    return Divergence(
        "2 temperature 0 is random",
        f"{count} utterances from {len(spoken)} seeds, parting at gaps up to "
        f"{max(parted, default=0):.4f}",
        f"{len(own)} from {len(spoken)} seeds",
        count > 1 and len(own) == 1,
    )


def hidden_top_k(
    ours: Ours, offline: list[Utterance], stream: list[Utterance], options: SamplingOptions
) -> Divergence:
    """Offline draws come from at most 50 ids, which nobody asked for; those of a stream do not."""
    most = [
        max(int((u.probabilities > 0).sum(axis=1).max()) for u in run) for run in (offline, stream)
    ]
    own = max(
        np.count_nonzero(distribution(penalize(row, u.prompt, options.repetition_penalty), options))
        for u in offline
        for row in u.logits[:1]
    )
    return Divergence(
        "3 hidden top-k of 50",
        f"up to {most[0]} candidates offline, up to {most[1]} in a stream",
        f"up to {own} in both",
        most[0] <= 50 < most[1] and own > 50,
    )


def padded_batch(
    ours: Ours, texts: list[str], alone: list[Utterance], together: list[Utterance]
) -> Divergence:
    """A sentence decoded beside a longer one starts from the zeros that pad it."""
    lengths = [len(utterance.samples) for utterance in alone]
    short = int(np.argmin(lengths))
    start = slice(0, EDGE * ours.config.decoder.samples_per_token)
    same = [a.drawn for a in alone] == [b.drawn for b in together]
    apart = _apart(together[short].samples[start], alone[short].samples[start])
    rest = slice(start.stop, None)
    later = _apart(together[short].samples[rest], alone[short].samples[rest])
    batch = ours.voice.infer_batch(texts, temperature=0.0)[short].samples
    own = _apart(batch, ours.voice.infer(texts[short], temperature=0.0).samples)
    return Divergence(
        "6 batches change the sound",
        f"the first {EDGE} tokens beside a longer sentence differ by {apart:.2g} of the rms from "
        f"those alone, later ones by {later:.2g}",
        f"in a batch and alone differ by {own:.2g}",
        same and apart > UNLIKE and later < EQUAL and own < EQUAL,
    )


def cut_prompt(ours: Ours, theirs: ReadText, pieces: list[str]) -> Divergence:
    """A prompt over 512 ids loses its end, and with it [START]."""
    ids = max(theirs.ids, key=len, default=[0])
    own = [ours.voice.tokenizer.prompt(piece) for piece in pieces]
    start = ours.voice.tokenizer.start
    return Divergence(
        "prompts are cut",
        f"a prompt of {len(ids)} ids ends with {ids[-1]}, not with [START]",
        f"{len(own)} prompts of up to {max(map(len, own))} ids, each ending with [START]",
        len(ids) == 512 and ids[-1] != start and all(prompt[-1] == start for prompt in own),
    )


def older_decoder(python: str, folder: Path) -> Divergence:
    """A v1.0 decoder is refused, so that there is nothing to compare with."""
    ours = Ours(folder).config.decoder
    try:
        ask(python, folder, [], [])
    except PeerError as error:
        refused = "size mismatch for decoder.embed.weight" in str(error)
        theirs = "refuses its weights" if refused else f"fails otherwise: {error}"
    else:
        refused, theirs = False, "opens it now: compare with it"
    numbers = f"dim {ours.dim}, input kernel {ours.input_kernel_size}"
    return Divergence("v1.0 decoders", theirs, f"opens it ({numbers})", refused)


def _first_difference(one: list[int], two: list[int]) -> int:
    pairs = enumerate(zip(one, two, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(two)))


def _apart(one: Samples, two: Samples) -> float:
    """The rms of the difference as a share of the rms of `two`; infinite for other lengths."""
    if one.shape != two.shape or not two.size:
        return np.inf
    return float(np.sqrt(np.mean((one - two) ** 2) / np.mean(two**2)))


def _apart_shifted(stream: Samples, offline: Samples, lag: int, token: int) -> float:
    """`stream` against `offline` from `lag` tokens on, away from both ends."""
    moved, edge = offline[lag * token :], EDGE * token
    count = min(len(stream), len(moved))
    return _apart(stream[edge : count - edge], moved[edge : count - edge])
