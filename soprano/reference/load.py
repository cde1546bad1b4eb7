"""A model folder -> the two reference networks."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from soprano.checkpoint.folder import ModelFolder
from soprano.reference.decoder import Decoder
from soprano.reference.language_model import LanguageModel

Network = TypeVar("Network", bound=nn.Module)


def load_language_model(folder: ModelFolder) -> LanguageModel:
    """The language model of a folder, in float32 and evaluation mode."""
    model = LanguageModel(folder.config.language_model)
    weights = folder.language_model_weights()
    if folder.config.language_model.tie_word_embeddings:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    return _load(model, weights)


def load_decoder(folder: ModelFolder) -> Decoder:
    """The decoder of a folder, in float32 and evaluation mode."""
    return _load(Decoder(folder.config.decoder), folder.decoder_weights())


def _load(model: Network, weights: dict[str, npt.NDArray[np.float32]]) -> Network:
    model.load_state_dict({name: torch.tensor(values) for name, values in weights.items()})
    return model.eval().requires_grad_(False)
