"""IS: the inverse transform of frames that come piece by piece."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.judging.judge import Judge
from conformance.laws.hypothesis_profiles import examples
from conformance.oracle.istft import (
    CASES,
    SMALL,
    Float64,
    as_complex,
    defined,
    frames_of,
    limit_of,
    spectrum_of,
)
from soprano.config import IstftConfig
from soprano.stft import StreamingIstft

EXPLORED = examples(40)
STREAMED = {
    name: CASES[name].config for name in CASES if CASES[name].config.center and name != "n1"
}
_LONGEST = 16  # frames


@cache
def streamed_frames(name: str) -> tuple[npt.NDArray[np.float32], Float64]:
    """A spectrum (F, T, 2) and its frames (T, n_fft) by definition."""
    spectrum = spectrum_of(STREAMED[name], _LONGEST).astype(np.float32)
    return spectrum, frames_of(as_complex(spectrum), STREAMED[name])


def stream(config: IstftConfig, spectrum: npt.NDArray[Any], cuts: list[int]) -> list[Any]:
    """The pieces of samples for pieces of frames that end at the cuts."""
    streaming, edges = StreamingIstft(config), [0, *sorted(cuts), spectrum.shape[1]]
    return [
        streaming.push(spectrum[None, :, begin:end], last=place == len(edges) - 2)
        for place, (begin, end) in enumerate(pairwise(edges))
    ]


@pytest.mark.requirement("IS-22")
@pytest.mark.parametrize("name", STREAMED)
@EXPLORED
@given(data=st.data())
def test_a_stream_is_the_whole_however_it_is_cut(judge: Judge, name: str, data: Any) -> None:
    config, (spectrum, frames) = STREAMED[name], streamed_frames(name)
    count = data.draw(st.integers(0, _LONGEST), label="frames")
    cuts = data.draw(st.lists(st.integers(0, count), max_size=8), label="cuts")
    expected = defined(frames[:count], config)
    joined = np.concatenate(stream(config, spectrum[:, :count], cuts))
    judge.equal("samples", len(joined), len(expected))
    if len(expected):
        judge.close(name, joined, expected, limit_of(expected, config))


@pytest.mark.requirement("IS-23")
@pytest.mark.parametrize("name", STREAMED)
def test_a_stream_gives_every_sample_that_is_settled(judge: Judge, name: str) -> None:
    # A sample is settled once no later frame reaches it and it is sure to be wanted.
    config, (spectrum, _) = STREAMED[name], streamed_frames(name)
    half, hop, odd = config.n_fft // 2, config.hop_length, config.n_fft % 2
    given_ = np.cumsum([len(piece) for piece in stream(config, spectrum, list(range(1, _LONGEST)))])
    for count, total in enumerate(given_[:-1], start=1):
        wanted = max(0, min(count * hop - half, (count - 1) * hop + odd))
        judge.equal(f"after {count} frames", int(total), wanted)


@pytest.mark.requirement("IS-24")
def test_pieces_already_given_stay_as_they_are(judge: Judge) -> None:
    spectrum = spectrum_of(SMALL, 12).astype(np.float32)[None]
    streaming = StreamingIstft(SMALL)
    kept = [streaming.push(spectrum[:, :, t : t + 3], last=t == 9) for t in range(0, 12, 3)]
    copies = [piece.copy() for piece in kept[:-1]]
    spectrum[:] = 0
    StreamingIstft(SMALL).push(spectrum)
    for place, copied in enumerate(copies):
        judge.same(f"piece {place}", kept[place], copied)


@pytest.mark.requirement("IS-25")
@pytest.mark.parametrize(
    "config",
    [
        IstftConfig(64, 16, 64, center=False),
        IstftConfig(64, 64, 64),
    ],
    ids=["uncentred", "gaps"],
)
def test_a_stream_that_cannot_be_is_refused(judge: Judge, config: IstftConfig) -> None:
    judge.refuses(
        "configuration",
        lambda: StreamingIstft(config),
        ValueError,
        accepts=lambda: StreamingIstft(SMALL),
    )
