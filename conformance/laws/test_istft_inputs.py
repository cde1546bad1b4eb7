"""IS: layouts and types of spectra; which are read, which are refused."""

from __future__ import annotations

import numpy as np
import pytest

from conformance.judging.judge import Judge
from conformance.oracle.istft import (
    CASES,
    DTYPES,
    EVERY,
    SMALL,
    Istft,
    expected_of,
    limit_of,
    spectrum_of,
)
from soprano.config import IstftConfig


@pytest.mark.requirement("IS-09")
@EVERY
def test_layouts_agree_bit_for_bit(judge: Judge, istft_stage: Istft, name: str) -> None:
    config = CASES[name].config
    for dtype in DTYPES:
        rows = np.stack([spectrum_of(config, 5, seed) for seed in range(2)]).astype(dtype)
        last = istft_stage(rows, config, "bft2")
        second = istft_stage(np.ascontiguousarray(rows.transpose(0, 3, 1, 2)), config, "b2ft")
        judge.bits(f"{name}, {dtype.__name__}", second, last)


@pytest.mark.requirement("IS-09")
def test_memory_order_does_not_matter(judge: Judge, istft_stage: Istft) -> None:
    rows = spectrum_of(SMALL, 6).astype(np.float32)[None]
    expected = istft_stage(rows, SMALL, "bft2")
    wide = np.zeros((1, SMALL.bins, 12, 2), np.float32)
    wide[:, :, ::2] = rows
    for name, view in (("fortran", np.asfortranarray(rows)), ("strided", wide[:, :, ::2])):
        judge.bits(name, istft_stage(view, SMALL, "bft2"), expected)


@pytest.mark.requirement("IS-10")
@pytest.mark.parametrize("name", ["n2", "n3", "hop-1", "odd", "twosided", "short-window"])
def test_auto_recognises_a_layout_that_is_certain(
    judge: Judge, istft_stage: Istft, name: str
) -> None:
    config = CASES[name].config
    for count in (3, max(config.bins, 3), config.bins + 2):
        rows = spectrum_of(config, count).astype(np.float32)[None]
        expected = istft_stage(rows, config, "bft2")
        judge.bits(f"bft2, T={count}", istft_stage(rows, config, "auto"), expected)
        other = np.ascontiguousarray(rows.transpose(0, 3, 1, 2))
        judge.bits(f"b2ft, T={count}", istft_stage(other, config, "auto"), expected)


@pytest.mark.requirement("IS-10")
@pytest.mark.parametrize(
    "config",
    [
        IstftConfig(2, 1, 2),
        IstftConfig(3, 1, 3),
        IstftConfig(2, 1, 2, onesided=False),
    ],
    ids=["n2", "n3", "n2-twosided"],
)
def test_auto_refuses_a_shape_that_fits_both_layouts(
    judge: Judge, istft_stage: Istft, config: IstftConfig
) -> None:
    alike = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)
    certain = np.zeros((1, config.bins, 5, 2), np.float32)
    judge.refuses(
        "both fit",
        lambda: istft_stage(alike, config, "auto"),
        ValueError,
        accepts=lambda: istft_stage(certain, config, "auto"),
    )
    named = [istft_stage(alike, config, layout) for layout in ("bft2", "b2ft")]
    expected = expected_of(alike[0], config), expected_of(alike[0].transpose(1, 2, 0), config)
    for layout, actual, wanted in zip(("bft2", "b2ft"), named, expected, strict=True):
        judge.close(layout, actual[0], wanted, limit_of(wanted, config))


@pytest.mark.requirement("IS-11")
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
def test_a_shape_of_no_layout_is_refused(
    judge: Judge, istft_stage: Istft, shape: tuple[int, ...], layout: str
) -> None:
    spectrum = np.zeros(shape, np.float32)
    right = np.zeros((1, SMALL.bins, 5, 2), np.float32)
    judge.refuses(
        f"{shape} as {layout}",
        lambda: istft_stage(spectrum, SMALL, layout),
        ValueError,
        accepts=lambda: [istft_stage(right, SMALL, name) for name in ("bft2", "auto")],
    )


@pytest.mark.requirement("IS-12")
@pytest.mark.parametrize("dtype", ["float16", "int16", "int64", "complex64", "complex128", "bool"])
def test_another_type_is_refused(judge: Judge, istft_stage: Istft, dtype: str) -> None:
    spectrum = np.zeros((1, SMALL.bins, 4, 2), dtype)
    judge.refuses(
        dtype,
        lambda: istft_stage(spectrum, SMALL, "bft2"),
        ValueError,
        TypeError,
        accepts=lambda: [istft_stage(spectrum.real.astype(d), SMALL, "bft2") for d in DTYPES],
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
def test_windows_that_leave_gaps_are_refused(
    judge: Judge, istft_stage: Istft, config: IstftConfig
) -> None:
    spectrum = np.zeros((1, config.bins, 4, 2), np.float32)
    without_gaps = IstftConfig(config.n_fft, 1, config.n_fft, "rectangular")
    judge.refuses(
        "nonzero overlap-add",
        lambda: istft_stage(spectrum, config, "bft2"),
        ValueError,
        accepts=lambda: istft_stage(spectrum, without_gaps, "bft2"),
    )
    judge.refuses(
        "hop over window",
        lambda: IstftConfig(64, 33, 32),
        ValueError,
        accepts=lambda: IstftConfig(64, 32, 32),
    )
