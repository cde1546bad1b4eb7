"""IS: the inverse STFT in the geometries of the family, against its definition in float64."""

from dataclasses import replace

import numpy as np
import pytest

from conformance.judging.compare import floats
from conformance.judging.skips import NotDeclared
from conformance.judging.tolerances import istft as istft_limit
from conformance.laws.support.memory_orders import memory_orders
from conformance.oracle.istft import (
    decoder_spectrum,
    inverse_dft,
    inverse_stft,
    overlap_add,
    random_spectrum,
)
from conformance.oracle.istft_conventions import EDGES, ISTFTS, istfts_followed
from soprano.config import IstftConfig

MOST = 70  # frames: every number up to this one, in the two smallest geometries
SOME = (2, 3, 4, 5, 9, 17, 33, 65, 70)
SILENT = {  # of 24 frames
    "silent at the beginning": slice(10),
    "silent at the end": slice(14, None),
    "silent between": slice(8, 16),
    "quiet at the beginning and at the end": np.r_[:9, 15:24],
}
LONG = (1025, 3001)  # frames: blocks of any size end within them
OF_A_SHAPE = ("bin", "freq", "shape", "size", "dim", "n_fft", "match", "broadcast", "layout")


def named(config, count):
    return f"samples of {count:,} frames, n_fft {config.n_fft}, hop {config.hop_length}"


@pytest.mark.requirement("IS-01")
def test_istft_equals_its_definition_for_every_number_of_frames(judge, istft_stage):
    for config in istft_stage.geometries:
        spectrum = decoder_spectrum(config, MOST)
        frames = inverse_dft(spectrum, config)
        for count in SOME if config in istft_stage.geometries[2:] else range(2, MOST + 1):
            expected = overlap_add(frames[:count], config)
            actual = istft_stage(spectrum[None, :, :count].copy(), config)[0]
            judge.waveform(named(config, count), actual, expected, istft_limit(expected, config))


@pytest.mark.requirement("IS-01")
def test_istft_of_thousands_of_frames_equals_its_definition(judge, istft_stage):
    config = istft_stage.geometries[0]
    spectrum = decoder_spectrum(config, 64)
    frames = inverse_dft(spectrum, config)
    for count in LONG:
        order = np.random.default_rng(count).integers(0, 64, count)
        expected = overlap_add(frames[order], config)
        actual = istft_stage(spectrum[None][:, :, order], config)[0]
        judge.waveform(named(config, count), actual, expected, istft_limit(expected, config))


@pytest.mark.requirement("IS-01")
def test_istft_keeps_silent_and_quiet_frames(judge, istft_stage):
    for config in istft_stage.geometries[:2]:
        for name, frames in SILENT.items():
            spectrum = decoder_spectrum(config, 24)
            spectrum[:, frames] *= np.float32(0 if "silent" in name else 1e-5)
            expected = inverse_stft(spectrum, config)
            actual = istft_stage(spectrum[None].copy(), config)[0]
            quantity = f"{named(config, 24)}, {name}"
            judge.waveform(quantity, actual, expected, istft_limit(expected, config))


@pytest.mark.requirement("IS-04")
def test_number_of_samples_follows_from_frames_and_hop(judge, istft_stage):
    for config in istft_stage.geometries:
        for count in (2, 3, 4, 5, 8, 9, 33, 200):
            samples = istft_stage(np.ones((1, config.bins, count, 2), np.float32), config)
            wanted = (1, (count - 1) * config.hop_length)
            judge.shape(named(config, count), samples, wanted)


@pytest.mark.requirement("IS-06")
def test_no_frame_and_one_frame_give_no_samples(judge, istft_stage):
    for config in istft_stage.geometries:
        for count in (0, 1):
            spectrum = np.ones((1, config.bins, count, 2), np.float32)
            judge.shape(named(config, count), istft_stage(spectrum, config), (1, 0))


@pytest.mark.requirement("IS-08")
def test_batched_istft_equals_unbatched(judge, istft_stage):
    for config in istft_stage.geometries:
        rows = 33 if config == istft_stage.geometries[0] else 3
        spectra = np.stack([decoder_spectrum(config, 5, seed) for seed in range(rows)])
        expected = np.concatenate([istft_stage(spectra[i : i + 1], config) for i in range(rows)])
        actual = istft_stage(spectra, config)
        judge.close(named(config, 5), actual, expected, istft_limit(expected, config))


@pytest.mark.requirement("IS-09")
def test_declared_layouts_and_memory_orders_give_the_same_samples(judge, istft_stage):
    for config in istft_stage.geometries[:2]:
        bft2 = decoder_spectrum(config, 6)[None]
        arrays = {"bft2": bft2, "b2ft": np.ascontiguousarray(np.moveaxis(bft2, 3, 1))}
        expected = istft_stage(bft2.copy(), config)[0]
        for layout in istft_stage.layouts:
            for name, values in memory_orders(arrays[layout]):
                actual = istft_stage.in_own_layout(values, config, layout)[0]
                quantity = f"{named(config, 6)}, layout {layout}, {name}"
                judge.waveform(quantity, actual, expected, istft_limit(expected, config))


