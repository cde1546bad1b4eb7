"""Faults inside the decoder, planted in its graph, its module or its weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance.faults.fault import BATCHING, DECODER, FOLDER, fault
from conformance.faults.language_model import GRAPHS, TYPED_GRAPHS
from conformance.faults.plant import Float32, Plant, Wrapper


def attribute(plant: Plant, node: str, **changed: Any) -> None:
    """Other attributes of the one node of this name."""
    plant.node(
        lambda kind, name: name == node,
        lambda g, kind, inputs, attributes: (kind, inputs, {**attributes, **changed}),
    )


def bare(plant: Plant, module: str, change: Any) -> None:
    """Change one module of the PyTorch decoder, by its name there."""

    def faulty(network: Any) -> None:
        found = dict(network.named_modules()).get(module)
        if found is not None:
            change(found)

    plant.module(faulty)


@fault("DE-01", DECODER, hard=True)
def gelu_by_tanh(plant: Plant) -> None:
    """GELU is approximated by tanh, as many runtimes do by default."""
    plant.node(
        lambda kind, name: kind == "Gelu",
        lambda g, kind, inputs, attributes: (kind, inputs, {"approximate": "tanh"}),
    )
    try:
        from torch.nn import functional
    except ImportError:
        return
    gelu = functional.gelu
    plant.set(functional, "gelu", lambda x: gelu(x, approximate="tanh"))


@fault("DE-02", DECODER)
def resized_from_half_pixels(plant: Plant) -> None:
    """Interpolation takes samples for areas (half-pixel) and does not keep both ends."""
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
        turned = g.op("Transpose", hidden, name="tokens.first", perm=[0, 2, 1])
        resized = g.op(
            "Resize", turned, "", "", sizes, name="resized", mode="linear",
            coordinate_transformation_mode="half_pixel",
        )  # fmt: skip
        return g.op("Transpose", resized, name="frames", perm=[0, 2, 1])

    plant.set(exporter, "_interpolate", interpolate)
    try:
        from torch.nn import functional
    except ImportError:
        return
    inner = functional.interpolate
    plant.set(
        functional,
        "interpolate",
        lambda x, size, mode, align_corners: inner(x, size=size, mode=mode, align_corners=False),
    )


@fault("DE-03", DECODER, backends=GRAPHS)
def length_baked_in(plant: Plant) -> None:
    """The number of frames of the tracing example became a constant of the graph."""
    plant.node(
        lambda kind, name: name == "frames",
        lambda g, kind, inputs, attributes: (
            kind, (*inputs[:2], g.constant([21]), *inputs[3:]), attributes
        ),
    )  # fmt: skip


@fault("DE-05", FOLDER, blame=("CK",))
def geometry_by_folder_name(plant: Plant) -> None:
    """Which generation of the decoder it is, is guessed from the folder's name."""
    from dataclasses import replace

    from soprano.checkpoint.folder import ModelFolder

    measured = ModelFolder.config.func  # type: ignore[attr-defined]

    def config(folder: Any) -> Any:
        found = measured(folder)
        kernel = 3 if "1.0" in folder.path.name else found.decoder.input_kernel_size
        return replace(found, decoder=replace(found.decoder, input_kernel_size=kernel))

    plant.set(ModelFolder, "config", property(config))


@fault("DE-07", DECODER)
def magnitude_and_phase_interleaved(plant: Plant) -> None:
    """The head's rows are read as pairs of magnitude and phase instead of as two halves."""

    def change(name: str, values: Float32) -> Float32:
        head = name in ("head.out.weight", "head.out.bias")
        return np.concatenate([values[0::2], values[1::2]]) if head else values

    plant.weights(change)


@fault("DE-08", DECODER, hard=True)
def magnitude_not_clipped(plant: Plant) -> None:
    """The clip of magnitudes at 100 is missing, which only loud bins tell."""
    plant.node(
        lambda kind, name: name == "head.clipped",
        lambda g, kind, inputs, attributes: (
            kind, (inputs[0], g.constant(1e30, np.float32)), attributes
        ),
    )  # fmt: skip
    try:
        from soprano.reference import decoder
    except ImportError:
        return
    plant.set(decoder, "MAGNITUDE_LIMIT", 1e30)


@fault("DE-09", DECODER)
def convolution_off_by_one(plant: Plant) -> None:
    """One depthwise convolution is padded on one side only: its output is a frame late."""
    attribute(plant, "decoder.convnext.4.dwconv", pads=[2, 0])

    def change(convolution: Any) -> None:
        from torch.nn import functional

        convolution.padding = (0,)
        convolution.register_forward_pre_hook(lambda _, x: functional.pad(x[0], (2, 0)))

    bare(plant, "decoder.convnext.4.dwconv", change)


@fault("DE-10", DECODER, hard=True)
def fused_epsilon(plant: Plant) -> None:
    """A rewrite that fuses a norm brings its own epsilon, 1e-5 instead of 1e-6, in one block."""
    attribute(plant, "decoder.convnext.3.norm", epsilon=1e-5)
    bare(plant, "decoder.convnext.3.norm", lambda norm: setattr(norm, "eps", 1e-5))


@fault("IS-05", DECODER, hard=True)
def edges_of_the_spectrum_kept(plant: Plant) -> None:
    """DC and Nyquist are not zeroed before the inverse transform."""
    plant.node(
        lambda kind, name: name == "head.magnitude",
        lambda g, kind, inputs, attributes: ("Identity", inputs[:1], {}),
    )
    try:
        from soprano.reference import decoder
    except ImportError:
        return
    plant.set(decoder.Head, "forward", _unzeroed)


