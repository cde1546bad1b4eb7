"""Faults inside the decoder, planted in its graph, its module or its weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance.faults.fault import BATCHING, DECODER, fault
from conformance.faults.network_hooks import (
    GRAPHS,
    TYPED_GRAPHS,
    patch,
    torch_functional,
    with_attributes,
    with_module,
    with_nodes,
    with_rounded_input,
    with_standard_networks,
    with_weights,
)
from conformance.faults.plant import Float32, Wrapper, with_backend
from conformance.subject import Subject


@fault(DECODER, "DE-01", hard=True, public=True)
def gelu_by_tanh(subject: Subject) -> Subject:
    """GELU is approximated by tanh, the default of many runtimes."""
    torch_functional("gelu", approximate="tanh")
    return with_nodes(
        subject,
        lambda kind, name: kind == "Gelu",
        lambda g, kind, inputs, attributes: (kind, inputs, {"approximate": "tanh"}),
    )


@fault(DECODER, "DE-01", public=True)
def resized_from_half_pixels(subject: Subject) -> Subject:
    """Interpolation uses half-pixel coordinates and does not keep the ends (align_corners)."""
    from soprano.onnx_graphs import decoder as exporter

    def interpolate(g: Any, hidden: str, config: Any) -> str:
        up = config.frames_per_token
        shape = g.op("Shape", hidden, name="tokens.shape")
        tokens = g.op("Gather", shape, g.constant([1]), name="tokens")
        times = g.op("Mul", tokens, g.constant([up]), name="tokens.times")
        frames = g.op("Sub", times, g.constant([up - 1]), name="frames.count")
        batch = g.op("Gather", shape, g.constant([0]), name="tokens.batch")
        sizes = g.op(
            "Concat", batch, g.constant([config.input_size]), frames, name="frames.sizes", axis=0
        )
        channels_first = g.op("Transpose", hidden, name="tokens.first", perm=[0, 2, 1])
        resized = g.op(
            "Resize", channels_first, "", "", sizes, name="resized", mode="linear",
            coordinate_transformation_mode="half_pixel",
        )  # fmt: skip
        return str(g.op("Transpose", resized, name="frames", perm=[0, 2, 1]))

    patch("interpolate", interpolate, exporter)
    torch_functional("interpolate", align_corners=False)
    return with_standard_networks(subject)


@fault(DECODER, "DE-01", backends=GRAPHS, public=True)
def length_baked_in(subject: Subject) -> Subject:
    """The number of frames of the traced example is a constant of the graph."""

    def change(g: Any, kind: str, inputs: Any, attributes: Any) -> Any:
        return kind, (*inputs[:2], g.constant([21]), *inputs[3:]), attributes

    return with_nodes(subject, lambda kind, name: name == "frames", change)


@fault(DECODER, "DE-01", with_weights, public=True)
def magnitude_and_phase_interleaved(name: str, values: Float32) -> Float32:
    """The head's outputs are read as pairs of magnitude and phase instead of as two halves."""
    head = name in ("head.out.weight", "head.out.bias")
    return np.concatenate([values[0::2], values[1::2]]) if head else values


@fault(DECODER, "DE-01", hard=True, public=True)
def magnitude_not_clipped(subject: Subject) -> Subject:
    """Magnitudes are not clipped at 100, which changes loud bins only."""

    def change(g: Any, kind: str, inputs: Any, attributes: Any) -> Any:
        return kind, (inputs[0], g.constant(1e30, np.float32)), attributes

    try:
        from soprano.reference import decoder
    except ImportError:
        pass
    else:
        patch("MAGNITUDE_LIMIT", 1e30, decoder)
    return with_nodes(subject, lambda kind, name: name == "head.clipped", change)


