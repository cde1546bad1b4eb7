"""Ports with a sampler and an ISTFT of their own, as they are usually written: in float32.

None of them checks its arguments more than its libraries do.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.meta.example_ports import Port
from conformance.oracle.combinations import combine
from conformance.oracle.istft_conventions import ISTFTS
from conformance.oracle.sampler_conventions import SAMPLERS
from soprano.backends import Capabilities
from soprano.config import IstftConfig, SamplingOptions

Float32 = npt.NDArray[np.float32]


class NumpyPort(Port):
    """Filters set logits to -inf; top-p removes what is behind the id that exceeds p."""

    def sample(
        self,
        logits: Float32,
        history: Sequence[int],
        options: SamplingOptions,
        uniform: float | None,
    ) -> int:
        scores, seen = logits.copy(), np.unique(np.array(history, np.int64))
        penalty = np.float32(options.repetition_penalty)
        scores[seen] = np.where(scores[seen] > 0, scores[seen] / penalty, scores[seen] * penalty)
        if options.temperature == 0 or uniform is None:
            return int(scores.argmax())
        scores /= np.float32(options.temperature)
        order = np.argsort(-scores, kind="stable")
        if options.top_k:
            scores[order[options.top_k :]] = -np.inf
        removed = np.cumsum(softmax(scores[order])) > np.float32(options.top_p)
        removed[1:], removed[0] = removed[:-1].copy(), False
        if options.top_p < 1:
            scores[order[removed]] = -np.inf
        edges = np.cumsum(softmax(scores))
        chosen = np.searchsorted(edges, np.float32(uniform), side="right")
        return int(min(chosen, len(scores) - 1))

    def istft(self, spectrum: Float32, config: IstftConfig, layout: str) -> Float32:
        size, hop, count = config.n_fft, config.hop_length, spectrum.shape[2]
        if spectrum.shape[1] != size // 2 + 1:
            raise LookupError(f"{spectrum.shape[1]} bins do not belong to n_fft {size}")
        if count < 2:
            return np.zeros((len(spectrum), 0), np.float32)
        window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)
        bins = spectrum[..., 0] + 1j * spectrum[..., 1]
        frames = np.fft.irfft(bins, axis=1).astype(np.float32) * window[:, None]
        total = np.zeros((len(spectrum), (count - 1) * hop + size), np.float32)
        envelope = np.zeros_like(total)
        for t in range(count):
            total[:, t * hop :][:, :size] += frames[:, :, t]
            envelope[:, t * hop :][:, :size] += window**2
        return (total / np.maximum(envelope, 1e-8))[:, size // 2 : -size // 2]


def softmax(scores: Float32) -> Float32:
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


class TorchPort(Port):
    """The filters of a well-known library, and `torch.istft`."""

    def sample(
        self,
        logits: Float32,
        history: Sequence[int],
        options: SamplingOptions,
        uniform: float | None,
    ) -> int:
        import torch

        scores, seen = torch.tensor(logits), torch.tensor(history, dtype=torch.long)
        chosen, penalty = scores[seen], options.repetition_penalty
        scores[seen] = torch.where(chosen < 0, chosen * penalty, chosen / penalty)
        if options.temperature == 0:
            return int(scores.argmax())
        scores = scores / options.temperature
        if options.top_k:
            order = torch.sort(scores, descending=True, stable=True).indices
            scores[order[options.top_k :]] = -torch.inf
        if options.top_p < 1:
            ascending, order = torch.sort(scores)
            removed = ascending.softmax(-1).cumsum(-1) <= 1 - options.top_p
            removed[-1] = False
            scores[order[removed]] = -torch.inf
        below = scores.softmax(-1).cumsum(-1) <= uniform
        return int(below.sum().clamp(max=len(scores) - 1))

    def istft(self, spectrum: Float32, config: IstftConfig, layout: str) -> Float32:
        import torch

        bins = torch.view_as_complex(torch.tensor(np.ascontiguousarray(spectrum)))
        window = torch.hann_window(config.win_length)
        samples: Any = torch.istft(bins, config.n_fft, config.hop_length, window=window)
        return samples.numpy()


class BoundToItsModel(NumpyPort):
    """A port with constants of its model: its vocabulary, its geometry, its layout, one row."""

    capabilities = Capabilities(
        batch=False, fork=False, select=False, join=False, layouts=("b2ft",)
    )

    def sample(self, logits: Float32, *arguments: Any) -> int:
        assert len(logits) == self.config.language_model.vocab_size, "logits of another size"
        return super().sample(logits, *arguments)

    def istft(self, spectrum: Float32, config: IstftConfig, layout: str) -> Float32:
        assert (len(spectrum), layout) == (1, "b2ft"), "one row in the layout b2ft"
        return super().istft(spectrum.transpose(0, 2, 3, 1), self.config.decoder.istft, layout)


class GreedyPort(NumpyPort):
    """A port that takes no uniforms."""

    capabilities = Capabilities(uniforms=False, batch=False, fork=False, select=False, join=False)

    def sample(
        self,
        logits: Float32,
        history: Sequence[int],
        options: SamplingOptions,
        uniform: float | None,
    ) -> int:
        if options.temperature:
            raise NotImplementedError("ids are drawn by the runtime's own generator")
        return super().sample(logits, history, options, None)


class GreedySamples(Port):
    sample = SAMPLERS["temperature 0 samples at temperature 1"]


class TopPDropsAnId(Port):
    sample = SAMPLERS["the id that crosses p is dropped"]


class NoPenalty(Port):
    sample = SAMPLERS["no penalty"]


class DrawnByRank(Port):
    sample = SAMPLERS["drawn in the order of rank"]


class ThreeFaults(Port):
    sample = reduce(
        combine,
        (
            SAMPLERS["temperature 0 samples at temperature 1"],
            SAMPLERS["top-p only together with top-k"],
            SAMPLERS["drawn in the order of rank"],
        ),
    )


class SymmetricWindowAndItsSum(Port):
    istft = combine(ISTFTS["a symmetric window"], ISTFTS["the sum of windows instead of squares"])