@pytest.mark.requirement("IS-11")
def test_a_spectrum_of_another_number_of_bins_is_rejected(judge, istft_stage):
    config = istft_stage.geometries[0]
    bins = config.bins
    for shape in ((1, bins - 1, 5, 2), (1, bins + 1, 5, 2), (1, 5, bins, 2)):
        judge.refuses(
            f"{shape[1]} bins, wanted {bins}",
            lambda shape=shape: istft_stage(np.zeros(shape, np.float32), config),
            ValueError,
            accepts=lambda: istft_stage(np.zeros((1, bins, 5, 2), np.float32), config),
            names=(shape[1], bins, *OF_A_SHAPE),
        )


@pytest.mark.requirement("IS-17")
def test_istft_does_not_modify_its_input(judge, istft_stage):
    config = istft_stage.geometries[0]
    bft2 = decoder_spectrum(config, 5)[None]
    arrays = {"bft2": bft2, "b2ft": np.ascontiguousarray(np.moveaxis(bft2, 3, 1))}
    for layout in istft_stage.layouts:
        spectrum = arrays[layout].copy()
        first = istft_stage.in_own_layout(spectrum, config, layout)
        kept = first.copy()
        judge.bits(f"spectrum in layout {layout}", spectrum, arrays[layout])
        spectrum[:] = 1e9  # the samples must not be a view of the spectrum
        istft_stage(decoder_spectrum(config, 5, 1)[None], config)
        judge.bits("samples after another call", first, kept)


@pytest.mark.requirement("IS-19")
def test_dc_and_nyquist_are_inverted_as_given(judge, istft_stage):
    for config in istft_stage.geometries[:2]:
        followed = istfts_followed(istft_stage, [config], edges=True)
        for name in EDGES:
            judge.not_following(name, followed)
        spectrum = random_spectrum(config, 5).astype(np.float32)
        spectrum[1:-1] = 0
        expected = inverse_stft(spectrum, config)
        actual = istft_stage(spectrum[None], config)[0]
        judge.waveform(named(config, 5), actual, expected, istft_limit(expected, config))


@pytest.mark.requirement("IS-26")
def test_istft_follows_no_known_convention(judge, istft_stage):
    followed = istfts_followed(istft_stage, istft_stage.geometries[:3])
    for name in dict.fromkeys([*followed, *ISTFTS]):
        judge.not_following(name, followed)


# By field: another geometry of a size, and numbers of frames of both. In the second case of hop and
# n_fft, both have one number of samples, without and with padding.
OTHERS = {
    "hop_length": (lambda a: replace(a, hop_length=a.n_fft // 4), [(9, 9), (13, 9)]),
    "n_fft": (lambda a: IstftConfig(2 * a.n_fft, a.hop_length, 2 * a.n_fft), [(9, 9), (15, 9)]),
    "win_length": (lambda a: replace(a, win_length=3 * a.n_fft // 4), [(9, 9)]),
    "window": (lambda a: replace(a, window="hamming"), [(9, 9)]),
    "normalized": (lambda a: replace(a, normalized=True), [(9, 9)]),
}


def in_turn(judge, samples_of, pairs):
    """Judge the second of two geometries, in both orders; how many of them were judged.

    A geometry is supported if its samples are right where it comes first, with another n_fft.
    """
    found = [[(*samples_of(*each), *each) for each in pair] for pair in pairs]
    judged = 0
    for (first, _), (_, second) in (found, found[::-1]):
        actual, expected, config, _ = first
        if actual is None or floats("", actual, expected, istft_limit(expected, config)).fault:
            continue
        actual, expected, config, count = second
        judge.equal(f"{named(config, count)}: accepted", actual is not None, True)
        judge.waveform(named(config, count), actual, expected, istft_limit(expected, config))
        judged += 1
    return judged


@pytest.mark.requirement("IS-34")
@pytest.mark.parametrize("field", OTHERS)
def test_geometries_that_differ_in_one_field_are_independent(judge, istft_stage, field):
    def samples_of(config, count):
        spectrum = decoder_spectrum(config, count)
        expected = inverse_stft(spectrum, config)
        try:
            return istft_stage(spectrum[None], config)[0], expected
        except Exception:  # a port need not accept the geometry
            return None, expected

    (change, cases), judged = OTHERS[field], 0
    for case, counts in enumerate(cases):
        pairs = []
        for order in (0, 1):
            # An n_fft with which nothing was computed before.
            size = 12 * (2 * (4 * list(OTHERS).index(field) + 2 * case + order) + 3)
            first = IstftConfig(size, size // 6, size)
            pair = list(zip((first, change(first)), counts, strict=True))
            pairs.append(pair[::-1] if order else pair)
        judged += in_turn(judge, samples_of, pairs)
    if not judged:
        raise NotDeclared(f"{istft_stage.name} accepts no such geometry")