@fault(DECODER, "DE-01", public=True)
def convolution_off_by_one(subject: Subject) -> Subject:
    """One depthwise convolution is padded on one side only: its output is one frame late."""

    def change(convolution: Any) -> None:
        from torch.nn import functional

        convolution.padding = (0,)
        convolution.register_forward_pre_hook(lambda _, x: functional.pad(x[0], (2, 0)))

    subject = with_module(subject, "decoder.convnext.4.dwconv", change)
    return with_attributes(subject, "decoder.convnext.4.dwconv", pads=[2, 0])


@fault(DECODER, "DE-01", hard=True, public=True)
def fused_epsilon(subject: Subject) -> Subject:
    """A fused norm in one block has its own epsilon, 1e-5 instead of 1e-6."""
    name = "decoder.convnext.3.norm"
    subject = with_module(subject, name, lambda norm: setattr(norm, "eps", 1e-5))
    return with_attributes(subject, name, epsilon=1e-5)


@fault(DECODER, "DE-01 DE-03 DE-09", hard=True, public=True)
def edges_of_the_spectrum_kept(subject: Subject) -> Subject:
    """DC and Nyquist are not zeroed before the ISTFT."""

    def forward(head: Any, x: Any) -> Any:
        import torch

        log_magnitude, phase = head.out(x).transpose(1, 2).chunk(2, dim=1)
        magnitude = log_magnitude.exp().clip(max=100)
        return torch.stack([magnitude * phase.cos(), magnitude * phase.sin()], dim=-1)

    try:
        from soprano.reference.decoder import Head
    except ImportError:
        pass
    else:
        patch("forward", forward, Head)
    return with_nodes(
        subject,
        lambda kind, name: name == "head.magnitude",
        lambda g, kind, inputs, attributes: ("Identity", inputs[:1], {}),
    )


class DecodeWrapper(Wrapper):
    """A backend whose spectra are changed, in place or not."""

    def changed(self, spectrum: Any, hidden: Any, lengths: Any) -> Any:
        raise NotImplementedError

    def decode(self, hidden: Any, lengths: Any) -> Any:
        spectrum = self.inner.decode(hidden, lengths).copy()
        return self.changed(spectrum, hidden, lengths)


@fault(BATCHING, "BA-03", with_backend, hard=True, public=True)
class RowsPaddedWithZeros(DecodeWrapper):
    """Shorter rows are padded on the left with zeros, which the convolutions read."""

    def changed(self, spectrum: Any, hidden: Any, lengths: Any) -> Any:
        longest = int(np.max(lengths, initial=0))
        for row, length in enumerate(lengths):
            if 0 < length < longest:
                padded = np.zeros((1, longest, hidden.shape[2]), np.float32)
                padded[0, longest - length :] = hidden[row, :length]
                whole = self.inner.decode(padded, np.array([longest]))
                count = self.config.decoder.frames(int(length))
                spectrum[row, :, :count] = whole[0, :, -count:]
        return spectrum


@fault(DECODER, "DE-01", hard=True)
def edges_repeated_instead_of_zero(subject: Subject) -> Subject:
    """The convolution of the first block is padded with the edge frame instead of zeros."""
    name = "decoder.convnext.0.dwconv"

    def change(g: Any, kind: str, inputs: Any, attributes: Any) -> Any:
        pads = g.constant([0, 0, 1, 0, 0, 1])
        padded = g.op("Pad", inputs[0], pads, name="edges.repeated", mode="edge")
        return kind, (padded, *inputs[1:]), {**attributes, "pads": [0, 0]}

    subject = with_module(subject, name, lambda conv: setattr(conv, "padding_mode", "replicate"))
    return with_nodes(subject, lambda kind, node: node == name, change)


def with_tensor(subject: Subject, tensor: str, change: Any) -> Subject:
    """Change one tensor by its name."""
    return with_weights(subject, lambda name, values: change(values) if name == tensor else values)


@fault(DECODER, "DE-01", hard=True)
def layer_scale_forgotten_once(subject: Subject) -> Subject:
    """The layer scale of the last block is not applied: its gammas are 1."""
    return with_tensor(subject, "decoder.convnext.7.gamma", np.ones_like)


