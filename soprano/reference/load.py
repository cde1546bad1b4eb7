"""A model folder -> the two reference networks."""

from __future__ import annotations

from collections.abc import Callable
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
    config, weights = folder.config.language_model, folder.language_model_weights()
    if config.tie_word_embeddings:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    model = load_network(lambda: LanguageModel(config), weights)
    if config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    return model


def load_decoder(folder: ModelFolder) -> Decoder:
    """The decoder of a folder, in float32 and evaluation mode."""
    return load_network(lambda: Decoder(folder.config.decoder), folder.decoder_weights())


def load_network(
    build: Callable[[], Network], weights: dict[str, npt.NDArray[np.float32]]
) -> Network:
    """A network whose parameters are the given values, whatever PyTorch's default type is.

    The random numbers with which PyTorch builds it are not taken from the caller's.
    """
    with torch.inference_mode(False), torch.device("cpu"):
        with torch.random.fork_rng(devices=[]):
            model = build()
        tensors = {name: torch.tensor(values, device="cpu") for name, values in weights.items()}
        model.load_state_dict(tensors, assign=True)
        return model.eval().requires_grad_(False)