def _unzeroed(head: Any, x: Any) -> Any:
    import torch

    log_magnitude, phase = head.out(x).transpose(1, 2).chunk(2, dim=1)
    magnitude = log_magnitude.exp().clip(max=100)
    return torch.stack([magnitude * phase.cos(), magnitude * phase.sin()], dim=-1)


@fault("BA-01", BATCHING, hard=True)
def rows_padded_with_zeros(plant: Plant) -> None:
    """Shorter rows are padded on the left with zero states, which the convolutions see."""

    class Padded(Wrapper):
        def decode(self, hidden: Any, lengths: Any) -> Any:
            longest = int(np.max(lengths, initial=0))
            frames = self.config.decoder.frames
            spectrum = self.inner.decode(hidden, lengths)
            for row, length in enumerate(lengths):
                if 0 < length < longest:
                    padded = np.zeros((1, longest, hidden.shape[2]), np.float32)
                    padded[0, longest - length :] = hidden[row, :length]
                    whole = self.inner.decode(padded, np.array([longest]))
                    count = frames(int(length))
                    spectrum[row, :, :count] = whole[0, :, -count:]
            return spectrum

    plant.backend(Padded)


@fault("DE-50", DECODER, hard=True)
def edges_repeated_instead_of_zero(plant: Plant) -> None:
    """The first block pads its convolution with the edge frame instead of zeros."""

    def change(g: Any, kind: str, inputs: Any, attributes: Any) -> Any:
        pads = g.constant([0, 0, 1, 0, 0, 1])
        padded = g.op("Pad", inputs[0], pads, name="edges.repeated", mode="edge")
        return kind, (padded, *inputs[1:]), {**attributes, "pads": [0, 0]}

    plant.node(lambda kind, name: name == "decoder.convnext.0.dwconv", change)
    bare(
        plant, "decoder.convnext.0.dwconv", lambda conv: setattr(conv, "padding_mode", "replicate")
    )


@fault("DE-51", DECODER, hard=True)
def layer_scale_forgotten_once(plant: Plant) -> None:
    """The layer scale of the last block is not applied: its gammas count as one."""
    plant.weights(
        lambda name, values: np.ones_like(values)
        if name == "decoder.convnext.7.gamma" else values
    )  # fmt: skip


@fault("DE-52", DECODER, hard=True, backends=TYPED_GRAPHS)
def phase_in_half_precision(plant: Plant) -> None:
    """The phase passes through half precision before cosine and sine."""
    from conformance.faults.language_model import round_input

    round_input(plant, lambda kind, name: name in ("head.Cos", "head.Sin"))


@fault("DE-53", DECODER, hard=True)
def conjugate_spectrum(plant: Plant) -> None:
    """The imaginary part has the other sign, as under the other sign of the exponent."""

    class Conjugate(Wrapper):
        def decode(self, hidden: Any, lengths: Any) -> Any:
            return self.inner.decode(hidden, lengths) * np.array([1, -1], np.float32)

    plant.backend(Conjugate)


@fault("DE-54", DECODER, hard=True)
def long_utterances_lose_their_last_frame(plant: Plant) -> None:
    """Beyond some dozen tokens a rounded scale gives one frame less, filled up with zeros."""

    class Short(Wrapper):
        def decode(self, hidden: Any, lengths: Any) -> Any:
            spectrum = self.inner.decode(hidden, lengths)
            if hidden.shape[1] > 20:
                spectrum = spectrum.copy()
                spectrum[:, :, -1] = 0
            return spectrum

    plant.backend(Short)


@fault("DE-55", BATCHING, hard=True)
def beyond_a_rows_frames_stands_noise(plant: Plant) -> None:
    """What lies beyond a shorter row's frames is what the padding gave, not zeros."""

    class Noisy(Wrapper):
        def decode(self, hidden: Any, lengths: Any) -> Any:
            spectrum = self.inner.decode(hidden, lengths).copy()
            for row, length in enumerate(lengths):
                spectrum[row, :, self.config.decoder.frames(int(length)) :] = 1e-3
            return spectrum

    plant.backend(Noisy)


@fault("DE-56", DECODER, hard=True)
def kernels_turned_in_time(plant: Plant) -> None:
    """One block's depthwise kernels run the other way: convolution taken for correlation."""
    plant.weights(
        lambda name, values: (
            np.ascontiguousarray(values[..., ::-1])
            if name == "decoder.convnext.2.dwconv.weight"
            else values
        )
    )


@fault("DE-57", DECODER, hard=True)
def bias_of_one_norm_lost(plant: Plant) -> None:
    """A converter that knows only RMSNorm leaves the bias of the last norm out."""
    plant.weights(
        lambda name, values: (
            np.zeros_like(values) if name == "decoder.final_layer_norm.bias" else values
        )
    )


@fault("DE-58", DECODER, hard=True)
def long_utterances_decoded_in_windows(plant: Plant) -> None:
    """Beyond 48 tokens the decoder works in windows with a token too little of context."""

    class Windowed(Wrapper):
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

    plant.backend(Windowed)


@fault("DE-59", DECODER, hard=True)
def sums_differ_from_run_to_run(plant: Plant) -> None:
    """Threads add their parts in the order in which they end: the last bits differ each time."""

    class Racing(Wrapper):
        calls = 0

        def decode(self, hidden: Any, lengths: Any) -> Any:
            self.calls += 1
            spectrum = self.inner.decode(hidden, lengths)
            noise = np.random.default_rng(self.calls).integers(-1, 2, spectrum.shape)
            return (spectrum * (1 + noise * 2.0**-24)).astype(np.float32)

    plant.backend(Racing)


@fault("DE-60", DECODER, hard=True, backends=TYPED_GRAPHS)
def magnitudes_in_half_precision(plant: Plant) -> None:
    """The exponential of the head is computed in half precision."""
    from conformance.faults.language_model import round_input

    round_input(plant, lambda kind, name: name == "head.exp")
