"""A checkpoint folder -> the two reference networks."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from soprano.errors import ModelError
from soprano.model import ModelFolder
from soprano.reference.decoder import Decoder
from soprano.reference.lm import LanguageModel

Network = TypeVar("Network", bound=nn.Module)


def load_language_model(folder: ModelFolder) -> LanguageModel:
    """The language model of a folder, in float32 and evaluation mode."""
    model = LanguageModel(folder.config.language_model)
    weights = folder.language_model_weights()
    if folder.config.language_model.tie_word_embeddings:
        # Some files store the tied matrix twice, others once.
        weights["lm_head.weight"] = weights.get(
            "model.embed_tokens.weight", np.zeros(0, np.float32)
        )
    return _fill(model, weights, folder.path)


def load_decoder(folder: ModelFolder) -> Decoder:
    """The decoder of a folder, in float32 and evaluation mode."""
    return _fill(Decoder(folder.config.decoder), folder.decoder_weights(), folder.path)


def _fill(model: Network, weights: dict[str, npt.NDArray[np.float32]], path: Path) -> Network:
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for name in sorted(set(wanted) ^ set(weights)):
        raise ModelError(f"{path}: {'missing' if name in wanted else 'unknown'} tensor {name}")
    for name, shape in wanted.items():
        if weights[name].shape != shape:
            raise ModelError(f"{path}: {name} has shape {weights[name].shape}, wanted {shape}")
    model.load_state_dict({name: torch.tensor(values) for name, values in weights.items()})
    return model.eval().requires_grad_(False)
