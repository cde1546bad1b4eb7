"""IS: layouts, shapes, types and windows that the inverse STFT accepts or rejects."""

import numpy as np
import pytest

from conformance.judging.tolerances import istft as istft_limit
from conformance.oracle.istft import CASES, DTYPES, SMALL, inverse_stft, random_spectrum
from soprano.config import IstftConfig


@pytest.mark.requirement("IS-30")
@pytest.mark.parametrize("name", CASES)
def test_both_layouts_give_the_same_bits(judge, shared, name):
    config = CASES[name].config
    for dtype in DTYPES:
        bft2 = np.stack([random_spectrum(config, 5, seed) for seed in range(2)]).astype(dtype)
        b2ft = np.ascontiguousarray(bft2.transpose(0, 3, 1, 2))
        expected = shared.istft(bft2, config, "bft2")
        judge.bits(f"{name}, {dtype.__name__}", shared.istft(b2ft, config, "b2ft"), expected)


@pytest.mark.requirement("IS-30")
def test_memory_order_of_the_spectrum_does_not_matter(judge, shared):
    spectrum = random_spectrum(SMALL, 6).astype(np.float32)[None]
    expected = shared.istft(spectrum, SMALL, "bft2")
    wide = np.zeros((1, SMALL.bins, 12, 2), np.float32)
    wide[:, :, ::2] = spectrum
    for name, view in (("fortran", np.asfortranarray(spectrum)), ("strided", wide[:, :, ::2])):
        judge.bits(name, shared.istft(view, SMALL, "bft2"), expected)


@pytest.mark.requirement("IS-10")
@pytest.mark.parametrize("name", ["n2", "n3", "hop-1", "odd", "twosided", "short-window"])
def test_auto_layout_is_resolved_if_only_one_layout_fits(judge, shared, name):
    config = CASES[name].config
    for count in (3, max(config.bins, 3), config.bins + 2):
        bft2 = random_spectrum(config, count).astype(np.float32)[None]
        b2ft = np.ascontiguousarray(bft2.transpose(0, 3, 1, 2))
        expected = shared.istft(bft2, config, "bft2")
        judge.bits(f"bft2, T={count}", shared.istft(bft2, config, "auto"), expected)
        judge.bits(f"b2ft, T={count}", shared.istft(b2ft, config, "auto"), expected)


@pytest.mark.requirement("IS-10")
@pytest.mark.parametrize(
    "config",
    [IstftConfig(2, 1, 2), IstftConfig(3, 1, 3), IstftConfig(2, 1, 2, onesided=False)],
    ids=["n2", "n3", "n2-twosided"],
)
def test_auto_layout_is_rejected_if_both_layouts_fit(judge, shared, config):
    ambiguous = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)
    unambiguous = np.zeros((1, config.bins, 5, 2), np.float32)
    judge.refuses(
        "both fit",
        lambda: shared.istft(ambiguous, config, "auto"),
        ValueError,
        accepts=lambda: shared.istft(unambiguous, config, "auto"),
    )
    for layout, spectrum in (("bft2", ambiguous[0]), ("b2ft", ambiguous[0].transpose(1, 2, 0))):
        expected = inverse_stft(spectrum, config)
        actual = shared.istft(ambiguous, config, layout)[0]
        judge.close(layout, actual, expected, istft_limit(expected, config))


@pytest.mark.requirement("IS-31")
@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((1, 2, 33, 5), "bft2"),
        ((1, 33, 5, 2), "b2ft"),
        ((1, 5, 33, 2), "bft2"),
        ((1, 5, 33, 2), "auto"),
        ((1, 64, 5, 2), "auto"),
        ((1, 33, 2, 5), "auto"),
        ((1, 32, 5, 2), "bft2"),
        ((1, 33, 5, 3), "bft2"),
        ((1, 33, 5, 1), "bft2"),
        ((33, 5, 2), "bft2"),
        ((33, 5, 2), "auto"),
        ((1, 1, 33, 5, 2), "bft2"),
        ((), "bft2"),
        ((1, 33, 5, 2), "tf2"),
        ((1, 33, 5, 2), ""),
    ],
)
def test_a_shape_that_does_not_fit_the_layout_is_rejected(judge, shared, shape, layout):
    spectrum = np.zeros(shape, np.float32)
    valid = np.zeros((1, SMALL.bins, 5, 2), np.float32)
    judge.refuses(
        f"{shape} as {layout}",
        lambda: shared.istft(spectrum, SMALL, layout),
        ValueError,
        accepts=lambda: [shared.istft(valid, SMALL, name) for name in ("bft2", "auto")],
    )


@pytest.mark.requirement("IS-12")
@pytest.mark.parametrize("dtype", ["float16", "int16", "int64", "complex64", "complex128", "bool"])
def test_a_type_other_than_float32_and_float64_is_rejected(judge, shared, dtype):
    spectrum = np.zeros((1, SMALL.bins, 4, 2), dtype)
    judge.refuses(
        dtype,
        lambda: shared.istft(spectrum, SMALL, "bft2"),
        ValueError,
        TypeError,
        accepts=lambda: [shared.istft(spectrum.real.astype(d), SMALL, "bft2") for d in DTYPES],
    )


@pytest.mark.requirement("IS-13")
@pytest.mark.parametrize(
    "config",
    [
        IstftConfig(64, 64, 64),
        IstftConfig(63, 63, 63),
        IstftConfig(64, 40, 40),
        IstftConfig(64, 64, 64, "blackman"),
        IstftConfig(64, 64, 64, center=False),
        IstftConfig(1, 1, 1),
        IstftConfig(2, 2, 2),
    ],
    ids=str,
)
def test_windows_that_leave_gaps_are_rejected(judge, shared, config):
    spectrum = np.zeros((1, config.bins, 4, 2), np.float32)
    without_gaps = IstftConfig(config.n_fft, 1, config.n_fft, "rectangular")
    judge.refuses(
        "nonzero overlap-add",
        lambda: shared.istft(spectrum, config, "bft2"),
        ValueError,
        accepts=lambda: shared.istft(spectrum, without_gaps, "bft2"),
    )
    judge.refuses(
        "hop longer than the window",
        lambda: IstftConfig(64, 33, 32),
        ValueError,
        accepts=lambda: IstftConfig(64, 32, 32),
    )
