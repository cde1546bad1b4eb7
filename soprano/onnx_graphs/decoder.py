"""The decoder as a standard ONNX graph: hidden states -> spectrum, or -> samples."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from soprano.config import LAYER_NORM_EPS, MAGNITUDE_LIMIT, DecoderConfig
from soprano.onnx_graphs.writer import Graph, Weights, linear
from soprano.stft import window as window_of

FLOAT = TensorProto.FLOAT


def decoder_graph(config: DecoderConfig, weights: Weights) -> onnx.ModelProto:
    """`hidden_states` (B, T, H), T at least 1 -> `spectrum` (B, F, T', 2)."""
    g = Graph("decoder", weights)
    hidden = g.input("hidden_states", FLOAT, ["batch", "tokens", config.input_size])
    spectrum = spectrum_of(g, hidden, config)
    g.output("spectrum", FLOAT, ["batch", config.bins, "frames", 2], spectrum)
    return g.model()


def audio_decoder_graph(config: DecoderConfig, weights: Weights) -> onnx.ModelProto:
    """`hidden_states` (B, H, T), T at least 1 -> `audio` (B, N), as in community exports."""
    g = Graph("audio_decoder", weights)
    hidden = g.input("hidden_states", FLOAT, ["batch", config.input_size, "tokens"])
    by_token = g.op("Transpose", hidden, name="hidden_states.by_token", perm=[0, 2, 1])
    audio = inverse_stft(g, spectrum_of(g, by_token, config), config)
    g.output("audio", FLOAT, ["batch", "samples"], audio)
    return g.model()


def spectrum_of(g: Graph, hidden: str, config: DecoderConfig) -> str:
    """(B, T, H) -> (B, F, T', 2)."""
    frames = interpolate(g, hidden, config)  # (B, T', H)
    x = convolve(g, frames, "decoder.embed", config.input_kernel_size, groups=1)
    x = layer_norm(g, x, "decoder.norm")  # (B, T', C)
    for block in range(config.num_layers):
        x = convnext_block(g, x, f"decoder.convnext.{block}", config)
    x = layer_norm(g, x, "decoder.final_layer_norm")
    return spectrum_head(g, x, config)


def interpolate(g: Graph, hidden: str, config: DecoderConfig) -> str:
    """(B, T, H) -> (B, up * (T - 1) + 1, H): linear, with align_corners."""
    up = config.frames_per_token
    if up == 1:
        return hidden
    one = g.constant(1)
    shape = g.op("Shape", hidden, name="tokens.shape")
    tokens = g.op("Gather", shape, one, name="tokens")
    last = g.op("Sub", tokens, one, name="tokens.last")
    following = g.op(
        "Range", one, g.op("Add", tokens, one, name="tokens.end"), one, name="following"
    )
    following = g.op("Min", following, last, name="following.clipped")
    ahead = g.op("Gather", hidden, following, name="ahead", axis=1)  # repeats the last token
    fraction = np.arange(up, dtype=np.float32)[:, None] / up  # (up, 1)
    parts = [
        g.op(
            "Mul",
            g.op("Unsqueeze", value, g.constant([2]), name=f"{name}.unsqueezed"),
            g.constant(weight, np.float32),
            name=f"{name}.share",
        )
        for name, value, weight in (("here", hidden, 1 - fraction), ("next", ahead, fraction))
    ]
    blended = g.op("Add", *parts, name="interpolated")  # (B, T, up, H)
    joined = g.op(
        "Reshape", blended, g.constant([0, -1, config.input_size]), name="interpolated.rows"
    )
    ends = (g.constant([0]), g.constant([1 - up]), g.constant([1]))
    return g.op("Slice", joined, *ends, name="frames")


def convolve(g: Graph, x: str, module: str, kernel: int, groups: int) -> str:
    """(B, T', in) -> (B, T', out), zero-padded to the same length."""
    channels_first = g.op("Transpose", x, name=f"{module}.channels_first", perm=[0, 2, 1])
    weights = g.weight(f"{module}.weight"), g.weight(f"{module}.bias")
    pads = [kernel // 2] * 2
    y = g.op("Conv", channels_first, *weights, name=module, group=groups, pads=pads)
    return g.op("Transpose", y, name=f"{module}.channels_last", perm=[0, 2, 1])


def layer_norm(g: Graph, x: str, module: str) -> str:
    scale, bias = g.weight(f"{module}.weight"), g.weight(f"{module}.bias")
    return g.op("LayerNormalization", x, scale, bias, name=module, axis=-1, epsilon=LAYER_NORM_EPS)


def convnext_block(g: Graph, x: str, module: str, config: DecoderConfig) -> str:
    y = convolve(g, x, f"{module}.dwconv", config.kernel_size, groups=config.dim)
    y = layer_norm(g, y, f"{module}.norm")
    y = g.op("Reshape", y, g.constant([-1, config.dim]), name=f"{module}.flat")
    y = linear(g, y, f"{module}.pwconv1", bias=True)
    y = g.op("Gelu", y, name=f"{module}.gelu", approximate="none")
    y = linear(g, y, f"{module}.pwconv2", bias=True)
    y = g.op("Reshape", y, g.op("Shape", x, name=f"{module}.shape"), name=f"{module}.rows")
    # After the reshape: OpenVINO folds a factor directly after a matmul into the matrix, and would
    # widen a quantised matrix for that.
    y = g.op("Mul", y, g.weight(f"{module}.gamma"), name=f"{module}.scaled")
    return g.op("Add", x, y, name=module)


def spectrum_head(g: Graph, x: str, config: DecoderConfig) -> str:
    """(B, T', C) -> (B, F, T', 2)."""
    flat = g.op("Reshape", x, g.constant([-1, config.dim]), name="head.flat")
    projected = linear(g, flat, "head.out", bias=True)
    frames = g.op("Shape", x, name="head.shape", start=0, end=2)
    rows = g.op("Concat", frames, g.constant([config.n_fft + 2]), name="head.rows", axis=0)
    raw = g.op("Reshape", projected, rows, name="head.raw")
    log_magnitude, phase = g.split("Split", raw, name="head.parts", count=2, axis=-1, num_outputs=2)
    magnitude = g.op("Exp", log_magnitude, name="head.exp")
    limit = g.constant(MAGNITUDE_LIMIT, np.float32)
    magnitude = g.op("Min", magnitude, limit, name="head.clipped")
    kept = np.ones(config.bins, np.float32)
    kept[[0, -1]] = 0  # DC and Nyquist
    magnitude = g.op("Mul", magnitude, g.constant(kept, np.float32), name="head.magnitude")
    parts = [
        g.op(
            "Unsqueeze",
            g.op("Mul", magnitude, g.op(wave, phase, name=f"head.{wave}"), name=f"head.{part}"),
            g.constant([3]),
            name=f"head.{part}.column",
        )
        for wave, part in (("Cos", "real"), ("Sin", "imaginary"))
    ]
    pairs = g.op("Concat", *parts, name="head.pairs", axis=3)  # (B, T', F, 2)
    return g.op("Transpose", pairs, name="head.spectrum", perm=[0, 2, 1, 3])


def inverse_stft(g: Graph, spectrum: str, config: DecoderConfig) -> str:
    """(B, F, T', 2) -> (B, N): transposed convolutions are sums of overlapping frames."""
    size, hop, bins = config.n_fft, config.hop_length, config.bins
    window = window_of(config.istft)
    angles = 2 * np.pi / size * np.outer(np.arange(bins), np.arange(size))
    parts = np.stack([np.cos(angles), -np.sin(angles)], axis=1)  # (F, 2, n_fft)
    twice = np.where((np.arange(bins) == 0) | (np.arange(bins) == size // 2), 1, 2)
    kernel = parts * twice[:, None, None] * window / size
    by_frame = g.op("Transpose", spectrum, name="istft.by_bin", perm=[0, 1, 3, 2])
    channels = g.op("Reshape", by_frame, g.constant([0, 2 * bins, -1]), name="istft.channels")
    count = g.op("Shape", channels, name="istft.count", start=2, end=3)
    shape = g.op("Concat", g.constant([1, 1]), count, name="istft.ones_shape", axis=0)
    one = onnx.numpy_helper.from_array(np.ones(1, np.float32))
    ones = g.op("ConstantOfShape", shape, name="istft.ones", value=one)

    def summed(frames: str, weights: npt.NDArray[np.floating], name: str) -> str:
        """Overlapping frames added up, without the half windows at both ends."""
        stored = g.constant(weights.reshape(-1, 1, size), np.float32)
        padded = g.op("ConvTranspose", frames, stored, name=f"{name}.padded", strides=[hop])
        ends = (g.constant([size // 2]), g.constant([-(size // 2)]), g.constant([2]))
        return g.op("Slice", padded, *ends, name=name)

    samples = summed(channels, kernel, "istft.sum")
    envelope = summed(ones, window**2, "istft.envelope")
    normalised = g.op("Div", samples, envelope, name="istft.samples")
    return g.op("Squeeze", normalised, g.constant([1]), name="audio.row")
