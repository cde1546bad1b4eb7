"""The Vocos decoder: hidden states -> spectrum (-> samples).

Vocos (https://arxiv.org/abs/2306.00814) with ConvNeXt blocks (https://arxiv.org/abs/2201.03545).
Parameter names are those of the published checkpoints; both generations differ only in their
config.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from soprano.config import LAYER_NORM_EPS, MAGNITUDE_LIMIT, DecoderConfig


class ConvNeXtBlock(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        dim, kernel = config.dim, config.kernel_size
        self.dwconv = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.pwconv1 = nn.Linear(dim, config.intermediate_dim)
        self.pwconv2 = nn.Linear(config.intermediate_dim, dim)
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dwconv(x).transpose(1, 2))  # (B, T, C)
        y = self.gamma * self.pwconv2(functional.gelu(self.pwconv1(y)))
        return x + y.transpose(1, 2)  # (B, C, T)


class Backbone(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        kernel = config.input_kernel_size
        self.embed = nn.Conv1d(config.input_size, config.dim, kernel, padding=kernel // 2)
        self.norm = nn.LayerNorm(config.dim, eps=LAYER_NORM_EPS)
        self.convnext = nn.ModuleList(ConvNeXtBlock(config) for _ in range(config.num_layers))
        self.final_layer_norm = nn.LayerNorm(config.dim, eps=LAYER_NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(B, input channels, T') -> (B, T', dim)."""
        x = self.norm(self.embed(x).transpose(1, 2)).transpose(1, 2)  # (B, C, T')
        for block in self.convnext:
            x = block(x)
        return self.final_layer_norm(x.transpose(1, 2))


class Head(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.out = nn.Linear(config.dim, config.n_fft + 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T', dim) -> (B, F, T', 2), real then imaginary."""
        log_magnitude, phase = self.out(x).transpose(1, 2).chunk(2, dim=1)  # (B, F, T')
        magnitude = log_magnitude.exp().clip(max=MAGNITUDE_LIMIT)
        # The inverse transform of the published model ignores DC and Nyquist.
        magnitude = functional.pad(magnitude[:, 1:-1], (0, 0, 1, 1))
        return torch.stack([magnitude * phase.cos(), magnitude * phase.sin()], dim=-1)


class Decoder(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.decoder = Backbone(config)
        self.head = Head(config)

    def forward_spectral(self, hidden: Tensor) -> Tensor:
        """Spectrum (B, F, frames_per_token * (T - 1) + 1, 2) of hidden states (B, T, H)."""
        frames = functional.interpolate(
            hidden.transpose(1, 2),
            size=self.config.frames(hidden.shape[1]),
            mode="linear",
            align_corners=True,
        )  # (B, H, T')
        spectrum: Tensor = self.head(self.decoder(frames))
        return spectrum

    def forward(self, hidden: Tensor) -> Tensor:
        """Samples (B, (T - 1) * samples per token) of hidden states (B, T, H)."""
        if hidden.shape[1] < 2:  # torch.istft raises where nothing is left after trimming
            return hidden.new_zeros(hidden.shape[0], 0)
        spectrum = torch.view_as_complex(self.forward_spectral(hidden).contiguous())
        config = self.config
        window = torch.hann_window(config.win_length, dtype=hidden.dtype, device=hidden.device)
        return torch.istft(
            spectrum, config.n_fft, config.hop_length, config.win_length, window, center=True
        )
