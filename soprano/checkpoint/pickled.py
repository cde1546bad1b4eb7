"""A PyTorch state dict on disk -> arrays."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from soprano.checkpoint.contents import PICKLE, ZIP, describe, not_a
from soprano.errors import ModelError

_KIND = "a plain PyTorch state dict"


def read_state_dict(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    """The tensors of a PyTorch state dict as float32; no code in the file is executed."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many types
        # PyTorch's messages advise to execute what is in the file; they are not repeated.
        raise not_a(_KIND, path, _reason(path, error)) from None
    if not isinstance(state, dict):
        raise ModelError(f"{path} is not {_KIND}: it holds a {type(state).__name__}")
    for name, tensor in state.items():
        if not isinstance(tensor, torch.Tensor):
            raise ModelError(f"{path} is not {_KIND}: {name!r} is a {type(tensor).__name__}")
    return {name: tensor.detach().float().numpy() for name, tensor in state.items()}


def _reason(path: Path, error: Exception) -> str | None:
    """Why PyTorch cannot read a file, if the file is one that PyTorch can write."""
    if describe(path) not in (ZIP, PICKLE):
        return None
    if isinstance(error, pickle.UnpicklingError):
        return "it holds Python objects other than tensors"
    return "it is incomplete or damaged, or was not written by torch.save"
