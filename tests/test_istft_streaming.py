"""IS: the inverse STFT of frames that arrive in chunks."""

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.hypothesis_profiles import examples
from conformance.judging.tolerances import istft as istft_limit
from conformance.oracle.istft import CASES, SMALL, inverse_dft, overlap_add, random_spectrum
from soprano.config import IstftConfig
from soprano.stft import StreamingIstft

CONFIGS = {name: case.config for name, case in CASES.items() if case.config.center and name != "n1"}
FRAMES = 16  # of the longest stream


@cache
def spectrum_and_frames(name):
    """A spectrum (F, T, 2) and its frames (T, n_fft) by definition."""
    spectrum = random_spectrum(CONFIGS[name], FRAMES).astype(np.float32)
    return spectrum, inverse_dft(spectrum, CONFIGS[name])


def stream(config, spectrum, cuts):
    """The chunks of samples from chunks of frames that end at the cuts."""
    streaming, edges = StreamingIstft(config), [0, *sorted(cuts), spectrum.shape[1]]
    return [
        streaming.push(spectrum[None, :, begin:end], last=index == len(edges) - 2)
        for index, (begin, end) in enumerate(pairwise(edges))
    ]


@pytest.mark.requirement("IS-22")
@pytest.mark.parametrize("name", CONFIGS)
@examples(40)
@given(data=st.data())
def test_streaming_istft_equals_the_whole_for_any_chunks(judge, name, data):
    config, (spectrum, frames) = CONFIGS[name], spectrum_and_frames(name)
    count = data.draw(st.integers(0, FRAMES), label="frames")
    cuts = data.draw(st.lists(st.integers(0, count), max_size=8), label="cuts")
    expected = overlap_add(frames[:count], config)
    streamed = np.concatenate(stream(config, spectrum[:, :count], cuts))
    judge.equal("samples", len(streamed), len(expected))
    if len(expected):
        judge.close(name, streamed, expected, istft_limit(expected, config))


@pytest.mark.requirement("IS-23")
@pytest.mark.parametrize("name", CONFIGS)
def test_push_returns_every_sample_that_is_final(judge, name):
    # A sample is final when no later frame reaches it and it lies before the natural end.
    config, (spectrum, _) = CONFIGS[name], spectrum_and_frames(name)
    half, hop, odd = config.n_fft // 2, config.hop_length, config.n_fft % 2
    chunks = stream(config, spectrum, list(range(1, FRAMES)))
    totals = np.cumsum([len(chunk) for chunk in chunks])
    for count, total in enumerate(totals[:-1], start=1):
        expected = max(0, min(count * hop - half, (count - 1) * hop + odd))
        judge.equal(f"after {count} frames", int(total), expected)


@pytest.mark.requirement("IS-24")
def test_returned_samples_never_change(judge):
    spectrum = random_spectrum(SMALL, 12).astype(np.float32)[None]
    streaming = StreamingIstft(SMALL)
    chunks = [streaming.push(spectrum[:, :, t : t + 3], last=t == 9) for t in range(0, 12, 3)]
    copies = [chunk.copy() for chunk in chunks[:-1]]
    spectrum[:] = 0
    StreamingIstft(SMALL).push(spectrum)
    for index, copied in enumerate(copies):
        judge.bits(f"chunk {index}", chunks[index], copied)


@pytest.mark.requirement("IS-25")
@pytest.mark.parametrize(
    "config",
    [IstftConfig(64, 16, 64, center=False), IstftConfig(64, 64, 64)],
    ids=["uncentred", "gaps"],
)
def test_streaming_istft_rejects_an_uncentred_config_and_gaps(judge, config):
    judge.refuses(
        "config",
        lambda: StreamingIstft(config),
        ValueError,
        accepts=lambda: StreamingIstft(SMALL),
    )