@fault(DECODER, "DE-01", hard=True, backends=TYPED_GRAPHS)
def phase_in_half_precision(subject: Subject) -> Subject:
    """The phase is rounded to half precision before cos and sin."""
    return with_rounded_input(subject, lambda kind, name: name in ("head.Cos", "head.Sin"))


@fault(DECODER, "DE-01", with_backend, hard=True)
class ConjugateSpectrum(DecodeWrapper):
    """The imaginary part has the other sign, as with the other sign of the exponent."""

    def changed(self, spectrum: Any, hidden: Any, lengths: Any) -> Any:
        return spectrum * np.array([1, -1], np.float32)


@fault(DECODER, "DE-06", with_backend, hard=True)
class LongUtterancesLoseTheirLastFrame(DecodeWrapper):
    """Beyond 20 tokens a rounded scale gives one frame less, which is filled with zeros."""

    def changed(self, spectrum: Any, hidden: Any, lengths: Any) -> Any:
        if hidden.shape[1] > 20:
            spectrum[:, :, -1] = 0
        return spectrum


@fault(BATCHING, "BA-03", with_backend, hard=True)
class BeyondARowsFramesStandsNoise(DecodeWrapper):
    """Beyond a shorter row's frames there is the output for padding instead of zeros."""

    def changed(self, spectrum: Any, hidden: Any, lengths: Any) -> Any:
        for row, length in enumerate(lengths):
            spectrum[row, :, self.config.decoder.frames(int(length)) :] = 1e-3
        return spectrum


@fault(DECODER, "DE-01", hard=True)
def kernels_turned_in_time(subject: Subject) -> Subject:
    """One block's depthwise kernels are reversed: convolution instead of cross-correlation."""
    return with_tensor(
        subject,
        "decoder.convnext.2.dwconv.weight",
        lambda values: np.ascontiguousarray(values[..., ::-1]),
    )


@fault(DECODER, "DE-01", hard=True)
def bias_of_one_norm_lost(subject: Subject) -> Subject:
    """A converter that supports RMSNorm only drops the bias of the last norm."""
    return with_tensor(subject, "decoder.final_layer_norm.bias", np.zeros_like)


@fault(DECODER, "DE-06", with_backend, hard=True)
class LongUtterancesDecodedInWindows(Wrapper):
    """Beyond 48 tokens the decoder works in windows with one token too little of context."""

    def decode(self, hidden: Any, lengths: Any) -> Any:
        if len(hidden) != 1 or int(lengths[0]) <= 48:
            return self.inner.decode(hidden, lengths)
        count, up = int(lengths[0]), self.inner.config.decoder.frames_per_token
        parts = []
        for start in range(0, count, 32):
            stop, before = min(start + 32, count), max(start - 1, 0)
            window = np.asarray(hidden)[:, before : min(stop + 2, count)]
            frames = self.inner.decode(window, np.array([window.shape[1]]))
            first = (start - before) * up
            size = (stop - start) * up if stop < count else frames.shape[2] - first
            parts.append(frames[:, :, first : first + size])
        return np.concatenate(parts, axis=2)


@fault(DECODER, "DE-07", with_backend, hard=True)
class SumsDifferFromRunToRun(DecodeWrapper):
    """Threads add their parts in varying order: the last bits differ from run to run."""

    calls = 0

    def changed(self, spectrum: Any, hidden: Any, lengths: Any) -> Any:
        self.calls += 1
        noise = np.random.default_rng(self.calls).integers(-1, 2, spectrum.shape)
        return (spectrum * (1 + noise * 2.0**-24)).astype(np.float32)


@fault(DECODER, "DE-01", hard=True, backends=TYPED_GRAPHS)
def magnitudes_in_half_precision(subject: Subject) -> Subject:
    """The exponential of the head is computed in half precision."""
    return with_rounded_input(subject, lambda kind, name: name == "head.exp")
