"""Similarity of two utterances: log-mel distance, intelligibility (STOI), recognised words."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.floating]

_FRAME, _HOP, _BANDS = 512, 128, 40
_RANGE = 60.0  # dB below the loudest band; anything quieter is raised to this level


def log_mel_distance(one: Samples, two: Samples, rate: int) -> float:
    """The mean difference in dB over the bands and frames of two signals (N,) of one length."""
    levels = [10 * np.log10(_mel_power(x, rate) + 1e-20) for x in (one, two)]
    quietest = levels[1].max() - _RANGE
    return float(np.mean(np.abs(np.subtract(*(np.maximum(x, quietest) for x in levels)))))


def _mel_power(samples: Samples, rate: int) -> npt.NDArray[np.float64]:
    """Power (frames, bands): triangular bands, evenly spaced on the mel scale (O'Shaughnessy)."""
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), _FRAME)[::_HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(_FRAME))) ** 2
    highest = 2595 * np.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, highest, _BANDS + 2) / 2595) - 1)
    hertz = np.fft.rfftfreq(_FRAME, 1 / rate)[:, None]
    rising = (hertz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hertz) / (edges[2:] - edges[1:-1])
    return power @ np.maximum(np.minimum(rising, falling), 0)


def intelligibility(one: Samples, two: Samples, rate: int) -> float:
    """STOI of the first against the second, 0 to 1 (https://doi.org/10.1109/TASL.2011.2114881)."""
    from pystoi import stoi

    return float(stoi(two.astype(np.float64), one.astype(np.float64), rate))


def words_of(text: str) -> list[str]:
    """The words of a text, in lower case and without punctuation."""
    return re.findall(r"[a-z']+", text.lower())


def recognised_words(samples: Samples, rate: int) -> list[str]:
    """The words that a speech recogniser finds in samples (N,) of -1 to 1."""
    from pocketsphinx import Decoder

    # A recogniser adapts to its input, so that each utterance needs a new one.
    recogniser = Decoder(samprate=rate, loglevel="FATAL")
    recogniser.start_utt()
    pcm = np.clip(samples * 32767, -32768, 32767).astype(np.int16)
    recogniser.process_raw(pcm.tobytes(), full_utt=True)
    recogniser.end_utt()
    hypothesis = recogniser.hyp()
    return words_of(hypothesis.hypstr) if hypothesis else []


def word_errors(reference: Sequence[str], recognised: Sequence[str]) -> int:
    """The least number of words to insert, delete or replace (Levenshtein distance)."""
    row = list(range(len(recognised) + 1))
    for i, word in enumerate(reference, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(recognised, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != other))
    return row[-1]
